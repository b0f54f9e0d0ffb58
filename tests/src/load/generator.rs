//! The generator: live frames from one core, and the counts of returning frames.
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context, Result, bail, ensure};
use aya::maps::{Array, Map, MapData, MapError, PerCpuArray};
use aya::programs::{TestRun, TestRunAttrs, TestRunOptions, Xdp, XdpMode};
use aya::{Ebpf, EbpfLoader};
use dns_xdp_testbed::load::{
    FRAME_MAX, INTERVAL, SAMPLE, SEEN, SENDING, Sample, Seen, Sending, TEMPLATE, Template,
};
use nix::unistd::getppid;

use super::cores;
use super::wire::Wire;
use crate::bed::netns::Namespace;
use crate::bed::process::{sibling, tail};
use crate::bed::programs::LOAD;
use crate::bed::run::Run;

/// The number of frames that the kernel makes at once, at most 256.
const BATCH: u32 = 64;
/// The frames of one call. A call takes about 20 ms to begin and to end; no measurement is long enough for two calls.
const REPEAT: u32 = 100_000_000;

/// The loaded programs and their maps.
pub struct Generator {
    object: Ebpf,
    pins: PathBuf,
    log: PathBuf,
    templates: Array<MapData, Template>,
    interval: Array<MapData, u64>,
    sending: PerCpuArray<MapData, Sending>,
    seen: PerCpuArray<MapData, u64>,
    samples: Array<MapData, Sample>,
}

/// Counts since the generator was loaded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Counts {
    /// Queries sent, including queries that the veth's full ring refused.
    pub sent: u64,
    /// The returning frames.
    pub seen: [u64; Seen::COUNT],
}

impl Generator {
    /// Loads the programs; nothing is sent yet.
    ///
    /// # Errors
    /// The caller is not root, or the kernel refuses the programs.
    pub fn load(run: &Run) -> Result<Self> {
        let pins = run.pins();
        let mut object = object(&pins)?;
        for (name, program) in object.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load().with_context(|| format!("cannot load {name}"))?;
        }
        Ok(Generator {
            log: run.directory().join("flood.log"),
            pins,
            templates: map(&mut object, TEMPLATE)?,
            interval: map(&mut object, INTERVAL)?,
            sending: map(&mut object, SENDING)?,
            seen: map(&mut object, SEEN)?,
            samples: map(&mut object, SAMPLE)?,
            object,
        })
    }

    /// Attaches one of the programs to a device, natively, for as long as this generator lives.
    ///
    /// # Errors
    /// The device already has a program, or the driver has no XDP.
    pub fn attach(&mut self, program: &str, namespace: &Namespace, device: &str) -> Result<()> {
        let object = &mut self.object;
        let xdp = object.program_mut(program).with_context(|| format!("no program {program}"))?;
        let xdp: &mut Xdp = xdp.try_into()?;
        let attached = namespace.enter(|| Ok(xdp.attach(device, XdpMode::Driver)?));
        attached.with_context(|| format!("cannot attach {program} to {device}"))?;
        Ok(())
    }

    /// Chooses the queries that are sent from now on.
    ///
    /// # Errors
    /// The number of templates is not that of the map.
    pub fn aim(&mut self, templates: &[Template]) -> Result<()> {
        ensure!(templates.len() == self.templates.len() as usize, "{} templates", templates.len());
        for (nth, template) in (0..).zip(templates) {
            self.templates.set(nth, template, 0)?;
        }
        Ok(())
    }

    /// Sets the queries per second; `None`: as many as one core can send.
    ///
    /// # Errors
    /// The map cannot be written.
    pub fn pace(&mut self, per_second: Option<u32>) -> Result<()> {
        let interval = per_second.map_or(0, |rate| 1_000_000_000 / u64::from(rate.max(1)));
        Ok(self.interval.set(0, interval, 0)?)
    }

    /// Sends over a wire while `during` runs.
    ///
    /// # Errors
    /// The kernel does not run live frames, or `during` fails.
    pub fn run<T>(&self, wire: &Wire, during: impl FnOnce() -> Result<T>) -> Result<T> {
        let mut command = Command::new(sibling("flood")?);
        command.arg(&self.pins).arg(wire.generator_index()?.to_string());
        let log = File::create(&self.log).with_context(|| format!("cannot write {}", self.log.display()))?;
        let mut flood = cores::spawn(&wire.generator, cores::GENERATOR, &command, log)?;
        let result = during();
        let ended = flood.try_wait()?;
        flood.kill().and_then(|()| flood.wait()).context("cannot end the generator")?;
        if let Some(status) = ended {
            bail!("the generator has ended ({status}): {}", tail(&self.log, 3));
        }
        result
    }

    /// Returns the counts of sent and returning frames.
    ///
    /// # Errors
    /// A map cannot be read.
    pub fn counts(&self) -> Result<Counts> {
        let sent = self.sending.get(&0, 0)?.iter().map(|[sent, _due]| sent).sum();
        let mut seen = [0; Seen::COUNT];
        for (index, seen) in (0..).zip(&mut seen) {
            *seen = self.seen.get(&index, 0)?.iter().sum();
        }
        Ok(Counts { sent, seen })
    }

    /// Takes the kept samples of returning frames.
    ///
    /// # Errors
    /// The map cannot be read.
    pub fn take_samples(&mut self) -> Result<Vec<Vec<u8>>> {
        let mut frames = Vec::new();
        for nth in 0..self.samples.len() {
            let [length, words @ ..] = self.samples.get(&nth, 0)?;
            if length == 0 {
                continue;
            }
            let octets: Vec<u8> = words.iter().flat_map(|word| word.to_ne_bytes()).collect();
            frames.push(octets[..usize::try_from(length)?].to_vec());
            self.samples.set(nth, [0; _], 0)?;
        }
        Ok(frames)
    }
}

/// The process on the generator's core. It sends the queries of the pinned maps over an interface of its namespace,
/// until it is killed or its parent ends.
///
/// # Errors
/// The kernel does not run live frames.
pub fn flood(pins: &Path, interface: u32) -> Result<()> {
    let mut object = object(pins)?;
    let program: &mut Xdp = object.program_mut("generate").context("no program generate")?.try_into()?;
    program.load()?;
    // struct xdp_md of linux/bpf.h: data, data_end, data_meta, ingress_ifindex, rx_queue_index, egress_ifindex.
    let context: Vec<u8> =
        [0, FRAME_MAX as u32, 0, interface, 0, 0].iter().flat_map(|field| field.to_ne_bytes()).collect();
    let parent = getppid();
    while getppid() == parent {
        let options = TestRunOptions {
            data_in: Some(&[0; FRAME_MAX]),
            ctx_in: Some(&context),
            repeat: REPEAT,
            attrs: TestRunAttrs::new().xdp_live_frames(BATCH),
            ..TestRunOptions::new()
        };
        program.test_run(options).context("the kernel does not run live frames (it needs Linux 5.18)")?;
    }
    Ok(())
}

/// Loads the programs over the maps that are pinned there, or pins new ones.
fn object(pins: &Path) -> Result<Ebpf> {
    let mut loader = EbpfLoader::new();
    for name in [TEMPLATE, INTERVAL, SENDING] {
        loader.map_pin_path(name, pins.join(name));
    }
    loader.load(LOAD).context("cannot load the load generator's object: is this root, on a kernel with BPF?")
}

fn map<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> Result<M> {
    let map = object.take_map(name).with_context(|| format!("the object has no map {name}"))?;
    Ok(M::try_from(map)?)
}
