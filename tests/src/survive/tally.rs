//! The results of a load's queries.
use std::collections::{BTreeMap, VecDeque};
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};

/// The counts of the queries by result.
#[derive(Debug, Clone, Default)]
pub struct Tally {
    /// Sent, including queries that the kernel refused to send.
    pub sent: u64,
    /// Answered as expected.
    pub right: u64,
    /// Answered wrongly.
    pub wrong: u64,
    /// Not answered.
    pub lost: u64,
    /// Superfluous answers, and answers to no query.
    pub surplus: u64,
    /// How often an answer to an inquiry differed from the one before; both are permitted.
    pub turns: u64,
    /// How often a permitted answer had another number than the answer before, even if that answered another inquiry.
    pub alternations: u64,
    /// The first wrong answer.
    pub example: Option<String>,
    /// The time of each server's last right answer.
    pub last_right: BTreeMap<IpAddr, Instant>,
    /// Times of more than 50 ms between two right answers of a server.
    pub silences: Vec<Silence>,
    /// The longest time from one turn of the client to the next. It shows how long other programs of the machine have
    /// delayed the client, and may have delayed others.
    pub held_up: Duration,
    /// The last permitted answer of each inquiry.
    pub now: Vec<Option<usize>>,
    /// The last changes of these answers.
    pub changes: VecDeque<Change>,
}

/// A changed or first answer to an inquiry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Change {
    /// The time.
    pub at: Instant,
    /// The number of the inquiry, from 0.
    pub inquiry: usize,
    /// The number of the permitted answer.
    pub answer: usize,
}

/// A finished time without a right answer of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Silence {
    /// The server.
    pub server: IpAddr,
    /// The last right answer before it.
    pub from: Instant,
    /// The first right answer after it.
    pub to: Instant,
}

impl Tally {
    /// Whether no query was lost, no answer wrong or superfluous, and at least one query was sent.
    pub fn is_clean(&self) -> bool {
        self.sent > 0 && self.right == self.sent && self.surplus == 0
    }

    /// Checks that every query is right, wrong or lost.
    ///
    /// # Errors
    /// The sum of the counts is wrong, because the client has a defect.
    pub fn check(&self) -> Result<()> {
        let Tally { sent, right, wrong, lost, .. } = self;
        ensure!(right + wrong + lost == *sent, "{right} + {wrong} + {lost} are not {sent}");
        Ok(())
    }

    /// Adds the counts of another client.
    #[must_use]
    pub fn and(mut self, other: Tally) -> Tally {
        self.sent += other.sent;
        self.right += other.right;
        self.wrong += other.wrong;
        self.lost += other.lost;
        self.surplus += other.surplus;
        self.turns += other.turns;
        self.alternations += other.alternations;
        self.example = self.example.or(other.example);
        self.held_up = self.held_up.max(other.held_up);
        self.last_right.extend(other.last_right);
        self.silences.extend(other.silences);
        self
    }

    /// In words: `0 lost, 0 wrong of 120,000`.
    pub fn text(&self) -> String {
        let Tally { sent, wrong, lost, surplus, example, .. } = self;
        let mut text =
            format!("{} lost, {} wrong of {}", thousands(*lost), thousands(*wrong), thousands(*sent));
        if *surplus > 0 {
            text += &format!(", {} answers too many", thousands(*surplus));
        }
        if let Some(example) = example {
            text += &format!(" ({example})");
        }
        text
    }
}

/// A count with separated thousands.
pub fn thousands(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_without_a_count_is_reported() {
        let tally = Tally { sent: 3, right: 1, lost: 1, ..Tally::default() };
        assert!(tally.check().is_err() && !tally.is_clean());
        let whole = tally.and(Tally { right: 1, ..Tally::default() });
        whole.check().unwrap();
        assert_eq!(whole.text(), "1 lost, 0 wrong of 3");
    }

    #[test]
    fn counts_are_told_with_their_thousands_apart() {
        assert_eq!([7, 1000, 1_234_567].map(thousands), ["7", "1,000", "1,234,567"]);
    }
}
