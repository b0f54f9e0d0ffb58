//! The share of the repeated checks that this machine runs, if several machines divide them.
use std::env;

use anyhow::{Context, Result};

/// The environment variable with the share, such as 1/2.
const VARIABLE: &str = "SHARE";

/// One part of several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Share {
    part: usize,
    parts: usize,
}

impl Share {
    /// Returns the share in the environment variable; without the variable, all checks.
    ///
    /// # Errors
    /// The variable holds no valid share.
    pub fn given() -> Result<Self> {
        match env::var(VARIABLE) {
            Err(_) => Ok(Share { part: 1, parts: 1 }),
            Ok(text) => parse(&text).with_context(|| format!("{VARIABLE}={text} is no share, such as 1/2")),
        }
    }

    /// Whether the share has the check at this `place` in the list of its kind.
    pub fn has(self, place: usize) -> bool {
        place % self.parts == self.part - 1
    }
}

fn parse(text: &str) -> Option<Share> {
    let (part, parts) = text.split_once('/')?;
    let (part, parts) = (part.parse().ok()?, parts.parse().ok()?);
    (1..=parts).contains(&part).then_some(Share { part, parts })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_check_is_in_one_share() {
        let shares = ["1/2", "2/2"].map(|text| parse(text).unwrap());
        for place in 0..5 {
            assert_eq!(shares.iter().filter(|share| share.has(place)).count(), 1);
        }
    }

    #[test]
    fn what_is_no_share_is_refused() {
        for text in ["", "1", "0/2", "3/2", "1/0"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
