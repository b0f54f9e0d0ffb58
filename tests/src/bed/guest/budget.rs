//! The limits of the instructions that the verifier processes for one program, on every kernel. The kernel's limit is
//! 1,000,000.

/// The limit for any variant: half of the kernel's limit, so that a kernel whose verifier prunes less still accepts the
/// program.
pub const VERIFIED_MAX: u32 = 500_000;
/// The limit for the plain variant, which most clusters run.
pub const PLAIN_VERIFIED_MAX: u32 = 350_000;
