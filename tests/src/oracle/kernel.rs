//! Runs the path of a query in the kernel over packets of the tests, and the packet table through it.
use std::collections::BTreeMap;
use std::time::Duration;

use dns_xdp::datapath::{Error, Unattached, Variant};
use dns_xdp_ebpf::outcome::{Action, Outcome};

use crate::oracle::table::zone::{CAPACITY, PORT, places};
use crate::oracle::table::{Row, State, rows};

/// BPF_PROG_TEST_RUN refuses a frame that is shorter than an Ethernet header.
const FRAME_MIN: usize = 14;

/// The results of the packet table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TableRun {
    /// The number of rows.
    pub rows: usize,
    /// The failed rows, and their differences.
    pub failures: Vec<String>,
}

/// Runs every row that the kernel and this variant of the program support. Loads a new program if a state needs one
/// without earlier clients.
///
/// # Errors
/// The program cannot be loaded, or a zone cannot be published to it.
pub fn run_table(variant: Variant) -> Result<TableRun, Error> {
    let load = || Unattached::load(variant, &places(), PORT, CAPACITY);
    let mut program = load()?;
    let (mut count, mut failures) = (0, Vec::new());
    let rows = rows();
    for state in State::ALL {
        let is_covered = variant.features.cover(state.features());
        if !is_covered && state != State::Wildcards {
            continue;
        }
        if state == State::Holding {
            program = load()?;
        }
        program.serve(&places(), state == State::Generic)?;
        enter(&mut program, state)?;
        let mut counters = program.counters()?;
        for row in rows.iter().filter(|row| row.state == state && reaches_the_kernel(row)) {
            count += 1;
            let before = std::mem::take(&mut counters);
            let ran = run(&program, &row.frame);
            counters = program.counters()?;
            let checked = ran.and_then(|(action, after)| {
                let counted = risen(&before, &counters);
                if !is_covered && counted == [(Outcome::Reserved.text(), 1)] {
                    // A variant without wildcards leaves them to the responder.
                    return check_untouched(row, action, &after);
                }
                check_counters(row, &counted)?;
                row.check(action, &after)
            });
            failures.extend(checked.err().map(|error| format!("{}: {error}", row.what)));
        }
    }
    Ok(TableRun { rows: count, failures })
}

/// In the kernel every frame has room: BPF_PROG_TEST_RUN gives each frame a page, with 3520 octets besides headroom and
/// tail. No answer with its headers is half as long.
pub fn reaches_the_kernel(row: &Row) -> bool {
    row.state.has_room() && row.frame.len() >= FRAME_MIN
}

fn enter(program: &mut Unattached, state: State) -> Result<(), Error> {
    let lease = (state == State::LeaseExpired).then_some(Duration::ZERO);
    let (zone, seconds) = state.publication().unzip();
    if let Some(zone) = zone {
        program.publish(&zone)?;
    }
    program.renew(lease, seconds.unwrap_or_default().into())
}

fn check_untouched(row: &Row, action: Action, after: &[u8]) -> Result<(), String> {
    if action == Action::Pass && *after == *row.frame {
        return Ok(());
    }
    Err(format!("a variant without wildcards has changed the packet, or its action is {action:?}"))
}

/// A packet is counted once, as the row's outcome, unless it is not for the served port.
fn check_counters(row: &Row, counted: &[(&'static str, u64)]) -> Result<(), String> {
    let expected = if row.outcome == Outcome::NotForUs { vec![] } else { vec![(row.outcome.text(), 1)] };
    if counted == expected { Ok(()) } else { Err(format!("counted {counted:?} instead of {expected:?}")) }
}

fn risen(
    before: &BTreeMap<&'static str, u64>,
    after: &BTreeMap<&'static str, u64>,
) -> Vec<(&'static str, u64)> {
    let risen = after.iter().map(|(outcome, count)| (*outcome, count - before[outcome]));
    risen.filter(|(_, count)| *count > 0).collect()
}

/// Returns the action for a packet, and the packet afterwards.
///
/// # Errors
/// The kernel does not run the program, or the program returns an unknown action.
pub fn run(program: &Unattached, frame: &[u8]) -> Result<(Action, Vec<u8>), String> {
    let (action, after) = program.run(frame).map_err(|error| format!("{error:?}"))?;
    // enum xdp_action of linux/bpf.h.
    let action = match action {
        1 => Action::Drop,
        2 => Action::Pass,
        3 => Action::Transmit,
        _ => return Err(format!("the program returned {action}")),
    };
    Ok((action, after))
}
