//! An interface that goes, comes back as another, or loses the program to another hand: seen at a look, and mended.
use dns_xdp_ebpf::table;

use super::interface::Interface;
use super::{Attached, Error, Kernel, program};
use crate::config::Mode;

/// What is to be done about the interfaces as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Remedy {
    /// The program is wherever it can be.
    Nothing,
    /// It is loaded for these interfaces, and not on all of them.
    Attach,
    /// The served addresses are bound to interfaces that are others by now.
    LoadAnew,
}

/// An interface as the program knows it, or as it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Identity {
    index: u32,
    mac: [u8; 6],
}

impl Identity {
    fn of(interface: &Interface) -> Self {
        Identity { index: interface.index, mac: interface.mac }
    }
}

impl Kernel {
    /// Attaches the program where it is not any more. Nothing is done where nothing has changed since the last look,
    /// so that what cannot be mended is not tried at every look. Returns whether something has changed.
    ///
    /// # Errors
    /// The program cannot be loaded or attached; what is attached stays.
    pub(super) fn mend(&mut self) -> Result<bool, Error> {
        let there = self.look();
        if self.there == there {
            return Ok(false);
        }
        self.there.clone_from(&there);
        let responder = program::program(&self.object, table::RESPONDER)?;
        let ours = responder.info().map_err(|error| Error::loading(error.into()))?.id();
        let present: Vec<Interface> = there.into_iter().flatten().collect();
        let remedies = present.iter().map(|interface| remedy(self.known(interface), interface, ours));
        match remedies.max().unwrap_or(Remedy::Nothing) {
            Remedy::Nothing => {}
            Remedy::Attach => {
                for (interface, _) in &mut self.modes {
                    interface.program =
                        present.iter().find(|now| now.name == interface.name).and_then(|now| now.program);
                }
                self.attach()?;
            }
            Remedy::LoadAnew => self.load_anew(present)?,
        }
        let names = self.config.listen.interfaces.iter().zip(&self.there);
        for (name, _) in names.filter(|(_, interface)| interface.is_none()) {
            tracing::warn!("{name} is not there: the program is attached to it when it is back");
        }
        Ok(true)
    }

    /// Every interface of the configuration as it was at the last look, and how the program is attached to it; `None`:
    /// it is not there.
    pub(super) fn attachments(&self) -> Vec<(String, Option<Attached>)> {
        let names = self.config.listen.interfaces.iter().zip(&self.there);
        let attached = |interface: &Interface| self.attached_to(interface);
        names.map(|(name, interface)| (name.clone(), interface.as_ref().map(attached))).collect()
    }

    /// How our program is attached.
    fn attached_to(&self, interface: &Interface) -> Attached {
        match self.known(interface) {
            Some((_, mode)) if mode != Mode::Off => interface.attached(),
            _ => Attached::Off,
        }
    }

    /// The interfaces of the configuration, where they are there.
    pub(super) fn look(&self) -> Vec<Option<Interface>> {
        self.config.listen.interfaces.iter().map(|name| Interface::find(name).ok()).collect()
    }

    /// The interface that the program was loaded for under this one's name, and whether the program belongs there.
    fn known(&self, interface: &Interface) -> Option<(Identity, Mode)> {
        let known = self.modes.iter().find(|(known, _)| known.name == interface.name);
        known.map(|(known, mode)| (Identity::of(known), *mode))
    }

    /// A program for these interfaces takes the place of the one that is loaded, over the same maps.
    fn load_anew(&mut self, present: Vec<Interface>) -> Result<(), Error> {
        let mut next = Self::load_pinned(&self.config, present, &self.addresses, self.half, &self.pins)?;
        // Whatever becomes of it, the pins are not its own.
        next.attached = true;
        next.attach()?;
        *self = next;
        Ok(())
    }
}

/// What an interface takes of which that much is known.
fn remedy(known: Option<(Identity, Mode)>, interface: &Interface, ours: u32) -> Remedy {
    let is_ours = interface.program.is_some_and(|program| program.id == ours);
    match known {
        Some((known, mode)) if known == Identity::of(interface) => {
            // Where it is off there is another's program, which is left alone, and its end is not looked out for.
            if is_ours || mode == Mode::Off { Remedy::Nothing } else { Remedy::Attach }
        }
        _ => Remedy::LoadAnew,
    }
}

#[cfg(test)]
mod tests {
    use super::super::interface::OnInterface;
    use super::*;

    fn eth0(index: u32, program: Option<u32>) -> Interface {
        let program = program.map(|id| OnInterface { id, native: true });
        Interface { name: "eth0".to_owned(), index, mac: [2, 0, 0, 0, 0, 1], program, driver: None }
    }

    #[test]
    fn a_program_that_is_gone_is_attached_and_another_interface_takes_a_program_of_its_own() {
        let known = Some((Identity::of(&eth0(2, None)), Mode::Auto));
        assert_eq!(remedy(known, &eth0(2, Some(7)), 7), Remedy::Nothing);
        assert_eq!(remedy(known, &eth0(2, None), 7), Remedy::Attach);
        assert_eq!(remedy(known, &eth0(2, Some(8)), 7), Remedy::Attach);
        assert_eq!(remedy(known, &eth0(3, Some(7)), 7), Remedy::LoadAnew);
        let other_mac = Interface { mac: [2, 0, 0, 0, 0, 9], ..eth0(2, Some(7)) };
        assert_eq!(remedy(known, &other_mac, 7), Remedy::LoadAnew);
        assert_eq!(remedy(None, &eth0(2, None), 7), Remedy::LoadAnew);
    }

    #[test]
    fn an_interface_with_anothers_program_is_left_alone() {
        let known = Some((Identity::of(&eth0(2, Some(8))), Mode::Off));
        assert_eq!(remedy(known, &eth0(2, Some(8)), 7), Remedy::Nothing);
        assert_eq!(remedy(known, &eth0(2, None), 7), Remedy::Nothing);
    }

    #[test]
    fn the_worst_off_interface_decides() {
        assert!(Remedy::LoadAnew > Remedy::Attach && Remedy::Attach > Remedy::Nothing);
    }
}
