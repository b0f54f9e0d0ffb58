//! The traits through which the path of a query sees its surroundings: the packet, and the host's tables and clocks.
use crate::frame::Frame;
use crate::table::limit::Rate;
use crate::table::{FloodPolicy, Local, NameEntry, NameOverflow, Tags, ZoneHeader};

/// One packet, in the kernel or in a buffer.
pub trait Packet {
    /// Returns the frame as it is now. A change of its length borrows the packet mutably, so the frame cannot be kept
    /// across it.
    fn frame(&self) -> Frame<'_>;

    /// Grows (or with a negative `delta` shrinks) the frame at its tail; on `false` nothing has changed. The kernel
    /// clears the new octets, so this way to grow costs more.
    fn resize(&mut self, delta: i32) -> bool;

    /// Grows the frame at its head by `delta` octets of undefined contents; on `false` nothing has changed. Some
    /// frames, such as the frames of local senders on veth, have room in front only.
    fn prepend(&mut self, delta: i32) -> bool;

    /// Whether the frame lies in one piece. [`Packet::frame`] is then all of it.
    fn is_linear(&self) -> bool;

    /// Returns the index of the interface that received the frame.
    fn interface(&self) -> u32;
}

/// The host of the program: the kernel, a test, or the fuzzer.
pub trait Host {
    /// Whether cookies and limits are part of the path. Without them a zone's [`FloodPolicy`] limits only the queries
    /// that are passed up. The rest of the policy then costs neither instructions nor verification.
    const GUARDED: bool;
    /// Whether wildcards are part of the path. Without them the queries that a wildcard may answer go up.
    const WILDCARDS: bool;

    /// Returns the served UDP port, in network order.
    fn port(&self) -> u16;

    /// Whether the lease is alive.
    fn lease_lives(&self) -> bool;

    /// Returns the time of day in seconds since 1970, as the daemon wrote it last.
    fn seconds(&self) -> u32;

    /// Returns whether the clients of this prefix may have an answer now. If so, counts it.
    fn admit(&self, prefix: u64, rate: &Rate) -> bool;

    /// Returns whether the responder may have a query of this prefix now, and counts the query: see
    /// [`FloodPolicy::admit_fallback`].
    fn admit_fallback(&self, prefix: u64, flood_policy: &FloodPolicy) -> bool;

    /// Returns a random number.
    fn random(&self) -> u32;

    /// Returns the contents of the slot that belongs to this address behind these tags on this interface. The slot may
    /// hold another address, or none.
    fn local(&self, interface: u32, tags: Tags, address: [u64; 2]) -> Option<&Local>;

    /// Returns the published zone's header.
    fn head(&self) -> Option<&ZoneHeader>;

    /// Returns the entry in the slot with this index.
    fn entry(&self, index: u32) -> Option<&NameEntry>;

    /// Returns the overflow in the slot with this index.
    fn overflow(&self, index: u32) -> Option<&NameOverflow>;
}
