//! How many instructions the verifier may process for one program, on every kernel. The kernel's limit is 1,000,000.

/// Of any variant: half of the limit, so that a kernel whose verifier prunes less still takes it.
pub const VERIFIED_MAX: u32 = 500_000;
/// Of the plain variant, which most clusters run.
pub const PLAIN_VERIFIED_MAX: u32 = 350_000;
