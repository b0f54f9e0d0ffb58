//! The path of a query through XDP, as a library without std that knows neither aya nor the kernel.
//!
//! A frame arrives. It is looked at where it lies and read inward: link, IP, UDP, DNS header, question, OPT. The
//! first thing that is not known sends it up **untouched**. The question's name is hashed; the one slot of the zone's
//! table where it may be has its answer, written beforehand by userspace, or there is none. Room is made in front (or,
//! where the driver has none there, at the tail), the bearings are read again, the addresses are turned round, the
//! question moves, the answer is written behind it, and the frame goes back the way it came. Whatever happened is one
//! [`outcome::Outcome`]; the hook counts it and names the action.
//!
//! ```text
//!  frame ─► link ─► question ─► edns ─► find in the table ─► reply ─► XDP_TX
//!             └────────┴──────────┴────────────┴─ not understood ────► XDP_PASS, byte for byte as it came
//! ```
//!
//! [`respond::respond`] runs in three places: in the kernel (`main.rs`), in tests over a buffer, in the fuzzer.
//! [`host::Host`] is all that it knows of its surroundings, [`table`] all that it shares with userspace; the hook
//! shares a [`sample`] besides. Reading and writing depend on that contract, and it depends on neither.
//!
//! # Invariants
//! - Reading never writes: a passed frame is byte-identical. Everything is written after the frame was resized.
//! - The answer equals the responder's answer to the same query, or the query was passed.
//! - Every query is answered once, here or above; none is met with silence (RFC 8906). The program drops responses and
//!   queries above a limit ([`table::limit`]). It also drops a frame that it cannot finish after writing has begun; no frame does that.
//! - Every loop has a named bound. A packet creates state only in tables of fixed size: a [`sample`] while an operator
//!   watches the queries, and one entry for its source prefix in each limit that is on.
//! - The counters sum to the UDP packets to the served port. Later fragments of a datagram do not show their port and are
//!   not counted.
//! - A query sees the zone before or after a change, never a mixture: the head is replaced by one pointer, and the
//!   half of the names that it points to is written only when no program reads it.
//! - The program answers only while its lease lives: a dead daemon does not hand out yesterday's health for ever.
//!
//! # Limits
//! x86_64 and aarch64: packets are read by unaligned loads, and numbers as little-endian words. Names of up to 255 octets,
//! answers of up to 16 addresses, two VLAN tags, no IPv4 options, no IPv6 extension headers. The checksums of queries, of
//! IPv4 headers and of UDP, are not verified: the link's own check and the client's comparison of the question remain. Of our own addresses only the one asked is refused as a
//! source.
#![cfg_attr(not(test), no_std)]
#![cfg_attr(target_arch = "bpf", feature(asm_experimental_arch))]

pub mod checksum;
pub mod cookie;
pub mod edns;
pub mod frame;
pub mod host;
pub mod link;
pub mod message;
pub mod name;
pub mod outcome;
pub mod question;
pub mod reply;
pub mod respond;
pub mod sample;
pub mod table;
pub mod verifier;
