//! The results of one kernel, read from its console, and the table of all kernels.
use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::time::Duration;

use anyhow::{Error, Result};

use super::machine::{Ended, tail};

/// The first word of a line about one check; the guest's `report` has the others: kind, name, verdict, value, seconds,
/// detail.
const RESULT: &str = "result";
/// The guest's last line.
const END: &str = "end";

/// A check.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Check {
    kind: String,
    name: String,
    passed: bool,
    /// The value for the table.
    value: String,
    seconds: String,
    detail: String,
}

/// The checks of one kernel.
#[derive(Debug)]
pub(crate) struct Report {
    /// The kernel's version.
    pub(crate) version: String,
    checks: Vec<Check>,
    time: Option<Duration>,
}

impl Report {
    /// Reads a machine's console. A machine that did not end counts as one more failed check.
    pub(crate) fn of(version: &str, ended: Result<Ended>) -> Self {
        let Ended { console, time, failure } = match ended {
            Ok(ended) => ended,
            Err(error) => return Report::failed(version, &error),
        };
        let lines: Vec<&str> = console.lines().map(|line| line.trim_end_matches('\r')).collect();
        let mut checks: Vec<Check> = lines.iter().filter_map(|line| check(line)).collect();
        if failure.is_some() || !lines.contains(&END) {
            let why =
                failure.map_or("the guest ended before it was done".to_owned(), |error| format!("{error:#}"));
            checks.push(machine_check(format!("{why}; the console ends:\n{}", tail(&console))));
        }
        Report { version: version.to_owned(), checks, time: Some(time) }
    }

    /// The report of a kernel that was not tested.
    pub(crate) fn failed(version: &str, error: &Error) -> Self {
        Report { version: version.to_owned(), checks: vec![machine_check(format!("{error:#}"))], time: None }
    }

    /// The number of checks that passed, or failed.
    pub(crate) fn count(&self, passed: bool) -> usize {
        self.checks.iter().filter(|check| check.passed == passed).count()
    }

    /// One line for each check.
    pub(crate) fn lines(&self) -> String {
        let mut lines = String::new();
        for Check { kind, name, passed, value, seconds, detail } in &self.checks {
            let verdict = if *passed { "passed" } else { "FAILED" };
            let words = [value, detail].into_iter().filter(|word| !word.is_empty());
            let words = words.fold(String::new(), |words, word| words + ": " + word);
            writeln!(lines, "kernels: {} {verdict} {kind} {name}{words} [{seconds} s]", self.version)
                .expect("a String takes all");
        }
        if let Some(time) = self.time {
            let seconds = time.as_secs_f64();
            writeln!(lines, "kernels: {} took {seconds:.0} s", self.version).expect("a String takes all");
        }
        lines
    }

    /// The checks that failed, one line each.
    pub(crate) fn failures(&self) -> String {
        let failed = Report {
            version: self.version.clone(),
            checks: self.checks.iter().filter(|check| !check.passed).cloned().collect(),
            time: None,
        };
        failed.lines()
    }

    /// The values of one name, with a mark on each failed one.
    fn cell(&self, kind: &str, name: &str) -> String {
        let cell = self.checks.iter().find(|check| check.kind == kind && check.name == name);
        match cell {
            None => "–".to_owned(),
            Some(check) if check.passed => check.value.clone(),
            Some(check) => format!("**{} failed**", check.value).replace("** ", "**"),
        }
    }

    /// The numbers of passed and failed checks of a kind.
    fn counts(&self, kind: &str) -> String {
        let count =
            |passed| self.checks.iter().filter(|check| check.kind == kind && check.passed == passed).count();
        match (count(true), count(false)) {
            (0, 0) => "–".to_owned(),
            (passed, 0) => format!("{passed} passed"),
            (passed, failed) => format!("{passed} passed, **{failed} failed**"),
        }
    }
}

fn machine_check(detail: String) -> Check {
    let [kind, name, seconds] = ["machine", "boot", "0"].map(str::to_owned);
    Check { kind, name, passed: false, value: String::new(), seconds, detail }
}

fn check(line: &str) -> Option<Check> {
    let mut words = line.split('\t');
    if words.next() != Some(RESULT) {
        return None;
    }
    let mut word = || words.next().map(str::to_owned);
    let (kind, name, verdict) = (word()?, word()?, word()?);
    let (value, seconds, detail) = (word()?, word()?, word()?);
    Some(Check { kind, name, passed: verdict == "passed", value, seconds, detail })
}

/// Returns all kernels as a table in Markdown. It has the instructions that the verifier processed for each program,
/// the result of the packet table, the mode on each driver, and the scenes.
pub(crate) fn table(reports: &[Report]) -> String {
    let [programs, drivers] = ["program", "driver"].map(|kind| names(reports, kind));
    let titles = programs.iter().map(|name| format!("{name}: processed")).chain(["packet table".to_owned()]);
    let titles = titles.chain(drivers.iter().map(|name| (*name).to_owned())).chain(["scenes".to_owned()]);
    let head: Vec<String> = ["Linux".to_owned()].into_iter().chain(titles).collect();
    let mut table = row(&head) + &row(&vec!["---".to_owned(); head.len()]);
    for report in reports {
        let mut cells = vec![report.version.clone()];
        cells.extend(programs.iter().map(|name| report.cell("program", name)));
        cells.push(report.counts("table"));
        cells.extend(drivers.iter().map(|name| report.cell("driver", name)));
        cells.push(report.counts("scene"));
        table += &row(&cells);
    }
    table
}

/// The names of a kind's checks on any kernel, each once, in their order.
fn names<'a>(reports: &'a [Report], kind: &str) -> Vec<&'a str> {
    let mut seen = BTreeSet::new();
    let checks = reports.iter().flat_map(|report| &report.checks).filter(|check| check.kind == kind);
    checks.map(|check| &*check.name).filter(|name| seen.insert(*name)).collect()
}

fn row(cells: &[String]) -> String {
    format!("| {} |\n", cells.join(" | "))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(console: &str) -> Report {
        Report::of(
            "6.1",
            Ok(Ended { console: console.to_owned(), time: Duration::from_secs(9), failure: None }),
        )
    }

    #[test]
    fn the_table_has_a_row_for_each_kernel() {
        let console = "noise\r\nresult\tprogram\tplain\tpassed\t300000\t2.0\t\r\nresult\tdriver\tveth\tfailed\toff\t2.0\tno\r\n\
                       result\tscene\ta scene\tpassed\t\t2.0\t\r\nend\r\n";
        let report = report(console);
        assert_eq!((report.count(true), report.count(false)), (2, 1));
        let expected = "| Linux | plain: processed | packet table | veth | scenes |\n| --- | --- | --- | --- | --- |\n\
                        | 6.1 | 300000 | – | **off failed** | 1 passed |\n";
        assert_eq!(table(&[report]), expected);
    }

    #[test]
    fn a_guest_that_ends_early_has_failed() {
        let report = report("result\tscene\ta scene\tpassed\t\t2.0\t\nKernel panic\n");
        assert_eq!(report.count(false), 1);
        assert!(report.failures().contains("Kernel panic"), "{}", report.failures());
    }
}
