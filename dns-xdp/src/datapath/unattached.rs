//! The program without an interface: BPF_PROG_TEST_RUN runs it over the caller's packets, for tests and benchmarks.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{ProgramFd, ProgramInfo, TestRun, TestRunOptions};
use dns_xdp_ebpf::frame::Frame;
use dns_xdp_ebpf::outcome::{Action, Outcome};
use dns_xdp_ebpf::table::{self, Local};

use super::local_addresses::LocalAddressesLayout;
use super::maps::{self, Maps, Renewal};
use super::pins::{self, PinnedMaps};
use super::variant::Variant;
use super::{Error, layout, local_addresses, program};
use crate::network::Place;
use crate::zone::Zone;

/// The interface that packets of BPF_PROG_TEST_RUN come from: the loopback of the caller's network namespace.
pub const LOOPBACK: u32 = 1;

/// Returns the places of these addresses, with a MAC address on [`LOOPBACK`].
pub fn places(addresses: &[IpAddr], mac: [u8; 6]) -> Vec<Place> {
    let place = |address: &IpAddr| Place { interface: LOOPBACK, tags: Vec::new(), address: *address, mac };
    addresses.iter().map(place).collect()
}

/// A value of `enum xdp_action`.
pub(super) const XDP_TX: u32 = 3;

/// The loaded program. It has its own maps, or uses a daemon's table.
pub struct Unattached {
    object: Ebpf,
    maps: Maps,
    variant: Variant,
    /// Whether the table belongs to a daemon, so that only that daemon publishes to it.
    borrowed: bool,
}

/// The size of the loaded program, from the kernel.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Instructions that the verifier followed on all paths.
    pub verified: u32,
    /// Octets of BPF instructions, 8 for each.
    pub translated: u32,
    /// Octets of machine code.
    pub compiled: u32,
}

impl Unattached {
    /// Loads a variant for these served addresses. Its lease never ends. Packets come from [`LOOPBACK`].
    pub fn load(variant: Variant, places: &[Place], port: u16, capacity: u32) -> Result<Self, Error> {
        Self::load_over(variant, &[], layout::bank_slots(capacity), places, port)
    }

    /// Like [`Unattached::load`], but uses the table that a daemon has pinned. It answers the daemon's zone with the
    /// daemon's variant, but has its own lease and counters.
    pub fn over(pinned: &PinnedMaps, addresses: &[IpAddr], mac: [u8; 6], port: u16) -> Result<Self, Error> {
        let table = [table::ZONE, table::NAMES, table::NAME_OVERFLOW].map(|name| (name, pinned.map(name)));
        if let Some((_, missing)) = table.iter().find(|(_, path)| !path.exists()) {
            return Err(Error::new(format!("{} is gone: the daemon has unloaded", missing.display())));
        }
        let program = pinned.program().and_then(|pin| ProgramInfo::from_pin(pin).ok());
        let name = program.as_ref().and_then(ProgramInfo::name_as_str).unwrap_or_default();
        let variant = Variant::named(name).unwrap_or_default();
        Self::load_over(variant, &table, pinned.bank_slots(), &places(addresses, mac), port)
    }

    fn load_over(
        variant: Variant,
        pinned: &[(&'static str, PathBuf)],
        bank_slots: u32,
        places: &[Place],
        port: u16,
    ) -> Result<Self, Error> {
        let options = program::Options { pinned, bank_slots, port, log: false };
        let mut object = program::object(&options)?;
        program::load(&mut object, variant)?;
        let maps = Maps::take(&mut object, bank_slots, None, !pinned.is_empty())?;
        let mut loaded = Unattached { object, maps, variant, borrowed: !pinned.is_empty() };
        loaded.serve(places, false)?;
        loaded.renew(None, super::seconds())?;
        Ok(loaded)
    }

    /// Serves these addresses and no others. `generic`: whether to answer as in generic mode.
    pub fn serve(&mut self, places: &[Place], generic: bool) -> Result<(), Error> {
        let locals: Vec<Local> = places.iter().map(|place| local_addresses::local(place, generic)).collect();
        self.maps.publish_local_addresses(&LocalAddressesLayout::new(&locals).to_bytes())
    }

    /// Publishes a zone like [`super::Datapath::stage`] and [`super::Datapath::commit`]. Returns how many map elements
    /// were written.
    ///
    /// # Errors
    /// The errors of these calls, or the table belongs to a daemon.
    pub fn publish(&mut self, zone: &Zone) -> Result<usize, Error> {
        if self.borrowed {
            return Err(Error::new("the table belongs to a daemon, and only that daemon publishes to it"));
        }
        let staged = self.maps.stage(zone)?;
        self.maps.commit(&staged)?;
        Ok(staged.writes() + 1)
    }

    /// Renews the lease like [`super::Datapath::renew`], at this time of day in seconds since 1970.
    pub fn renew(&mut self, lease: Option<Duration>, seconds: u64) -> Result<(), Error> {
        let renewal = lease.map_or(Renewal::ForEver, Renewal::For);
        maps::renew(program::program(&self.object, table::RENEW)?, renewal, seconds).map(|_| ())
    }

    /// Runs the program over a packet. Returns the XDP action and the packet afterwards.
    pub fn run(&self, packet: &[u8]) -> Result<(u32, Vec<u8>), Error> {
        let mut after = vec![0; 2 * Frame::MAX_LENGTH];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut after), ..TestRunOptions::new() };
        let result = program::program(&self.object, self.variant.program())?.test_run(options);
        let result =
            result.map_err(|error| Error::new("cannot run the program over a packet").because_of(error))?;
        after.truncate(result.data_size_out as usize);
        Ok((result.return_value, after))
    }

    /// Returns the program's answer to a query; `None`: it leaves the query to the responder.
    pub fn answer(&self, query: &[u8]) -> Result<Option<Vec<u8>>, Error> {
        let (action, frame) = self.run(query)?;
        Ok((action == XDP_TX).then_some(frame))
    }

    /// See [`super::Datapath::counters`].
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
        self.maps.counters()
    }

    /// Returns how many queries the program has not answered itself.
    pub fn unanswered(&self) -> Result<u64, Error> {
        let counters = self.counters()?;
        let others = Outcome::ALL.iter().filter(|outcome| outcome.action() != Action::Transmit);
        Ok(others.filter_map(|outcome| counters.get(outcome.text())).sum())
    }

    /// Whether the program pinned under `[xdp] pin` is the program of this build; `None`: no program is pinned.
    pub fn is_pinned(&self, pin: &Path) -> Option<bool> {
        let pinned = ProgramInfo::from_pin(pins::program(pin)).ok()?;
        let this = program::program(&self.object, self.variant.program()).ok()?.info().ok()?;
        Some(this.tag() == pinned.tag())
    }

    /// Returns the program, so that another program can call it.
    pub fn program(&self) -> Result<&ProgramFd, Error> {
        let program = program::program(&self.object, self.variant.program())?;
        program.fd().map_err(|error| Error::loading(error.into()))
    }

    /// Returns how large the program is.
    pub fn size(&self) -> Result<Size, Error> {
        let info = program::program(&self.object, self.variant.program())?.info();
        let info = info.map_err(|error| Error::loading(error.into()))?;
        Ok(Size {
            verified: info.verified_instruction_count().unwrap_or_default(),
            translated: info.size_translated().unwrap_or_default(),
            compiled: info.size_jitted(),
        })
    }
}
