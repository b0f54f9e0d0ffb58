//! The packet table, through host code and through the kernel.
use std::collections::BTreeMap;
use std::time::Duration;

use dns_xdp::datapath::Unattached;
use dns_xdp::zone::Zone;
use dns_xdp_ebpf::outcome::{Action, Outcome};
use dns_xdp_tests::host::Server;
use dns_xdp_tests::kernel;
use dns_xdp_tests::table::zone::{
    CAPACITY, COOKIES, NEW_SECRET, PORT, SERVER, SERVER_MAC, zone, zone_with_cookies,
    zone_with_fallback_limit, zone_with_limits, zone_with_long_soa,
};
use dns_xdp_tests::table::{Row, State, rows};

/// BPF_PROG_TEST_RUN takes no frame that is shorter than an Ethernet header.
const KERNEL_FRAME_MIN: usize = 14;

#[test]
fn host_every_row_comes_out_as_the_table_says() {
    let mut server = Server::new(&SERVER, SERVER_MAC, PORT);
    let rows = rows();
    let mut failures = Vec::new();
    for state in State::ALL {
        enter_on_host(&mut server, state);
        for row in rows.iter().filter(|row| row.state == state) {
            failures.extend(failure(row, host_run(&server, row)));
        }
    }
    none(&failures);
}

#[test]
fn host_every_answer_is_the_same_when_the_room_is_in_front() {
    let mut server = Server::new(&SERVER, SERVER_MAC, PORT);
    let rows = rows();
    enter_on_host(&mut server, State::Serving);
    (server.room, server.headroom) = (false, true);
    let longer = |row: &&Row| row.state == State::Serving && row.outcome.action() == Action::Transmit;
    let mut ran = 0;
    let mut failures = Vec::new();
    for row in rows.iter().filter(longer) {
        // An answer that is shorter than its query needs the tail.
        if server.run(&row.frame).0 != Outcome::NoRoom {
            ran += 1;
            failures.extend(failure(row, host_run(&server, row)));
        }
    }
    none(&failures);
    assert!(ran > 100, "only {ran} rows were answered");
}

#[test]
fn host_every_outcome_has_a_row() {
    let rows = rows();
    for outcome in Outcome::ALL {
        assert!(rows.iter().any(|row| row.outcome == *outcome), "{}", outcome.text());
    }
}

#[test]
#[ignore = "needs root and BPF: cargo xtask test kernel"]
fn kernel_every_row_comes_out_as_the_table_says() {
    let mut program = load();
    let rows = rows();
    let mut failures = Vec::new();
    for state in State::ALL {
        enter_in_kernel(&mut program, state);
        for row in rows.iter().filter(|row| row.state == state && reaches_the_kernel(row)) {
            failures.extend(failure(row, kernel_run(&program, row)));
        }
    }
    none(&failures);
}

#[test]
fn kernel_rows_have_every_outcome_but_no_room() {
    let rows = rows();
    for outcome in Outcome::ALL.iter().filter(|outcome| **outcome != Outcome::NoRoom) {
        let there = rows.iter().any(|row| row.outcome == *outcome && reaches_the_kernel(row));
        assert!(there, "{}", outcome.text());
    }
}

/// In the kernel every frame has room: BPF_PROG_TEST_RUN gives each a page, of which headroom and tail leave 3520
/// octets, and no answer with its headers is half as long.
fn reaches_the_kernel(row: &Row) -> bool {
    row.state != State::NoRoom && row.frame.len() >= KERNEL_FRAME_MIN
}

/// What became of a row's packet, whether that was counted alone, and the packet afterwards.
type Run = Result<(Action, Vec<u8>), String>;

fn failure(row: &Row, run: Run) -> Option<String> {
    let checked = run.and_then(|(action, after)| row.check(action, &after));
    checked.err().map(|error| format!("{}: {error}", row.what))
}

fn none(failures: &[String]) {
    assert!(failures.is_empty(), "{} rows:\n{}", failures.len(), failures.join("\n"));
}

fn enter_on_host(server: &mut Server, state: State) {
    if let Some((zone, seconds)) = published_in(state) {
        server.publish(&zone);
        server.seconds = seconds;
    }
    match state {
        State::NoRoom => server.room = false,
        State::LeaseExpired => server.lease_lives = false,
        _ => server.forget_clients(),
    }
}

fn load() -> Unattached {
    Unattached::load(&SERVER, SERVER_MAC, PORT, CAPACITY).expect("the kernel takes the program")
}

fn enter_in_kernel(program: &mut Unattached, state: State) {
    if state == State::Holding {
        // Another that has seen no client yet.
        *program = load();
    }
    let lease = (state == State::LeaseExpired).then_some(Duration::ZERO);
    let (zone, seconds) = published_in(state).unzip();
    if let Some(zone) = zone {
        program.publish(&zone).expect("the program is loaded");
    }
    program.renew(lease, seconds.unwrap_or_default().into()).expect("the program is loaded");
}

/// The zone that is published on entering a state, and the time of day.
fn published_in(state: State) -> Option<(Zone, u32)> {
    match state {
        State::LongSoa => Some((zone_with_long_soa(), 0)),
        State::Serving | State::NoRoom => Some((zone(), 0)),
        State::Cookies => Some((zone_with_cookies(COOKIES.1), COOKIES.0)),
        State::NewSecret => Some((zone_with_cookies(NEW_SECRET.1), NEW_SECRET.0)),
        State::Slipping => Some((zone_with_limits(1), COOKIES.0)),
        State::Holding => Some((zone_with_limits(0), COOKIES.0)),
        State::Flooded => Some((zone_with_fallback_limit(), 0)),
        State::Unpublished | State::LeaseExpired => None,
    }
}

fn host_run(server: &Server, row: &Row) -> Run {
    let (outcome, after) = server.run(&row.frame);
    if outcome != row.outcome {
        return Err(format!("{} instead of {}", outcome.text(), row.outcome.text()));
    }
    Ok((outcome.action(), after))
}

fn kernel_run(program: &Unattached, row: &Row) -> Run {
    let before = program.counters().expect("counters can be read");
    let run = kernel::run(program, &row.frame)?;
    let counted = risen(&before, &program.counters().expect("counters can be read"));
    let expected = if row.outcome == Outcome::NotForUs { vec![] } else { vec![(row.outcome.text(), 1)] };
    if counted != expected {
        return Err(format!("counted {counted:?} instead of {expected:?}"));
    }
    Ok(run)
}

fn risen(
    before: &BTreeMap<&'static str, u64>,
    after: &BTreeMap<&'static str, u64>,
) -> Vec<(&'static str, u64)> {
    let risen = after.iter().map(|(outcome, count)| (*outcome, count - before[outcome]));
    risen.filter(|(_, count)| *count > 0).collect()
}
