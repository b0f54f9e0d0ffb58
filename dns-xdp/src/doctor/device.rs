//! What a card is set to (the ethtool ioctl): queues, rings, VLAN offload.
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// linux/ethtool.h; each of these structures is a command followed by numbers of 32 bits.
const GET_RINGS: u32 = 0x10;
const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;
const STRIPS_TAGS: u32 = 1 << 8;
/// Words of the longest of them.
const WORDS: usize = 9;

/// What the card tells; nothing where it has no such setting.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Settings {
    /// Receive queues: now, and the most.
    pub(super) queues: Option<(u32, u32)>,
    /// Slots in a receive ring.
    pub(super) ring: Option<u32>,
    /// The card takes VLAN tags away.
    pub(super) strips_tags: bool,
}

pub(super) fn settings(name: &str) -> Settings {
    // struct ethtool_channels: cmd, max_rx, max_tx, max_other, max_combined, rx, tx, other, combined
    let channels = ask(name, GET_CHANNELS)
        .map(|[_, max_rx, _, _, max_combined, rx, _, _, combined]| (rx + combined, max_rx.max(max_combined)));
    // struct ethtool_ringparam: cmd, rx_max, rx_mini_max, rx_jumbo_max, tx_max, rx, …
    let ring = ask(name, GET_RINGS).map(|[_, _, _, _, _, rx, ..]| rx);
    let flags = ask(name, GET_FLAGS).map_or(0, |[_, flags, ..]| flags);
    Settings {
        queues: channels.filter(|(now, _)| *now > 0),
        ring: ring.filter(|slots| *slots > 0),
        strips_tags: flags & STRIPS_TAGS != 0,
    }
}

/// Whether VLANs are configured on the interface.
pub(super) fn is_trunk(name: &str) -> bool {
    vlans_on(name, &std::fs::read_to_string("/proc/net/vlan/config").unwrap_or_default())
}

/// `eth0.5  | 5  | eth0`
fn vlans_on(name: &str, config: &str) -> bool {
    config.lines().any(|line| line.split('|').nth(2).is_some_and(|parent| parent.trim() == name))
}

fn ask(name: &str, command: u32) -> Option<[u32; WORDS]> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let mut letters = [0; libc::IFNAMSIZ];
    // The last letter stays 0.
    for (letter, octet) in letters.iter_mut().take(libc::IFNAMSIZ - 1).zip(name.bytes()) {
        *letter = libc::c_char::from_ne_bytes([octet]);
    }
    let mut words = [0; WORDS];
    words[0] = command;
    let data = (&raw mut words).cast();
    let mut request =
        libc::ifreq { ifr_name: letters, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
    #[expect(unsafe_code, reason = "an ioctl has no safe wrapper")]
    // SAFETY: the request holds a terminated name and points to words that outlive the call; the kernel writes no more
    // of them than the structure of the command has, and none has more than `WORDS`.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
    (result == 0).then_some(words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_trunk_is_an_interface_with_vlans() {
        let config = "VLAN Dev name    | VLAN ID\nName-Type: VLAN_NAME_TYPE_RAW_PLUS_VID_NO_PAD\neth0.5         | 5  | eth0\n";
        assert!(vlans_on("eth0", config));
        assert!(!vlans_on("eth1", config));
    }

    #[test]
    fn an_interface_that_is_not_there_has_no_settings() {
        assert_eq!(settings("no-such-one"), Settings::default());
    }
}
