//! The path of a query through XDP, as a library without std that knows neither aya nor the kernel.
//!
//! A frame arrives. The program reads it in place: link, IP, UDP, DNS header, question, OPT. If it finds anything that
//! it does not know, it passes the frame up **untouched**. It hashes the question's name, and looks at the one slot of
//! the zone's table that may hold the name. The slot holds the finished answer, which userspace has written. The
//! program makes room in front of the frame, or at its tail if the driver has no headroom. It reads the packet pointers
//! again, swaps the addresses, moves the question and writes the answer behind it. Then the kernel transmits the frame.
//! The result is one [`outcome::Outcome`]. The hook counts it and maps it to an action.
//!
//! ```text
//!  frame ─► link ─► question ─► edns ─► find in the table ─► reply ─► XDP_TX
//!             └────────┴──────────┴────────────┴─ not understood ────► XDP_PASS, byte for byte as it came
//! ```
//!
//! [`respond::respond`] runs in three places: in the kernel (`main.rs`), in tests over a buffer, in the fuzzer. It sees
//! its surroundings through [`host::Host`] alone. [`table`] is the contract with userspace; the hook also shares
//! [`sample`]. The code that reads and writes packets depends on the contract; the contract does not depend on that
//! code.
//!
//! # Invariants
//! - Reading never writes: a passed frame is byte-identical. Everything is written after the frame was resized.
//! - Every answer equals the responder's answer to the same query. A query without such an answer is passed up.
//! - Every query gets one answer, here or from the responder (RFC 8906). The program drops responses and queries above
//!   a limit ([`table::limit`]). It would also drop a frame that it cannot finish after writing has begun, but this
//!   cannot happen.
//! - Every loop has a named bound. A packet creates state only in tables of fixed size. It leaves a [`sample`] while an
//!   operator watches the queries, and an entry for its source prefix in each limit.
//! - The sum of the counters is the number of UDP packets to the served port. Later fragments of a datagram do not
//!   contain their port, and are not counted.
//! - A query sees the zone before or after a change, never a mixture. Userspace publishes a zone by replacing one
//!   pointer, to the head. The head says which bank of names is in use. Userspace writes a bank only while no program
//!   reads it.
//! - The program answers only while its lease lives. A program whose daemon has died therefore stops giving answers
//!   from old health.
//!
//! # Limits
//! x86_64 and aarch64: packets are read by unaligned loads, and numbers as little-endian words. Names of up to 255
//! octets, answers of up to 16 addresses, two VLAN tags, no IPv4 options, no IPv6 extension headers. The program
//! verifies neither IPv4 header checksums nor UDP checksums of queries. The link's own checksum, and the client's
//! comparison of the question, still detect errors. The program refuses the queried address as a source, but not this
//! server's other addresses.
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
