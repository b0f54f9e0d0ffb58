//! The part of `status` about floods.
use serde::{Deserialize, Serialize};

/// The limits in force, and what they have held back since the program was first attached.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct GuardStatus {
    /// Whether cookies are made and verified.
    pub cookies: bool,
    /// Answers per second to each client prefix; 0: no limit.
    pub answers_per_second: u32,
    /// Queries per second that the program passes up; 0: no limit.
    pub fallback_per_second: u32,
    /// Queries not answered, because their prefix is above its limit.
    pub rate_limited: u64,
    /// Queries that the program answered truncated instead.
    pub slipped: u64,
    /// Queries dropped instead of passed up to the responder.
    pub fallback_limited: u64,
}
