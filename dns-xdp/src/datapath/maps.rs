//! The maps of the program: publishes a zone as a whole, renews the lease, reads the counters.
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
use super::local_addresses::LocalAddressesBytes;
use crate::zone::Zone;

type ZoneHeaderBytes = [u8; size_of::<ZoneHeader>()];
type NameEntryBytes = [u8; size_of::<NameEntry>()];
type NameOverflowBytes = [u8; size_of::<NameOverflow>()];
type ZoneHeaderMap = Array<MapData, ZoneHeaderBytes>;
type LocalAddressesMap = Array<MapData, LocalAddressesBytes>;

/// The octets of a head that hold the index of its bank's first slot.
const BANK_START: std::ops::Range<usize> = 8..12;

/// The maps of the loaded program.
pub(super) struct Maps {
    zone: ArrayOfMaps<MapData, ZoneHeaderMap>,
    names: Array<MapData, NameEntryBytes>,
    overflow: Array<MapData, NameOverflowBytes>,
    counters: PerCpuArray<MapData, u64>,
    local_addresses: ArrayOfMaps<MapData, LocalAddressesMap>,
    bank_slots: u32,
    heads: Option<ZoneHeaders>,
    /// The hash of the last zone.
    perfect_hash: PerfectHash,
    /// Start of the bank in use; `None` before the first zone.
    bank_start: Option<u32>,
    /// The contents of the banks; `None`: unknown.
    contents: [Option<Layout>; 2],
}

/// A zone in the bank that no packet reads.
pub struct Staged {
    head: ZoneHeaderMap,
    bank_start: u32,
    writes: usize,
}

impl Staged {
    /// Returns how many map elements were written for the staged zone.
    pub(super) const fn writes(&self) -> usize {
        self.writes
    }
}

impl Maps {
    /// Takes the maps of a loaded object. `heads`: the pins of the banks' heads. `adopted`: whether another process has
    /// written to the maps.
    pub(super) fn take(
        object: &mut Ebpf,
        bank_slots: u32,
        heads: Option<ZoneHeaders>,
        adopted: bool,
    ) -> Result<Self, Error> {
        let zone: ArrayOfMaps<MapData, ZoneHeaderMap> = take(object, table::ZONE)?;
        let names = take(object, table::NAMES)?;
        let overflow = take(object, table::NAME_OVERFLOW)?;
        let counters = take(object, table::COUNTERS)?;
        let local_addresses = take(object, table::LOCAL_ADDRESSES)?;
        let head = match &heads {
            Some(heads) => heads.in_use(),
            // No other process has written to maps that are not pinned.
            None => Ok(None),
        };
        let bank_start = head.and_then(|head| head.map(|head| head.get(&0, 0)).transpose());
        let bank_start = bank_start
            .map(|head| head.as_ref().map(bank_start_of))
            .map_err(|error| Error::map(table::ZONE, error))?;
        // A random seed, so that no outsider can choose names that collide. A collision would cost little anyway.
        let perfect_hash = PerfectHash::new(RandomState::new().hash_one("names"));
        // The kernel makes maps of zeros, and a slot of zeros is empty.
        let contents = [(); 2].map(|()| (!adopted).then(Layout::empty));
        Ok(Maps {
            zone,
            names,
            overflow,
            counters,
            local_addresses,
            bank_slots,
            heads,
            perfect_hash,
            bank_start,
            contents,
        })
    }

    /// Returns how many names the table holds.
    pub(super) fn capacity(&self) -> u32 {
        layout::capacity(self.bank_slots)
    }

    /// Writes the zone into the bank that no packet reads. [`Maps::commit`] switches to it.
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
        // The head that is pinned there has not been in use since the last switch.
        let pin = &heads.banks[which];
        super::pins::remove_map(pin);
        let cannot = || Error::new(format!("cannot pin {}", pin.display()));
        head.pin(pin).map_err(|error| cannot().because_of(error))?;
        let head = pinned_head(pin).map_err(|error| cannot().because_of(error))?;
        Ok(Staged { head, bank_start, writes })
    }

    /// Writes the zone into the bank that no packet reads, unless its contents are known. The next zone, perhaps after
    /// a node's death, then needs only the changed elements.
    pub(super) fn prefill_standby(&mut self, zone: &Zone) -> Result<(), Error> {
        let bank_start = self.unread();
        let which = usize::from(bank_start != 0);
        if self.contents[which].as_ref().is_some_and(|there| !there.slots.is_empty()) {
            return Ok(());
        }
        let before = self.contents[which].take();
        let laid_out = layout::lay_out(zone, self.bank_slots, &self.perfect_hash);
        let laid_out = laid_out.map_err(|names| Error::too_many(names, self.capacity()))?;
        self.write(&layout::head(zone, &laid_out, bank_start, self.bank_slots), before.as_ref(), &laid_out)?;
        self.contents[which] = Some(laid_out);
        Ok(())
    }

    /// Makes the program serve the addresses of this table. All addresses change at once, between two packets.
    pub(super) fn publish_local_addresses(&mut self, octets: &LocalAddressesBytes) -> Result<(), Error> {
        let failed = |error| Error::map(table::LOCAL_ADDRESSES, error);
        let mut next = LocalAddressesMap::create(1, 0).map_err(failed)?;
        next.set(0, octets, 0).map_err(failed)?;
        self.local_addresses.set(0, &next, 0).map_err(failed)
    }

    /// Returns the start of the bank that no packet reads.
    fn unread(&self) -> u32 {
        if self.bank_start == Some(0) { self.bank_slots } else { 0 }
    }

    /// Publishes a staged zone. The next packet sees it at once. The call returns when no program reads the old zone
    /// any more, after some milliseconds.
    pub(super) fn commit(&mut self, Staged { head, bank_start, .. }: &Staged) -> Result<(), Error> {
        self.zone.set(0, head, 0).map_err(|error| Error::map(table::ZONE, error))?;
        self.bank_start = Some(*bank_start);
        Ok(())
    }

    /// Writes the layout into the bank of this head, and empties all other slots. Returns the number of elements
    /// written.
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
        // No program reads elements after the used chunks.
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

    /// Returns every outcome's counter, summed over the CPUs.
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

/// The pins of the heads. The kernel only gives the number of the head in the zone's map, and opening a map by its
/// number needs CAP_SYS_ADMIN.
#[derive(Debug, Clone)]
pub(super) struct ZoneHeaders {
    /// The pin of the zone's map.
    pub(super) zone: PathBuf,
    /// The pins of the two banks' heads: one head is in use, the other one is the previous or the next head.
    pub(super) banks: [PathBuf; 2],
}

impl ZoneHeaders {
    /// Returns the head that packets see; `None` before the first zone.
    fn in_use(&self) -> Result<Option<ZoneHeaderMap>, MapError> {
        // For an array of maps, the kernel returns the numbers of the inner maps as values.
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

/// The state of the lease before a renewal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Lease {
    now: u64,
    deadline: u64,
}

impl Lease {
    /// Whether the lease had not ended, so that the program answered.
    pub(super) fn lived(self) -> bool {
        self.now <= self.deadline
    }
}

/// How long the program may answer from now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Renewal {
    /// For this long; zero: the program stops answering.
    For(Duration),
    /// Without an end.
    ForEver,
    /// Until the same time as before.
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

/// Returns a time in the kernel's ticks, rounded up.
fn jiffies(time: Duration) -> u64 {
    u64::try_from(time.as_nanos().div_ceil(tick().as_nanos().max(1))).unwrap_or(u64::MAX / 2)
}

/// Returns the length of a kernel tick: the coarse clock's resolution.
pub(super) fn tick() -> Duration {
    clock_getres(ClockId::CLOCK_MONOTONIC_COARSE).map_or(Duration::from_millis(1), Duration::from)
}
