//! The kernel's half as userspace sees it: load, attach, pin, adopt, publish, count. The only module that names aya.
mod attachment;
mod fit;
mod inspection;
mod interface;
pub mod layout;
mod maps;
mod mending;
#[cfg(test)]
mod oldest_kernel;
mod pins;
mod program;
mod samples;
mod stopwatch;
mod unattached;

use std::collections::BTreeMap;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::net::IpAddr;
use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use aya::Ebpf;
use aya::maps::MapError;
use dns_xdp_ebpf::table;

pub use attachment::{Attachment, attachments};
pub use inspection::{Inspection, ProgramThere, inspect};
pub use maps::Prepared;
pub use pins::PinnedMaps;
pub use samples::SAMPLING_LIFE;
pub use stopwatch::{Least, Stopwatch, Timed};
pub use unattached::{Size, Unattached};

use interface::Interface;
pub use interface::addresses as interface_addresses;
use maps::{Maps, Renewal};
use pins::Pins;
use samples::Samples;

use crate::config::{Config, Mode};
use crate::zone::Zone;

/// Programs for tests and benchmarks: the stopwatch's, and the stub for the other end of a veth pair.
pub const TESTBED: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/testbed"));

/// The load generator's programs; no part of the released binary uses them.
pub const LOAD: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/load"));

/// The maps that outlive a daemon.
const MAPS: [&str; 5] = [table::ZONE, table::NAMES, table::MORE, table::LEASE, table::COUNTERS];

/// How often the program's log is looked at, when it is on.
const LOG_INTERVAL: Duration = Duration::from_millis(50);

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

/// Why the kernel's half did not do what it was told. The message names the step and the remedy.
#[derive(Debug, thiserror::Error)]
#[error("{what}")]
pub struct Error {
    what: String,
    source: Option<Box<dyn StdError + Send + Sync>>,
}

impl Error {
    fn new(what: impl Into<String>) -> Self {
        Error { what: what.into(), source: None }
    }

    fn because(self, error: io::Error) -> Self {
        self.because_of(error)
    }

    fn because_of(self, error: impl StdError + Send + Sync + 'static) -> Self {
        Error { source: Some(Box::new(error)), ..self }
    }

    fn map(name: &str, error: MapError) -> Self {
        Error::new(format!("map {name}")).because_of(error)
    }

    fn too_many(names: usize, capacity: u32) -> Self {
        let what = if names > capacity as usize {
            format!("the zone has {names} names, the table holds {capacity}: raise [xdp] capacity")
        } else {
            format!("the zone's {names} names find no places in the table: rename the last that was added")
        };
        Error::new(what)
    }

    fn loading(error: anyhow::Error) -> Self {
        let what = "cannot load the XDP program; it needs root or CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON, \
                    and the kernel that the README names";
        Error { what: what.to_owned(), source: Some(error.into()) }
    }

    fn pinning(pin: &Path, error: impl StdError + Send + Sync + 'static) -> Self {
        Error::new(format!("cannot pin {}", pin.display())).because_of(error)
    }

    fn opening(pin: &Path, error: impl StdError + Send + Sync + 'static) -> Self {
        Error::new(format!("cannot open the pin {}", pin.display())).because_of(error)
    }

    fn attaching(interface: &Interface, error: anyhow::Error) -> Self {
        Error { what: format!("cannot attach to {}", interface.name), source: Some(error.into()) }
    }
}

/// The loaded program, its maps and its links; or nothing of it, where there is no XDP.
#[derive(Debug)]
pub struct Datapath {
    interfaces: Vec<(String, Attached)>,
    kernel: Option<Kernel>,
}

/// What the kernel holds for this process.
struct Kernel {
    object: Ebpf,
    maps: Maps,
    samples: Samples,
    pins: Pins,
    directory: std::path::PathBuf,
    /// What it was loaded for.
    config: Config,
    addresses: Vec<IpAddr>,
    half: u32,
    modes: Vec<(Interface, Mode)>,
    /// The interfaces at the last look.
    there: Vec<Option<Interface>>,
    answers: bool,
    /// The maps were there before.
    adopted: bool,
    attached: bool,
}

impl fmt::Debug for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Kernel").field("directory", &self.directory).finish_non_exhaustive()
    }
}

impl Datapath {
    /// Loads the program for these interfaces and served addresses, over the maps that a predecessor pinned if there
    /// are any. A predecessor's program goes on answering; nothing that did not answer before does now.
    pub fn load(config: &Config, addresses: &[IpAddr]) -> Result<Self, Error> {
        let off = config.listen.interfaces.iter().map(|name| (name.clone(), Attached::Off)).collect();
        if config.xdp.mode == Mode::Off {
            return Ok(Datapath { interfaces: off, kernel: None });
        }
        let found: Vec<Interface> =
            config.listen.interfaces.iter().map(|name| Interface::find(name)).collect::<Result<_, _>>()?;
        let kernel = match Kernel::load(config, found, addresses) {
            Err(error) if config.xdp.mode == Mode::Auto && error.source.is_some() => {
                tracing::warn!("no XDP, the responder answers everything: {:#}", anyhow::Error::new(error));
                None
            }
            kernel => Some(kernel?),
        };
        Ok(Datapath { interfaces: off, kernel })
    }

    /// Whether a predecessor's program is attached and its lease lives: then the lease is ours to renew at once.
    pub fn answers(&self) -> bool {
        self.kernel.as_ref().is_some_and(|kernel| kernel.answers)
    }

    /// Writes a zone where no query sees it yet; [`Datapath::switch`] publishes it.
    ///
    /// # Errors
    /// The zone has more names than `[xdp] capacity`, or a map cannot be written; the zone before stays.
    pub fn prepare(&mut self, zone: &Zone) -> Result<Option<Prepared>, Error> {
        self.kernel.as_mut().map(|kernel| kernel.maps.prepare(zone)).transpose()
    }

    /// Publishes a zone, whole: a query is answered from the one before or from this one.
    ///
    /// # Errors
    /// The map cannot be written; the zone before stays.
    pub fn switch(&mut self, prepared: Option<&Prepared>) -> Result<(), Error> {
        match (&mut self.kernel, prepared) {
            (Some(kernel), Some(prepared)) => kernel.maps.switch(prepared),
            _ => Ok(()),
        }
    }

    /// Takes the work of writing the whole table off the next zone, which may be urgent. To be called when there is time.
    ///
    /// # Errors
    /// A map cannot be written; the next zone is published all the same.
    pub fn level(&mut self, zone: &Zone) -> Result<(), Error> {
        self.kernel.as_mut().map_or(Ok(()), |kernel| kernel.maps.level(zone))
    }

    /// Attaches the program to every interface, or swaps it in where a predecessor's is attached, and pins it.
    /// To be called after the first [`Datapath::switch`].
    ///
    /// # Errors
    /// An interface refuses, or another daemon is on it; what this call attached is detached again.
    pub fn attach(&mut self) -> Result<(), Error> {
        let Some(kernel) = &mut self.kernel else { return Ok(()) };
        self.interfaces = kernel.attach()?;
        Ok(())
    }

    /// Attaches the program again where it has been lost: the interface is another, or somebody has detached it. Tells
    /// how it is attached to each interface that is there, where something has changed.
    ///
    /// # Errors
    /// It cannot be loaded or attached; where it is attached, it stays.
    pub fn mend(&mut self) -> Result<Vec<(String, Attached)>, Error> {
        let Some(kernel) = &mut self.kernel else { return Ok(Vec::new()) };
        if !kernel.mend()? {
            return Ok(Vec::new());
        }
        let now = kernel.attachments();
        let each = now.iter().map(|(name, attached)| (name.clone(), attached.unwrap_or(Attached::Off)));
        self.interfaces = each.collect();
        Ok(now.into_iter().filter_map(|(name, attached)| Some((name, attached?))).collect())
    }

    /// Lets the program answer for this long from now, zero ends it at once; `None`: for ever.
    pub fn renew(&mut self, lease: Option<Duration>) -> Result<(), Error> {
        let Some(kernel) = &self.kernel else { return Ok(()) };
        let renewal = lease.map_or(Renewal::ForEver, Renewal::For);
        maps::renew(program::program(&kernel.object, table::RENEW)?, renewal, seconds()).map(|_| ())
    }

    /// Every interface with the way the program is attached to it.
    pub fn interfaces(&self) -> Vec<(String, Attached)> {
        self.interfaces.clone()
    }

    /// Every outcome's counter, summed over the CPUs. Counters go on over an adoption.
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
        self.kernel.as_ref().map_or_else(|| Ok(BTreeMap::new()), |kernel| kernel.maps.counters())
    }

    /// The names in the samples that the program has taken since the last call; none without an attached program.
    pub fn asked_names(&mut self) -> Vec<String> {
        self.kernel.as_mut().map(|kernel| kernel.samples.names()).unwrap_or_default()
    }

    /// Has the program sample one of so many queries, a power of two, for [`SAMPLING_LIFE`] from now.
    pub fn sample(&mut self, one_of: u64) -> Result<(), Error> {
        self.kernel.as_mut().map_or(Ok(()), |kernel| kernel.samples.go_on(one_of))
    }

    /// Lets go of the program without detaching it: it and its maps stay pinned. What was never attached goes.
    pub fn leave(self) {}

    /// Detaches and unpins everything.
    pub fn detach(mut self) -> Result<(), Error> {
        let Some(kernel) = self.kernel.take() else { return Ok(()) };
        let directory = kernel.directory.clone();
        drop(kernel);
        let removed = pins::remove_all(&directory);
        removed
            .map(|_| ())
            .map_err(|error| Error::new(format!("cannot unpin {}", directory.display())).because(error))
    }
}

impl Drop for Kernel {
    /// A daemon that fails before it has attached leaves nothing of its own behind, and a predecessor's as it was.
    fn drop(&mut self) {
        if self.attached {
            return;
        }
        if self.pins.linked().is_empty() {
            pins::remove_directory(&self.directory);
        } else if !self.adopted {
            self.pins.remove_maps();
        }
    }
}

impl Kernel {
    fn load(config: &Config, found: Vec<Interface>, addresses: &[IpAddr]) -> Result<Self, Error> {
        let half = layout::half(config.xdp.capacity);
        let directory = config.xdp.pin.clone();
        let pins = Pins::create(&directory, half)?;
        let result = Self::load_pinned(config, found, addresses, half, &pins);
        if result.is_err() && pins.linked().is_empty() {
            pins::remove_directory(&directory);
        }
        result
    }

    fn load_pinned(
        config: &Config,
        found: Vec<Interface>,
        addresses: &[IpAddr],
        half: u32,
        pins: &Pins,
    ) -> Result<Self, Error> {
        let locals = program::locals(&found, addresses)?;
        let with_mode = |interface: Interface| {
            let mode = program::check_free(&interface, config.xdp.mode, pins)?;
            Ok((interface, mode))
        };
        let modes: Vec<(Interface, Mode)> = found.into_iter().map(with_mode).collect::<Result<_, Error>>()?;
        let loaded = |adopted| {
            let (port, log) = (config.listen.port, config.xdp.log);
            let pinned = MAPS.map(|name| (name, pins.map(name)));
            let options = program::Options { pinned: &pinned, half, locals: &locals, port, log };
            let mut object = program::load(&options)?;
            let maps = Maps::take(&mut object, half, Some(pins.heads()))?;
            let samples = Samples::take(&mut object)?;
            let lease = maps::renew(program::program(&object, table::RENEW)?, Renewal::Unchanged, 0)?;
            Ok((object, (maps, samples), adopted && lease.lived()))
        };
        let mut was_there = pins.adopt_maps()?;
        if was_there && let Some(misfit) = fit::misfit(half, |name| pins.map(name))? {
            // A predecessor's program has the maps that it was loaded with, wherever these are pinned.
            tracing::warn!("the maps are made anew: {misfit}");
            pins.remove_maps();
            was_there = pins.adopt_maps()?;
        }
        let mut result: Result<(Ebpf, (Maps, Samples), bool), Error> = loaded(was_there);
        if let Err(error) = &result
            && pins.linked().is_empty()
        {
            tracing::warn!("the pinned maps do not fit and are made anew: {error}");
            pins.remove_maps();
            was_there = pins.adopt_maps()?;
            result = loaded(was_there);
        }
        let (mut object, (maps, samples), lived) = result?;
        if config.xdp.log {
            follow_log(&mut object)?;
        }
        let answers = lived && !pins.linked().is_empty();
        let (pins, directory) = (pins.clone(), config.xdp.pin.clone());
        let (config, addresses) = (config.clone(), addresses.to_vec());
        Ok(Kernel {
            object,
            maps,
            samples,
            pins,
            directory,
            config,
            addresses,
            half,
            modes,
            there: Vec::new(),
            answers,
            adopted: was_there,
            attached: false,
        })
    }

    fn attach(&mut self) -> Result<Vec<(String, Attached)>, Error> {
        let before = self.pins.linked();
        let attached = self.attach_each().and_then(|attached| {
            self.pin_program()?;
            Ok(attached)
        });
        if attached.is_err() {
            for interface in self.pins.linked().iter().filter(|interface| !before.contains(interface)) {
                pins::remove(&self.pins.link(interface));
            }
            return attached;
        }
        for interface in before.iter().filter(|name| !self.modes.iter().any(|(ours, _)| ours.name == **name))
        {
            pins::remove(&self.pins.link(interface));
        }
        self.pins.remove_other_maps();
        self.attached = true;
        self.there = self.look();
        attached
    }

    fn pin_program(&mut self) -> Result<(), Error> {
        let pin = self.pins.program();
        pins::remove(&pin);
        let pinned = program::program_mut(&mut self.object, table::RESPONDER)?.pin(&pin);
        pinned.map_err(|error| Error::pinning(&pin, error))
    }

    fn attach_each(&mut self) -> Result<Vec<(String, Attached)>, Error> {
        let mut attached = Vec::new();
        for (interface, mode) in &self.modes {
            let how = program::attach(&mut self.object, interface, *mode, &self.pins)?;
            attached.push((interface.name.clone(), how));
        }
        Ok(attached)
    }
}

/// The time of day in seconds since 1970; a clock that is set to before that dates cookies 1970.
fn seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

/// Passes on what the program logs for as long as the process lives.
fn follow_log(object: &mut Ebpf) -> Result<(), Error> {
    let failed = || Error::new("cannot follow the program's log");
    let mut logger = aya_log::EbpfLogger::init(object).map_err(|error| failed().because_of(error))?;
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(LOG_INTERVAL);
        loop {
            tick.tick().await;
            logger.flush();
        }
    });
    Ok(())
}

/// Detaches and unpins what is left of a stopped daemon, and says what that was.
///
/// # Errors
/// Something there cannot be removed.
pub fn unload(pin: &Path) -> anyhow::Result<Vec<String>> {
    pins::remove_all(pin).with_context(|| format!("cannot remove everything in {}", pin.display()))
}
