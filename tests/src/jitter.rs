//! Random jitter, for a period that must not coincide with another period.
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

/// A number from 0 to 1: the standard library's hash seeds are random.
pub fn random_share() -> f64 {
    f64::from(RandomState::new().hash_one(0) as u32) / f64::from(u32::MAX)
}
