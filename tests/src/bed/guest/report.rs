//! The line about a check on the serial console: `result`, kind, name, verdict, value, seconds and detail, with tabs.
use std::any::Any;
use std::io::{Write as _, stdout};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use anyhow::{Error, Result, anyhow};

/// The kind of check that a line is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A program that the verifier accepts; the value is the number of instructions that it processed.
    Program,
    /// The packet table; the value is the number of passed rows.
    Table,
    /// A daemon behind a driver; the value is the mode of its attached program.
    Driver,
    /// A scene, which has no value.
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

/// The observations of a check, whether it passed or not.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// The value for the table of all kernels.
    pub value: String,
    /// Further details.
    pub detail: String,
}

/// The most octets of a detail. The end is kept, because a verifier's log has its result there.
const DETAIL_MAX: usize = 1500;

/// Runs a check, which fills in its observations, and writes the line about it. A panic is a failure.
pub fn check(kind: Kind, name: &str, check: impl FnOnce(&mut Seen) -> Result<()>) {
    let mut seen = Seen::default();
    let start = Instant::now();
    let result = catch_unwind(AssertUnwindSafe(|| check(&mut seen)));
    let result = result.unwrap_or_else(|panic| Err(panicked(&*panic)));
    write(&line(kind, name, &seen, start.elapsed(), result.err().as_ref()));
}

/// Writes the end mark.
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
    // Each field has to be one word of the line, whatever its text.
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

/// Writes a line in one call, so that no other output comes between. A missing console cannot be reported.
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
