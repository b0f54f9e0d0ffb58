//! The maps: a zone published whole, the lease, the counters.
use std::collections::{BTreeMap, HashSet};
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use aya::Ebpf;
use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError, PerCpuArray};
use aya::programs::{TestRun, TestRunOptions, Xdp};
use dns_xdp_ebpf::outcome::Outcome;
use dns_xdp_ebpf::table::{
    self, FOR_EVER, NameEntry, NameOverflow, RENEW_ENDED, RENEW_UNCHANGED, RENEWAL_LENGTH, Slot, ZoneHeader,
};
use nix::time::{ClockId, clock_getres};

use super::Error;
use super::layout::{self, Layout, PerfectHash};
use super::locals::LocalsBytes;
use crate::zone::Zone;

type ZoneHeaderBytes = [u8; size_of::<ZoneHeader>()];
type NameEntryBytes = [u8; size_of::<NameEntry>()];
type NameOverflowBytes = [u8; size_of::<NameOverflow>()];
type ZoneHeaderMap = Array<MapData, ZoneHeaderBytes>;
type LocalAddressesMap = Array<MapData, LocalsBytes>;

/// Where a head keeps the index of its bank's first slot.
const BANK_START: std::ops::Range<usize> = 8..12;

/// The maps of the loaded program.
pub(super) struct Maps {
    zone: ArrayOfMaps<MapData, ZoneHeaderMap>,
    names: Array<MapData, NameEntryBytes>,
    overflow: Array<MapData, NameOverflowBytes>,
    counters: PerCpuArray<MapData, u64>,
    locals: ArrayOfMaps<MapData, LocalAddressesMap>,
    bank_slots: u32,
    heads: Option<ZoneHeaders>,
    /// Where the names of the last zone went.
    perfect_hash: PerfectHash,
    /// Base of the bank in use; none before the first zone.
    bank_start: Option<u32>,
    /// What the banks hold; none where that is not known.
    contents: [Option<Layout>; 2],
}

/// A zone that lies in the bank that no packet reads.
pub struct Staged {
    head: ZoneHeaderMap,
    bank_start: u32,
    writes: usize,
}

impl Staged {
    /// How many elements of maps were written for it.
    pub(super) const fn writes(&self) -> usize {
        self.writes
    }
}

impl Maps {
    /// Takes the maps of a loaded object; `heads`: where those of the banks are, or are to be, pinned.
    pub(super) fn take(
        object: &mut Ebpf,
        bank_slots: u32,
        heads: Option<ZoneHeaders>,
    ) -> Result<Self, Error> {
        let zone: ArrayOfMaps<MapData, ZoneHeaderMap> = take(object, table::ZONE)?;
        let names = take(object, table::NAMES)?;
        let overflow = take(object, table::NAME_OVERFLOW)?;
        let counters = take(object, table::COUNTERS)?;
        let locals = take(object, table::LOCAL_ADDRESSES)?;
        let head = match &heads {
            Some(heads) => heads.in_use(),
            // Nobody else has written to maps that are not pinned.
            None => Ok(None),
        };
        let bank_start = head.and_then(|head| head.map(|head| head.get(&0, 0)).transpose());
        let bank_start = bank_start
            .map(|head| head.as_ref().map(bank_start_of))
            .map_err(|error| Error::map(table::ZONE, error))?;
        // The seed keeps strangers from choosing names that crowd one slot, though that would cost little.
        let perfect_hash = PerfectHash::new(RandomState::new().hash_one("names"));
        Ok(Maps {
            zone,
            names,
            overflow,
            counters,
            locals,
            bank_slots,
            heads,
            perfect_hash,
            bank_start,
            contents: [None, None],
        })
    }

    /// Names that the table holds.
    pub(super) fn capacity(&self) -> u32 {
        layout::capacity(self.bank_slots)
    }

    /// Writes the zone into the bank that no packet reads; [`Maps::commit`] turns to it.
    pub(super) fn stage(&mut self, zone: &Zone) -> Result<Staged, Error> {
        let laid_out = layout::lay_out(zone, self.bank_slots, &self.perfect_hash);
        let laid_out = laid_out.map_err(|names| Error::too_many(names, self.capacity()))?;
        let bank_start = self.unread();
        let which = usize::from(bank_start != 0);
        let before = self.contents[which].take();
        let head = layout::head(zone, &laid_out, bank_start, self.bank_slots);
        let slots_written = self.write(&head, before.as_ref(), &laid_out)?;
        let octets = head.to_bytes();
        self.perfect_hash = laid_out.perfect_hash.clone();
        self.contents[which] = Some(laid_out);

        let failed = |error| Error::map(table::ZONE, error);
        let mut head = ZoneHeaderMap::create(1, 0).map_err(failed)?;
        head.set(0, octets, 0).map_err(failed)?;
        let writes = slots_written + 1;
        let Some(heads) = &self.heads else { return Ok(Staged { head, bank_start, writes }) };
        // The one that is pinned there has not been in use since the last switch.
        let pin = &heads.banks[which];
        super::pins::remove_map(pin);
        let cannot = || Error::new(format!("cannot pin {}", pin.display()));
        head.pin(pin).map_err(|error| cannot().because_of(error))?;
        let head = pinned_head(pin).map_err(|error| cannot().because_of(error))?;
        Ok(Staged { head, bank_start, writes })
    }

    /// Writes the zone into the bank that no packet reads, unless it is known what that holds. The next zone, in which a
    /// node has died perhaps, need not wait then until all of it is written.
    pub(super) fn prefill_standby(&mut self, zone: &Zone) -> Result<(), Error> {
        let bank_start = self.unread();
        let which = usize::from(bank_start != 0);
        if self.contents[which].is_some() {
            return Ok(());
        }
        let laid_out = layout::lay_out(zone, self.bank_slots, &self.perfect_hash);
        let laid_out = laid_out.map_err(|names| Error::too_many(names, self.capacity()))?;
        self.write(&layout::head(zone, &laid_out, bank_start, self.bank_slots), None, &laid_out)?;
        self.contents[which] = Some(laid_out);
        Ok(())
    }

    /// Has the program serve the addresses of this table: all of them from one packet to the next.
    pub(super) fn publish_locals(&mut self, octets: &LocalsBytes) -> Result<(), Error> {
        let failed = |error| Error::map(table::LOCAL_ADDRESSES, error);
        let mut next = LocalAddressesMap::create(1, 0).map_err(failed)?;
        next.set(0, octets, 0).map_err(failed)?;
        self.locals.set(0, &next, 0).map_err(failed)
    }

    /// Base of the bank that no packet reads.
    fn unread(&self) -> u32 {
        if self.bank_start == Some(0) { self.bank_slots } else { 0 }
    }

    /// Lets packets see a zone that was written. The kernel returns from this when no program reads the old zone any
    /// more, which takes some milliseconds. The first packet sees the new zone at once.
    pub(super) fn commit(&mut self, Staged { head, bank_start, .. }: &Staged) -> Result<(), Error> {
        self.zone.set(0, head, 0).map_err(|error| Error::map(table::ZONE, error))?;
        self.bank_start = Some(*bank_start);
        Ok(())
    }

    /// Makes the bank of this head hold what is laid out, and nothing else; how many elements that took.
    fn write(&mut self, head: &ZoneHeader, before: Option<&Layout>, layout: &Layout) -> Result<usize, Error> {
        let mut writes = 0;
        let stale: HashSet<u32> = match before {
            Some(before) => before.slots.keys().copied().collect(),
            None => (0..self.bank_slots).collect(),
        };
        let emptied =
            stale.iter().filter(|index| !layout.slots.contains_key(index)).map(|index| (*index, Slot::EMPTY));
        let written = layout.slots.iter().map(|(index, slot)| (*index, *slot));
        for (index, slot) in emptied.chain(written) {
            let there = before.map(|before| before.slots.get(&index).copied().unwrap_or(Slot::EMPTY));
            if there.is_none_or(|there| there.overflow != slot.overflow) {
                self.write_overflow(head.bank_start + index, &slot.overflow)?;
                writes += 1;
            }
            if there.is_none_or(|there| there.entry != slot.entry) {
                let result = self.names.set(head.bank_start + index, slot.entry.to_bytes(), 0);
                result.map_err(|error| Error::map(table::NAMES, error))?;
                writes += 1;
            }
        }
        // What lies behind the chunks in use is never read.
        for (index, chunk) in (head.chunks..).zip(&layout.chunks) {
            let nth = (index - head.chunks) as usize;
            if before.and_then(|before| before.chunks.get(nth)) != Some(chunk) {
                self.write_overflow(index, chunk)?;
                writes += 1;
            }
        }
        Ok(writes)
    }

    fn write_overflow(&mut self, index: u32, overflow: &NameOverflow) -> Result<(), Error> {
        self.overflow
            .set(index, overflow.to_bytes(), 0)
            .map_err(|error| Error::map(table::NAME_OVERFLOW, error))
    }

    /// Every outcome's counter, summed over the CPUs.
    pub(super) fn counters(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
        let counted = Outcome::ALL.iter().filter(|outcome| **outcome != Outcome::NotForUs);
        counted
            .map(|outcome| {
                let values = self.counters.get(&(*outcome as u32), 0);
                let values = values.map_err(|error| Error::map(table::COUNTERS, error))?;
                Ok((outcome.text(), values.iter().sum()))
            })
            .collect()
    }
}

/// Where the heads are pinned. The kernel tells which one the zone's map holds by its number only, and to open a map by
/// its number takes CAP_SYS_ADMIN.
#[derive(Debug, Clone)]
pub(super) struct ZoneHeaders {
    /// The zone's map.
    pub(super) zone: PathBuf,
    /// The heads of the two banks: the one in use, and the one before or the next.
    pub(super) banks: [PathBuf; 2],
}

impl ZoneHeaders {
    /// The head that packets see; `None` before the first zone.
    fn in_use(&self) -> Result<Option<ZoneHeaderMap>, MapError> {
        // The kernel shows the numbers as if they were what an array holds.
        let numbers: Array<MapData, u32> = Map::Array(MapData::from_pin(&self.zone)?).try_into()?;
        let number = match numbers.get(&0, 0) {
            Err(MapError::KeyNotFound) => return Ok(None),
            number => number?,
        };
        for pin in self.banks.iter().filter(|pin| pin.exists()) {
            let head = MapData::from_pin(pin)?;
            if head.info()?.id() == number {
                return Map::Array(head).try_into().map(Some);
            }
        }
        Map::Array(MapData::from_id(number)?).try_into().map(Some)
    }
}

fn pinned_head(pin: &Path) -> Result<ZoneHeaderMap, MapError> {
    Map::Array(MapData::from_pin(pin)?).try_into()
}

fn bank_start_of(head: &ZoneHeaderBytes) -> u32 {
    let mut bank_start = [0; 4];
    bank_start.copy_from_slice(&head[BANK_START]);
    u32::from_ne_bytes(bank_start)
}

/// Takes a map out of the object.
pub(super) fn take<M: TryFrom<Map, Error = MapError>>(object: &mut Ebpf, name: &str) -> Result<M, Error> {
    let map = object.take_map(name).ok_or_else(|| Error::new(format!("the program has no map {name}")))?;
    M::try_from(map).map_err(|error| Error::map(name, error))
}

/// The lease as it was before it was renewed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    now: u64,
    deadline: u64,
}

impl Lease {
    /// Whether the program answered.
    pub(super) fn lived(self) -> bool {
        self.now <= self.deadline
    }
}

/// How long the program may answer from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// For this long; not at all, when it is zero.
    For(Duration),
    /// Until it is told otherwise.
    ForEver,
    /// As long as it could before.
    Unchanged,
}

/// Runs the program that renews the lease; `seconds` is the time of day since 1970.
pub(super) fn renew(program: &Xdp, renewal: Renewal, seconds: u64) -> Result<Lease, Error> {
    let jiffies = match renewal {
        Renewal::For(Duration::ZERO) => RENEW_ENDED,
        Renewal::For(life) => jiffies(life),
        Renewal::ForEver => FOR_EVER,
        Renewal::Unchanged => RENEW_UNCHANGED,
    };
    let mut packet = [0; RENEWAL_LENGTH];
    packet[..8].copy_from_slice(&jiffies.to_ne_bytes());
    packet[8..16].copy_from_slice(&seconds.to_ne_bytes());
    let mut answer = packet;
    let options =
        TestRunOptions { data_in: Some(&packet), data_out: Some(&mut answer), ..TestRunOptions::new() };
    program
        .test_run(options)
        .map_err(|error| Error::new("cannot renew the program's lease").because_of(error))?;
    let number = |at: usize| {
        let mut octets = [0; 8];
        octets.copy_from_slice(&answer[at..at + 8]);
        u64::from_ne_bytes(octets)
    };
    Ok(Lease { now: number(16), deadline: number(24) })
}

/// A time in the kernel's ticks, rounded up.
fn jiffies(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(tick().as_nanos().max(1))).unwrap_or(u64::MAX / 2)
}

/// One of the kernel's ticks: the coarse clock's resolution.
pub(super) fn tick() -> Duration {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::from_millis(1), Duration::from)
}
