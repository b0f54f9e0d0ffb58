//! What drivers count of the frames that XDP sends back: whether answers leave.
use std::collections::BTreeMap;

use super::ethtool;

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

/// What the drivers have counted from one look to the next, by interface.
#[derive(Debug, Default)]
pub(super) struct TransmitWatch {
    first: BTreeMap<String, Transmitted>,
    last: BTreeMap<String, Transmitted>,
}

impl TransmitWatch {
    /// Looks at an interface; whether nothing but errors came of what was sent since the last look.
    pub(super) fn loses_all(&mut self, interface: &str) -> bool {
        self.look(interface, transmitted(interface))
    }

    fn look(&mut self, interface: &str, now: Transmitted) -> bool {
        self.first.entry(interface.to_owned()).or_insert(now);
        let before = self.last.insert(interface.to_owned(), now).unwrap_or(now);
        now.errors > before.errors && now.sent <= before.sent
    }

    /// Errors since each interface was looked at first.
    pub(super) fn errors(&self) -> BTreeMap<String, u64> {
        let since = |(name, now): (&String, &Transmitted)| {
            let first = self.first.get(name).map_or(0, |first| first.errors);
            // A device that is made anew counts anew.
            let errors = now.errors.checked_sub(first).unwrap_or(now.errors);
            (name.clone(), errors)
        };
        self.last.iter().map(since).collect()
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
    fn answers_are_lost_when_there_are_errors_alone() {
        let mut watch = TransmitWatch::default();
        let at = |sent, errors| Transmitted { sent, errors };
        let looks = [at(5, 7), at(5, 7), at(5, 9), at(9, 10), at(12, 10)];
        assert_eq!(looks.map(|now| watch.look("eth0", now)), [false, false, true, false, false]);
        assert_eq!(watch.errors(), BTreeMap::from([("eth0".to_owned(), 3)]));
    }
}
