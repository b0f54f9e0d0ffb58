//! A device with its program, attached in the first mode of [`super::ladder`] that works.
use std::path::Path;
use std::thread::sleep;
use std::time::{Duration, Instant};

use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{ProgramError, Xdp, XdpMode};

use super::foreign::Foreign;
use super::kernel_version::KernelVersion;
use super::ladder::{Facts, MTU_USUAL, RETRY, Refusal, Rung, rungs};
use super::pins::{self, Pins};
use super::program::{self, errno, is_want, root_cause};
use super::variant::Variant;
use super::{Attached, Error};
use crate::config::Mode;
use crate::network::{Link, Network};
use crate::program_features::ProgramFeatures;

/// The number of polls while a released link may still be attached: 200 ms in all.
const DETACHING_POLLS: u32 = 20;
const DETACHING_POLL: Duration = Duration::from_millis(10);

/// The inputs for loading and attaching the programs of a device.
pub(super) struct Source<'a> {
    pub(super) object: &'a mut Ebpf,
    pub(super) pins: &'a Pins,
    pub(super) mode: Mode,
    /// The features of the programs.
    pub(super) features: ProgramFeatures,
    pub(super) kernel: KernelVersion,
    /// Whether the daemon has started.
    pub(super) is_running: bool,
}

impl Source<'_> {
    fn variant(&self, frags: bool) -> Variant {
        Variant { features: self.features, frags }
    }
}

/// A program on an interface.
#[derive(Debug)]
struct Attachment {
    index: u32,
    name: String,
    /// The link. It keeps the program attached when another process removes the pins.
    link: FdLink,
}

/// A device, and the programs on it or on its slaves.
#[derive(Debug)]
pub(super) struct Device {
    pub(super) facts: Facts,
    pub(super) mode: Attached,
    /// Why it has no better mode.
    pub(super) reason: Option<String>,
    /// The time when a driver refused a native program that it may take later.
    refused_at: Option<Instant>,
    attachments: Vec<Attachment>,
    frags: bool,
    /// The features of the programs; `None`: a switch has failed between two interfaces.
    features: Option<ProgramFeatures>,
}

impl Device {
    /// Attaches a program in the first mode that works, or replaces a predecessor's program.
    ///
    /// # Errors
    /// This process lacks a permission or memory, so a predecessor's program stays. Or another dns-xdp answers on the
    /// device.
    pub(super) fn attach(facts: Facts, network: &Network, source: &mut Source<'_>) -> Result<Self, Error> {
        if let Some(device) = Self::adopt(&facts, network, source)? {
            return Ok(device);
        }
        if let Some((index, name, there)) = facts.foreign.first() {
            let foreign = Foreign::find(*there, *index);
            let reason = foreign.reason(name);
            return if foreign.is_dns_xdp() && !source.is_running {
                Err(Error::occupied(reason))
            } else {
                Ok(Device::off(facts, reason))
            };
        }
        let (rungs, mut refusals) = rungs(source.mode, &facts, source.kernel);
        let mut refused_at = None;
        for rung in rungs {
            match Self::attach_on(rung, &facts, source)? {
                Ok(attachments) => {
                    let mode = if rung == Rung::Generic { Attached::Generic } else { Attached::Native };
                    let is_lower = mode == Attached::Generic && source.mode != Mode::Generic;
                    let reason = Some(refusals.join("; ")).filter(|reason| is_lower && !reason.is_empty());
                    let frags = rung == Rung::NativeFrags;
                    let features = Some(source.features);
                    return Ok(Device { facts, mode, reason, refused_at, attachments, frags, features });
                }
                Err(refusal) => {
                    if refusal.may_pass {
                        refused_at = Some(Instant::now());
                    }
                    if !refusals.contains(&refusal.reason) {
                        refusals.push(refusal.reason);
                    }
                }
            }
        }
        Ok(Device { refused_at, ..Device::off(facts, refusals.join("; ")) })
    }

    fn off(facts: Facts, reason: String) -> Self {
        Device {
            facts,
            mode: Attached::Off,
            reason: Some(reason),
            refused_at: None,
            attachments: Vec::new(),
            frags: false,
            features: None,
        }
    }

    /// Attaches a program in one mode. The inner error is the kernel's refusal as text.
    fn attach_on(
        rung: Rung,
        facts: &Facts,
        source: &mut Source<'_>,
    ) -> Result<Result<Vec<Attachment>, Refusal>, Error> {
        let (mode, on) = match rung {
            Rung::Native | Rung::NativeFrags => (XdpMode::Driver, std::slice::from_ref(&facts.device)),
            Rung::Slaves => (XdpMode::Driver, &*facts.slaves),
            Rung::Generic => (XdpMode::Skb, std::slice::from_ref(&facts.device)),
        };
        let variant = source.variant(rung == Rung::NativeFrags);
        let program = match program::load(source.object, variant) {
            Ok(program) => program,
            Err(error) if variant.frags => {
                return Ok(Err(Refusal { reason: error.to_string(), may_pass: false }));
            }
            Err(error) => return Err(error),
        };
        let mut attachments = Vec::new();
        for card in on {
            let (index, name) = (card.index, card.name.clone());
            // A pinned link of a device that no longer exists blocks the pin.
            let pin = source.pins.link(&name);
            pins::remove(&pin);
            match attached(program, index, mode) {
                Ok(link) => {
                    let link = link.pin(&pin).map_err(|error| Error::pinning(&pin, error))?.into();
                    attachments.push(Attachment { index, name, link });
                }
                Err(error) => {
                    Self::detach_all(attachments, source.pins);
                    let said = root_cause(&error);
                    if rung == Rung::Generic {
                        let reason = format!("generic was refused: {said}");
                        return Ok(Err(Refusal { reason, may_pass: true }));
                    }
                    let on = if rung == Rung::Slaves { format!(" on {name}") } else { String::new() };
                    let Refusal { reason, may_pass } = facts.native_refusal(card, errno(&error), said);
                    return Ok(Err(Refusal {
                        reason: format!("native was refused{on}: {reason}"),
                        may_pass,
                    }));
                }
            }
        }
        Ok(Ok(attachments))
    }

    /// Takes over the links that a predecessor pinned; `None`: none of them is attached.
    fn adopt(facts: &Facts, network: &Network, source: &mut Source<'_>) -> Result<Option<Self>, Error> {
        for on in facts.adoptable() {
            if !on.iter().all(|(_, name)| source.pins.link(name).exists()) {
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
            let before = || {
                "the previous daemon attached it in this mode, and it was taken over without a break"
                    .to_owned()
            };
            let reason = is_lower.then(|| facts.native_is_useless().unwrap_or_else(before));
            // This daemon does not know which refusals the previous daemon got.
            let refused_at = is_lower.then(Instant::now);
            return Ok(Some(Device {
                facts: facts.clone(),
                mode,
                reason,
                refused_at,
                attachments,
                frags: uses_frags,
                features: Some(source.features),
            }));
        }
        Ok(None)
    }

    /// Replaces the program of a pinned link. Uses a plain program if the driver accepts one. Also returns whether the
    /// program is for fragmented frames. `None`: the link's interface no longer exists.
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
                // Another process has detached it, or the name is now another interface's.
                break;
            }
            let variant = source.variant(frags);
            match program::replace(program::load(source.object, variant)?, link) {
                Ok(link) => return Ok(Some((link, frags))),
                // Another interface has the name now.
                Err(error) if errno(&error) == Some(libc::ENOLINK) => break,
                Err(error) => refusal = Some(error),
            }
        }
        if let Some(error) = refusal {
            // After any other error the predecessor's program stays, unless the MTU explains the refusal.
            let wants =
                errno(&error).map(std::io::Error::from_raw_os_error).is_some_and(|error| is_want(&error));
            if wants || facts.device.mtu <= MTU_USUAL {
                return Err(Error::attaching(&facts.device.name, error));
            }
        }
        pins::remove(pin);
        Ok(None)
    }

    /// Swaps in the wanted variant.
    ///
    /// # Errors
    /// The kernel refuses, or a link cannot be pinned. The remaining interfaces keep the old variant.
    pub(super) fn switch(&mut self, source: &mut Source<'_>) -> Result<(), Error> {
        // The library consumes the link, and drops it if the kernel refuses. The pin keeps it attached.
        self.repin(source.pins)?;
        self.features = None;
        let variant = source.variant(self.frags);
        for attachment in &mut self.attachments {
            let pin = source.pins.link(&attachment.name);
            let link = program::pinned(&pin)?
                .ok_or_else(|| Error::new(format!("the link pinned at {} is gone", pin.display())))?;
            let swapped = program::replace(program::load(source.object, variant)?, link);
            attachment.link = swapped.map_err(|error| Error::attaching(&attachment.name, error))?;
        }
        self.features = Some(source.features);
        Ok(())
    }

    /// Whether the attached programs have these features and no others.
    pub(super) fn has(&self, features: ProgramFeatures) -> bool {
        self.attachments.is_empty() || self.features == Some(features)
    }

    /// Detaches everything.
    pub(super) fn detach(self, pins: &Pins) {
        Self::detach_all(self.attachments, pins);
    }

    fn detach_all(attachments: Vec<Attachment>, pins: &Pins) {
        for Attachment { name, link, .. } in attachments {
            pins::remove(&pins.link(&name));
            // Dropping the last reference detaches the program.
            drop(link);
        }
    }

    /// Whether each interface still has one of this daemon's programs where one was attached.
    pub(super) fn is_in_place(&self, network: &Network, ours: &[u32]) -> bool {
        self.attachments.iter().all(|attachment| {
            let there = network.link(attachment.index).map(|link| &link.programs);
            there.is_some_and(|there| there.iter().any(|there| ours.contains(&there.id)))
        })
    }

    /// Returns whether a device with these facts may get a different mode (a rung of [`super::ladder`]).
    pub(super) fn may_move(&self, facts: &Facts, mode: Mode) -> bool {
        let is_due = self.refused_at.is_some_and(|at| at.elapsed() >= RETRY);
        if is_due && self.mode != Attached::Native && (mode != Mode::Generic || self.mode == Attached::Off) {
            return true;
        }
        if self.facts == *facts {
            return false;
        }
        let (before, now) = (&self.facts, facts);
        let is_another = before.device.index != now.device.index;
        let on_slaves = self.attachments.iter().any(|attachment| attachment.index != now.device.index);
        match self.mode {
            Attached::Native if on_slaves => {
                !before.has_slaves_of(now) || now.own_slave.is_some() || is_another
            }
            Attached::Native => mode == Mode::Auto && now.native_is_useless().is_some() || is_another,
            Attached::Generic => mode != Mode::Generic && now.native_is_useless().is_none(),
            Attached::Off => true,
        }
    }

    /// Pins links again if another process has removed their pins.
    ///
    /// # Errors
    /// A link cannot be pinned.
    pub(super) fn repin(&mut self, pins: &Pins) -> Result<(), Error> {
        let (lost, kept): (Vec<_>, Vec<_>) = std::mem::take(&mut self.attachments)
            .into_iter()
            .partition(|attachment| !pins.link(&attachment.name).exists());
        self.attachments = kept;
        for Attachment { index, name, link } in lost {
            tracing::warn!("another process has unpinned the link to {name}: it is pinned again");
            let pin = pins.link(&name);
            let link = link.pin(&pin).map_err(|error| Error::pinning(&pin, error))?.into();
            self.attachments.push(Attachment { index, name, link });
        }
        Ok(())
    }

    /// Returns the names of the interfaces that have a program.
    pub(super) fn attached_to(&self) -> impl Iterator<Item = &str> {
        self.attachments.iter().map(|attachment| &*attachment.name)
    }
}

/// Attaches a program. Waits a moment if another program was just detached, because the kernel releases a link some
/// time after its last reference.
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
    use super::super::ladder::Card;
    use super::*;
    use crate::network::OnInterface;

    fn facts() -> Facts {
        let device = Card { index: 2, name: "eth0".to_owned(), mtu: 1500, ..Card::default() };
        Facts { device, ..Facts::default() }
    }

    fn device(mode: Attached, facts: Facts) -> Device {
        Device { mode, reason: None, ..Device::off(facts, String::new()) }
    }

    #[test]
    fn a_device_on_a_lower_rung_moves_when_what_held_it_there_has_changed() {
        let jumbo = Facts { device: Card { mtu: 9000, ..facts().device }, ..facts() };
        let generic = device(Attached::Generic, jumbo.clone());
        assert!(!generic.may_move(&jumbo, Mode::Auto));
        assert!(generic.may_move(&facts(), Mode::Auto));
        assert!(!generic.may_move(&facts(), Mode::Generic));
        let peer = Facts { peer_mtu: Some(9000), ..facts() };
        assert!(device(Attached::Generic, peer).may_move(&facts(), Mode::Auto));
        let native = device(Attached::Native, facts());
        assert!(!native.may_move(&jumbo, Mode::Auto));
        assert!(native.may_move(&Facts { loses_answers: true, ..facts() }, Mode::Auto));
        let occupied = vec![(2, "eth0".to_owned(), OnInterface { id: 8, native: true })];
        let off = device(Attached::Off, Facts { foreign: occupied, ..facts() });
        assert!(off.may_move(&facts(), Mode::Auto));
    }

    #[test]
    fn what_a_driver_refused_for_a_while_is_tried_again_later() {
        let refused = |mode, ago| {
            let refused_at = Instant::now().checked_sub(ago);
            Device { refused_at, ..device(mode, facts()) }
        };
        let moves = |device: Device, mode| device.may_move(&facts(), mode);
        assert!(!moves(refused(Attached::Generic, RETRY / 2), Mode::Auto));
        assert!(moves(refused(Attached::Generic, RETRY), Mode::Auto));
        assert!(moves(refused(Attached::Off, RETRY), Mode::Native));
        assert!(!moves(refused(Attached::Native, RETRY), Mode::Auto));
        assert!(!moves(device(Attached::Generic, facts()), Mode::Auto), "it was refused for good");
    }
}
