//! The packet table through host code.
use dns_xdp_ebpf::outcome::{Action, Outcome};
use dns_xdp_tests::oracle::host::Server;
use dns_xdp_tests::oracle::kernel::reaches_the_kernel;
use dns_xdp_tests::oracle::table::zone::{PORT, places};
use dns_xdp_tests::oracle::table::{Row, State, rows};

#[test]
fn host_every_row_comes_out_as_the_table_says() {
    let mut server = Server::new(&places(), false, PORT);
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
    let mut server = Server::new(&places(), false, PORT);
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
    // The frame must not prevent the answer.
    for outcome in Outcome::ALL.iter().filter(|outcome| **outcome != Outcome::Spoiled) {
        assert!(rows.iter().any(|row| row.outcome == *outcome), "{}", outcome.text());
    }
}

#[test]
fn kernel_rows_have_every_outcome_but_no_room() {
    let rows = rows();
    let cannot = [Outcome::NoRoom, Outcome::Spoiled];
    for outcome in Outcome::ALL.iter().filter(|outcome| !cannot.contains(outcome)) {
        let there = rows.iter().any(|row| row.outcome == *outcome && reaches_the_kernel(row));
        assert!(there, "{}", outcome.text());
    }
}

/// Returns the outcome of a row's packet, and the resulting packet.
type Run = Result<(Action, Vec<u8>), String>;

fn failure(row: &Row, run: Run) -> Option<String> {
    let checked = run.and_then(|(action, after)| row.check(action, &after));
    checked.err().map(|error| format!("{}: {error}", row.what))
}

fn none(failures: &[String]) {
    assert!(failures.is_empty(), "{} rows:\n{}", failures.len(), failures.join("\n"));
}

fn enter_on_host(server: &mut Server, state: State) {
    server.serve(&places(), state == State::Generic);
    if let Some((zone, seconds)) = state.publication() {
        server.publish(&zone);
        server.seconds = seconds;
    }
    server.room = state.has_room();
    server.lease_lives = state != State::LeaseExpired;
    server.forget_clients();
}

fn host_run(server: &Server, row: &Row) -> Run {
    let (outcome, after) = server.run(&row.frame);
    if outcome != row.outcome {
        return Err(format!("{} instead of {}", outcome.text(), row.outcome.text()));
    }
    Ok((outcome.action(), after))
}
