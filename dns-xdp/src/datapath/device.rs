//! A device with its program: the ladder native, generic, userspace only, and why it stands on a lower rung.
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};

use super::foreign::Foreign;
use super::kernel_version::KernelVersion;
use super::pins::{self, Pins};
use super::program::{self, errno, is_want, root_cause};
use super::variant::Variant;
use super::{Attached, Error, driver};
use crate::config::Mode;
use crate::network::ethtool::{self, Channels};
use crate::network::{Link, Network, OnInterface, peer_has_program};

/// How long a link that was let go of may yet be attached: 200 ms.
const DETACHING_POLLS: u32 = 20;
const DETACHING_POLL: Duration = Duration::from_millis(10);
/// An MTU that every driver takes with a plain program.
const MTU_USUAL: u32 = 1500;

/// What decides on which rung a device can stand.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Facts {
    pub(super) index: u32,
    pub(super) name: String,
    /// In octets.
    mtu: u32,
    driver: Option<String>,
    /// Its queues, of which some drivers take a certain number for a native program.
    channels: Option<Channels>,
    /// Those of a bond, a team or a Hyper-V device, by index and name.
    slaves: Vec<(u32, String)>,
    /// Programs on the device, or on its slaves, that are not ours.
    foreign: Vec<(String, OnInterface)>,
    /// Of a veth: its other end takes what is sent to it natively. `None`: that cannot be known, or matters to no other
    /// device.
    peer_takes_answers: Option<bool>,
    /// The driver has counted that native answers do not leave.
    pub(super) loses_answers: bool,
}

impl Facts {
    /// Looks at a device; `ours` are the numbers of our own programs.
    pub(super) fn of(device: &Link, slaves: &[u32], network: &Network, ours: &[u32]) -> Self {
        let links = slaves.iter().filter_map(|slave| network.link(*slave));
        let slaves: Vec<(u32, String)> = links.map(|link| (link.index, link.name.clone())).collect();
        let all = std::iter::once(device).chain(slaves.iter().filter_map(|(index, _)| network.link(*index)));
        let foreign = all.flat_map(|link| {
            let others = link.programs.iter().filter(|there| !ours.contains(&there.id));
            others.map(|there| (link.name.clone(), *there))
        });
        Facts {
            index: device.index,
            name: device.name.clone(),
            mtu: device.mtu,
            driver: device.driver.clone(),
            channels: ethtool::settings(&device.name).channels,
            foreign: foreign.collect(),
            slaves,
            peer_takes_answers: device.is("veth").then(|| peer_has_program(device)).flatten(),
            loses_answers: false,
        }
    }

    fn driver(&self) -> &str {
        self.driver.as_deref().unwrap_or("its driver")
    }

    /// Why native mode would be of no use, though the kernel would take it.
    fn native_is_useless(&self) -> Option<String> {
        if self.loses_answers {
            return Some(
                "native answers were lost: its driver counted none that left, only errors".to_owned(),
            );
        }
        let lost = "native answers would be lost: the other end of this veth has no XDP program";
        (self.peer_takes_answers == Some(false)).then(|| lost.to_owned())
    }

    /// Why the kernel refused a program in the driver.
    fn native_refusal(&self, error: &ProgramError) -> String {
        let (mtu, driver) = (self.mtu, self.driver());
        let limit = self.driver.as_deref().and_then(driver::mtu_max);
        match (errno(error), limit) {
            (Some(libc::EOPNOTSUPP), _) if mtu <= MTU_USUAL => format!("{driver} has no native XDP"),
            (_, Some(limit)) if mtu > limit => {
                format!("MTU {mtu} is above {limit}, the most that {driver} takes")
            }
            // veth_xdp_set
            (Some(libc::ERANGE), Some(limit)) => {
                format!("the MTU of its other end is above {limit}, the most that {driver} takes")
            }
            (Some(libc::EINVAL | libc::ERANGE | libc::EOPNOTSUPP), None) if mtu > MTU_USUAL => {
                format!("MTU {mtu} is more than {driver} takes, or it has no native XDP")
            }
            _ => root_cause(error),
        }
    }
}

/// A way to attach a program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Rung {
    Native,
    /// With a program for fragmented frames.
    NativeFrags,
    /// Natively on each slave.
    Slaves,
    Generic,
}

/// The ways that are tried in turn, and why others are not.
fn rungs(mode: Mode, facts: &Facts, kernel: KernelVersion) -> (Vec<Rung>, Option<String>) {
    let mut rungs = Vec::new();
    let useless = facts.native_is_useless();
    if matches!(mode, Mode::Auto | Mode::Native) && useless.is_none() {
        rungs.push(Rung::Native);
        // For a veth the MTU of its other end counts.
        let may_be_fragmented = facts.mtu > MTU_USUAL || facts.driver() == "veth";
        if may_be_fragmented && kernel.has_frags() {
            rungs.push(Rung::NativeFrags);
        }
        if !facts.slaves.is_empty() {
            rungs.push(Rung::Slaves);
        }
    }
    if matches!(mode, Mode::Auto | Mode::Generic) {
        rungs.push(Rung::Generic);
    }
    (rungs, useless.filter(|_| mode != Mode::Generic))
}

/// Where devices get their programs from.
pub(super) struct Source<'a> {
    pub(super) object: &'a mut Ebpf,
    pub(super) pins: &'a Pins,
    pub(super) mode: Mode,
    /// With cookies and limits.
    pub(super) guarded: bool,
    pub(super) kernel: KernelVersion,
    /// The daemon has started.
    pub(super) is_running: bool,
}

impl Source<'_> {
    fn variant(&self, frags: bool) -> Variant {
        Variant { guarded: self.guarded, frags }
    }
}

/// A program on an interface.
#[derive(Debug)]
struct Attachment {
    index: u32,
    name: String,
    /// Held so that the program stays when somebody removes the pins.
    link: FdLink,
}

/// A device, and the programs on it or on its slaves.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) facts: Facts,
    pub(super) mode: Attached,
    /// Why it is on no higher rung.
    pub(super) reason: Option<String>,
    attachments: Vec<Attachment>,
    frags: bool,
}

impl Device {
    /// Attaches a program in the first way that works, or takes a predecessor's place.
    ///
    /// # Errors
    /// This process lacks what it takes, so that a predecessor's program has to be left where it is; or another dns-xdp
    /// answers there.
    pub(super) fn attach(facts: Facts, network: &Network, source: &mut Source<'_>) -> Result<Self, Error> {
        if let Some(device) = Self::adopt(&facts, network, source)? {
            return Ok(device);
        }
        let off = |facts, reason| Device {
            facts,
            mode: Attached::Off,
            reason: Some(reason),
            attachments: Vec::new(),
            frags: false,
        };
        if let Some((interface, there)) = facts.foreign.first() {
            let foreign = Foreign::find(*there);
            let reason = foreign.reason(interface);
            return if foreign.is_dns_xdp() && !source.is_running {
                Err(Error::occupied(reason))
            } else {
                Ok(off(facts, reason))
            };
        }
        let (rungs, useless) = rungs(source.mode, &facts, source.kernel);
        let mut refusals: Vec<String> = useless.into_iter().collect();
        for rung in rungs {
            match Self::attach_on(rung, &facts, source)? {
                Ok(attachments) => {
                    let mode = if rung == Rung::Generic { Attached::Generic } else { Attached::Native };
                    let is_lower = mode == Attached::Generic && source.mode != Mode::Generic;
                    let reason = Some(refusals.join("; ")).filter(|reason| is_lower && !reason.is_empty());
                    let frags = rung == Rung::NativeFrags;
                    return Ok(Device { facts, mode, reason, attachments, frags });
                }
                Err(refusal) if refusals.contains(&refusal) => {}
                Err(refusal) => refusals.push(refusal),
            }
        }
        Ok(off(facts, refusals.join("; ")))
    }

    /// The inner error is the kernel's refusal, in words.
    fn attach_on(
        rung: Rung,
        facts: &Facts,
        source: &mut Source<'_>,
    ) -> Result<Result<Vec<Attachment>, String>, Error> {
        let (mode, on) = match rung {
            Rung::Native | Rung::NativeFrags => (XdpMode::Driver, vec![(facts.index, facts.name.clone())]),
            Rung::Slaves => (XdpMode::Driver, facts.slaves.clone()),
            Rung::Generic => (XdpMode::Skb, vec![(facts.index, facts.name.clone())]),
        };
        let variant = source.variant(rung == Rung::NativeFrags);
        let program = match program::load(source.object, variant) {
            Ok(program) => program,
            Err(error) if variant.frags => return Ok(Err(error.to_string())),
            Err(error) => return Err(error),
        };
        let mut attachments = Vec::new();
        for (index, name) in on {
            // A link of a device that has gone is in the way.
            let pin = source.pins.link(&name);
            pins::remove(&pin);
            match attached(program, index, mode) {
                Ok(link) => {
                    let link = link.pin(&pin).map_err(|error| Error::pinning(&pin, error))?.into();
                    attachments.push(Attachment { index, name, link });
                }
                Err(error) => {
                    Self::detach_all(attachments, source.pins);
                    let is_slave = rung == Rung::Slaves;
                    let said =
                        if rung == Rung::Generic { root_cause(&error) } else { facts.native_refusal(&error) };
                    let what = if rung == Rung::Generic { "generic" } else { "native" };
                    let on = if is_slave { format!(" on {name}") } else { String::new() };
                    return Ok(Err(format!("{what} was refused{on}: {said}")));
                }
            }
        }
        Ok(Ok(attachments))
    }

    /// Takes over the links that a predecessor pinned; `None`: there are none that live.
    fn adopt(facts: &Facts, network: &Network, source: &mut Source<'_>) -> Result<Option<Self>, Error> {
        let own = vec![(facts.index, facts.name.clone())];
        for on in [own, facts.slaves.clone()] {
            if on.is_empty() || !on.iter().all(|(_, name)| source.pins.link(name).exists()) {
                continue;
            }
            let mut attachments = Vec::new();
            let mut uses_frags = false;
            for (index, name) in on {
                let pin = source.pins.link(&name);
                match Self::take_over(&pin, network.link(index), facts, source)? {
                    Some((link, frags)) => {
                        uses_frags |= frags;
                        attachments.push(Attachment { index, name, link });
                    }
                    None => {
                        Self::detach_all(std::mem::take(&mut attachments), source.pins);
                        break;
                    }
                }
            }
            if attachments.is_empty() {
                continue;
            }
            let program = attachments.first().and_then(|first| network.link(first.index)?.program());
            let native = program.is_some_and(|program| program.native);
            let useless = facts.native_is_useless().filter(|_| native && source.mode == Mode::Auto);
            let fits = match source.mode {
                Mode::Auto => useless.is_none(),
                Mode::Native => native,
                Mode::Generic => !native,
                Mode::Off => false,
            };
            if !fits {
                Self::detach_all(attachments, source.pins);
                continue;
            }
            let mode = if native { Attached::Native } else { Attached::Generic };
            let is_lower = !native && source.mode == Mode::Auto;
            let (_, useless) = rungs(source.mode, facts, source.kernel);
            let before =
                || "the daemon before attached it so, and it was taken over without a break".to_owned();
            let reason = is_lower.then(|| useless.unwrap_or_else(before));
            return Ok(Some(Device { facts: facts.clone(), mode, reason, attachments, frags: uses_frags }));
        }
        Ok(None)
    }

    /// Puts our program in the place of a pinned link's, a plain one if the driver takes that; `None`: the link's interface
    /// is gone. Returns whether the program is one for fragmented frames.
    fn take_over(
        pin: &Path,
        there: Option<&Link>,
        facts: &Facts,
        source: &mut Source<'_>,
    ) -> Result<Option<(FdLink, bool)>, Error> {
        let ways = [false, true].into_iter().filter(|frags| !frags || source.kernel.has_frags());
        let mut refusal = None;
        for frags in ways.collect::<Vec<_>>() {
            let Some(link) = program::pinned(pin)? else { break };
            if there.is_none_or(|there| there.programs.is_empty()) {
                // Somebody has detached it, or it is another interface by now.
                break;
            }
            let variant = source.variant(frags);
            match program::replace(program::load(source.object, variant)?, link) {
                Ok(link) => return Ok(Some((link, frags))),
                // The interface that bears the name now is another.
                Err(error) if errno(&error) == Some(libc::ENOLINK) => break,
                Err(error) => refusal = Some(error),
            }
        }
        if let Some(error) = refusal {
            // Anything but a link that outlived its interface leaves the predecessor's program where it is.
            let wants =
                errno(&error).map(std::io::Error::from_raw_os_error).is_some_and(|error| is_want(&error));
            if wants || facts.mtu <= MTU_USUAL {
                return Err(Error::attaching(&facts.name, error));
            }
        }
        pins::remove(pin);
        Ok(None)
    }

    /// Swaps in the variant that is wanted now.
    ///
    /// # Errors
    /// The kernel refuses; the one before stays.
    pub(super) fn switch(&mut self, source: &mut Source<'_>) -> Result<(), Error> {
        let variant = source.variant(self.frags);
        for attachment in &mut self.attachments {
            let pin = source.pins.link(&attachment.name);
            let Some(link) = program::pinned(&pin)? else { continue };
            let swapped = program::replace(program::load(source.object, variant)?, link);
            attachment.link = swapped.map_err(|error| Error::attaching(&attachment.name, error))?;
        }
        Ok(())
    }

    /// Detaches everything.
    pub(super) fn detach(self, pins: &Pins) {
        Self::detach_all(self.attachments, pins);
    }

    fn detach_all(attachments: Vec<Attachment>, pins: &Pins) {
        for Attachment { name, link, .. } in attachments {
            pins::remove(&pins.link(&name));
            // The last reference, which detaches.
            drop(link);
        }
    }

    /// Whether one of our programs is on each interface where it was attached.
    pub(super) fn is_in_place(&self, network: &Network, ours: &[u32]) -> bool {
        self.attachments.iter().all(|attachment| {
            let there = network.link(attachment.index).map(|link| &link.programs);
            there.is_some_and(|there| there.iter().any(|there| ours.contains(&there.id)))
        })
    }

    /// Whether it may stand on another rung now that this is so.
    pub(super) fn may_move(&self, facts: &Facts, mode: Mode) -> bool {
        if self.facts == *facts {
            return false;
        }
        let (before, now) = (&self.facts, facts);
        let on_slaves = self.attachments.iter().any(|attachment| attachment.index != now.index);
        match self.mode {
            Attached::Native if on_slaves => before.slaves != now.slaves || before.index != now.index,
            Attached::Native => {
                mode == Mode::Auto && now.native_is_useless().is_some() || before.index != now.index
            }
            Attached::Generic => mode != Mode::Generic && now.native_is_useless().is_none(),
            Attached::Off => true,
        }
    }

    /// Pins the links again whose pins somebody has removed.
    ///
    /// # Errors
    /// One cannot be pinned.
    pub(super) fn repin(&mut self, pins: &Pins) -> Result<(), Error> {
        let (lost, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.attachments)
            .into_iter()
            .partition(|attachment| !pins.link(&attachment.name).exists());
        self.attachments = kept;
        for Attachment { index, name, link } in lost {
            tracing::warn!("somebody has unpinned the link to {name}: it is pinned again");
            let pin = pins.link(&name);
            let link = link.pin(&pin).map_err(|error| Error::pinning(&pin, error))?.into();
            self.attachments.push(Attachment { index, name, link });
        }
        Ok(())
    }

    /// The names of the interfaces that a program is attached to.
    pub(super) fn attached_to(&self) -> impl Iterator<Item = &str> {
        self.attachments.iter().map(|attachment| &*attachment.name)
    }
}

/// Attaches a program, and waits for a moment where another one is there yet that was detached just before: the kernel lets
/// go of a link some time after its last reference has gone.
fn attached(program: &mut Xdp, index: u32, mode: XdpMode) -> Result<FdLink, ProgramError> {
    for _ in 0..DETACHING_POLLS {
        match program::attach(program, index, mode) {
            Err(error) if matches!(errno(&error), Some(libc::EEXIST | libc::EBUSY)) => sleep(DETACHING_POLL),
            attached => return attached,
        }
    }
    program::attach(program, index, mode)
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: KernelVersion = KernelVersion(6, 1);

    fn facts() -> Facts {
        Facts {
            index: 2,
            name: "eth0".to_owned(),
            mtu: 1500,
            driver: Some("virtio_net".to_owned()),
            channels: None,
            slaves: Vec::new(),
            foreign: Vec::new(),
            peer_takes_answers: None,
            loses_answers: false,
        }
    }

    #[test]
    fn the_ladder_is_native_then_generic() {
        assert_eq!(rungs(Mode::Auto, &facts(), KERNEL), (vec![Rung::Native, Rung::Generic], None));
        assert_eq!(rungs(Mode::Native, &facts(), KERNEL).0, [Rung::Native]);
        assert_eq!(rungs(Mode::Generic, &facts(), KERNEL).0, [Rung::Generic]);
    }

    #[test]
    fn jumbo_frames_and_bonds_have_rungs_between() {
        let jumbo = Facts { mtu: 9000, ..facts() };
        assert_eq!(rungs(Mode::Native, &jumbo, KERNEL).0, [Rung::Native, Rung::NativeFrags]);
        assert_eq!(rungs(Mode::Native, &jumbo, KernelVersion(5, 10)).0, [Rung::Native]);
        let bond = Facts { slaves: vec![(3, "eth1".to_owned())], ..facts() };
        assert_eq!(rungs(Mode::Auto, &bond, KERNEL).0, [Rung::Native, Rung::Slaves, Rung::Generic]);
    }

    #[test]
    fn answers_that_would_not_leave_are_not_given_natively() {
        for lossy in
            [Facts { peer_takes_answers: Some(false), ..facts() }, Facts { loses_answers: true, ..facts() }]
        {
            let (rungs, reason) = rungs(Mode::Auto, &lossy, KERNEL);
            assert_eq!(rungs, [Rung::Generic]);
            assert!(reason.unwrap().starts_with("native answers w"));
        }
    }

    #[test]
    fn a_refusal_names_the_mtu_that_is_too_large() {
        let refused = |errno| {
            let io_error = std::io::Error::from_raw_os_error(errno);
            ProgramError::SyscallError(aya::sys::SyscallError { call: "bpf_link_create", io_error })
        };
        let jumbo = Facts { mtu: 9000, ..facts() };
        assert_eq!(
            jumbo.native_refusal(&refused(libc::EINVAL)),
            "MTU 9000 is above 3506, the most that virtio_net takes"
        );
        assert_eq!(facts().native_refusal(&refused(libc::EOPNOTSUPP)), "virtio_net has no native XDP");
        let veth = Facts { driver: Some("veth".to_owned()), ..facts() };
        let reason = "the MTU of its other end is above 3506, the most that veth takes";
        assert_eq!(veth.native_refusal(&refused(libc::ERANGE)), reason);
    }

    #[test]
    fn a_device_on_a_lower_rung_moves_when_what_held_it_there_has_changed() {
        let device =
            |mode, facts| Device { facts, mode, reason: None, attachments: Vec::new(), frags: false };
        let jumbo = Facts { mtu: 9000, ..facts() };
        let generic = device(Attached::Generic, jumbo.clone());
        assert!(!generic.may_move(&jumbo, Mode::Auto));
        assert!(generic.may_move(&facts(), Mode::Auto));
        assert!(!generic.may_move(&facts(), Mode::Generic));
        let native = device(Attached::Native, facts());
        assert!(!native.may_move(&jumbo, Mode::Auto));
        assert!(native.may_move(&Facts { loses_answers: true, ..facts() }, Mode::Auto));
        let occupied = vec![("eth0".to_owned(), OnInterface { id: 8, native: true })];
        let off = device(Attached::Off, Facts { foreign: occupied, ..facts() });
        assert!(off.may_move(&facts(), Mode::Auto));
    }
}
