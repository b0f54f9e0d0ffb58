//! Times one run of a program with BPF_PROG_TEST_RUN.
//!
//! A run changes the packet. A caller program therefore restores the packet, and then calls the program. The time of
//! the same caller with an empty program is subtracted. The shortest of several rounds counts, because only
//! disturbances make a round longer.
use aya::maps::{Array, HashMap, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions};
use aya::{Ebpf, EbpfLoader};
use nix::sched::{CpuSet, sched_getcpu, sched_setaffinity};
use nix::unistd::Pid;

use super::maps::take;
use super::unattached::XDP_TX;
use super::{Error, Unattached, program};

/// The object with the programs of the stopwatch.
const OBJECT: &[u8] = aya::include_bytes_aligned!(concat!(env!("OUT_DIR"), "/stopwatch"));

/// The longest frame in the stopwatch's programs. A query for the longest name fits.
const FRAME_MAX: usize = 8 * 46;
/// Octets of a template: the frame's length, its last 8 octets, and the frame.
const TEMPLATE_LENGTH: usize = 8 + 8 + FRAME_MAX;
/// The most frames that are run in turn.
const FRAMES_MAX: usize = 1 << 16;

const TEMPLATE: &str = "TEMPLATE";
const VARIANT: &str = "VARIANT";
const TURN: &str = "TURN";
const START: &str = "START";
const TIMED: &str = "TIMED";
const HASH: &str = "HASH";
/// The key of the entry that `look_up` finds.
const KEY: [u64; 2] = [1, 2];
/// The program that calls the timed program.
const RESTORE: &str = "restore";
/// The program that does nothing.
const TRANSMIT: &str = "transmit";
/// All programs that can be timed.
const TIMED_PROGRAMS: [&str; 7] = [RESTORE, TRANSMIT, "reflect", "grow", "grow_head", "look_up", "read_line"];

/// The loaded caller program, with the frames that it runs.
pub struct Stopwatch {
    object: Ebpf,
    templates: Array<MapData, [u8; TEMPLATE_LENGTH]>,
    variants: Array<MapData, u64>,
    turn: Array<MapData, [u8; 24]>,
    start: Array<MapData, [u8; 16]>,
    timed: ProgramArray<MapData>,
}

/// The program that is timed.
#[derive(Clone, Copy)]
pub enum Timed<'a> {
    /// The program that answers.
    Responder(&'a Unattached),
    /// A reference step for comparison: the name of its program.
    Reference(&'a str),
}

/// The shortest round so far, in nanoseconds.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Least {
    with_program: f64,
    without: f64,
}

impl Least {
    /// The value before the first round.
    pub const NONE: Least = Least { with_program: f64::MAX, without: f64::MAX };

    /// Returns the time of one run of the program.
    pub fn ns(self) -> f64 {
        (self.with_program - self.without).max(0.0)
    }
}

impl Stopwatch {
    /// Loads the caller program with room for this many frames. From then on the thread stays on its CPU.
    pub fn load(frames: usize) -> Result<Self, Error> {
        stay()?;
        let room = frames.clamp(1, FRAMES_MAX).next_power_of_two();
        let mut loader = EbpfLoader::new();
        loader.map_max_entries(TEMPLATE, u32::try_from(room).unwrap_or(u32::MAX));
        loader.map_max_entries(VARIANT, u32::try_from(room).unwrap_or(u32::MAX));
        let mut object = loader.load(OBJECT).map_err(|error| Error::loading(error.into()))?;
        for name in TIMED_PROGRAMS {
            let program = program::program_mut(&mut object, name)?;
            program.load().map_err(|error| Error::loading(error.into()))?;
        }
        let mut hash: HashMap<MapData, [u64; 2], u64> = take(&mut object, HASH)?;
        hash.insert(KEY, 0, 0).map_err(|error| Error::map(HASH, error))?;
        let templates = take(&mut object, TEMPLATE)?;
        let (variants, turn) = (take(&mut object, VARIANT)?, take(&mut object, TURN)?);
        let start = take(&mut object, START)?;
        let timed = take(&mut object, TIMED)?;
        Ok(Stopwatch { object, templates, variants, turn, start, timed })
    }

    /// Sets the frames that are run in turn. If their number is not a power of two, some frames come twice in a round.
    ///
    /// # Errors
    /// There is no frame, or one is longer than a query for the longest name.
    pub fn frames(&mut self, frames: &[Vec<u8>]) -> Result<(), Error> {
        let room = self.templates.len() as usize;
        if frames.is_empty() || frames.len() > room {
            return Err(Error::new(format!(
                "{} frames are to be timed, there is room for {room}",
                frames.len()
            )));
        }
        let turn = frames.len().next_power_of_two();
        let variants_at = variants_at(frames);
        let templates = if variants_at == 0 { turn } else { 1 };
        for (nth, frame) in (0..).zip(frames.iter().cycle().take(turn)) {
            if variants_at != 0 {
                let variant =
                    frame[variants_at..].first_chunk().map_or(0, |eight| u64::from_ne_bytes(*eight));
                self.variants.set(nth, variant, 0).map_err(|error| Error::map(VARIANT, error))?;
            }
            if (nth as usize) < templates {
                let set = self.templates.set(nth, template(frame)?, 0);
                set.map_err(|error| Error::map(TEMPLATE, error))?;
            }
        }
        let variants = if variants_at == 0 { 1 } else { turn };
        let numbers = [templates as u64 - 1, variants as u64 - 1, variants_at as u64];
        let mut octets = [0; 24];
        octets.as_chunks_mut().0.iter_mut().zip(numbers).for_each(|(eight, n)| *eight = n.to_ne_bytes());
        self.turn.set(0, octets, 0).map_err(|error| Error::map(TURN, error))
    }

    /// Makes one round of `repeat` runs of the program, and as many runs without it.
    ///
    /// # Errors
    /// The program did not answer the last frame.
    pub fn round(&mut self, timed: Timed<'_>, repeat: u32, least: &mut Least) -> Result<(), Error> {
        least.with_program = least.with_program.min(self.once(timed, repeat)?);
        least.without = least.without.min(self.once(Timed::Reference(TRANSMIT), repeat)?);
        Ok(())
    }

    fn once(&mut self, timed: Timed<'_>, repeat: u32) -> Result<f64, Error> {
        let program = match timed {
            Timed::Responder(responder) => responder.program()?,
            Timed::Reference(name) => &self.descriptor(name)?,
        };
        self.timed.set(0, program, 0).map_err(|error| Error::map(TIMED, error))?;
        self.start.set(0, [0; 16], 0).map_err(|error| Error::map(START, error))?;
        let packet = [0; 128];
        let options = TestRunOptions { data_in: Some(&packet), repeat, ..TestRunOptions::new() };
        let result = program::program(&self.object, RESTORE)?.test_run(options);
        let result = result.map_err(|error| Error::new("cannot time the program").because_of(error))?;
        if result.return_value != XDP_TX {
            let action = result.return_value;
            return Err(Error::new(format!("a timed query was not answered: the program returned {action}")));
        }
        Ok(result.duration.as_nanos() as f64)
    }

    fn descriptor(&self, name: &str) -> Result<ProgramFd, Error> {
        let program = program::program(&self.object, name)?;
        let descriptor = program.fd().map_err(|error| Error::loading(error.into()))?;
        descriptor
            .try_clone()
            .map_err(|error| Error::new(format!("cannot keep program {name}")).because(error))
    }
}

/// Keeps the thread on its CPU, because the clocks and caches of two CPUs differ.
fn stay() -> Result<(), Error> {
    let mut here = CpuSet::new();
    let stayed = sched_getcpu()
        .and_then(|cpu| here.set(cpu))
        .and_then(|()| sched_setaffinity(Pid::from_raw(0), &here));
    stayed.map_err(|errno| Error::new("cannot keep to one CPU").because(errno.into()))
}

/// Returns the offset of 8 octets that hold every difference of the frames; 0: the frames differ in other octets too.
fn variants_at(frames: &[Vec<u8>]) -> usize {
    let (first, others) = match frames {
        [first, others @ ..] if !others.is_empty() => (first, others),
        _ => return 0,
    };
    let differing = |frame: &Vec<u8>| {
        let differs = |at: &usize| frame.get(*at) != first.get(*at);
        let positions = 0..first.len().max(frame.len());
        Some((positions.clone().find(differs)?, positions.rev().find(differs)?))
    };
    let spans: Vec<(usize, usize)> = others.iter().filter_map(differing).collect();
    let from = spans.iter().map(|span| span.0).min().unwrap_or(0);
    let to = spans.iter().map(|span| span.1).max().unwrap_or(usize::MAX);
    if to < from + 8 && from + 8 <= first.len() && others.iter().all(|frame| frame.len() == first.len()) {
        from
    } else {
        0
    }
}

/// Returns the template of a frame.
fn template(frame: &[u8]) -> Result<[u8; TEMPLATE_LENGTH], Error> {
    let length = frame.len();
    let (true, Some(last)) = (length <= FRAME_MAX, frame.last_chunk::<8>()) else {
        return Err(Error::new(format!("a frame to be timed has {length} octets, not 8 to {FRAME_MAX}")));
    };
    let mut template = [0; TEMPLATE_LENGTH];
    template[..8].copy_from_slice(&(length as u64).to_ne_bytes());
    template[8..16].copy_from_slice(last);
    template[16..16 + length].copy_from_slice(frame);
    Ok(template)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn frames_are_variants_where_they_differ_in_eight_octets_at_most() {
        let frame = |at: usize, octets: &[u8]| {
            let mut frame = vec![0; 40];
            frame[at..at + octets.len()].copy_from_slice(octets);
            frame
        };
        let plain = frame(0, &[]);
        let cases = [
            (vec![plain.clone()], 0),
            (vec![plain.clone(), plain.clone()], 0),
            (vec![plain.clone(), frame(20, &[1])], 20),
            (vec![plain.clone(), frame(27, &[1]), frame(20, &[1])], 20),
            (vec![plain.clone(), frame(28, &[1]), frame(20, &[1])], 0),
            (vec![plain.clone(), frame(32, &[1])], 32),
            (vec![plain.clone(), frame(33, &[1])], 0),
            (vec![plain.clone(), vec![0; 41]], 0),
        ];
        for (frames, at) in cases {
            assert_eq!(variants_at(&frames), at, "{frames:?}");
        }
    }
}
