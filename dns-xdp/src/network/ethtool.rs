//! The ethtool ioctl of an interface: its driver, the driver's statistics, and the device's settings.
use std::os::fd::AsRawFd as _;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, socket};

/// linux/ethtool.h
const GET_DRIVER: u32 = 0x03;
const GET_RINGS: u32 = 0x10;
const GET_FLAGS: u32 = 0x25;
const GET_CHANNELS: u32 = 0x3c;
const STRIPS_TAGS: u32 = 1 << 8;
const AGGREGATES: u32 = 1 << 15;
const GET_STRING_SET_INFO: u32 = 0x37;
const GET_STRINGS: u32 = 0x1b;
const GET_STATISTICS: u32 = 0x1d;
const STATISTICS: u32 = 1;
/// Octets of a statistic's name.
const NAME: usize = 32;
/// The most statistics, more than any driver has. A card of 128 queues has some 10,000.
const COUNT_MAX: usize = 1 << 16;
/// Spare room for queues that are added meanwhile. Older kernels write all present statistics, whatever number was
/// requested.
const SPARE: usize = 4096;

/// The settings of a device. A device without a setting has `None` or `false`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Settings {
    /// Its queues.
    pub channels: Option<Channels>,
    /// Slots in a receive ring.
    pub ring: Option<u32>,
    /// Whether it takes VLAN tags out of frames.
    pub strips_tags: bool,
    /// Whether it makes one long frame of several (LRO). Some drivers cannot combine that with native XDP.
    pub aggregates: bool,
}

/// Queues of a device, and the most that it can have.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Channels {
    /// Queues that receive only.
    pub receive: u32,
    /// The most queues that receive only.
    pub receive_max: u32,
    /// Queues that send only.
    pub transmit: u32,
    /// The most queues that send only.
    pub transmit_max: u32,
    /// Queues that receive and send.
    pub combined: u32,
    /// The most queues that receive and send.
    pub combined_max: u32,
}

/// Returns the name of an interface's driver; `None`: it has none, or does not report it.
pub fn driver(interface: &str) -> Option<String> {
    // struct ethtool_drvinfo: cmd, the driver's name in 32 octets, and 160 octets of other texts and numbers.
    let mut request = [0_u64; 25];
    request[0] = u64::from_ne_bytes(two(GET_DRIVER, 0));
    ioctl(interface, &mut request)?;
    let octets: Vec<u8> = request.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let name = octets.get(4..4 + NAME)?.split(|octet| *octet == 0).next()?;
    (!name.is_empty()).then(|| String::from_utf8_lossy(name).into_owned())
}

/// Reads the settings of an interface's device.
pub fn settings(interface: &str) -> Settings {
    // struct ethtool_channels: cmd, max_rx, max_tx, max_other, max_combined, rx, tx, other, combined
    let channels = nine_words(interface, GET_CHANNELS).map(
        |[_, receive_max, transmit_max, _, combined_max, receive, transmit, _, combined]| Channels {
            receive,
            receive_max,
            transmit,
            transmit_max,
            combined,
            combined_max,
        },
    );
    // struct ethtool_ringparam: cmd, rx_max, rx_mini_max, rx_jumbo_max, tx_max, rx, …
    let ring = nine_words(interface, GET_RINGS).map(|[_, _, _, _, _, receive, ..]| receive);
    // struct ethtool_value: cmd, data
    let flags = nine_words(interface, GET_FLAGS).map_or(0, |[_, flags, ..]| flags);
    Settings {
        channels: channels.filter(|channels| channels.receive + channels.combined > 0),
        ring: ring.filter(|slots| *slots > 0),
        strips_tags: flags & STRIPS_TAGS != 0,
        aggregates: flags & AGGREGATES != 0,
    }
}

/// Returns the answer to a command whose structure has at most 9 numbers of 32 bits.
fn nine_words(interface: &str, command: u32) -> Option<[u32; 9]> {
    let mut request = [0_u64; 5];
    request[0] = u64::from_ne_bytes(two(command, 0));
    ioctl(interface, &mut request)?;
    let octets: Vec<u8> = request.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let mut words = [0; 9];
    words
        .iter_mut()
        .zip(octets.as_chunks::<4>().0)
        .for_each(|(word, four)| *word = u32::from_ne_bytes(*four));
    Some(words)
}

/// Returns every statistic of an interface's driver with its name; empty if there are none, or no such interface.
pub fn statistics(interface: &str) -> Vec<(String, u64)> {
    read(interface).unwrap_or_default()
}

fn read(interface: &str) -> Option<Vec<(String, u64)>> {
    // struct ethtool_sset_info: cmd, reserved, mask of 64 bits, and a number for each bit.
    let mut info = [0_u64; 3];
    info[0] = u64::from(GET_STRING_SET_INFO);
    info[1] = 1 << STATISTICS;
    ioctl(interface, &mut info)?;
    if info[1] == 0 {
        return None;
    }
    let count = info[2] as u32 as usize;
    if count == 0 || count > COUNT_MAX {
        return None;
    }
    // struct ethtool_gstrings: cmd, set, number, names.
    let mut names = vec![0_u8; 12 + (4 * count + SPARE) * NAME];
    let head = [GET_STRINGS, STATISTICS, count as u32];
    names.as_chunks_mut::<4>().0.iter_mut().zip(head).for_each(|(four, word)| *four = word.to_ne_bytes());
    let mut names = words(&names);
    ioctl(interface, &mut names)?;
    // struct ethtool_stats: cmd, number, values.
    let mut values = vec![0_u64; 1 + 4 * count + SPARE];
    values[0] = u64::from_ne_bytes(two(GET_STATISTICS, count as u32));
    ioctl(interface, &mut values)?;
    let names: Vec<u8> = names.iter().flat_map(|word| word.to_ne_bytes()).collect();
    let names = names.get(12..)?.chunks_exact(NAME).map(|name| {
        let length = name.iter().position(|octet| *octet == 0).unwrap_or(NAME);
        String::from_utf8_lossy(&name[..length]).into_owned()
    });
    Some(names.zip(values.into_iter().skip(1)).take(count).collect())
}

fn two(first: u32, second: u32) -> [u8; 8] {
    let mut both = [0; 8];
    both[..4].copy_from_slice(&first.to_ne_bytes());
    both[4..].copy_from_slice(&second.to_ne_bytes());
    both
}

/// Returns the octets as words, with the alignment of the kernel's structures.
fn words(octets: &[u8]) -> Vec<u64> {
    let word = |eight: &[u8]| {
        let mut padded = [0; 8];
        padded[..eight.len()].copy_from_slice(eight);
        u64::from_ne_bytes(padded)
    };
    octets.chunks(8).map(word).collect()
}

/// Makes the ioctl. The first 4 octets of `request` are the command, and `request` has room for the kernel's answer.
fn ioctl(interface: &str, request: &mut [u64]) -> Option<()> {
    let socket = socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None).ok()?;
    let mut letters = [0; libc::IFNAMSIZ];
    // The last letter stays 0.
    for (letter, octet) in letters.iter_mut().take(libc::IFNAMSIZ - 1).zip(interface.bytes()) {
        *letter = libc::c_char::from_ne_bytes([octet]);
    }
    let data = request.as_mut_ptr().cast();
    let mut ifreq =
        libc::ifreq { ifr_name: letters, ifr_ifru: libc::__c_anonymous_ifr_ifru { ifru_data: data } };
    #[expect(unsafe_code, reason = "an ioctl has no safe wrapper")]
    // SAFETY: the request holds a terminated name. It points to memory that outlives the call, with room for the
    // command's structure and for more values than the driver has just reported.
    let result = unsafe { libc::ioctl(socket.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut ifreq) };
    (result == 0).then_some(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_interface_that_is_not_there_has_no_statistics() {
        assert_eq!(statistics("no-such-one"), []);
    }

    #[test]
    fn an_interface_that_is_not_there_has_no_settings_and_no_driver() {
        assert_eq!(settings("no-such-one"), Settings::default());
        assert_eq!(driver("no-such-one"), None);
    }
}
