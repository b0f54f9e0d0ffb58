//! The numbers of passed and failed tests, read from the output of a test run.
use std::fmt;
use std::ops::AddAssign;

/// The beginning of libtest's last line for a binary. `survive` ends with such a line too.
const RESULT: &str = "test result: ";

/// The numbers of passed and failed tests.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    pub(crate) passed: usize,
    pub(crate) failed: usize,
}

impl Counts {
    /// The count of a part that cannot run: one failure.
    pub(crate) const NOT_RUN: Counts = Counts { passed: 0, failed: 1 };

    /// Returns the counts of a result line of libtest; `None`: it is another line. The verdict in it may be coloured.
    pub(crate) fn of_line(line: &str) -> Option<Counts> {
        let result = line.trim_end().strip_prefix(RESULT)?;
        Some(Counts { passed: number_before(result, " passed")?, failed: number_before(result, " failed")? })
    }

    /// Returns these counts, with at least one failure if the run failed. A run that fails without a failed test did
    /// not compile, did not start or was killed.
    pub(crate) fn of_run(self, succeeded: bool) -> Counts {
        if succeeded || self.failed > 0 { self } else { Counts { failed: 1, ..self } }
    }
}

impl AddAssign for Counts {
    fn add_assign(&mut self, other: Counts) {
        self.passed += other.passed;
        self.failed += other.failed;
    }
}

impl fmt::Display for Counts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} passed, {} failed", self.passed, self.failed)
    }
}

/// The number before a word.
fn number_before(text: &str, word: &str) -> Option<usize> {
    let (before, _) = text.split_once(word)?;
    let digits = before.rsplit(|c: char| !c.is_ascii_digit()).next()?;
    digits.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "\
running 3 tests
test packets::host_every_row ... ok
test untrusted::every_message ... FAILED
test result: FAILED. 1 passed; 1 failed; 1 ignored; 0 measured; 0 filtered out; finished in 2.10s

running 2 tests
test result: \u{1b}[32mok\u{1b}(B\u{1b}[m. 12 passed; 0 failed; 0 ignored; 0 measured; 7 filtered out; finished in 0.00s
";

    #[test]
    fn result_lines_add_up_and_no_other_line_counts() {
        let mut counts = Counts::default();
        OUTPUT.lines().filter_map(Counts::of_line).for_each(|more| counts += more);
        assert_eq!(counts, Counts { passed: 13, failed: 1 });
        assert_eq!(counts.to_string(), "13 passed, 1 failed");
    }

    #[test]
    fn what_merely_mentions_counts_is_no_result() {
        for line in
            ["3 passed, 4 failed", "test a ... test result: ok. 1 passed; 0 failed", "test result: ok."]
        {
            assert_eq!(Counts::of_line(line), None, "{line}");
        }
    }

    #[test]
    fn a_run_that_fails_has_a_failure() {
        let passed = Counts { passed: 5, failed: 0 };
        assert_eq!(passed.of_run(true), passed);
        assert_eq!(passed.of_run(false), Counts { passed: 5, failed: 1 });
        let failed = Counts { passed: 5, failed: 2 };
        assert_eq!(failed.of_run(false), failed);
        assert_eq!(Counts::default().of_run(false), Counts::NOT_RUN);
    }
}
