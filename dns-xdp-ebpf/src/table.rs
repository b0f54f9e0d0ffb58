//! The contract between kernel and userspace: the contents, sizes and names of the maps.
//!
//! Userspace writes each table before the program reads it, and then only replaces it as a whole. The names, the zone's
//! head and the addresses are here. The protection against floods is in `flood_policy`, rates are in `limit`, VLAN tags
//! in `tags`, sets of types in `types`. Nothing here reads or writes a packet.

mod flood_policy;
pub mod limit;
mod tags;
mod types;

use core::net::IpAddr;
use core::num::NonZero;

pub use self::flood_policy::{EXEMPT_MAX, FloodPolicy, Prefix, SECRETS_MAX, Secret};
pub use self::tags::Tags;
pub use self::types::Types;
use crate::checksum::Sum;
use crate::verifier::element;

/// Version of every layout in this module. Pinned maps carry it in their names.
pub const LAYOUT: u32 = 10;

/// The zone's head: an array of maps whose one inner map holds one [`ZoneHeader`]. Userspace publishes a zone by
/// replacing the inner map. That is one pointer, so each packet sees the old zone or the new one.
pub const ZONE: &str = "ZONE";
/// The names: an array of [`NameEntry`], in two banks. The head says which bank is in use.
pub const NAMES: &str = "NAMES";
/// The data that does not fit a [`NameEntry`]: an array of [`NameOverflow`]. Each overflow has the same slot as its
/// name in [`NAMES`]. The chunks of large RRsets follow behind the slots.
pub const NAME_OVERFLOW: &str = "NAME_OVERFLOW";
/// The lease: an array of one [`Lease`].
pub const LEASE: &str = "LEASE";
/// The time of the next answer to the clients of a prefix, in nanoseconds: an LRU hash table from `u64` to `u64`. Each
/// loaded object has its own table.
pub const RRL_BUCKETS: &str = "RRL_BUCKETS";
/// Prefixes that [`RRL_BUCKETS`] holds.
pub const BUCKETS_MAX: usize = 1 << 16;
/// The queries that have gone up to the responder: an array of one [`Admissions`](limit::Admissions). Each loaded
/// object has its own array.
pub const FALLBACK_BUCKET: &str = "FALLBACK_BUCKET";
/// The recent queries of each client prefix for the responder: a hash table like [`RRL_BUCKETS`], of
/// [`Demand`](limit::Demand).
pub const FALLBACK_SHARES: &str = "FALLBACK_SHARES";
/// The served addresses: an array of maps whose one inner map holds one [`LocalAddresses`]. Userspace changes them by
/// replacing the inner map. Each loaded object has its own array.
pub const LOCAL_ADDRESSES: &str = "LOCAL_ADDRESSES";
/// The counters: a per-CPU array of `u64`, one for each [`Outcome`](crate::outcome::Outcome).
pub const COUNTERS: &str = "COUNTERS";
/// Global: the served UDP port, in network order.
pub const PORT: &str = "PORT";
/// Global: nanoseconds of a jiffy, as a `u64`.
pub const JIFFY: &str = "JIFFY";
/// The names of all programs that answer begin with this. The kernel keeps 15 octets of a name.
pub const RESPONDER: &str = "dns_xdp";
/// The program that renews the lease. Userspace runs it over a packet of [`RENEWAL_LENGTH`] octets.
pub const RENEW: &str = "renew_lease";

/// Slots for served addresses. At most half of them are used. An address on an interface has exactly one slot: see
/// [`slot`].
pub const LOCAL_ADDRESSES_SLOTS: usize = 4096;
/// Buckets of the hashes of served addresses. Each has its displacement in the [`LocalAddresses`].
pub const LOCAL_ADDRESSES_BUCKETS: usize = 1024;
/// The most addresses of a family in one answer of the program.
pub const ADDRESSES_MAX: usize = 16;
/// The most members of an RRset in the table. Queries for larger RRsets go up.
pub const MEMBERS_MAX: usize = u16::MAX as usize;
/// The most octets of a name (RFC 1035, section 3.1), and its length in words of 8 octets.
pub const NAME_MAX: usize = 255;
/// See [`NAME_MAX`].
pub const NAME_WORDS: usize = 32;
/// The longest SOA record that fits a [`ZoneHeader`]. Queries with negative answers go up if the zone's SOA is longer.
/// With the longest question and an OPT record without a cookie it still fits 512 octets, so hardly any negative answer
/// is truncated.
pub const SOA_MAX: usize = 224;
/// The EDNS size of this server, and the most octets it sends over UDP (RFC 9715, section 3).
pub const UDP_SIZE: u16 = 1232;

/// The words of a name that an [`NameEntry`] holds; the others are in its [`NameOverflow`].
pub const ENTRY_WORDS: usize = 6;
/// Buckets of the names' hashes. Each has its displacement in the [`ZoneHeader`].
pub const BUCKETS: usize = 1 << 14;

/// A name in words of 8 octets, lower case, uncompressed, padded with zeros.
pub type NameWords = [u64; NAME_WORDS];

/// One name and its only address, in one cache line. Most answers need only this entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct NameEntry {
    /// Octets of the name with its final zero; 0: the slot is empty.
    pub length: u8,
    /// [`NameEntry::RESERVED`], [`NameEntry::ROTATE`], [`NameEntry::ABOVE_WILDCARD`].
    pub flags: u8,
    /// Addresses in an answer of type A.
    pub ipv4_count: u8,
    /// Addresses in an answer of type AAAA.
    pub ipv6_count: u8,
    /// TTL of either RRset, in network order.
    pub ttl: u32,
    /// The address of an A RRset with one member, in network order.
    pub ipv4: u32,
    /// Folded sum of the name.
    pub name_sum: u16,
    /// The types that only the responder has for the name.
    pub types: Types,
    /// The first words of the name.
    pub name: [u64; ENTRY_WORDS],
}

/// The part of a name that does not fit a [`NameEntry`], or one chunk of a large RRset: some consecutive members.
///
/// A large RRset has more than [`ADDRESSES_MAX`] members. Each of its chunks begins [`chunk_step`] members behind the
/// chunk before. The members of every answer therefore lie in one chunk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct NameOverflow {
    /// Members of the A RRset. An answer has [`NameEntry::ipv4_count`] of them.
    pub ipv4_members: u16,
    /// Members of the AAAA RRset.
    pub ipv6_members: u16,
    /// The first chunk of the large RRsets, counted from [`ZoneHeader::chunks`].
    pub chunks: u32,
    /// IPv6 addresses in network order, each as two words.
    pub ipv6: [[u64; 2]; ADDRESSES_MAX],
    /// Addresses in network order.
    pub ipv4: [u32; ADDRESSES_MAX],
    /// The words of the name that follow the words in the entry.
    pub name: [u64; NAME_WORDS - ENTRY_WORDS],
    /// The slot of the name's wildcard, counted from [`ZoneHeader::bank_start`]; only with [`NameEntry::ABOVE_WILDCARD`].
    pub wildcard: u32,
    _padding: [u32; 9],
}

impl NameEntry {
    /// Flag: the name exists, and every query for it goes up.
    pub const RESERVED: u8 = 1;
    /// Flag: answers begin with another member for each query, see [`turn`].
    pub const ROTATE: u8 = 2;
    /// Flag: the zone has a wildcard directly below the name (RFC 4592).
    pub const ABOVE_WILDCARD: u8 = 4;
    /// An empty slot.
    pub const EMPTY: NameEntry = NameEntry {
        length: 0,
        flags: 0,
        ipv4_count: 0,
        ipv6_count: 0,
        ttl: 0,
        ipv4: 0,
        name_sum: 0,
        types: Types::NONE,
        name: [0; ENTRY_WORDS],
    };
}

impl NameOverflow {
    /// An overflow without members.
    pub const EMPTY: NameOverflow = NameOverflow {
        ipv4_members: 0,
        ipv6_members: 0,
        chunks: 0,
        ipv6: [[0; 2]; ADDRESSES_MAX],
        ipv4: [0; ADDRESSES_MAX],
        name: [0; NAME_WORDS - ENTRY_WORDS],
        wildcard: 0,
        _padding: [0; 9],
    };
}

/// Members between the beginnings of two chunks, at least 1. Answers have `count` members.
#[inline(always)]
pub const fn chunk_step(count: u8) -> NonZero<u32> {
    match NonZero::new((ADDRESSES_MAX as u32 + 1).saturating_sub(count as u32)) {
        Some(step) => step,
        None => NonZero::<u32>::MIN,
    }
}

/// Returns the chunks that fit a bank of `bank_slots` slots.
pub const fn chunk_room(bank_slots: u32) -> u32 {
    bank_slots / 4 + 32
}

/// Returns the number of elements of [`NAME_OVERFLOW`]: one for each slot, then the chunks of each bank.
pub const fn overflow_elements(bank_slots: u32) -> u32 {
    2 * (bank_slots + chunk_room(bank_slots))
}

/// Returns a number that selects the first member of an answer. It is a hash of the query's id, source port and source
/// address. A client with small or constant ids therefore gets every member first equally often, as long as its source
/// port changes (RFC 5452, section 9.2).
#[inline(always)]
pub const fn turn(id: u16, port: u16, [high, low]: [u64; 2]) -> u32 {
    (mix(mix(id as u64 | (port as u64) << 16, high), low) >> 32) as u32
}

/// Returns the index of an answer's first member.
#[inline(always)]
pub const fn first_member(turn: u32, members: usize) -> usize {
    // As in `slot`.
    ((turn as u64 * members as u64) >> 32) as usize
}

/// The contents of a slot in both arrays.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Slot {
    /// The element of [`NAMES`], which is enough for most answers.
    pub entry: NameEntry,
    /// The element of [`NAME_OVERFLOW`].
    pub overflow: NameOverflow,
}

impl Slot {
    /// An empty slot.
    pub const EMPTY: Slot = Slot { entry: NameEntry::EMPTY, overflow: NameOverflow::EMPTY };

    /// Returns the slot of a name as [`words`] gives it. With empty RRsets, the name answers NODATA for every type.
    pub fn new(name: &NameWords, length: u8, flags: u8, ttl_seconds: u32) -> Self {
        let mut slot = Slot::EMPTY;
        let name_sum = name.iter().copied().fold(Sum::ZERO, Sum::add_u64).fold();
        slot.entry = NameEntry { length, flags, ttl: ttl_seconds.to_be(), name_sum, ..NameEntry::EMPTY };
        let (first, rest) = name.split_at(ENTRY_WORDS);
        slot.entry.name.copy_from_slice(first);
        slot.overflow.name.copy_from_slice(rest);
        slot
    }

    /// Returns the name, as [`words`] gave it.
    pub fn name(&self) -> NameWords {
        let mut name = [0; NAME_WORDS];
        name[..ENTRY_WORDS].copy_from_slice(&self.entry.name);
        name[ENTRY_WORDS..].copy_from_slice(&self.overflow.name);
        name
    }

    /// Sets both RRsets. The chunks of large ones begin at `chunks`. Returns `false` if the slot cannot express these
    /// members.
    pub fn set_members(&mut self, members: &Addresses<'_>, chunks: u32) -> bool {
        let Addresses { ipv4, ipv6, most } = *members;
        let counts = [ipv4.len(), ipv6.len()];
        let answered = counts.map(|count| count.min(most));
        let is_large = counts.iter().any(|count| *count > ADDRESSES_MAX);
        if answered.iter().any(|count| *count > ADDRESSES_MAX)
            || counts.iter().any(|count| *count > MEMBERS_MAX)
        {
            return false;
        }
        let Slot { entry, overflow } = self;
        [entry.ipv4_count, entry.ipv6_count] = answered.map(|count| count as u8);
        [overflow.ipv4_members, overflow.ipv6_members] = counts.map(|count| count as u16);
        overflow.chunks = if is_large { chunks } else { 0 };
        overflow.put(
            ipv4.iter().filter(|_| ipv4.len() <= ADDRESSES_MAX),
            ipv6.iter().filter(|_| ipv6.len() <= ADDRESSES_MAX),
        );
        entry.ipv4 = if ipv4.len() == 1 { overflow.ipv4[0] } else { 0 };
        true
    }
}

/// The members of a name's two RRsets, in their order, and the most members of an answer.
#[derive(Debug, Clone, Copy)]
pub struct Addresses<'a> {
    /// The members of the A RRset.
    pub ipv4: &'a [[u8; 4]],
    /// The members of the AAAA RRset.
    pub ipv6: &'a [[u8; 16]],
    /// The most members of an answer.
    pub most: usize,
}

impl<'a> Addresses<'a> {
    /// Returns the chunks of the large RRsets: see [`NameOverflow`].
    pub fn chunks(self) -> impl ExactSizeIterator<Item = NameOverflow> + use<'a> {
        let Addresses { ipv4, ipv6, most } = self;
        let step = chunk_step(most.min(ADDRESSES_MAX) as u8).get() as usize;
        let is_large = |count: usize| count > ADDRESSES_MAX;
        let chunks =
            [ipv4.len(), ipv6.len()].map(|count| if is_large(count) { count.div_ceil(step) } else { 0 });
        (0..chunks[0].max(chunks[1])).map(move |nth| {
            let mut chunk = NameOverflow::EMPTY;
            let from = nth * step;
            chunk.put(
                ipv4.iter().cycle().skip(from).take(if nth < chunks[0] { ADDRESSES_MAX } else { 0 }),
                ipv6.iter().cycle().skip(from).take(if nth < chunks[1] { ADDRESSES_MAX } else { 0 }),
            );
            chunk
        })
    }
}

impl NameOverflow {
    /// Writes these addresses into the arrays.
    fn put<'a>(&mut self, ipv4: impl Iterator<Item = &'a [u8; 4]>, ipv6: impl Iterator<Item = &'a [u8; 16]>) {
        for (place, octets) in self.ipv4.iter_mut().zip(ipv4) {
            *place = u32::from_ne_bytes(*octets);
        }
        for (place, octets) in self.ipv6.iter_mut().zip(ipv6) {
            *place = [0, 8].map(|at| {
                let mut word = [0; 8];
                word.copy_from_slice(&octets[at..at + 8]);
                u64::from_ne_bytes(word)
            });
        }
    }
}

/// The head of the zone: the parts that all its answers share.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct ZoneHeader {
    /// Starts the hashes of names; see [`slot`].
    pub seed: u64,
    /// Index of the first slot of the bank in use.
    pub bank_start: u32,
    /// Slots in a bank.
    pub bank_slots: u32,
    /// Index of the first chunk of the bank in use.
    pub chunks: u32,
    _reserved_too: u32,
    /// Octets of the apex with its final zero.
    pub apex_length: u16,
    /// Octets of the SOA record; 0: negative answers go up.
    pub soa_length: u16,
    /// Folded sum of the SOA record.
    pub soa_sum: u16,
    /// Whether the zone has a wildcard; 0: it has none. With one, queries for names that are not in the table go up,
    /// unless the program knows the closest encloser (RFC 4592, section 3.3.1).
    pub has_wildcard: u16,
    /// The protection against floods.
    pub flood_policy: FloodPolicy,
    /// The apex.
    pub apex: NameWords,
    /// The SOA record of negative answers. Its owner is two octets of zero, which the pointer to the apex replaces.
    pub soa: [u64; SOA_MAX / 8],
    /// The SOA record's last 8 octets.
    pub soa_last: u64,
    /// How far the names of each bucket are displaced, so that no two names share a slot.
    pub displacements: [u16; BUCKETS],
}

impl ZoneHeader {
    /// Makes a head without displacements. If `soa` is longer than [`SOA_MAX`], queries with negative answers go up.
    pub fn new(
        seed: u64,
        bank_start: u32,
        bank_slots: u32,
        apex: &NameWords,
        apex_length: u8,
        soa: &[u8],
    ) -> Self {
        let soa = if soa.len() > SOA_MAX { &[] } else { soa };
        let mut words = [0; SOA_MAX / 8];
        for (word, octets) in words.iter_mut().zip(soa.chunks(8)) {
            let mut eight = [0; 8];
            eight[..octets.len()].copy_from_slice(octets);
            *word = u64::from_ne_bytes(eight);
        }
        ZoneHeader {
            seed,
            bank_start,
            bank_slots,
            chunks: 2 * bank_slots + if bank_start == 0 { 0 } else { chunk_room(bank_slots) },
            _reserved_too: 0,
            apex_length: u16::from(apex_length),
            soa_length: soa.len() as u16,
            soa_sum: Sum::ZERO.add_bytes(soa).fold(),
            has_wildcard: 0,
            flood_policy: FloodPolicy::NONE,
            apex: *apex,
            soa: words,
            soa_last: soa.last_chunk().map_or(0, |eight| u64::from_ne_bytes(*eight)),
            displacements: [0; BUCKETS],
        }
    }

    /// Returns the index of the only slot that a name with this hash may be in.
    #[inline(always)]
    pub fn slot(&self, hash: u64) -> u32 {
        self.bank_start + slot(hash, *element(&self.displacements, bucket(hash, BUCKETS)), self.bank_slots)
    }
}

/// Returns an address as the program compares it: two words in network order. An IPv4 address is the low 32 bits of the
/// second word as they lie in memory; the first word is [`Local::IPV4`].
pub fn address_words(address: IpAddr) -> [u64; 2] {
    match address {
        IpAddr::V4(ipv4) => [Local::IPV4, u64::from(u32::from_ne_bytes(ipv4.octets()))],
        IpAddr::V6(ipv6) => {
            let both = ipv6.octets();
            [0, 8].map(|at| {
                let mut word = [0; 8];
                word.copy_from_slice(&both[at..at + 8]);
                u64::from_ne_bytes(word)
            })
        }
    }
}

/// The time until which the program answers, and the time of day. The daemon writes both.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Lease {
    /// The end of the lease, in jiffies.
    pub deadline: u64,
    /// Seconds since 1970 when the lease was renewed. New cookies have this time.
    pub seconds: u64,
}

/// A served address on an interface.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Local {
    /// See [`address_words`].
    pub address: [u64; 2],
    /// Index of the interface that a frame comes in by; 0: the slot is empty.
    pub interface: u32,
    /// The tags of a frame for this address.
    pub tags: Tags,
    /// The destination MAC address of such a frame, in the first 6 bytes in memory; in the seventh, [`Local::GENERIC`].
    pub mac: u64,
}

impl Local {
    /// The first word of an IPv4 address. No served IPv6 address begins with these 64 bits.
    pub const IPV4: u64 = u64::MAX;
    /// An empty slot.
    pub const EMPTY: Local = Local { address: [0; 2], interface: 0, tags: Tags::NONE, mac: 0 };
    /// The mask of a MAC address's 6 bytes in a word.
    pub const MAC: u64 = u64::from_ne_bytes([0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0, 0]);
    /// The bit of a MAC address that is set in a group's address (IEEE 802, 8.2).
    pub const GROUP: u64 = u64::from_ne_bytes([1, 0, 0, 0, 0, 0, 0, 0]);
    /// A bit of [`Local::mac`]: the program runs in generic mode on this interface. A frame's checksum may then be
    /// incomplete.
    pub const GENERIC: u64 = u64::from_ne_bytes([0, 0, 0, 0, 0, 0, 1, 0]);

    /// Returns a served address.
    pub fn new(interface: u32, tags: Tags, address: IpAddr, mac: [u8; 6], is_generic: bool) -> Self {
        let address = address_words(address);
        let [a, b, c, d, e, f] = mac;
        let generic = if is_generic { Local::GENERIC } else { 0 };
        Local { address, interface, tags, mac: u64::from_ne_bytes([a, b, c, d, e, f, 0, 0]) | generic }
    }

    /// Returns the hash of an address on an interface.
    #[inline(always)]
    pub const fn hash(seed: u64, interface: u32, tags: Tags, address: [u64; 2]) -> u64 {
        let both = address[0].wrapping_mul(MULTIPLIER).wrapping_add(address[1]);
        // A separate step mixes the address in; otherwise two pairs of interface and address could collide for every
        // seed.
        mix(mix(seed, interface as u64 | (tags.0 as u64) << 32), both)
    }
}

/// The served addresses.
#[derive(Debug, Clone, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct LocalAddresses {
    /// Starts the hashes; see [`Local::hash`].
    pub seed: u64,
    /// How far the addresses of each bucket are displaced, so that no two share a slot.
    pub displacements: [u16; LOCAL_ADDRESSES_BUCKETS],
    /// See [`slot`].
    pub slots: [Local; LOCAL_ADDRESSES_SLOTS],
}

impl LocalAddresses {
    /// Returns the contents of the slot of an address on an interface: that address, another, or none.
    #[inline(always)]
    pub fn in_slot(&self, interface: u32, tags: Tags, address: [u64; 2]) -> &Local {
        let hash = Local::hash(self.seed, interface, tags, address);
        let displacement = *element(&self.displacements, bucket(hash, LOCAL_ADDRESSES_BUCKETS));
        element(&self.slots, slot(hash, displacement, LOCAL_ADDRESSES_SLOTS as u32) as usize)
    }
}

/// The length of [`RENEW`]'s packet: four `u64`. The daemon writes the first two: how many jiffies the lease lives from
/// now, and the time of day as in [`Lease`]. The program writes the others: the present time, and when the lease would
/// have ended, both in jiffies.
pub const RENEWAL_LENGTH: usize = 32;
/// First word of the renewal: the lease ends at once.
pub const RENEW_ENDED: u64 = 0;
/// First word of the renewal: the lease stays as it is and is only read.
pub const RENEW_UNCHANGED: u64 = u64::MAX - 1;
/// First word of the renewal: the lease never ends. The value is also the deadline of such a lease.
pub const FOR_EVER: u64 = u64::MAX;

const MULTIPLIER: u64 = 0x9e37_79b9_7f4a_7c15;
/// Makes hashes of names independent of case. Some other differences are lost too; a comparison decides on equality.
const CASELESS: u64 = 0x2020_2020_2020_2020;

/// Makes one step of the hash. A bit of a product depends only on the lower bits of the factors, so the upper half is
/// folded into the lower first.
#[inline(always)]
pub const fn mix(hash: u64, word: u64) -> u64 {
    let both = hash ^ word;
    (both ^ (both >> 32)).wrapping_mul(MULTIPLIER)
}

/// Makes one step of a name's hash, over 8 of its octets without regard to case.
#[inline(always)]
pub const fn mix_name(hash: u64, word: u64) -> u64 {
    mix(hash, word | CASELESS)
}

/// Returns the bucket of a key with this hash. `buckets`, their number, is a power of two.
#[inline(always)]
pub const fn bucket(hash: u64, buckets: usize) -> usize {
    (hash >> (u64::BITS - buckets.ilog2())) as usize
}

/// Returns the slot of a key with this hash, as an index into `slots` slots. The keys of a bucket share its
/// displacement, which spreads them (Belazzougui, Botelho and Dietzfelbinger, "Hash, displace, and compress", 2009).
#[inline(always)]
pub const fn slot(hash: u64, displacement: u16, slots: u32) -> u32 {
    let spread = hash.wrapping_mul(MULTIPLIER.wrapping_add(2 * displacement as u64));
    // Lemire, "Fast random integer generation in an interval", 2019.
    (((spread >> 32) * slots as u64) >> 32) as u32
}

/// Returns a lower-case name in wire form as words, padded with zeros; `None` if it is longer than [`NAME_MAX`].
pub fn words(wire: &[u8]) -> Option<(NameWords, u8)> {
    let length = u8::try_from(wire.len()).ok()?;
    let mut words = [0; NAME_WORDS];
    for (word, octets) in words.iter_mut().zip(wire.chunks(8)) {
        let mut eight = [0; 8];
        eight[..octets.len()].copy_from_slice(octets);
        *word = u64::from_ne_bytes(eight);
    }
    Some((words, length))
}

/// Returns the hash of a name, as the program computes it over a question.
pub fn hash(seed: u64, name: &NameWords, length: u8) -> u64 {
    name.iter().take(usize::from(length).div_ceil(8)).fold(seed, |hash, word| mix_name(hash, *word))
}

const _: () = assert!(size_of::<NameEntry>() == 64, "an entry is one cache line");
const _: () = assert!(size_of::<NameOverflow>() == 9 * 64);
const _: () = assert!(
    size_of::<ZoneHeader>()
        == 8 + 8 + 8 + 8 + size_of::<FloodPolicy>() + NAME_WORDS * 8 + SOA_MAX + 8 + 2 * BUCKETS
);
const _: () = assert!(size_of::<Local>() == 32);
const _: () = assert!(NAME_WORDS * 8 > NAME_MAX);
const _: () =
    assert!(12 + NAME_MAX + 4 + SOA_MAX + 11 <= 512, "no negative answer without a cookie is truncated");

macro_rules! bytes {
    ($type:ty, $value:ident => $($part:expr),+ $(,)?) => {
        impl $type {
            /// Returns the value as the map holds it.
            pub fn to_bytes(&self) -> [u8; size_of::<$type>()] {
                let $value = self;
                let mut bytes = [0; size_of::<$type>()];
                let mut at = 0;
                $(for part in $part {
                    let octets = part.to_ne_bytes();
                    bytes[at..at + octets.len()].copy_from_slice(&octets);
                    at += octets.len();
                })+
                debug_assert!(at <= bytes.len());
                bytes
            }
        }
    };
}

bytes!(NameEntry, it =>
    [it.length, it.flags, it.ipv4_count, it.ipv6_count], [it.ttl, it.ipv4], [it.name_sum, it.types.bits()], it.name);
bytes!(NameOverflow, it =>
    [it.ipv4_members, it.ipv6_members], [it.chunks], it.ipv6.as_flattened().iter().copied(), it.ipv4, it.name, [it.wildcard]);
bytes!(ZoneHeader, it =>
    [it.seed], [it.bank_start, it.bank_slots, it.chunks, it._reserved_too], [it.apex_length, it.soa_length, it.soa_sum, it.has_wildcard],
    [it.flood_policy.answers.interval, it.flood_policy.answers.tolerance, it.flood_policy.fallback.interval, it.flood_policy.fallback.tolerance],
    [it.flood_policy.fallback_penalty, it.flood_policy.fallback_share],
    [it.flood_policy.slip, it.flood_policy.cookie_option], [it.flood_policy.secret_count], it.flood_policy.secrets.iter().flat_map(|secret| secret.0), it.flood_policy.masks,
    it.flood_policy.exempt.iter().flat_map(|Prefix { mask, value }| [mask[0], mask[1], value[0], value[1]]), it.apex, it.soa, [it.soa_last],
    it.displacements);
bytes!(Local, it => it.address, [it.interface, it.tags.0], [it.mac]);
