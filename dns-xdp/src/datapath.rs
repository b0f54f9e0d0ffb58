//! The kernel's half as userspace sees it: load, attach, pin, adopt, publish, count. The only module that names aya.
//!
//! The network comes in as a [`Serving`]. On its devices `reconcile` keeps a program, by the ladder of `device`. Its
//! addresses are laid out for the program by `locals`. A [`Zone`] is laid out by `layout` and published by `maps`; both find
//! their slots by `perfect_hash`.
//! `pins` keeps what outlives a daemon, `stopwatch` times the program, `samples` are the names asked.
mod attachment;
mod compatibility;
mod device;
mod driver;
mod error;
mod foreign;
mod inspection;
mod kernel_version;
mod ladder;
pub mod layout;
mod links;
mod locals;
mod log_task;
mod maps;
#[cfg(test)]
mod oldest_kernel;
mod perfect_hash;
mod pins;
mod program;
mod reconcile;
mod recreate;
mod samples;
mod stopwatch;
mod transmit;
mod unattached;
mod variant;

use std::collections::BTreeMap;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime};

use aya::Ebpf;
use dns_xdp_ebpf::table::{self, Local};

pub use attachment::{Attachment, attachments};
pub use driver::{has_native, mtu_max, needs_half_of_the_queues, sets_ring, takes_fragments};
pub use error::Error;
pub use foreign::{AttachedBy, Foreign};
pub use inspection::{ProgramThere, program_on};
pub use kernel_version::KernelVersion;
pub use locals::{LocalsLayout, local};
pub use maps::Staged;
pub use pins::{PinnedMaps, Removal};
pub use samples::SAMPLING_LIFE;
pub use stopwatch::{Least, Stopwatch, Timed};
pub use unattached::{LOOPBACK, Size, Unattached, places};
pub use variant::Variant;

use device::Device;
use log_task::LogTask;
use maps::{Maps, Renewal};
use pins::Pins;
use samples::Samples;
use transmit::TransmitWatch;

use crate::config::{self, Capacity, Config, Mode};
use crate::network::{Network, Serving};
use crate::pin_directory::Unfit;
use crate::zone::Zone;

/// The maps that outlive a daemon.
const MAPS: [&str; 5] = [table::ZONE, table::NAMES, table::NAME_OVERFLOW, table::LEASE, table::COUNTERS];

/// How the program is attached to an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the network stack, after the skb is made.
    Generic,
    /// Not at all: the responder answers everything.
    Off,
}

impl fmt::Display for Attached {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Attached::Native => "native",
            Attached::Generic => "generic",
            Attached::Off => "off",
        })
    }
}

/// An interface of the configuration, and how its queries are answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceState {
    /// Its name in the configuration.
    pub name: String,
    /// How the program is attached to its device.
    pub mode: Attached,
    /// Why not in a better way, and what to do; `None`: it is as well as the configuration wants.
    pub reason: Option<String>,
}

/// The loaded program, its maps and its links; or nothing of it, where there is no XDP.
#[derive(Debug)]
pub struct Datapath {
    interfaces: Vec<InterfaceState>,
    kernel: Option<Kernel>,
    /// Why there is nothing of it, though the configuration wants it.
    refusal: Option<String>,
    /// `[xdp] pin`, where a predecessor may have left its program.
    pin: PathBuf,
}

/// What the kernel holds for this process.
struct Kernel {
    object: Ebpf,
    maps: Maps,
    samples: Samples,
    pins: Pins,
    /// `[xdp] mode`
    mode: Mode,
    version: KernelVersion,
    /// What it was loaded for.
    config: Config,
    /// The variants in use have cookies and limits.
    guarded: bool,
    devices: Vec<Device>,
    /// The served addresses as they were published last.
    locals: Option<Vec<Local>>,
    transmit: TransmitWatch,
    /// When devices were found to lose native answers.
    lost: BTreeMap<String, Instant>,
    /// What programs before this one have counted.
    counted: BTreeMap<&'static str, u64>,
    /// The programs that answer for this one until it takes their place.
    predecessors: Vec<u32>,
    /// The caller learns that another process has removed pins.
    pins_are_lost: bool,
    answers: bool,
    /// The maps were there before.
    adopted: bool,
    attached: bool,
    /// Passes the program's log on.
    _log: Option<LogTask>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("pins", &self.pins).finish_non_exhaustive()
    }
}

impl Datapath {
    /// Loads the program, over the maps that a predecessor pinned if there are any. A predecessor's program goes on
    /// answering; nothing that did not answer before does now.
    pub fn load(config: &Config) -> Result<Self, Error> {
        let off = |reason: Option<String>| {
            let names = config.listen.interfaces.iter();
            let state = |name: &String| InterfaceState {
                name: name.clone(),
                mode: Attached::Off,
                reason: reason.clone(),
            };
            let pin = config.xdp.pin.clone();
            Datapath { interfaces: names.map(state).collect(), kernel: None, refusal: reason.clone(), pin }
        };
        if config.xdp.mode == Mode::Off {
            return Ok(off(None));
        }
        let version = KernelVersion::running().unwrap_or(KernelVersion::OLDEST);
        if let Some(lacks) = version.lacks() {
            if config.xdp.mode != Mode::Auto {
                return Err(Error::new(lacks));
            }
            tracing::warn!("{lacks}");
            return Ok(off(Some(lacks)));
        }
        match Kernel::load(config, version) {
            Ok(kernel) => Ok(Datapath { kernel: Some(kernel), ..off(None) }),
            // What the kernel refuses is no mistake of the operator's.
            Err(error) if config.xdp.mode == Mode::Auto && error.source.is_some() => {
                let reason = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!("no XDP, the responder answers everything: {reason}");
                Ok(off(Some(reason)))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a predecessor's program is attached and its lease lives: then the lease is ours to renew at once.
    pub fn answers(&self) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.answers)
    }

    /// Makes room for a zone of this many names, where `[xdp] capacity` is `"auto"`. The program is loaded over a larger
    /// table with the zone that is published, and takes the place of the one before without losing a query.
    ///
    /// # Errors
    /// There is no memory for the table, or the program cannot be loaded or attached. What is attached answers on.
    pub fn make_room(
        &mut self,
        names: usize,
        published: Option<(&Zone, Option<Duration>)>,
        serving: &Serving,
        network: &Network,
    ) -> Result<(), Error> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        let capacity = capacity(&kernel.config.xdp, names);
        if capacity <= kernel.maps.capacity() || kernel.config.xdp.capacity != Capacity::Auto {
            return Ok(());
        }
        kernel
            .grow(capacity, published, serving, network)
            .map_err(|error| Error::new(format!("no larger table for {names} names")).because_of(error))
    }

    /// Writes a zone where no query sees it yet; [`Datapath::commit`] publishes it.
    ///
    /// # Errors
    /// The zone has more names than `[xdp] capacity`, a map cannot be written, or the program's variant cannot be
    /// loaded. The old zone stays.
    pub fn stage(&mut self, zone: &Zone) -> Result<Option<Staged>, Error> {
        let Some(kernel) = &mut self.kernel else { return Ok(None) };
        // Before the zone: what it is without cookies and limits is answered by either variant alike.
        if is_guarded(zone.flood_policy()) {
            kernel.set_guarded(true)?;
        }
        kernel.maps.stage(zone).map(Some)
    }

    /// Publishes a zone. Each query is answered from the old zone or from the new one.
    ///
    /// # Errors
    /// The map cannot be written; the zone before stays.
    pub fn commit(&mut self, staged: Option<&Staged>) -> Result<(), Error> {
        match (&mut self.kernel, staged) {
            (Some(kernel), Some(staged)) => kernel.maps.commit(staged),
            _ => Ok(()),
        }
    }

    /// Prepares the next publication, which may be urgent. It writes the whole table, and swaps in the smallest
    /// variant that this zone needs. To be called when there is time.
    ///
    /// # Errors
    /// A map cannot be written, or a program cannot be loaded. The next zone is published all the same.
    pub fn prefill_standby(&mut self, zone: &Zone) -> Result<(), Error> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        kernel.set_guarded(is_guarded(zone.flood_policy()))?;
        kernel.maps.prefill_standby(zone)
    }

    /// Attaches the program to every device, or swaps it in where a predecessor's is attached, and pins it. Without
    /// XDP, detaches a predecessor's program, which would go on to answer its last zone and to enforce its limits. To
    /// be called after the first [`Datapath::commit`].
    ///
    /// # Errors
    /// Another daemon answers on an interface, or no interface accepts the configured mode. What this call has
    /// attached is detached again.
    pub fn attach(&mut self, serving: &Serving, network: &Network) -> Result<(), Error> {
        let Some(kernel) = &mut self.kernel else {
            detach_left(&self.pin);
            self.refresh(serving, network);
            return Ok(());
        };
        kernel.attach(serving, network)?;
        self.refresh(serving, network);
        Ok(())
    }

    /// Adapts attachments and addresses to the network. It follows devices that come, go and change, attaches the
    /// program again where another process has detached it, and makes lost pins anew. Returns whether anything has
    /// changed.
    ///
    /// # Errors
    /// It cannot be loaded or attached; where it is attached, it stays.
    pub fn follow(
        &mut self,
        serving: &Serving,
        network: &Network,
        zone: &Zone,
        lease: Option<Duration>,
    ) -> Result<bool, Error> {
        let before = self.interfaces.clone();
        let result = match &mut self.kernel {
            None => Ok(()),
            Some(kernel) => kernel.repin().and_then(|maps_are_lost| {
                if maps_are_lost {
                    kernel.pin_anew(serving, network, zone, lease)
                } else {
                    kernel.follow(serving, network).map(drop)
                }
            }),
        };
        self.refresh(serving, network);
        result.map(|()| self.interfaces != before)
    }

    fn refresh(&mut self, serving: &Serving, network: &Network) {
        self.interfaces = match &self.kernel {
            Some(kernel) => kernel.states(serving, network),
            None => serving
                .interfaces
                .iter()
                .map(|interface| InterfaceState {
                    name: interface.name.clone(),
                    mode: Attached::Off,
                    reason: self.refusal.clone().or_else(|| match &interface.port {
                        Err(reason @ crate::network::Unserved::Missing(_)) => Some(reason.to_string()),
                        _ => None,
                    }),
                })
                .collect(),
        };
    }

    /// Lets the program answer for this long from now, zero ends it at once; `None`: for ever.
    pub fn renew(&mut self, lease: Option<Duration>) -> Result<(), Error> {
        self.kernel.as_ref().map_or(Ok(()), |kernel| kernel.renew(lease))
    }

    /// Every interface with the way the program is attached to it.
    pub fn interfaces(&self) -> Vec<InterfaceState> {
        self.interfaces.clone()
    }

    /// Why the next start would be refused: others have put entries into the pin directory.
    pub fn foreign_pins(&self) -> Option<Unfit> {
        self.kernel.as_ref()?.pins.foreign()
    }

    /// Every outcome's counter, summed over the CPUs. Counters go on over an adoption, and when maps are made anew.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
        self.kernel.as_ref().map_or_else(|| Ok(BTreeMap::new()), Kernel::counters)
    }

    /// Answers that drivers did not get out since this daemon attached the program, by interface; where drivers tell.
    pub fn transmit_errors(&self) -> BTreeMap<String, u64> {
        self.kernel.as_ref().map(|kernel| kernel.transmit.errors()).unwrap_or_default()
    }

    /// The names in the samples that the program has taken since the last call; none without an attached program.
    pub fn asked_names(&mut self) -> Vec<String> {
        self.kernel.as_mut().map(|kernel| kernel.samples.names()).unwrap_or_default()
    }

    /// Makes the program sample one query in this many, a power of two, for [`SAMPLING_LIFE`] from now.
    pub fn sample(&mut self, one_of: u64) -> Result<(), Error> {
        self.kernel.as_mut().map_or(Ok(()), |kernel| kernel.samples.go_on(one_of))
    }

    /// Lets go of the program without detaching it: it and its maps stay pinned. What was never attached goes.
    pub fn leave(self) {}

    /// Detaches and unpins everything.
    pub fn detach(mut self) -> Result<(), Error> {
        let Some(mut kernel) = self.kernel.take() else { return Ok(()) };
        for device in std::mem::take(&mut kernel.devices) {
            device.detach(&kernel.pins);
        }
        // The lock is held until everything is removed.
        let pins = kernel.pins.clone();
        drop(kernel);
        pins.remove_all()
    }
}

/// Detaches and unpins a predecessor's program. A running daemon keeps its own.
fn detach_left(pin: &Path) {
    match pins::remove_left(pin) {
        Ok(Removal { removed, .. }) if removed.is_empty() => {}
        Ok(Removal { removed, .. }) => {
            let count = removed.len();
            tracing::info!("detached the predecessor's program, and removed {count} of its pins");
        }
        Err(error) => {
            tracing::warn!("a predecessor's program may still answer: {:#}", anyhow::Error::new(error));
        }
    }
}

/// Names for which a table is made that has to hold this many.
pub fn capacity(xdp: &config::Xdp, names: usize) -> u32 {
    match xdp.capacity {
        Capacity::Auto => layout::grown(names),
        Capacity::Names(capacity) => capacity,
    }
}

/// Whether a zone takes a variant with cookies and limits.
fn is_guarded(flood_policy: &table::FloodPolicy) -> bool {
    flood_policy.answers.interval != 0 || flood_policy.secret_count != 0
}

impl Drop for Kernel {
    /// A daemon that fails before it has attached leaves nothing of its own behind, and a predecessor's as it was.
    fn drop(&mut self) {
        if self.attached {
            return;
        }
        if self.pins.linked().is_empty() {
            self.pins.abandon();
        } else if !self.adopted {
            self.pins.remove_maps();
        }
    }
}

impl Kernel {
    fn load(config: &Config, version: KernelVersion) -> Result<Self, Error> {
        // Every node has two names, its own and that of its server. A store may know of more.
        let names = 2 * config.cluster.nodes.len() + config.cluster.services.len() + 1;
        let bank_slots = layout::bank_slots(capacity(&config.xdp, names));
        let pins = Pins::create(&config.xdp.pin, bank_slots)?;
        let pins = if config.xdp.capacity == Capacity::Auto { pins.of_at_least(bank_slots) } else { pins };
        let result = Self::load_pinned(config, version, &pins);
        if result.is_err() && pins.linked().is_empty() {
            pins.abandon();
        }
        result
    }

    fn load_pinned(config: &Config, version: KernelVersion, pins: &Pins) -> Result<Self, Error> {
        let (mut object, adopted) = Self::object(config, pins)?;
        let guarded = config.flood_limits.takes_guarded_program();
        program::load(&mut object, Variant { guarded, frags: false })?;
        let maps = Maps::take(&mut object, pins.bank_slots(), Some(pins.heads()))?;
        let samples = Samples::take(&mut object)?;
        let lease = maps::renew(program::program(&object, table::RENEW)?, Renewal::Unchanged, 0)?;
        let linked = pins.linked();
        let pinned = linked.iter().filter_map(|interface| links::pinned(&pins.link(interface)));
        let log = config.xdp.log.then(|| LogTask::start(&mut object)).transpose()?;
        Ok(Kernel {
            object,
            maps,
            samples,
            pins: pins.clone(),
            mode: config.xdp.mode,
            version,
            config: config.clone(),
            guarded,
            devices: Vec::new(),
            locals: None,
            transmit: TransmitWatch::default(),
            lost: BTreeMap::new(),
            counted: BTreeMap::new(),
            predecessors: pinned.map(|link| link.program).collect(),
            pins_are_lost: false,
            answers: adopted && lease.lived() && !linked.is_empty(),
            adopted,
            attached: false,
            _log: log,
        })
    }

    /// The object over the pinned maps, or over new ones where those there do not fit; whether they were there before.
    fn object(config: &Config, pins: &Pins) -> Result<(Ebpf, bool), Error> {
        let bank_slots = pins.bank_slots();
        let load = || {
            let pinned = MAPS.map(|name| (name, pins.map(name)));
            let (port, log) = (config.listen.port, config.xdp.log);
            program::object(&program::Options { pinned: &pinned, bank_slots, port, log })
        };
        let was_there = pins.adopt_maps()?;
        if was_there && let Some(misfit) = compatibility::misfit(bank_slots, |name| pins.map(name))? {
            // A predecessor's program has the maps that it was loaded with, wherever these are pinned.
            tracing::warn!("the maps are made anew: {misfit}");
        } else {
            match load() {
                Err(error) if was_there && pins.linked().is_empty() => {
                    tracing::warn!("the pinned maps do not fit and are made anew: {error}");
                }
                object => return Ok((object?, was_there)),
            }
        }
        pins.remove_maps();
        let was_there = pins.adopt_maps()?;
        Ok((load()?, was_there))
    }

    fn renew(&self, lease: Option<Duration>) -> Result<(), Error> {
        let renewal = lease.map_or(Renewal::ForEver, Renewal::For);
        maps::renew(program::program(&self.object, table::RENEW)?, renewal, seconds()).map(|_| ())
    }

    /// As [`Datapath::counters`].
    fn counters(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
        let mut counters = self.maps.counters()?;
        self.counted.iter().for_each(|(outcome, count)| *counters.entry(outcome).or_default() += count);
        Ok(counters)
    }

    /// Has the variants with cookies and limits answer, or those without: on every device or, after an error, on none.
    fn set_guarded(&mut self, guarded: bool) -> Result<(), Error> {
        if self.guarded == guarded && self.devices.iter().all(|device| device.has_guarded(guarded)) {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.guarded, guarded);
        let switched = self.switch_devices();
        if switched.is_err() {
            self.guarded = before;
            if let Err(error) = self.switch_devices() {
                tracing::warn!("not every interface has the program that it had before: {error}");
            }
        }
        switched?;
        if self.attached { self.pin_program() } else { Ok(()) }
    }

    /// Swaps the wanted variant in where another one is.
    fn switch_devices(&mut self) -> Result<(), Error> {
        let guarded = self.guarded;
        let mut devices = std::mem::take(&mut self.devices);
        let mut others = devices.iter_mut().filter(|device| !device.has_guarded(guarded));
        let switched = others.try_for_each(|device| device.switch(&mut self.source()));
        self.devices = devices;
        switched
    }

    fn attach(&mut self, serving: &Serving, network: &Network) -> Result<(), Error> {
        let before = self.pins.linked();
        let attached = self.follow(serving, network).map(drop).and_then(|()| match self.refused() {
            Some(refused) => Err(Error::new(refused)),
            None => self.pin_program(),
        });
        if let Err(error) = attached {
            for interface in self.pins.linked().iter().filter(|interface| !before.contains(interface)) {
                pins::remove(&self.pins.link(interface));
            }
            self.devices.clear();
            return Err(error);
        }
        self.pins.remove_other_maps();
        self.attached = true;
        self.predecessors.clear();
        Ok(())
    }

    fn pin_program(&mut self) -> Result<(), Error> {
        let pin = self.pins.program();
        pins::remove(&pin);
        let variant = Variant { guarded: self.guarded, frags: false };
        let pinned = program::load(&mut self.object, variant)?.pin(&pin);
        pinned.map_err(|error| Error::pinning(&pin, error))
    }
}

/// The time of day in seconds since 1970; a clock that is set to before that dates cookies 1970.
fn seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

/// Detaches and unpins what is left of a stopped daemon.
///
/// # Errors
/// The directory is not one that a daemon may remove, a running daemon has it, or an entry cannot be removed. In the
/// last case everything else is removed all the same.
pub fn unload(pin: &Path) -> Result<Removal, Error> {
    pins::remove_all(pin)
}
