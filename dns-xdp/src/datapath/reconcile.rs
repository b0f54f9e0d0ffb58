//! Keeps programs attached: attaches them to new devices, drops removed devices, and reattaches lost programs.
use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use dns_xdp_ebpf::table::Local;

use super::device::{Device, Source};
use super::ladder::{Facts, RETRY};
use super::local_addresses::LocalAddressesLayout;
use super::{Attached, Error, InterfaceState, Kernel, links, local_addresses, pins, program};
use crate::config::Mode;
use crate::network::{Network, Port, Serving};

impl Kernel {
    /// Adapts programs and served addresses to the network. A failed attempt is repeated only after a change, or after
    /// [`RETRY`] if it may then succeed. Returns whether anything has changed.
    ///
    /// # Errors
    /// A program cannot be loaded, or this process lacks permission or memory to attach it. Attached programs stay.
    pub(super) fn follow(&mut self, serving: &Serving, network: &Network) -> Result<bool, Error> {
        let mut ours = program::ids(&self.object);
        ours.extend(&self.predecessors);
        // Publish the addresses before a program replaces another. The new program then answers for them from its first
        // packet.
        let mut changed = self.publish_local_addresses(serving, network)?;
        let wanted = self.wanted(serving, network, &ours);
        if !self.attached {
            self.unpin_unadoptable(&wanted);
        }
        let mut result = Ok(());
        let mut kept = Vec::new();
        for mut device in std::mem::take(&mut self.devices) {
            let facts = wanted
                .get(&device.facts.device.index)
                .filter(|facts| facts.device.name == device.facts.device.name);
            match facts {
                Some(facts) if device.is_in_place(network, &ours) && !device.may_move(facts, self.mode) => {
                    device.facts.clone_from(facts);
                    kept.push(device);
                }
                _ => {
                    changed = true;
                    device.detach(&self.pins);
                }
            }
        }
        self.devices = kept;
        for (index, facts) in wanted {
            if self.devices.iter().any(|device| device.facts.device.index == index) {
                continue;
            }
            match Device::attach(facts, network, &mut self.source()) {
                Ok(device) => {
                    changed = true;
                    self.devices.push(device);
                }
                Err(error) => result = Err(error),
            }
        }
        if result.is_ok() {
            self.forget_stale_pins();
        }
        changed |= self.publish_local_addresses(serving, network)?;
        result.map(|()| changed)
    }

    /// Returns the devices that should have a program.
    fn wanted(&mut self, serving: &Serving, network: &Network, ours: &[u32]) -> BTreeMap<u32, Facts> {
        let mut wanted = BTreeMap::new();
        let devices: BTreeSet<u32> = ports(serving).map(|port| port.device).collect();
        for port in ports(serving) {
            let Some(device) = network.link(port.device) else { continue };
            let slaves: Vec<u32> = port.slaves.iter().map(|slave| slave.index).collect();
            let mut facts = Facts::of(device, &slaves, network, ours, &devices);
            let before = self.devices.iter().find(|known| known.facts.device.index == facts.device.index);
            let is_native = before.is_some_and(|known| known.mode == Attached::Native);
            let lost_before = self.lost.get(&device.name).is_some_and(|at| at.elapsed() < RETRY);
            let attached: Vec<&str> = before.into_iter().flat_map(Device::attached_to).collect();
            let loses = attached.iter().any(|name| self.transmit.loses_all(name));
            if is_native && loses {
                self.lost.insert(device.name.clone(), Instant::now());
            }
            facts.loses_answers = lost_before || (is_native && loses);
            wanted.insert(facts.device.index, facts);
        }
        wanted
    }

    pub(super) fn source(&mut self) -> Source<'_> {
        Source {
            object: &mut self.object,
            pins: &self.pins,
            mode: self.mode,
            features: self.features,
            kernel: self.version,
            is_running: self.attached,
        }
    }

    /// Removes a predecessor's pins that no device can take over and that would block it. These are pins of an
    /// interface that was renamed or got a master, and pins of only some slaves of a bond.
    fn unpin_unadoptable(&self, wanted: &BTreeMap<u32, Facts>) {
        let linked = self.pins.linked();
        let is_its = |(index, name): &(u32, String)| {
            let pinned = links::pinned(&self.pins.link(name));
            // Keep a pin that cannot be read: the adoption reports the error.
            linked.contains(name) && pinned.is_none_or(|there| there.interface == *index)
        };
        let sets = wanted.values().flat_map(Facts::adoptable).filter(|set| set.iter().all(is_its));
        let adoptable: BTreeSet<String> = sets.flatten().map(|(_, name)| name).collect();
        for interface in linked.iter().filter(|name| !adoptable.contains(*name)) {
            tracing::info!("detaching the program that a previous daemon attached to {interface}");
            pins::remove(&self.pins.link(interface));
        }
    }

    /// Removes the pins of links that no device uses: the interface was renamed, or is no longer configured.
    fn forget_stale_pins(&self) {
        let attached: Vec<&str> = self.devices.iter().flat_map(Device::attached_to).collect();
        for interface in self.pins.linked().iter().filter(|name| !attached.contains(&&***name)) {
            pins::remove(&self.pins.link(interface));
        }
    }

    /// Tells the program which addresses it serves, if these have changed.
    fn publish_local_addresses(&mut self, serving: &Serving, network: &Network) -> Result<bool, Error> {
        let generic: Vec<u32> = ports(serving)
            .filter(|port| !self.is_native(port, network))
            .flat_map(|port| std::iter::once(port.device).chain(port.slaves.iter().map(|slave| slave.index)))
            .collect();
        let places = serving.places().iter();
        let wanted: Vec<Local> =
            places.map(|place| local_addresses::local(place, generic.contains(&place.interface))).collect();
        if self.local_addresses.as_ref() == Some(&wanted) {
            return Ok(false);
        }
        let layout = LocalAddressesLayout::new(&wanted);
        self.maps.publish_local_addresses(&layout.to_bytes())?;
        let held = layout.held();
        if held < wanted.len() {
            tracing::warn!(
                "the XDP program serves {held} of {} pairs of address and interface; the responder serves all",
                wanted.len()
            );
        }
        self.local_addresses = Some(wanted);
        Ok(true)
    }

    /// Whether the program runs, or will run, in the driver of an interface's device. If unknown, it counts as generic,
    /// because the program answers less in that mode.
    fn is_native(&self, port: &Port, network: &Network) -> bool {
        match self.mode_of(port) {
            Attached::Native => true,
            Attached::Generic => false,
            Attached::Off => {
                let there = network.link(port.device).and_then(crate::network::Link::program);
                there.is_some_and(|there| there.native)
            }
        }
    }

    /// Returns how the program is attached to the device of an interface.
    fn mode_of(&self, port: &Port) -> Attached {
        let device = self.devices.iter().find(|device| device.facts.device.index == port.device);
        device.map_or(Attached::Off, |device| device.mode)
    }

    /// Returns the state of every interface of the configuration.
    pub(super) fn states(&self, serving: &Serving, network: &Network) -> Vec<InterfaceState> {
        let state = |interface: &crate::network::Interface| {
            let name = interface.name.clone();
            let port = match &interface.port {
                Ok(port) => port,
                Err(reason) => {
                    return InterfaceState { name, mode: Attached::Off, reason: Some(reason.to_string()) };
                }
            };
            if !port.is_ethernet() {
                let reason = format!("{name} is not an Ethernet interface: the responder answers on it");
                return InterfaceState { name, mode: Attached::Off, reason: Some(reason) };
            }
            let device = self.devices.iter().find(|device| device.facts.device.index == port.device);
            let Some(device) = device else {
                let reason = Some("nothing is attached yet".to_owned());
                return InterfaceState { name, mode: Attached::Off, reason };
            };
            let (mode, reason) = seen(device, port, network);
            InterfaceState { name, mode, reason }
        };
        serving.interfaces.iter().map(state).collect()
    }

    /// Returns the error if no device has the mode that the configuration demands.
    pub(super) fn refused(&self) -> Option<String> {
        let demanded = matches!(self.mode, Mode::Native | Mode::Generic);
        let refused = demanded && !self.devices.is_empty();
        if !refused || self.devices.iter().any(|device| device.mode != Attached::Off) {
            return None;
        }
        let reason = |device: &Device| {
            let reason = device.reason.as_deref().unwrap_or("it was refused");
            format!("cannot attach to {} ({reason})", device.facts.device.name)
        };
        let reasons: Vec<String> = self.devices.iter().map(reason).collect();
        Some(format!("{}: try [xdp] mode = \"auto\"", reasons.join("; ")))
    }

    /// Pins attached links that another process has unpinned. Returns whether maps are lost too; those need
    /// [`Kernel::pin_anew`].
    ///
    /// # Errors
    /// A link or the program cannot be pinned.
    pub(super) fn repin(&mut self) -> Result<bool, Error> {
        if !self.pins.has_maps(&super::MAPS) {
            return Ok(true);
        }
        for device in &mut self.devices {
            device.repin(&self.pins)?;
        }
        if self.attached && !self.pins.program().exists() {
            self.pin_program()?;
        }
        Ok(false)
    }
}

/// Returns how a port's device answers its queries. A program that does not see the port's tags does not answer these
/// queries.
fn seen(device: &Device, port: &Port, network: &Network) -> (Attached, Option<String>) {
    let as_it_is = || (device.mode, device.reason.clone());
    if device.mode == Attached::Off {
        return as_it_is();
    }
    let is_native = device.mode == Attached::Native;
    let Some(hidden) = device.facts.hides_tags(is_native) else { return as_it_is() };
    if !port.tags.is_empty() {
        let reasons = std::iter::once(hidden).chain(device.reason.clone());
        return (Attached::Off, Some(reasons.collect::<Vec<_>>().join("; ")));
    }
    // In generic mode the kernel keeps the tag beside the frame, and sends it with the answer.
    match network.vlan_above(port.device).filter(|_| is_native) {
        Some(vlan) => {
            let (vlan, device) = (&vlan.name, &port.device_name);
            let lost =
                format!("clients in {vlan} that ask at an address of {device} get no answer: {hidden}");
            (Attached::Native, Some(lost))
        }
        None => as_it_is(),
    }
}

/// Returns the ports that a program can answer on.
fn ports(serving: &Serving) -> impl Iterator<Item = &Port> {
    let ports = serving.interfaces.iter().filter_map(|interface| interface.port.as_ref().ok());
    ports.filter(|port| port.is_ethernet())
}
