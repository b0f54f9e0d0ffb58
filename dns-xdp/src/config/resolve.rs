//! Looks up the names in the configuration while it is read.
use std::io;
use std::net::{IpAddr, ToSocketAddrs as _};
use std::sync::mpsc;
use std::time::{Duration, Instant};

use crate::unprivileged;

/// The longest time for all names of a file together. A daemon that reads its file again has to renew its lease
/// meanwhile.
pub(super) const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

/// Returns the first address of `name`, IPv4 before IPv6 as for the nodes. The error continues a sentence: "`x`, which
/// …".
pub(super) fn address(name: &str, patience: Instant) -> Result<IpAddr, String> {
    let (tell, told) = mpsc::channel();
    let (name, started) = (name.to_owned(), Instant::now());
    if patience <= started {
        return Err(unresolved());
    }
    // The system's resolver has time limits of its own, so it is asked in another thread.
    std::thread::spawn(move || {
        // The thread may outlive the start, and must not keep the privileges of the start.
        unprivileged::give_up_all();
        // The reader may have given up.
        tell.send(lookup(&name)).ok();
    });
    match told.recv_timeout(patience.saturating_duration_since(started)) {
        Ok(Ok(addresses)) => addresses
            .into_iter()
            .min_by_key(IpAddr::is_ipv6)
            .ok_or_else(|| "has no address; write the address".to_owned()),
        Ok(Err(error)) => Err(format!("resolves to nothing ({error}); write the address")),
        Err(_elapsed) => Err(unresolved()),
    }
}

fn unresolved() -> String {
    let patience = humantime::format_duration(LOOKUP_TIMEOUT);
    format!("was not resolved within {patience} for the whole file; write the address")
}

fn lookup(name: &str) -> io::Result<Vec<IpAddr>> {
    Ok((name, 0).to_socket_addrs()?.map(|address| address.ip()).collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::Ipv4Addr;

    #[test]
    fn a_name_of_the_hosts_file_is_found_and_a_reserved_one_is_not() {
        let patience = Instant::now() + Duration::from_secs(60);
        assert_eq!(address("localhost", patience), Ok(Ipv4Addr::LOCALHOST.into()));
        // A name in `invalid` never exists (RFC 6761, section 6.4).
        let error = address("nobody.invalid", patience).unwrap_err();
        assert!(error.starts_with("resolves to nothing ("), "{error}");
    }

    #[test]
    fn nobody_waits_when_the_patience_is_at_an_end() {
        let started = Instant::now();
        let error = address("nobody.invalid", started).unwrap_err();
        assert_eq!(error, "was not resolved within 2s for the whole file; write the address");
        assert!(started.elapsed() < Duration::from_secs(1));
    }
}
