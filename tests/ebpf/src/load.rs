//! The contract between the load generator's programs and userspace: the queries, their rate, and the returning frames.
//!
//! No node runs these programs. They are in `bin/load.rs`.

/// Words of eight octets in a [`Template`].
pub const WORDS: usize = 16;
/// Octets of the longest frame to send.
pub const FRAME_MAX: usize = 8 * WORDS;
/// A query's frame: its length in octets, 1 if it is IPv6, and the frame padded with zeros. Its message's id is 0 and
/// its source port 65535; every value that the generator writes there instead leaves the checksum the same.
pub type Template = [u64; 2 + WORDS];
/// The number of templates, a power of two. They are sent in turn: a query with id `n` uses template `n % TEMPLATES`.
pub const TEMPLATES: usize = 1024;
/// The generator writes ids up to this, so that the source ports, which are their complements, are unprivileged.
pub const ID_MASK: u64 = 0x7fff;

/// One in this many answers is kept as a sample; a power of two.
pub const SAMPLED: u64 = 1 << 12;
/// The number of kept samples, a power of two; the newest replace the oldest.
pub const SAMPLES: usize = 64;
/// Words of eight octets kept of a frame.
pub const SAMPLE_WORDS: usize = 64;
/// A frame that came back: its length in octets, and its kept part.
pub type Sample = [u64; 1 + SAMPLE_WORDS];

/// The templates: an array of [`Template`].
pub const TEMPLATE: &str = "TEMPLATE";
/// Nanoseconds from one query to the next; 0: as fast as possible. An array of one `u64`.
pub const INTERVAL: &str = "INTERVAL";
/// Queries sent: a per-CPU array of [`Sending`].
pub const SENDING: &str = "SENDING";
/// Returning frames: a per-CPU array of `u64`, one for each [`Seen`].
pub const SEEN: &str = "SEEN";
/// Samples of the answers: an array of [`Sample`].
pub const SAMPLE: &str = "SAMPLE";

/// The number of sent queries, and the time of the next query (CLOCK_MONOTONIC in nanoseconds).
pub type Sending = [u64; 2];

/// The kind of a frame from port 53. The discriminant is the index of its counter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u32)]
pub enum Seen {
    /// A response without error that has answers and is not truncated.
    Answer,
    /// NXDOMAIN.
    NxDomain,
    /// A query sent back.
    Reflected,
    /// Any other response.
    Other,
}

impl Seen {
    /// The number of kinds.
    pub const COUNT: usize = 4;
}

const _: () = assert!(TEMPLATES.is_power_of_two() && ID_MASK as usize >= TEMPLATES - 1);
const _: () = assert!(SAMPLED.is_power_of_two() && SAMPLES.is_power_of_two());
