//! The ladder of modes: native, generic, userspace only. Decides which rungs a device can have, and why it cannot have
//! a higher rung. This module is pure.
use std::collections::BTreeSet;
use std::time::Duration;

use super::driver;
use super::kernel_version::KernelVersion;
use crate::config::Mode;
use crate::network::ethtool::{self, Channels};
use crate::network::{Link, Network, OnInterface, peer};

/// The pause before native mode is tried again after a driver has refused it or has lost answers.
pub(super) const RETRY: Duration = Duration::from_secs(300);
/// The largest MTU that every driver takes with a plain program.
pub(super) const MTU_USUAL: u32 = 1500;

/// An interface that a program can be attached to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Card {
    pub(super) index: u32,
    pub(super) name: String,
    /// The MTU in octets.
    pub(super) mtu: u32,
    pub(super) driver: Option<String>,
    /// Its queues. Some drivers take a native program only with a certain number of them.
    pub(super) channels: Option<Channels>,
    /// Whether it makes one frame of several (LRO).
    pub(super) aggregates: bool,
    /// Whether it takes VLAN tags out of frames. For a veth the other end decides, which is unknown here.
    pub(super) strips_tags: bool,
}

/// The facts that decide which modes a device can have.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) device: Card,
    /// The slaves of a bond, a team or a Hyper-V device.
    pub(super) slaves: Vec<Card>,
    /// A slave that is a configured interface itself, and has a program of its own.
    pub(super) own_slave: Option<String>,
    /// Programs of other processes on the device or its slaves, each with index and name of the interface.
    pub(super) foreign: Vec<(u32, String, OnInterface)>,
    /// For a veth: whether its other end takes native answers. `None`: unknown, or the device is not a veth.
    pub(super) peer_takes_answers: Option<bool>,
    /// For a veth: the MTU of its other end, which limits native programs here.
    pub(super) peer_mtu: Option<u32>,
    /// Whether the driver's counters show that native answers do not leave.
    pub(super) loses_answers: bool,
}

impl Card {
    fn of(link: &Link) -> Self {
        let settings = ethtool::settings(&link.name);
        Card {
            index: link.index,
            name: link.name.clone(),
            mtu: link.mtu,
            driver: link.driver.clone(),
            channels: settings.channels,
            aggregates: settings.aggregates,
            strips_tags: settings.strips_tags && !link.is("veth"),
        }
    }

    fn driver(&self) -> &str {
        self.driver.as_deref().unwrap_or("its driver")
    }
}

/// Why the kernel refused a program in the driver.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Refusal {
    pub(super) reason: String,
    /// Whether it may succeed later, although none of these facts has changed.
    pub(super) may_pass: bool,
}

impl Facts {
    /// Reads the facts of a device. `ours` are the numbers of this daemon's programs. `devices` are the devices that
    /// should have their own program.
    pub(super) fn of(
        link: &Link,
        slaves: &[u32],
        network: &Network,
        ours: &[u32],
        devices: &BTreeSet<u32>,
    ) -> Self {
        let slaves: Vec<&Link> = slaves.iter().filter_map(|slave| network.link(*slave)).collect();
        let all = std::iter::once(link).chain(slaves.iter().copied());
        let foreign = all.flat_map(|link| {
            let others = link.programs.iter().filter(|there| !ours.contains(&there.id));
            others.map(|there| (link.index, link.name.clone(), *there))
        });
        let peer = link.is("veth").then(|| peer(link)).flatten();
        let own_slave = slaves.iter().find(|slave| devices.contains(&slave.index));
        Facts {
            device: Card::of(link),
            foreign: foreign.collect(),
            own_slave: own_slave.map(|slave| slave.name.clone()),
            slaves: slaves.into_iter().map(Card::of).collect(),
            peer_takes_answers: peer.as_ref().map(Link::has_native_program),
            peer_mtu: peer.map(|peer| peer.mtu),
            loses_answers: false,
        }
    }

    /// Returns each set of interfaces, by index and name, whose links of a predecessor can be taken over together.
    pub(super) fn adoptable(&self) -> Vec<Vec<(u32, String)>> {
        let names = |cards: &[Card]| cards.iter().map(|card| (card.index, card.name.clone())).collect();
        let own: Vec<(u32, String)> = names(std::slice::from_ref(&self.device));
        let slaves: Vec<(u32, String)> = names(&self.slaves);
        let with_slaves = !slaves.is_empty() && self.own_slave.is_none();
        std::iter::once(own).chain(with_slaves.then_some(slaves)).collect()
    }

    /// Whether both have the same slaves, even if facts about a slave have changed.
    pub(super) fn has_slaves_of(&self, other: &Facts) -> bool {
        let indices = |facts: &Facts| -> Vec<(u32, String)> {
            facts.slaves.iter().map(|slave| (slave.index, slave.name.clone())).collect()
        };
        indices(self) == indices(other)
    }

    /// Returns why native mode would be useless, although the kernel would accept it.
    pub(super) fn native_is_useless(&self) -> Option<String> {
        if self.loses_answers {
            return Some(
                "native answers were lost: its driver counted none that left, only errors".to_owned(),
            );
        }
        let lost = "native answers would be lost: the other end of this veth has no native XDP program";
        (self.peer_takes_answers == Some(false)).then(|| lost.to_owned())
    }

    /// Returns why the kernel refused a program in the driver of a card, the device's or a slave's. `errno` is the
    /// kernel's error, and `said` its text.
    pub(super) fn native_refusal(&self, card: &Card, errno: Option<i32>, said: String) -> Refusal {
        let Card { name, mtu, .. } = card;
        let (mtu, driver) = (*mtu, card.driver());
        let limit = card.driver.as_deref().and_then(driver::mtu_max);
        let is_master = card.index == self.device.index && !self.slaves.is_empty();
        let stays = |reason| Refusal { reason, may_pass: false };
        let passes = |reason| Refusal { reason, may_pass: true };
        match (errno, limit) {
            (Some(libc::EOPNOTSUPP), _) if mtu <= MTU_USUAL && card.aggregates => passes(format!(
                "{driver} refuses it, and {name} makes one frame of several: ethtool -K {name} lro off"
            )),
            (Some(libc::EOPNOTSUPP), _) if mtu <= MTU_USUAL && is_master => {
                stays(format!("{driver} has none with its mode and its slaves as they are"))
            }
            (Some(libc::EOPNOTSUPP), _) if mtu <= MTU_USUAL && driver::has_native(driver) => {
                passes(format!("{driver} refuses it as {name} is set now"))
            }
            (Some(libc::EOPNOTSUPP), _) if mtu <= MTU_USUAL => stays(format!("{driver} has no native XDP")),
            (_, Some(limit)) if mtu > limit => {
                stays(format!("MTU {mtu} is above {limit}, the most that {driver} takes"))
            }
            // veth_xdp_set
            (Some(libc::ERANGE), Some(limit)) => {
                passes(format!("the MTU of its other end is above {limit}, the most that {driver} takes"))
            }
            (Some(libc::EINVAL | libc::ERANGE | libc::EOPNOTSUPP), None) if mtu > MTU_USUAL => {
                stays(format!("MTU {mtu} is more than {driver} takes, or it has no native XDP"))
            }
            _ => passes(said),
        }
    }

    /// Returns why a program in this mode does not see a VLAN's tags; `None`: it sees them.
    pub(super) fn hides_tags(&self, native: bool) -> Option<String> {
        let name = &self.device.name;
        let strips = |card: &Card| {
            format!(
                "{0} takes VLAN tags out of frames, so that the program does not see them: {1}",
                card.name,
                keep_tags(&card.name)
            )
        };
        match (native, &*self.slaves) {
            (true, []) | (false, []) => Some(&self.device).filter(|card| card.strips_tags).map(strips),
            (true, slaves) => slaves.iter().find(|card| card.strips_tags).map(strips),
            // The kernel has removed the tag before the master receives the frame.
            (false, _) => Some(format!("in generic mode {name} has frames without their VLAN tags")),
        }
    }
}

fn keep_tags(interface: &str) -> String {
    format!("ethtool -K {interface} rxvlan off txvlan off")
}

/// A mode of attaching a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Rung {
    Native,
    /// With a program for fragmented frames.
    NativeFrags,
    /// Native mode on each slave.
    Slaves,
    Generic,
}

/// Returns the rungs to try in order, and why others are not tried.
pub(super) fn rungs(mode: Mode, facts: &Facts, kernel: KernelVersion) -> (Vec<Rung>, Vec<String>) {
    let mut rungs = Vec::new();
    let mut reasons = Vec::new();
    let tries_native = matches!(mode, Mode::Auto | Mode::Native);
    if let Some(useless) = facts.native_is_useless().filter(|_| tries_native) {
        reasons.push(useless);
    } else if tries_native {
        rungs.push(Rung::Native);
        // For a veth, the MTU of its other end counts.
        let may_be_fragmented = facts.device.mtu > MTU_USUAL || facts.device.driver() == "veth";
        if may_be_fragmented && kernel.has_frags() {
            rungs.push(Rung::NativeFrags);
        }
        match &facts.own_slave {
            _ if facts.slaves.is_empty() => {}
            None => rungs.push(Rung::Slaves),
            Some(slave) => reasons.push(format!(
                "{slave} belongs to {} and is in [listen] interfaces too: remove {slave} there",
                facts.device.name
            )),
        }
    }
    if matches!(mode, Mode::Auto | Mode::Generic) {
        rungs.push(Rung::Generic);
    }
    (rungs, reasons)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: KernelVersion = KernelVersion(6, 1);

    fn card(index: u32, name: &str, driver: &str) -> Card {
        Card { index, name: name.to_owned(), mtu: 1500, driver: Some(driver.to_owned()), ..Card::default() }
    }

    fn facts() -> Facts {
        Facts { device: card(2, "eth0", "virtio_net"), ..Facts::default() }
    }

    fn bond() -> Facts {
        let slaves = vec![card(2, "eth0", "mlx5_core"), card(3, "eth1", "mlx5_core")];
        Facts { device: card(4, "bond0", "bond"), slaves, ..Facts::default() }
    }

    fn jumbo() -> Facts {
        Facts { device: Card { mtu: 9000, ..facts().device }, ..facts() }
    }

    #[test]
    fn the_ladder_is_native_then_generic() {
        assert_eq!(rungs(Mode::Auto, &facts(), KERNEL), (vec![Rung::Native, Rung::Generic], vec![]));
        assert_eq!(rungs(Mode::Native, &facts(), KERNEL).0, [Rung::Native]);
        assert_eq!(rungs(Mode::Generic, &facts(), KERNEL).0, [Rung::Generic]);
    }

    #[test]
    fn jumbo_frames_and_bonds_have_rungs_between() {
        assert_eq!(rungs(Mode::Native, &jumbo(), KERNEL).0, [Rung::Native, Rung::NativeFrags]);
        assert_eq!(rungs(Mode::Native, &jumbo(), KernelVersion(5, 10)).0, [Rung::Native]);
        assert_eq!(rungs(Mode::Auto, &bond(), KERNEL).0, [Rung::Native, Rung::Slaves, Rung::Generic]);
    }

    #[test]
    fn a_slave_with_a_program_of_its_own_is_left_alone() {
        let facts = Facts { own_slave: Some("eth1".to_owned()), ..bond() };
        let (rungs, reasons) = rungs(Mode::Auto, &facts, KERNEL);
        assert_eq!(rungs, [Rung::Native, Rung::Generic]);
        assert_eq!(reasons, ["eth1 belongs to bond0 and is in [listen] interfaces too: remove eth1 there"]);
        assert_eq!(facts.adoptable(), [[(4, "bond0".to_owned())]]);
        assert_eq!(bond().adoptable().len(), 2);
    }

    #[test]
    fn a_slave_that_is_a_device_too_is_known_from_the_network() {
        let link =
            |index, name: &str, master| Link { index, name: name.to_owned(), master, ..Link::default() };
        let links = vec![link(3, "eth1", Some(4)), link(4, "bond0", None)];
        let network = Network { links, addresses: Vec::new() };
        let facts = |devices: &[u32]| {
            Facts::of(&network.links[1], &[3], &network, &[], &devices.iter().copied().collect())
        };
        assert_eq!(facts(&[4]).own_slave, None);
        assert_eq!(facts(&[3, 4]).own_slave.as_deref(), Some("eth1"));
    }

    #[test]
    fn answers_that_would_not_leave_are_not_given_natively() {
        for lossy in
            [Facts { peer_takes_answers: Some(false), ..facts() }, Facts { loses_answers: true, ..facts() }]
        {
            let (rungs, reasons) = rungs(Mode::Auto, &lossy, KERNEL);
            assert_eq!(rungs, [Rung::Generic]);
            assert!(reasons[0].starts_with("native answers w"));
        }
    }

    fn refused(facts: &Facts, card: &Card, errno: i32) -> (String, bool) {
        let Refusal { reason, may_pass } = facts.native_refusal(card, Some(errno), "said".to_owned());
        (reason, may_pass)
    }

    #[test]
    fn a_refusal_names_the_mtu_that_is_too_large() {
        let reason = "MTU 9000 is above 3506, the most that virtio_net takes".to_owned();
        assert_eq!(refused(&jumbo(), &jumbo().device, libc::EINVAL), (reason, false));
        let veth = Facts { device: card(2, "eth0", "veth"), ..facts() };
        let reason = "the MTU of its other end is above 3506, the most that veth takes".to_owned();
        assert_eq!(refused(&veth, &veth.device, libc::ERANGE), (reason, true));
    }

    #[test]
    fn only_a_driver_that_is_not_known_to_have_native_xdp_is_said_to_have_none() {
        let by = |card: Card| {
            let facts = Facts { device: card, ..Facts::default() };
            refused(&facts, &facts.device, libc::EOPNOTSUPP)
        };
        assert_eq!(by(card(2, "eth0", "e1000e")), ("e1000e has no native XDP".to_owned(), false));
        let set = "virtio_net refuses it as eth0 is set now".to_owned();
        assert_eq!(by(card(2, "eth0", "virtio_net")), (set, true));
        let (reason, may_pass) = by(Card { aggregates: true, ..card(2, "eth0", "hv_netvsc") });
        assert!(reason.ends_with("ethtool -K eth0 lro off") && may_pass, "{reason}");
        let (reason, may_pass) = refused(&bond(), &bond().device, libc::EOPNOTSUPP);
        assert_eq!((&*reason, may_pass), ("bond has none with its mode and its slaves as they are", false));
        let (reason, may_pass) = refused(&bond(), &bond().slaves[1], libc::EOPNOTSUPP);
        assert_eq!((&*reason, may_pass), ("mlx5_core refuses it as eth1 is set now", true));
        assert_eq!(refused(&facts(), &facts().device, libc::EBUSY), ("said".to_owned(), true));
    }

    #[test]
    fn tags_are_hidden_by_the_card_that_the_program_is_on_and_by_a_master_in_generic_mode() {
        let mut card = facts();
        assert_eq!((card.hides_tags(true), card.hides_tags(false)), (None, None));
        card.device.strips_tags = true;
        assert!(card.hides_tags(true).unwrap().ends_with("ethtool -K eth0 rxvlan off txvlan off"));
        assert!(card.hides_tags(false).is_some());
        let mut bond = bond();
        // The kernel reports this for every bond.
        bond.device.strips_tags = true;
        assert_eq!(bond.hides_tags(true), None);
        assert!(bond.hides_tags(false).unwrap().contains("in generic mode bond0"));
        bond.slaves[1].strips_tags = true;
        assert!(bond.hides_tags(true).unwrap().contains("ethtool -K eth1 rxvlan off"));
    }
}
