//! Reads a driver's XDP features from the generic netlink family `netdev` (Linux 6.3).
use std::io;

use netlink_packet_core::{NLM_F_REQUEST, NLMSG_ERROR, NlasIterator};
use netlink_sys::protocols::NETLINK_GENERIC;
use netlink_sys::{Socket, SocketAddr};

use super::facts::Features;

/// linux/genetlink.h
const CONTROLLER: u16 = 0x10;
const GET_FAMILY: u8 = 3;
const FAMILY_ID: u16 = 1;
const FAMILY_NAME: u16 = 2;
/// linux/netdev.h
const FAMILY: &[u8] = b"netdev\0";
const GET_DEVICE: u8 = 1;
const INDEX: u16 = 1;
const XDP_FEATURES: u16 = 3;
/// NETDEV_XDP_ACT_BASIC: pass, drop, abort and send back.
const BASIC: u64 = 1;
/// NETDEV_XDP_ACT_RX_SG: programs for fragmented frames.
const FRAGMENTS: u64 = 1 << 5;

/// linux/netlink.h
const HEADER: usize = 16;
const GENERIC_HEADER: usize = 4;

/// Returns the features of a device's driver; `None`: the kernel does not report them.
pub(super) fn features(index: u32) -> Option<Features> {
    let family = ask(CONTROLLER, GET_FAMILY, FAMILY_NAME, FAMILY).ok()?;
    let family = u16::from_ne_bytes(attribute(&family, FAMILY_ID)?.try_into().ok()?);
    let device = ask(family, GET_DEVICE, INDEX, &index.to_ne_bytes()).ok()?;
    let features = u64::from_ne_bytes(attribute(&device, XDP_FEATURES)?.try_into().ok()?);
    Some(Features { native: features & BASIC != 0, fragments: features & FRAGMENTS != 0 })
}

/// Sends a command with one attribute, and returns the attributes of the answer.
fn ask(family: u16, command: u8, kind: u16, value: &[u8]) -> io::Result<Vec<u8>> {
    let mut socket = Socket::new(NETLINK_GENERIC)?;
    socket.bind_auto()?;
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&request(family, command, kind, value), 0)?;
    let (answer, _) = socket.recv_from_full()?;
    match answer.get(4..6) {
        Some(kind) if kind != NLMSG_ERROR.to_ne_bytes() => {
            Ok(answer.get(HEADER + GENERIC_HEADER..).unwrap_or_default().to_vec())
        }
        _ => Err(io::Error::other("the kernel refused")),
    }
}

fn request(family: u16, command: u8, kind: u16, value: &[u8]) -> Vec<u8> {
    let attribute = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    let mut octets = vec![0; 4];
    octets.extend(family.to_ne_bytes());
    octets.extend(NLM_F_REQUEST.to_ne_bytes());
    // Sequence number, port; command, version, reserved.
    octets.extend([0; 8]);
    octets.extend([command, 1, 0, 0]);
    octets.extend(attribute.to_ne_bytes());
    octets.extend(kind.to_ne_bytes());
    octets.extend(value);
    octets.resize(octets.len().next_multiple_of(4), 0);
    let length = u32::try_from(octets.len()).unwrap_or(u32::MAX);
    octets[..4].copy_from_slice(&length.to_ne_bytes());
    octets
}

/// Returns the value of the first attribute of that kind.
fn attribute(octets: &[u8], wanted: u16) -> Option<Vec<u8>> {
    let found = NlasIterator::new(octets).flatten().find(|attribute| attribute.kind() == wanted)?;
    Some(found.value().to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_attribute_is_found_behind_others_and_in_nothing_that_is_cut_short() {
        let one = &request(0, 0, 7, &[1, 2, 3])[HEADER + GENERIC_HEADER..];
        let two = &request(0, 0, 9, &[4, 5])[HEADER + GENERIC_HEADER..];
        let both = [one, two].concat();
        assert_eq!(attribute(&both, 9), Some(vec![4, 5]));
        assert_eq!(attribute(&both, 8), None);
        for length in 0..both.len() - 2 {
            assert_eq!(attribute(&both[..length], 9), None, "{length}");
        }
    }

    #[test]
    fn no_device_has_no_features() {
        assert_eq!(features(u32::MAX >> 1), None);
    }
}
