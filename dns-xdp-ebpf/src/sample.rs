//! The contract with userspace about samples: what the hook copies of some frames while an operator watches the
//! names.

/// The ring of [`Sample`]s, [`RING_LENGTH`] octets long. A full ring takes no more until userspace has read it, so that
/// what is kept, and the time it takes, are bounded.
pub const SAMPLES: &str = "SAMPLES";
/// The data section of one [`Sampling`], which is a map to userspace.
pub const SAMPLING: &str = ".data.sampling";
/// Room for some 370 samples.
pub const RING_LENGTH: usize = 128 * 1024;
/// Words of four octets that are copied. They reach to the end of the longest question name, behind two VLAN tags, an
/// IPv6 header and the headers of UDP and DNS (14 + 8 + 40 + 8 + 12 + 255 octets).
pub const WORDS: usize = 85;

/// When to sample.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Sampling {
    /// When sampling ends by itself, in nanoseconds of CLOCK_MONOTONIC; 0: it is off.
    pub until: u64,
    /// Those frames are taken for which a random number has none of these bits: one of `mask + 1`.
    pub mask: u64,
}

/// The beginning of a frame as the hook left it: a query, or its answer with the same question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Sample {
    /// Words of `frame` that were written; up to three octets at a frame's end, behind the name, are left out.
    pub words: u32,
    /// What follows those words is left from other samples.
    pub frame: [u32; WORDS],
}

impl Sampling {
    /// Nobody looks.
    pub const OFF: Sampling = Sampling { until: 0, mask: 0 };

    /// As the map holds it.
    pub fn to_bytes(self) -> [u8; size_of::<Sampling>()] {
        let mut bytes = [0; size_of::<Sampling>()];
        bytes[..8].copy_from_slice(&self.until.to_ne_bytes());
        bytes[8..].copy_from_slice(&self.mask.to_ne_bytes());
        bytes
    }
}
