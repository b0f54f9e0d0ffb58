//! Finds the holders of a port in /proc: the sockets of this network namespace, and the processes that have them open.
use std::collections::BTreeMap;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::Path;

/// The field `st` of a TCP socket that listens.
const LISTENS: &str = "0A";

/// A socket that is bound to a port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    /// `udp` or `tcp`
    pub protocol: &'static str,
    /// The address that it is bound to.
    pub address: IpAddr,
    /// The process that has it open, number and name; `None`: this process may not see it.
    pub process: Option<(u32, String)>,
}

/// Returns every socket that is bound to the port. Reads the descriptors of every process.
pub fn holders(port: u16) -> Vec<Holder> {
    let tables = [("udp", "udp"), ("udp", "udp6"), ("tcp", "tcp"), ("tcp", "tcp6")];
    let mut found = Vec::new();
    for (protocol, table) in tables {
        let text = fs::read_to_string(format!("/proc/self/net/{table}")).unwrap_or_default();
        found.extend(
            bound(&text, protocol, port).into_iter().map(|(address, inode)| (protocol, address, inode)),
        );
    }
    let processes = if found.is_empty() { BTreeMap::new() } else { processes() };
    let holder = |(protocol, address, inode): (&'static str, IpAddr, u64)| Holder {
        protocol,
        address,
        process: processes.get(&inode).cloned(),
    };
    found.into_iter().map(holder).collect()
}

/// Returns address and inode of each socket that is bound to the port, from one of the tables of proc_net(5).
fn bound(table: &str, protocol: &str, port: u16) -> Vec<(IpAddr, u64)> {
    let row = |line: &str| {
        let words: Vec<&str> = line.split_whitespace().collect();
        let (address, socket_port) = words.get(1)?.split_once(':')?;
        let is_bound = protocol == "udp" || words.get(3) == Some(&LISTENS);
        let is_this = u16::from_str_radix(socket_port, 16).ok()? == port;
        (is_bound && is_this).then_some((ip(address)?, words.get(9)?.parse().ok()?))
    };
    table.lines().filter_map(row).collect()
}

/// Parses an address. The kernel prints each group of 32 bits in this machine's byte order.
fn ip(hex: &str) -> Option<IpAddr> {
    let groups =
        hex.as_bytes().chunks(8).map(|group| u32::from_str_radix(std::str::from_utf8(group).ok()?, 16).ok());
    let groups: Vec<u8> =
        groups.collect::<Option<Vec<_>>>()?.into_iter().flat_map(u32::to_ne_bytes).collect();
    let ipv4 = <[u8; 4]>::try_from(groups.as_slice()).map(|octets| IpAddr::V4(Ipv4Addr::from(octets)));
    ipv4.or_else(|_| <[u8; 16]>::try_from(groups).map(|octets| IpAddr::V6(Ipv6Addr::from(octets)))).ok()
}

/// Returns the process of each socket, by the socket's inode, as far as this process may read it.
fn processes() -> BTreeMap<u64, (u32, String)> {
    let mut sockets = BTreeMap::new();
    for entry in fs::read_dir("/proc").into_iter().flatten().flatten() {
        let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
        for open in fs::read_dir(entry.path().join("fd")).into_iter().flatten().flatten() {
            if let Some(inode) = socket(&open.path()) {
                let name =
                    || fs::read_to_string(entry.path().join("comm")).unwrap_or_default().trim().to_owned();
                sockets.entry(inode).or_insert_with(|| (pid, name()));
            }
        }
    }
    sockets
}

/// Returns the inode in a descriptor's target: `socket:[12345]`.
fn socket(descriptor: &Path) -> Option<u64> {
    let target = fs::read_link(descriptor).ok()?;
    target.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::net::UdpSocket;

    use super::*;

    const UDP: &str = "\
  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops
 100: 3500007F:0035 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 22 2 0 0
 101: 00000000:0043 00000000:0000 07 00000000:00000000 00:00000000 00000000   101        0 23 2 0 0
";
    const TCP6: &str = "\
  sl  local_address                         remote_address                        st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 00000000000000000000000000000000:0035 00000000000000000000000000000000:0000 0A 00000000:00000000 00:00000000 00000000     0        0 31 1
   1: B80D0120000000000000000001000000:0035 B80D0120000000000000000002000000:9C40 01 00000000:00000000 00:00000000 00000000     0        0 32 1
";

    #[test]
    fn sockets_on_the_port_are_found_and_tcp_connections_are_none() {
        assert_eq!(bound(UDP, "udp", 53), [("127.0.0.53".parse().unwrap(), 22)]);
        assert_eq!(bound(TCP6, "tcp", 53), [("::".parse().unwrap(), 31)]);
        assert_eq!(bound(UDP, "udp", 54), []);
        assert_eq!(ip("B80D0120000000000000000001000000"), Some("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn our_own_socket_is_ours() {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let holders = holders(socket.local_addr().unwrap().port());
        let pids: Vec<_> = holders.iter().filter_map(|holder| Some(holder.process.as_ref()?.0)).collect();
        assert_eq!(pids, [std::process::id()], "{holders:?}");
    }
}
