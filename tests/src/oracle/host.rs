//! Runs the path of a query in memory: with a frame in a buffer, and the table that the kernel would have.
use std::cell::Cell;
use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use dns_xdp::datapath::layout::{self, Layout, PerfectHash};
use dns_xdp::datapath::{self, LOOPBACK, LocalAddressesLayout};
use dns_xdp::network::Place;
use dns_xdp::zone::Zone;
use dns_xdp_ebpf::frame::Frame;
use dns_xdp_ebpf::host::{Host, Packet};
use dns_xdp_ebpf::outcome::Outcome;
use dns_xdp_ebpf::respond::respond;
use dns_xdp_ebpf::table::limit::{Admissions, Demand, Rate};
use dns_xdp_ebpf::table::{FloodPolicy, Local, NameEntry, NameOverflow, Slot, Tags, ZoneHeader};

/// The fill octet after a frame in its buffer.
const BEHIND: u8 = 0xa5;
/// In a test, a frame grows by at most this number of octets, at either end.
const SPARE: usize = 2048;
/// Seed of the names' slots.
const SEED: u64 = 0x5eed;

/// A server as the program knows it: its addresses, its zone, its lease.
#[derive(Debug)]
pub struct Server {
    port: u16,
    local_addresses: LocalAddressesLayout,
    zone: Option<Published>,
    /// Whether the lease is alive.
    pub lease_lives: bool,
    /// Whether a frame can be made longer or shorter at its tail.
    pub room: bool,
    /// Whether a frame can be made longer at its head.
    pub headroom: bool,
    /// Nanoseconds on the clock of the limits.
    pub now: u64,
    /// The daemon's last time of day.
    pub seconds: u32,
    /// The random number.
    pub random: u32,
    /// When the next answer to each prefix is allowed.
    clients: Mutex<HashMap<u64, u64>>,
    fallback: Mutex<Fallback>,
}

/// The queries passed up to the responder, and each prefix's recent queries.
#[derive(Debug, Default)]
struct Fallback {
    all: Admissions,
    clients: HashMap<u64, Demand>,
}

#[derive(Debug)]
struct Published {
    head: ZoneHeader,
    bank_slots: u32,
    layout: Layout,
}

impl Server {
    /// Creates a server without a zone for these addresses, in generic mode or not. Its lease is alive and frames have
    /// room.
    pub fn new(places: &[Place], generic: bool, port: u16) -> Self {
        let mut server = Server::without_addresses(port);
        server.serve(places, generic);
        server
    }

    /// Serves these addresses and no others.
    pub fn serve(&mut self, places: &[Place], generic: bool) {
        let locals: Vec<Local> = places.iter().map(|place| datapath::local(place, generic)).collect();
        self.local_addresses = LocalAddressesLayout::new(&locals);
    }

    fn without_addresses(port: u16) -> Self {
        Server {
            port: port.to_be(),
            local_addresses: LocalAddressesLayout::new(&[]),
            zone: None,
            lease_lives: true,
            room: true,
            headroom: false,
            now: 0,
            seconds: 0,
            random: 0,
            clients: Mutex::default(),
            fallback: Mutex::default(),
        }
    }

    /// Publishes the zone in a table for exactly its names.
    pub fn publish(&mut self, zone: &Zone) {
        self.publish_in(zone, u32::try_from(zone.names().len()).expect("a zone of a test is small"));
    }

    /// Publishes the zone in a table for `capacity` names. It lies in the second bank, so that an index without the bank's
    /// offset fails.
    pub fn publish_in(&mut self, zone: &Zone, capacity: u32) {
        let bank_slots = layout::bank_slots(capacity);
        let laid_out = layout::lay_out(zone, bank_slots, &PerfectHash::new(SEED))
            .expect("the table is as large as the zone");
        let head = layout::head(zone, &laid_out, bank_slots, bank_slots);
        self.zone = Some(Published { head, bank_slots, layout: laid_out });
    }

    /// Clears the limits of answers, and of queries passed up.
    pub fn forget_clients(&self) {
        self.forget_answers();
        *self.fallback.lock().unwrap_or_else(PoisonError::into_inner) = Fallback::default();
    }

    /// Clears the limits of answers.
    pub fn forget_answers(&self) {
        self.clients.lock().unwrap_or_else(PoisonError::into_inner).clear();
    }

    /// Runs the path of a query over a frame. Returns the outcome and the resulting frame.
    pub fn run(&self, frame: &[u8]) -> (Outcome, Vec<u8>) {
        // Without room, the buffer is only the frame, so a sanitizer detects reads outside it.
        let spare = if self.room || self.headroom { &[BEHIND; SPARE][..] } else { &[] };
        let (start, end) = (spare.len(), spare.len() + frame.len());
        let octets = spare.iter().chain(frame).chain(spare).copied().map(Cell::new).collect();
        let mut packet = Buffer { octets, start, end, room: self.room, headroom: self.headroom };
        let outcome = respond(&mut packet, self);
        let touched = packet.start..packet.end.max(end);
        let outside = packet.octets[..touched.start].iter().chain(&packet.octets[touched.end..]);
        // One comparison only, because each comparison costs the fuzzer time.
        let written = outside.fold(0, |written, octet| written | octet.get() ^ BEHIND);
        assert_eq!(written, 0, "something was written outside the frame");
        (outcome, packet.octets[packet.start..packet.end].iter().map(Cell::get).collect())
    }
}

/// One frame in its buffer.
struct Buffer {
    octets: Vec<Cell<u8>>,
    start: usize,
    end: usize,
    /// Whether it can be made longer or shorter at its tail.
    room: bool,
    /// Whether it can be made longer at its head.
    headroom: bool,
}

impl Packet for Buffer {
    fn is_linear(&self) -> bool {
        true
    }

    fn frame(&self) -> Frame<'_> {
        let buffer = self.octets.as_ptr().cast::<u8>().cast_mut();
        let (start, end) = (buffer.wrapping_add(self.start), buffer.wrapping_add(self.end));
        #[expect(unsafe_code, reason = "the path of a query looks at frames through pointers")]
        // SAFETY: the octets are cells of the buffer, which outlives the frame.
        unsafe {
            Frame::new(start, end)
        }
    }

    fn resize(&mut self, delta: i32) -> bool {
        let before = self.end;
        let Some(after) = before.checked_add_signed(delta as isize) else { return false };
        if !self.room || after > self.octets.len() {
            return false;
        }
        // Like bpf_xdp_adjust_tail: new octets are zero, removed octets stay unchanged.
        self.octets.iter().take(after).skip(before).for_each(|octet| octet.set(0));
        self.end = after;
        true
    }

    fn prepend(&mut self, delta: i32) -> bool {
        let Some(start) = self.start.checked_add_signed(-delta as isize) else { return false };
        if self.headroom {
            self.start = start;
        }
        self.headroom
    }

    fn interface(&self) -> u32 {
        LOOPBACK
    }
}

impl Server {
    fn slot(&self, index: u32) -> Option<&Slot> {
        let zone = self.zone.as_ref()?;
        let slot = index.checked_sub(zone.bank_slots).filter(|slot| *slot < zone.bank_slots)?;
        Some(zone.layout.slots.get(&slot).unwrap_or(&Slot::EMPTY))
    }
}

impl Host for Server {
    const GUARDED: bool = true;
    const WILDCARDS: bool = true;

    fn port(&self) -> u16 {
        self.port
    }

    fn lease_lives(&self) -> bool {
        self.lease_lives
    }

    fn seconds(&self) -> u32 {
        self.seconds
    }

    fn admit(&self, prefix: u64, rate: &Rate) -> bool {
        let mut clients = self.clients.lock().unwrap_or_else(PoisonError::into_inner);
        let due = clients.entry(prefix).or_default();
        let next = rate.admit(*due, self.now);
        *due = next.unwrap_or(*due);
        next.is_some()
    }

    fn admit_fallback(&self, prefix: u64, flood_policy: &FloodPolicy) -> bool {
        let mut fallback = self.fallback.lock().unwrap_or_else(PoisonError::into_inner);
        let Fallback { all, clients } = &mut *fallback;
        let place = clients.get_mut(&prefix);
        let (is_admitted, demand) = flood_policy.admit_fallback(all, place.as_deref().copied(), self.now);
        if let Some(place) = place {
            *place = demand;
        } else if is_admitted {
            clients.insert(prefix, demand);
        }
        is_admitted
    }

    fn random(&self) -> u32 {
        self.random
    }

    fn local(&self, interface: u32, tags: Tags, address: [u64; 2]) -> Option<&Local> {
        Some(self.local_addresses.in_slot(interface, tags, address))
    }

    fn head(&self) -> Option<&ZoneHeader> {
        self.zone.as_ref().map(|zone| &zone.head)
    }

    fn entry(&self, index: u32) -> Option<&NameEntry> {
        Some(&self.slot(index)?.entry)
    }

    fn overflow(&self, index: u32) -> Option<&NameOverflow> {
        let zone = self.zone.as_ref()?;
        match index.checked_sub(zone.head.chunks) {
            Some(nth) => zone.layout.chunks.get(nth as usize),
            None => Some(&self.slot(index)?.overflow),
        }
    }
}
