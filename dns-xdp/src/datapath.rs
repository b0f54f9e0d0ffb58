//! The XDP program as userspace handles it: load, attach, pin, adopt, publish, count. Only this module uses aya.
//!
//! The network is an input, as a [`Serving`]. `reconcile` keeps a program on its devices, in the best mode that
//! `ladder` allows. `local_addresses` lays the served addresses out for the program. `layout` lays a [`Zone`] out, and
//! `maps` publishes it. `local_addresses` and `layout` find their slots with `perfect_hash`. `pins` keeps the program,
//! links and maps that outlive a daemon. `stopwatch` times the program, and `samples` reads the queried names.
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
mod local_addresses;
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
pub use local_addresses::{LocalAddressesLayout, local};
pub use maps::Staged;
pub use pins::{PinnedMaps, Removal};
pub use samples::SAMPLING_LIFE;
pub use stopwatch::{Least, Stopwatch, Timed};
pub use unattached::{LOOPBACK, Size, Unattached, places};
pub use variant::{Variant, features_of};

use device::Device;
use log_task::LogTask;
use maps::{Maps, Renewal};
use pins::Pins;
use samples::Samples;
use transmit::TransmitWatch;

use crate::config::{self, Capacity, Config, Mode};
use crate::network::{Network, Serving};
use crate::pin_directory::Unfit;
use crate::program_features::ProgramFeatures;
use crate::zone::Zone;

/// The maps that outlive a daemon.
const MAPS: [&str; 5] = [table::ZONE, table::NAMES, table::NAME_OVERFLOW, table::LEASE, table::COUNTERS];

/// The XDP mode of an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Attached {
    /// In the driver.
    Native,
    /// In the network stack, after the skb is made.
    Generic,
    /// Not attached: the responder answers everything.
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
    /// Why the mode is not better, and what to do; `None`: the configuration wants this mode.
    pub reason: Option<String>,
}

/// The loaded program, its maps and its links. The value is empty without XDP.
#[derive(Debug)]
pub struct Datapath {
    interfaces: Vec<InterfaceState>,
    kernel: Option<Kernel>,
    /// Why there is no program, although the configuration wants it.
    refusal: Option<String>,
    /// `[xdp] pin`. A predecessor may have left its program there.
    pin: PathBuf,
}

/// The objects that the kernel holds for this process.
struct Kernel {
    object: Ebpf,
    maps: Maps,
    samples: Samples,
    pins: Pins,
    /// `[xdp] mode`
    mode: Mode,
    version: KernelVersion,
    /// The parameters that the program was loaded with.
    config: Config,
    /// The features of the variants in use.
    features: ProgramFeatures,
    /// Whether the kernel has refused the variant with wildcards. All their names then go up.
    wildcards_are_refused: bool,
    devices: Vec<Device>,
    /// The served addresses that were published last.
    local_addresses: Option<Vec<Local>>,
    transmit: TransmitWatch,
    /// The time when each device was found to lose native answers.
    lost: BTreeMap<String, Instant>,
    /// The counters of programs before this one.
    counted: BTreeMap<&'static str, u64>,
    /// The predecessors' programs, which answer until this daemon's program replaces them.
    predecessors: Vec<u32>,
    /// Whether another process has removed pins. The caller has to be told.
    pins_are_lost: bool,
    answers: bool,
    /// Whether a predecessor's maps were adopted.
    adopted: bool,
    attached: bool,
    /// The task that passes the program's log on.
    _log: Option<LogTask>,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("pins", &self.pins).finish_non_exhaustive()
    }
}

impl Datapath {
    /// Loads the program over a predecessor's pinned maps, or over new ones. Attaches nothing: a predecessor's program
    /// continues to answer.
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
            // A refusal of the kernel is not the operator's mistake.
            Err(error) if config.xdp.mode == Mode::Auto && error.source.is_some() => {
                let reason = format!("{:#}", anyhow::Error::new(error));
                tracing::warn!("no XDP, the responder answers everything: {reason}");
                Ok(off(Some(reason)))
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a predecessor's program is attached and its lease has not ended. The daemon then has to renew that lease
    /// at once.
    pub fn answers(&self) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.answers)
    }

    /// Makes room for a zone of this many names, if `[xdp] capacity` is `"auto"`. Loads a new program over a larger
    /// table with the published zone. The new program then replaces the old one, and no query is lost.
    ///
    /// # Errors
    /// There is no memory for the table, or the program cannot be loaded or attached. The attached program continues to
    /// answer.
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
            .map_err(|error| Error::no_larger_table(names).because_of(error))
    }

    /// Writes a zone into the bank that no query reads. [`Datapath::commit`] publishes it.
    ///
    /// # Errors
    /// The zone has more names than `[xdp] capacity`, a map cannot be written, or the program's variant cannot be
    /// loaded. The old zone stays.
    pub fn stage(&mut self, zone: &Zone) -> Result<Option<Staged>, Error> {
        let Some(kernel) = &mut self.kernel else { return Ok(None) };
        // The variant comes before the zone. For the zone before, it answers like the smaller variant.
        kernel.take_features(kernel.features.and(kernel.needed(zone)))?;
        kernel.maps.stage(zone).map(Some)
    }

    /// Publishes a zone. Each query is answered from the old zone or from the new one.
    ///
    /// # Errors
    /// The map cannot be written. The previous zone stays.
    pub fn commit(&mut self, staged: Option<&Staged>) -> Result<(), Error> {
        match (&mut self.kernel, staged) {
            (Some(kernel), Some(staged)) => kernel.maps.commit(staged),
            _ => Ok(()),
        }
    }

    /// Prepares the next publication, which may be urgent. Writes the whole standby bank, and swaps in the smallest
    /// variant that this zone needs. Call it when there is time.
    ///
    /// # Errors
    /// A map cannot be written, or a program cannot be loaded. The next zone can still be published.
    pub fn prefill_standby(&mut self, zone: &Zone) -> Result<(), Error> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        kernel.take_features(kernel.needed(zone))?;
        kernel.maps.prefill_standby(zone)
    }

    /// Attaches the program to every device, or swaps it in for a predecessor's, and pins it. Without XDP, detaches a
    /// predecessor's program, because it would go on answering its last zone. Call it after the first
    /// [`Datapath::commit`].
    ///
    /// # Errors
    /// Another daemon answers on an interface, or no interface accepts the configured mode. The call then detaches the
    /// programs that it has attached.
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

    /// Adapts attachments and addresses to the network. Follows devices that come, go and change. Reattaches programs
    /// that another process has detached, and makes lost pins again. Returns whether anything has changed.
    ///
    /// # Errors
    /// The program cannot be loaded or attached. Existing attachments stay.
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

    /// Lets the program answer for this long from now; zero ends the lease at once. `None`: for ever.
    pub fn renew(&mut self, lease: Option<Duration>) -> Result<(), Error> {
        self.kernel.as_ref().map_or(Ok(()), |kernel| kernel.renew(lease))
    }

    /// Returns every interface with its XDP mode.
    pub fn interfaces(&self) -> Vec<InterfaceState> {
        self.interfaces.clone()
    }

    /// Returns why the next start would be refused: another program has put entries into the pin directory.
    pub fn foreign_pins(&self) -> Option<Unfit> {
        self.kernel.as_ref()?.pins.foreign()
    }

    /// Returns every outcome's counter, summed over the CPUs. Counters continue after an adoption, and with new maps.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
        self.kernel.as_ref().map_or_else(|| Ok(BTreeMap::new()), Kernel::counters)
    }

    /// Answers that drivers failed to send since this daemon attached the program, by interface. Only drivers that
    /// count such answers are listed.
    pub fn transmit_errors(&self) -> BTreeMap<String, u64> {
        self.kernel.as_ref().map(|kernel| kernel.transmit.errors()).unwrap_or_default()
    }

    /// Returns the names in the program's samples since the last call; none without an attached program.
    pub fn asked_names(&mut self) -> Vec<String> {
        self.kernel.as_mut().map(|kernel| kernel.samples.names()).unwrap_or_default()
    }

    /// Makes the program sample one query in this many, a power of two, for [`SAMPLING_LIFE`] from now.
    pub fn sample(&mut self, one_of: u64) -> Result<(), Error> {
        self.kernel.as_mut().map_or(Ok(()), |kernel| kernel.samples.go_on(one_of))
    }

    /// Releases the program without detaching it. It and its maps stay pinned. A program that was never attached is
    /// removed.
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

/// Detaches and unpins a predecessor's program. A running daemon keeps its program.
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

/// Returns the capacity of the table for this many names.
pub fn capacity(xdp: &config::Xdp, names: usize) -> u32 {
    match xdp.capacity {
        Capacity::Auto => layout::grown(names),
        Capacity::Names(capacity) => capacity,
    }
}

impl Drop for Kernel {
    /// Removes this daemon's pins if the daemon fails before it has attached. Leaves a predecessor's pins as they were.
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
        // Every node has two names: its own, and the name of its name server. The store may have more nodes.
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
        let mut features = features_of(config);
        let loaded = program::load(&mut object, Variant { features, frags: false }).map(drop);
        let wildcards_are_refused = features.wildcards && loaded.is_err();
        if wildcards_are_refused {
            features.wildcards = false;
            program::load(&mut object, Variant { features, frags: false })?;
            loaded.inspect_err(warn_of_wildcards).ok();
        } else {
            loaded?;
        }
        let maps = Maps::take(&mut object, pins.bank_slots(), Some(pins.heads()), adopted)?;
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
            features,
            wildcards_are_refused,
            devices: Vec::new(),
            local_addresses: None,
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

    /// Loads the object over the pinned maps, or over new maps if the pinned maps do not fit. Also returns whether
    /// there were pinned maps.
    fn object(config: &Config, pins: &Pins) -> Result<(Ebpf, bool), Error> {
        let bank_slots = pins.bank_slots();
        let load = || {
            let pinned = MAPS.map(|name| (name, pins.map(name)));
            let (port, log) = (config.listen.port, config.xdp.log);
            program::object(&program::Options { pinned: &pinned, bank_slots, port, log })
        };
        let was_there = pins.adopt_maps()?;
        if was_there && let Some(misfit) = compatibility::misfit(bank_slots, |name| pins.map(name))? {
            // A predecessor's program keeps the maps that it was loaded with, whether or not they stay pinned.
            tracing::warn!("new maps replace the pinned ones: {misfit}");
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

    /// See [`Datapath::counters`].
    fn counters(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
        let mut counters = self.maps.counters()?;
        self.counted.iter().for_each(|(outcome, count)| *counters.entry(outcome).or_default() += count);
        Ok(counters)
    }

    /// Returns the features that a zone needs, as far as the kernel has not refused them.
    fn needed(&self, zone: &Zone) -> ProgramFeatures {
        let ProgramFeatures { guarded, wildcards } = ProgramFeatures::of(zone);
        ProgramFeatures { guarded, wildcards: wildcards && !self.wildcards_are_refused }
    }

    /// Switches to the variant with these features. A zone with wildcards does not depend on theirs: if it is refused,
    /// the next smaller variant serves.
    fn take_features(&mut self, features: ProgramFeatures) -> Result<(), Error> {
        match self.set_features(features) {
            Err(error) if features.wildcards => {
                warn_of_wildcards(&error);
                self.wildcards_are_refused = true;
                self.set_features(ProgramFeatures { wildcards: false, ..features })
            }
            set => set,
        }
    }

    /// Switches every device to the variant with these features. After an error no device is switched.
    fn set_features(&mut self, features: ProgramFeatures) -> Result<(), Error> {
        if self.features == features && self.devices.iter().all(|device| device.has(features)) {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.features, features);
        let switched = self.switch_devices();
        if switched.is_err() {
            self.features = before;
            if let Err(error) = self.switch_devices() {
                tracing::warn!("not every interface has the program that it had before: {error}");
            }
        }
        switched?;
        if self.attached { self.pin_program() } else { Ok(()) }
    }

    /// Swaps in the wanted variant on every device that runs a different variant.
    fn switch_devices(&mut self) -> Result<(), Error> {
        let features = self.features;
        let mut devices = std::mem::take(&mut self.devices);
        let mut others = devices.iter_mut().filter(|device| !device.has(features));
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
        let variant = Variant { features: self.features, frags: false };
        let pinned = program::load(&mut self.object, variant)?.pin(&pin);
        pinned.map_err(|error| Error::pinning(&pin, error))
    }
}

fn warn_of_wildcards(error: &Error) {
    tracing::warn!("the responder answers for all wildcards, because the program cannot: {error}");
}

/// Returns the time of day in seconds since 1970; 0 if the clock is set to before that.
fn seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

/// Detaches and unpins the programs, links and maps of a stopped daemon.
///
/// # Errors
/// The directory is not one that a daemon may clean, a running daemon has it, or an entry cannot be removed. All other
/// entries are removed in the last case.
pub fn unload(pin: &Path) -> Result<Removal, Error> {
    pins::remove_all(pin)
}
