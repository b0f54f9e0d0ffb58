//! Making everything anew after another process has removed the pins.
use std::time::Duration;

use super::{Error, Kernel, is_guarded, layout, program};
use crate::network::{Network, Serving};
use crate::zone::Zone;

impl Kernel {
    /// Loads everything over new maps in a new directory, and replaces what is attached: another process has removed
    /// the pins.
    pub(super) fn pin_anew(
        &mut self,
        serving: &Serving,
        network: &Network,
        zone: &Zone,
        lease: Option<Duration>,
    ) -> Result<(), Error> {
        if !std::mem::replace(&mut self.pins_are_lost, true) {
            let directory = self.pins.directory().display();
            tracing::warn!("somebody has removed pins in {directory}: they are made anew");
        }
        let pins = self.pins.made_anew()?;
        let half = layout::half(self.config.xdp.capacity);
        let mut next = Self::load_pinned(&self.config, self.version, half, &pins)?;
        // The directory stays in any case.
        next.attached = true;
        next.predecessors.extend(program::ids(&self.object));
        // The configuration may have changed since the start.
        next.set_guarded(is_guarded(zone.guard()))?;
        let prepared = next.maps.prepare(zone)?;
        next.maps.switch(&prepared)?;
        next.renew(lease)?;
        // The programs that are attached answer until then.
        self.devices.clear();
        let without_them = Network::read();
        next.take_watches(self);
        if let Err(error) = next.attach(serving, without_them.as_ref().unwrap_or(network)) {
            self.take_watches(&mut next);
            // It is tried again, over others.
            next.pins.remove_maps();
            return Err(error);
        }
        next.counted = self.counters().unwrap_or_default();
        *self = next;
        Ok(())
    }

    /// Goes on with what another has seen of the drivers.
    fn take_watches(&mut self, other: &mut Kernel) {
        self.transmit = std::mem::take(&mut other.transmit);
        self.lost = std::mem::take(&mut other.lost);
    }
}
