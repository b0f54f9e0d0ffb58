//! The survival tests: a load runs during faults, and every query of it is accounted for.
//!
//! Each row of the table is a file below this one, with a function that plays it and returns the result. [`load`] makes
//! the load. The short form is part of the tests; the long form gave the manual's table. Scenes without a steady load
//! are in `tests/tests/net`.
pub mod absences;
pub mod control_abuse;
pub mod conversation;
pub mod costly;
pub mod disguised;
pub mod exhaustion;
pub mod failing_calls;
pub mod flips;
pub mod floods;
pub mod hostile;
pub mod inquiry;
pub mod killed;
pub mod known_bad;
pub mod ladder;
pub mod lease;
pub mod link;
pub mod load;
pub mod partition;
pub mod pins;
pub mod reflection;
pub mod replaced;
pub mod resources;
pub mod soak;
pub mod stage;
pub mod tally;
pub mod tcp_abuse;

use std::time::Duration;

use anyhow::Result;

/// The longest time to wait for something that comes soon, on a busy machine too.
const SOON: Duration = Duration::from_secs(15);

/// How thorough a run is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Length {
    /// A few minutes for all rows: counts are scaled down, time limits are larger.
    Short,
    /// The table's own numbers and times.
    Long,
}

impl Length {
    /// Returns the first value in the short form, the second in the long one.
    pub fn pick<T>(self, short: T, long: T) -> T {
        match self {
            Length::Short => short,
            Length::Long => long,
        }
    }
}

/// One line of the table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    /// Its number.
    pub number: u8,
    /// The fault.
    pub what: &'static str,
    /// The required result.
    pub aim: &'static str,
    /// The measured result.
    pub result: String,
    /// Whether the required result was reached.
    pub reached: bool,
}

impl Row {
    /// Returns the row of the event with this number.
    ///
    /// # Panics
    /// When there is no event of that number.
    pub fn new(number: u8, result: String, reached: bool) -> Row {
        let event = EVENTS.iter().find(|event| event.number == number);
        let Event { number, what, aim, .. } = *event.expect("rows are made of events");
        Row { number, what, aim, result, reached }
    }

    /// The line in Markdown.
    pub fn line(&self) -> String {
        let verdict = if self.reached { "" } else { "**not reached**: " };
        format!("| {} | {} | {} | {verdict}{} |", self.number, self.what, self.aim, self.result)
    }
}

/// The head of the table in Markdown.
pub const HEAD: &str = "| # | fault | required | measured |\n|---:|---|---|---|";

/// A fault, and the function that plays it.
#[derive(Debug, Clone, Copy)]
pub struct Event {
    /// Its number in the table.
    pub number: u8,
    /// The fault.
    pub what: &'static str,
    /// The required result.
    pub aim: &'static str,
    /// The function that plays it; `None`: it does not exist yet.
    pub play: Option<fn(Length) -> Result<Row>>,
}

/// All faults, in the order of the table.
pub const EVENTS: [Event; 18] = [
    Event {
        number: 1,
        what: "`kill -9` of the daemon, restart after 100 ms, 20 rounds",
        aim: "0 lost, 0 wrong of ≥ 100,000 answered in the kernel",
        play: Some(killed::run),
    },
    Event {
        number: 2,
        what: "restart (SIGTERM, `run`), `run --replace`, another map layout and back, 20 times",
        aim: "0 lost over UDP, open TCP exchanges finished",
        play: Some(replaced::run),
    },
    Event {
        number: 3,
        what: "a `bpf()` call fails (EPERM, ENOMEM, ENOSPC) at every step of start, adoption and publication",
        aim: "the old program and the old zone continue; the message names the step",
        play: Some(failing_calls::run),
    },
    Event {
        number: 4,
        what: "the controller is killed, or stopped; its wall clock steps by an hour, both ways",
        aim: "silent ≤ 0.1 s after `stale-after`, answers ≤ 1 s after it is back; a step changes nothing",
        play: Some(lease::run),
    },
    Event {
        number: 5,
        what: "disjoint answers flipped at full rate under load on two cores",
        aim: "0 torn or mixed of ≥ 10,000,000 answers",
        play: Some(flips::run),
    },
    Event {
        number: 6,
        what: "silence, service death, one-way silence, all down, flapping, under the flood of a core",
        aim: "repaired within the guaranteed time + 50 ms, worst of 50; never an empty answer or SERVFAIL",
        play: Some(partition::run),
    },
    Event {
        number: 7,
        what: "link down and up, renamed, made anew, MTU, 100 carrier flaps, XDP detached by another process",
        aim: "answers ≤ 1.2 s after it is back; no program, map or descriptor leaks",
        play: Some(link::run),
    },
    Event {
        number: 8,
        what: "map full, table over capacity, memory limit, full disk, read-only files, no descriptors left",
        aim: "refused whole, old data intact, alarm in `status`",
        play: Some(exhaustion::run),
    },
    Event {
        number: 9,
        what: "attaching refused or unsupported, another XDP program there, no capability",
        aim: "native → generic → userspace, the same answers in all three; a clear error",
        play: Some(ladder::run),
    },
    Event {
        number: 10,
        what: "hostile packets on the wire and in the kernel, all types, the known-bad ones",
        aim: "0 wrong, oversized, looped or second answers; no XDP_ABORTED",
        play: Some(hostile::run),
    },
    Event {
        number: 11,
        what: "reflection: QR=1, two servers and one spoofed packet",
        aim: "at most one reply in all, in the kernel and in userspace",
        play: Some(reflection::run),
    },
    Event {
        number: 12,
        what: "600 abusive TCP connections, also with 64 descriptors",
        aim: "every fresh probe answered within 50 ms, CPU ≤ 5 %",
        play: Some(tcp_abuse::run),
    },
    Event {
        number: 13,
        what: "random-subdomain flood, fallback flood at saturation",
        aim: "kernel answers to others ≥ 99 %, p99 under twice the quiet one; memory bounded",
        play: Some(floods::run),
    },
    Event {
        number: 14,
        what: "control socket: no root, a symlink, 1,000,000 fuzzed requests, a client that never reads",
        aim: "refused; no crash; memory flat; probes never blocked",
        play: Some(control_abuse::run),
    },
    Event {
        number: 15,
        what: "pins that are foreign, corrupt, of another layout",
        aim: "refused or rebuilt, never a crash",
        play: Some(pins::run),
    },
    Event {
        number: 16,
        what: "soak, an hour, random failures from a seed",
        aim: "memory, descriptors, maps flat; every query accounted for",
        play: Some(soak::run),
    },
    Event {
        number: 17,
        what: "the costliest messages, of 64 KiB over 8 TCP connections and over UDP, at once",
        aim: "all answered, others within 20 ms; probes within 10 % of their quiet time",
        play: Some(costly::run),
    },
    Event {
        number: 18,
        what: "a flood for the responder from forged addresses, plain, overlong, with IP options; an exempt client",
        aim: "at most the limit of `[fallback]`; a moderate client ≥ 99 % answered, a neighbour all of its share",
        play: Some(disguised::run),
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_events_are_numbered_through() {
        let numbers: Vec<u8> = EVENTS.iter().map(|event| event.number).collect();
        assert_eq!(numbers, (1..=18).collect::<Vec<u8>>());
    }

    #[test]
    fn a_row_that_falls_short_says_so() {
        let row = Row::new(1, "3 lost of 100,000".to_owned(), false);
        assert!(row.line().ends_with("| **not reached**: 3 lost of 100,000 |"), "{}", row.line());
        assert_eq!(HEAD.lines().next().unwrap().matches('|').count(), row.line().matches('|').count());
    }
}
