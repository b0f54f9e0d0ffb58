//! Reads the drivers' counters of frames that XDP sends back, to see whether answers leave.
use std::collections::BTreeMap;

use crate::network::ethtool;

/// Frames that XDP gave to one driver to send back, since the driver was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Transmitted {
    pub(super) sent: u64,
    pub(super) errors: u64,
}

/// Returns the counters of this interface's driver; zeros if it has none.
pub(super) fn transmitted(interface: &str) -> Transmitted {
    summed(ethtool::statistics(interface).iter().map(|(name, count)| (&**name, *count)))
}

/// Sums the counters. The names differ from driver to driver: `rx_queue_0_xdp_tx`, `rx_queue_0_xdp_tx_errors` (veth),
/// `tx_queue_1_xdp_tx_drops` (virtio_net), `rx_xdp_tx_full` (mlx5), `rx_xdp_tx_errors[0]` (gve).
fn summed<'a>(statistics: impl Iterator<Item = (&'a str, u64)>) -> Transmitted {
    let mut transmitted = Transmitted::default();
    for (name, count) in statistics {
        let Some((_, what)) = name.split_once("xdp_tx") else { continue };
        if ["err", "drop", "full", "fail"].iter().any(|word| what.contains(word)) {
            transmitted.errors += count;
        } else if what.is_empty() || what.starts_with(['[', '_', 's']) && !what.contains("byte") {
            transmitted.sent += count;
        }
    }
    transmitted
}

/// The number of errors in a row that count as a loss of all answers. A sent answer starts the count again.
const LOST: u64 = 8;

/// The drivers' counters since the first look at each, by interface.
#[derive(Debug, Default)]
pub(super) struct TransmitWatch {
    interfaces: BTreeMap<String, Counted>,
}

#[derive(Debug)]
struct Counted {
    first: Transmitted,
    /// The counters when an answer last left.
    sent: Transmitted,
    last: Transmitted,
}

impl TransmitWatch {
    /// Looks at an interface. Returns whether no answer has left it for a while, and some were lost.
    pub(super) fn loses_all(&mut self, interface: &str) -> bool {
        self.look(interface, transmitted(interface))
    }

    fn look(&mut self, interface: &str, now: Transmitted) -> bool {
        let new = || Counted { first: now, sent: now, last: now };
        let counted = self.interfaces.entry(interface.to_owned()).or_insert_with(new);
        if now.errors < counted.last.errors {
            // A new device counts from zero.
            *counted = new();
        }
        counted.last = now;
        if now.sent != counted.sent.sent {
            counted.sent = now;
        }
        let loses = now.errors - counted.sent.errors >= LOST;
        if loses {
            // Count from here if native mode is tried again.
            counted.sent = now;
        }
        loses
    }

    /// Returns the errors since the first look at each interface.
    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        let since =
            |(name, counted): (&String, &Counted)| (name.clone(), counted.last.errors - counted.first.errors);
        self.interfaces.iter().map(since).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_drivers_names_are_understood() {
        let sum = |names: &[&str]| summed(names.iter().map(|name| (*name, 1)));
        let veth =
            ["rx_queue_0_xdp_tx", "rx_queue_0_xdp_tx_errors", "rx_queue_0_xdp_drops", "peer_tq_0_xdp_xmit"];
        assert_eq!(sum(&veth), Transmitted { sent: 1, errors: 1 });
        let virtio =
            ["rx_queue_0_xdp_tx", "tx_queue_0_xdp_tx", "tx_queue_0_xdp_tx_drops", "rx_queue_0_bytes"];
        assert_eq!(sum(&virtio), Transmitted { sent: 2, errors: 1 });
        let mlx5 =
            ["rx_xdp_tx_xmit", "rx_xdp_tx_mpwqe", "rx_xdp_tx_full", "rx_xdp_tx_err", "rx_xdp_redirect"];
        assert_eq!(sum(&mlx5).errors, 2);
        assert_eq!(sum(&["rx_packets", "tx_errors"]), Transmitted::default());
    }

    #[test]
    fn answers_are_lost_when_there_are_errors_alone_for_a_while() {
        let mut watch = TransmitWatch::default();
        let at = |sent, errors| Transmitted { sent, errors };
        let looks = [at(5, 7), at(5, 12), at(6, 16), at(6, 20), at(6, 24), at(6, 25), at(9, 90)];
        let expected = [false, false, false, false, true, false, false];
        assert_eq!(looks.map(|now| watch.look("eth0", now)), expected);
        assert_eq!(watch.errors(), BTreeMap::from([("eth0".to_owned(), 83)]));
    }
}
