//! The contract with userspace about samples: parts of frames that the hook copies while an operator watches the names.

/// The ring of [`Sample`]s, [`RING_LENGTH`] octets long. A full ring takes no more until userspace has read it. That
/// bounds the memory and the time that samples take.
pub const SAMPLES: &str = "SAMPLES";
/// The data section with one [`Sampling`]. Userspace sees it as a map.
pub const SAMPLING: &str = ".data.sampling";
/// Room for about 370 samples.
pub const RING_LENGTH: usize = 128 * 1024;
/// Words of 4 octets in a sample. They reach to the end of the longest question name behind all headers. With two VLAN
/// tags and IPv6 these are 14 + 8 + 40 + 8 + 12 + 255 octets.
pub const WORDS: usize = 85;

/// When to sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Sampling {
    /// When sampling ends by itself, in nanoseconds of CLOCK_MONOTONIC; 0: it is off.
    pub until: u64,
    /// A frame is sampled if a random number has none of these bits. On average this is one frame of `mask + 1`.
    pub mask: u64,
}

/// The beginning of a frame after the program has run: a query, or its answer with the same question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Sample {
    /// Number of words of `frame` that were written. Up to 3 octets at a frame's end, behind the name, are left out.
    pub words: u32,
    /// The words of the frame. The words behind `words` are remains of other samples.
    pub frame: [u32; WORDS],
}

impl Sampling {
    /// Sampling is off.
    pub const OFF: Sampling = Sampling { until: 0, mask: 0 };

    /// Returns the value as the map holds it.
    pub fn to_bytes(self) -> [u8; size_of::<Sampling>()] {
        let mut bytes = [0; size_of::<Sampling>()];
        bytes[..8].copy_from_slice(&self.until.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.mask.to_ne_bytes());
        bytes
    }
}
