//! All that the path of a query knows of its surroundings: the packet, and the host's tables and clocks.
use crate::frame::Frame;
use crate::table::limit::Rate;
use crate::table::{FloodPolicy, Local, NameEntry, NameOverflow, Tags, ZoneHeader};

/// One packet, in the kernel or in a buffer.
pub trait Packet {
    /// The frame as it is now. It cannot be kept over a change of its length, which takes the packet as a whole.
    fn frame(&self) -> Frame<'_>;

    /// Grows (or with a negative `delta` shrinks) the frame at its tail; on `false` nothing has changed. The kernel
    /// clears what is new, which makes this the dearer way to grow.
    fn resize(&mut self, delta: i32) -> bool;

    /// Grows the frame at its head by `delta` octets, whose contents mean nothing; on `false` nothing has changed.
    /// Some drivers hand over frames with room in front only: veth, for one, those of local senders.
    fn prepend(&mut self, delta: i32) -> bool;

    /// Whether the frame lies in one piece, so that [`Packet::frame`] is all of it.
    fn is_linear(&self) -> bool;

    /// Index of the interface that the frame came in by.
    fn interface(&self) -> u32;
}

/// The kernel, a test, or the fuzzer.
pub trait Host {
    /// Whether cookies and limits are part of the path. Without them a zone's [`FloodPolicy`] has no
    /// effect but on what is passed up, and takes neither instructions nor verification.
    const GUARDED: bool;

    /// The served UDP port, in network order.
    fn port(&self) -> u16;

    /// Whether the lease is alive.
    fn lease_lives(&self) -> bool;

    /// What time of day it is: seconds since 1970, as the daemon said last.
    fn seconds(&self) -> u32;

    /// Whether the clients of this prefix may have an answer now; then it is counted.
    fn admit(&self, prefix: u64, rate: &Rate) -> bool;

    /// Whether the responder may have a query of this prefix now, see [`FloodPolicy::fallback`]; then it is counted.
    fn admit_fallback(&self, prefix: u64, flood_policy: &FloodPolicy) -> bool;

    /// A random number.
    fn random(&self) -> u32;

    /// The served address in the slot of this address behind these tags on this interface; its slot may hold another,
    /// or none.
    fn local(&self, interface: u32, tags: Tags, address: [u64; 2]) -> Option<&Local>;

    /// The zone that is published.
    fn head(&self) -> Option<&ZoneHeader>;

    /// What the slot with this index holds.
    fn entry(&self, index: u32) -> Option<&NameEntry>;

    /// The rest of what it holds.
    fn overflow(&self, index: u32) -> Option<&NameOverflow>;
}
