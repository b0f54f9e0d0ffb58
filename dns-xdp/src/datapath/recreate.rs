//! Replaces the table of the running program by a larger one, or by a new one after its pins were lost.
use std::time::Duration;

use super::pins::Pins;
use super::{Error, Kernel, layout, program};
use crate::network::{Network, Serving};
use crate::zone::Zone;

impl Kernel {
    /// Loads everything over new maps in a new directory, and replaces the attached programs, after another process has
    /// removed the pins.
    pub(super) fn pin_anew(
        &mut self,
        serving: &Serving,
        network: &Network,
        zone: &Zone,
        lease: Option<Duration>,
    ) -> Result<(), Error> {
        if !std::mem::replace(&mut self.pins_are_lost, true) {
            let directory = self.pins.directory().display();
            tracing::warn!("another process has removed pins in {directory}: they are made again");
        }
        let pins = self.pins.made_anew()?;
        self.replace(&pins, (zone, lease), serving, network)
    }

    /// Makes a table for this many names. `published`: the zone and the lease of the program; `None`: the program does
    /// not answer.
    ///
    /// # Errors
    /// The program cannot be loaded or attached. The old table stays in use.
    pub(super) fn grow(
        &mut self,
        capacity: u32,
        published: Option<(&Zone, Option<Duration>)>,
        serving: &Serving,
        network: &Network,
    ) -> Result<(), Error> {
        let pins = self.pins.with_bank_slots(layout::bank_slots(capacity));
        match published.filter(|_| self.attached) {
            Some(published) => self.replace(&pins, published, serving, network).inspect_err(|_| {
                // Some links may have the other program, which would no longer get new zones.
                if let Ok(network) = Network::read()
                    && let Err(error) = self.follow(serving, &network)
                {
                    tracing::warn!("the program before is not back on every interface: {error}");
                }
            })?,
            None => self.begin_again(&pins)?,
        }
        tracing::info!("the kernel's table has room for {capacity} names now");
        Ok(())
    }

    /// Loads everything over other maps before anything is attached.
    fn begin_again(&mut self, pins: &Pins) -> Result<(), Error> {
        let next = Self::load_pinned(&self.config, self.version, pins).inspect_err(|_| pins.remove_maps())?;
        if !self.adopted {
            self.pins.remove_maps();
        }
        // The next value takes over the directory, so do not remove it.
        self.attached = true;
        *self = next;
        Ok(())
    }

    /// Loads everything over other maps, publishes a zone there, and replaces the attached programs.
    fn replace(
        &mut self,
        pins: &Pins,
        (zone, lease): (&Zone, Option<Duration>),
        serving: &Serving,
        network: &Network,
    ) -> Result<(), Error> {
        let mut next =
            Self::load_pinned(&self.config, self.version, pins).inspect_err(|_| pins.remove_maps())?;
        // Keep the directory, even after an error.
        next.attached = true;
        next.predecessors.extend(program::ids(&self.object));
        // The configuration may have changed since the start.
        let filled = next.take_features(next.needed(zone)).and_then(|()| {
            let staged = next.maps.stage(zone)?;
            next.maps.commit(&staged)?;
            next.renew(lease)
        });
        if let Err(error) = filled {
            next.pins.remove_maps();
            return Err(error);
        }
        // The attached programs answer until here.
        self.devices.clear();
        let without_them = Network::read();
        next.take_watches(self);
        if let Err(error) = next.attach(serving, without_them.as_ref().unwrap_or(network)) {
            self.take_watches(&mut next);
            // The next attempt uses other maps.
            next.pins.remove_maps();
            return Err(error);
        }
        next.counted = self.counters().unwrap_or_default();
        *self = next;
        Ok(())
    }

    /// Takes over the observations of the drivers from `other`.
    fn take_watches(&mut self, other: &mut Kernel) {
        self.transmit = std::mem::take(&mut other.transmit);
        self.lost = std::mem::take(&mut other.lost);
    }
}
