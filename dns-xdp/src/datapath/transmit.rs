//! What drivers count of the frames that XDP sends back: whether answers leave.
use std::collections::BTreeMap;

use crate::network::ethtool;

/// Frames that one driver was given by XDP to send back, since it was loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Transmitted {
    pub(super) sent: u64,
    pub(super) errors: u64,
}

/// What the driver of this interface counts; nothing where it does not tell.
pub(super) fn transmitted(interface: &str) -> Transmitted {
    summed(ethtool::statistics(interface).iter().map(|(name, count)| (&**name, *count)))
}

/// Every driver has names of its own: `rx_queue_0_xdp_tx`, `rx_queue_0_xdp_tx_errors` (veth), `tx_queue_1_xdp_tx_drops`
/// (virtio_net), `rx_xdp_tx_full` (mlx5), `rx_xdp_tx_errors[0]` (gve).
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

/// Errors without any answer that left, after which a driver counts as one that loses them all.
const LOST: u64 = 8;

/// What the drivers have counted since they were looked at first, by interface.
#[derive(Debug, Default)]
pub(super) struct TransmitWatch {
    interfaces: BTreeMap<String, Counted>,
}

#[derive(Debug)]
struct Counted {
    first: Transmitted,
    /// When an answer left last.
    sent: Transmitted,
    last: Transmitted,
}

impl TransmitWatch {
    /// Looks at an interface; whether no answer has left it for a while, and some were lost.
    pub(super) fn loses_all(&mut self, interface: &str) -> bool {
        self.look(interface, transmitted(interface))
    }

    fn look(&mut self, interface: &str, now: Transmitted) -> bool {
        let new = || Counted { first: now, sent: now, last: now };
        let counted = self.interfaces.entry(interface.to_owned()).or_insert_with(new);
        if now.errors < counted.last.errors {
            // A device that is made anew counts anew.
            *counted = new();
        }
        counted.last = now;
        if now.sent != counted.sent.sent {
            counted.sent = now;
        }
        let loses = now.errors - counted.sent.errors >= LOST;
        if loses {
            // From here on, should it be tried again.
            counted.sent = now;
        }
        loses
    }

    /// Errors since each interface was looked at first.
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
