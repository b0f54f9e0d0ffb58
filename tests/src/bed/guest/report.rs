//! The line about a check on the serial console: `result`, kind, name, verdict, value, seconds and detail, with tabs.
use std::any::Any;
use std::io::{Write as _, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

/// What a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program that the verifier takes; the value is the count of instructions that it processed.
    Program,
    /// The packet table; the value is the count of rows that came out right.
    Table,
    /// A daemon behind a driver; the value is the mode in which its program is attached.
    Driver,
    /// A scene; without a value.
    Scene,
}

impl Kind {
    const fn text(self) -> &'static str {
        match self {
            Kind::Program => "program",
            Kind::Table => "table",
            Kind::Driver => "driver",
            Kind::Scene => "scene",
        }
    }
}

/// What a check saw, whether it passed or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// What goes into the table of all kernels.
    pub value: String,
    /// What else is worth knowing.
    pub detail: String,
}

/// Octets of a detail: the end of it, where a verifier's log says what it came to.
const DETAIL_MAX: usize = 1500;

/// Runs a check, which fills in what it sees as it goes, and writes the line about it. A panic is a failure.
pub fn check(kind: Kind, name: &str, check: impl FnOnce(&mut Seen) -> Result<()>) {
    let mut seen = Seen::default();
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| check(&mut seen)));
    let result = result.unwrap_or_else(|panic| Err(panicked(&*panic)));
    write(&line(kind, name, &seen, start.elapsed(), result.err().as_ref()));
}

/// Writes that nothing more comes.
pub fn end() {
    write("end\n");
}

fn line(kind: Kind, name: &str, seen: &Seen, time: Duration, error: Option<&Error>) -> String {
    let verdict = if error.is_none() { "passed" } else { "failed" };
    let detail = match error {
        None => seen.detail.clone(),
        Some(error) if seen.detail.is_empty() => format!("{error:#}"),
        Some(error) => format!("{error:#} ({})", seen.detail),
    };
    // A word is one word of the line, whatever is in it.
    let word = |text: &str| text.split_whitespace().collect::<Vec<_>>().join(" ");
    let detail = word(&detail);
    let detail = &detail[detail.floor_char_boundary(detail.len().saturating_sub(DETAIL_MAX))..];
    let (kind, name, value, seconds) = (kind.text(), word(name), word(&seen.value), time.as_secs_f64());
    format!("result\t{kind}\t{name}\t{verdict}\t{value}\t{seconds:.1}\t{detail}\n")
}

fn panicked(panic: &(dyn Any + Send)) -> Error {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(|text| &**text));
    anyhow!("panicked: {}", text.unwrap_or("without a message"))
}

/// In one call, so that nothing gets between. A missing console cannot be reported.
fn write(line: &str) {
    stdout().write_all(line.as_bytes()).ok();
}

#[cfg(test)]
mod tests {
    use anyhow::bail;

    use super::*;

    #[test]
    fn a_line_has_seven_words_whatever_is_in_them() {
        let seen = Seen { value: "native\tindeed".into(), detail: String::new() };
        let error = anyhow!("one\ttwo\nthree");
        let line = line(Kind::Driver, "veth", &seen, Duration::from_millis(1500), Some(&error));
        assert_eq!(line, "result\tdriver\tveth\tfailed\tnative indeed\t1.5\tone two three\n");
    }

    #[test]
    fn the_end_of_a_long_detail_is_kept() {
        let error = anyhow!("{} processed 7 insns", "ä".repeat(DETAIL_MAX));
        let line = line(Kind::Program, "plain", &Seen::default(), Duration::ZERO, Some(&error));
        assert!(line.len() < DETAIL_MAX + 100 && line.ends_with("ä processed 7 insns\n"), "{line}");
    }

    #[test]
    fn a_panic_does_not_end_the_guest() {
        check(Kind::Scene, "a panic", |_| panic!("as expected"));
        check(Kind::Scene, "an error", |_| bail!("as expected"));
    }
}
