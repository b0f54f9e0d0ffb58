//! Makes one attempt of a probe, which gives an [`Observation`]. Each kind of probe has its own file.
//!
//! A new kind of probe goes into these places:
//! - here: its file, a `mod` line, and an arm in `probe()`;
//! - `cluster/kind.rs`: its settings, in `ProbeKind`;
//! - `cluster.rs`: the re-export of its settings; more, if it has a password or is made once for all addresses;
//! - `config/kind.rs`: `Kind`, `KINDS`, `KEYS`, `Kind::of` and `kind()`, with a file of its own below it for more than 2
//!   keys;
//! - `config/epoch.rs`; `config/documented.rs`: `KINDS`;
//! - `privileges.rs`, if it needs a capability; `health/targets.rs`, if it suits a witness;
//! - `doc/failover.md`, `doc/configuration.md`, `doc/security.md`, `dist/dns-xdp.toml`, `CHANGELOG.md`;
//! - `config/kind/tests.rs`, `tests/tests/net/scenes_probes.rs`.
mod dns;
mod exec;
mod http;
mod icmp;
mod icmp_errors;
mod redis;
mod stream;
mod tcp;
mod tls;

use std::io;
use std::net::IpAddr;
use std::time::Duration;

use nix::errno::Errno;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::Subject;
use super::verdict::{Failure, Observation};
use crate::cluster::ProbeKind;

/// The peer that is probed.
#[derive(Debug, Clone, Copy)]
pub struct Peer<'a> {
    /// The subject of the probe.
    pub subject: &'a Subject,
    /// The address that is probed.
    pub address: IpAddr,
}

/// Whether this process may send an echo.
pub(crate) fn may_echo() -> bool {
    icmp::permitted()
}

/// Makes one attempt, which ends after `timeout` at the latest.
pub async fn probe(kind: &ProbeKind, peer: Peer<'_>, timeout: Duration) -> Observation {
    let start = Instant::now();
    let deadline = start + timeout;
    let address = peer.address;
    let result = match kind {
        ProbeKind::Tcp { port } => tcp::ask((address, *port).into(), deadline).await,
        ProbeKind::TcpDialogue(dialogue) => tcp::talk(dialogue, address, deadline).await,
        ProbeKind::Redis(redis) => redis::ask(redis, address, deadline).await,
        ProbeKind::Http(http) => http::ask(http, address, deadline).await,
        ProbeKind::Icmp => icmp::ask(address, deadline).await,
        ProbeKind::Dns(dns) => dns::ask(dns, address, deadline).await,
        ProbeKind::Exec(exec) => exec::ask(exec, peer, deadline).await,
    };
    match result {
        Ok(()) => Observation::Success { round_trip: start.elapsed() },
        Err(Fault::Theirs(failure)) => Observation::Failure(failure),
        Err(Fault::Ours(reason)) => Observation::Inconclusive { reason },
    }
}

/// Why an attempt did not succeed.
#[derive(Debug, PartialEq, Eq)]
enum Fault {
    /// The node has failed.
    Theirs(Failure),
    /// The probe could not be made for this reason, which says nothing about the node.
    Ours(String),
}

/// Makes the fault of a host that answered, but wrongly.
fn wrong(reason: impl Into<String>) -> Fault {
    Fault::Theirs(Failure { reason: reason.into(), visible: true })
}

/// Makes the fault of a host that did not answer at all.
fn unseen(reason: impl Into<String>) -> Fault {
    Fault::Theirs(Failure { reason: reason.into(), visible: false })
}

/// Judges an error of a socket: what it tells about the host at the other end.
fn judge(error: &io::Error) -> Fault {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::ECONNREFUSED => wrong("refused"),
        Errno::ECONNRESET | Errno::EPIPE => wrong("reset"),
        Errno::ETIMEDOUT => unseen("timeout"),
        Errno::EMFILE
        | Errno::ENFILE
        | Errno::ENOBUFS
        | Errno::ENOMEM
        | Errno::EAGAIN
        | Errno::EADDRNOTAVAIL
        | Errno::EAFNOSUPPORT
        // A firewall or a route of this machine forbids the probe.
        | Errno::EACCES
        | Errno::EPERM => Fault::Ours(format!("cannot probe: {error}")),
        Errno::UnknownErrno => unseen(error.to_string()),
        errno => unseen(errno.desc().to_lowercase()),
    }
}

/// Judges an error that came from the network. If a router prohibits the packet (RFC 4443, section 3.1, codes 1 and 5),
/// the path is dead. The same error from this machine would be this machine's own trouble.
fn judge_reported(error: &io::Error) -> Fault {
    match Errno::from_raw(error.raw_os_error().unwrap_or(0)) {
        Errno::EACCES | Errno::EPERM => unseen("administratively prohibited"),
        _ => judge(error),
    }
}

fn cannot_open(error: &io::Error) -> Fault {
    Fault::Ours(format!("cannot open a socket: {error}"))
}

/// Waits for a datagram that `read` accepts as the answer; `read` returns `None` for other datagrams. `judge` judges an
/// error of the socket.
async fn datagram(
    socket: &UdpSocket,
    deadline: Instant,
    judge: impl Fn(&io::Error) -> Fault,
    read: impl Fn(&[u8]) -> Option<Result<(), Fault>>,
) -> Result<(), Fault> {
    /// The longest datagram: servers send longer ones only on request (RFC 6891, section 6.2.5).
    const LONGEST: usize = 4096;
    let mut buffer = [0; LONGEST];
    let received = async {
        loop {
            let length = socket.recv(&mut buffer).await.map_err(|error| judge(&error))?;
            if let Some(result) = read(&buffer[..length]) {
                return result;
            }
        }
    };
    tokio::time::timeout_at(deadline, received).await.unwrap_or_else(|_elapsed| Err(unseen("timeout")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_with_us_is_inconclusive() {
        for errno in [Errno::EMFILE, Errno::ENFILE, Errno::EADDRNOTAVAIL, Errno::EPERM] {
            assert!(matches!(judge(&errno.into()), Fault::Ours(_)), "{errno}");
        }
    }

    #[test]
    fn what_a_router_prohibits_is_a_dead_path() {
        for errno in [Errno::EACCES, Errno::EPERM] {
            assert!(matches!(judge(&errno.into()), Fault::Ours(_)), "{errno}");
            assert_eq!(judge_reported(&errno.into()), unseen("administratively prohibited"));
        }
    }

    #[test]
    fn an_unreachable_host_is_not_visible() {
        assert_eq!(judge(&Errno::EHOSTUNREACH.into()), unseen("no route to host"));
        assert_eq!(judge(&Errno::ENETUNREACH.into()), unseen("network is unreachable"));
    }
}
