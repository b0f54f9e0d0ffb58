//! Tests of verdicts, result by result.
use super::*;
use crate::config::PROBE;

fn probe(fall: u32, rise: u32) -> Probe {
    Probe { fall, rise, ..PROBE }
}

fn success() -> Observation {
    Observation::Success { round_trip: Duration::from_millis(1) }
}

fn failure(visible: bool) -> Observation {
    Observation::Failure(Failure { reason: "timeout".to_owned(), visible })
}

/// The health after each of the probes in `results`: `+` a success, `-` a failure, `?` inconclusive.
fn course(verdict: &mut Verdict, results: &str) -> Vec<Health> {
    let step = |(second, result)| {
        let observation = match result {
            '+' => success(),
            '-' => failure(false),
            _ => Observation::Inconclusive { reason: "too many open files".to_owned() },
        };
        let before = verdict.health();
        let transition = verdict.observe(Duration::from_secs(second), &observation);
        let after = verdict.health();
        assert_eq!(transition, (before != after).then_some(Transition { from: before, to: after }));
        after
    };
    (1..).zip(results.chars()).map(step).collect()
}

use Health::{Down, Recovering, Suspect, Unknown, Up};

#[test]
fn the_first_result_decides_at_once() {
    assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "+"), [Up]);
    assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "-"), [Down]);
    assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "?-"), [Unknown, Down]);
}

#[test]
fn a_changed_probe_keeps_the_falls_of_its_subject() {
    let flapping = Probe { rise_max: 16, ..probe(1, 2) };
    let mut verdict = Verdict::new(&flapping);
    course(&mut verdict, "+-++-++-");
    let needed = verdict.rise_needed();
    assert!(needed > 2, "it has fallen several times: {needed}");
    assert_eq!(verdict.changed(&Probe { timeout: flapping.timeout * 2, ..flapping }).rise_needed(), needed);
}

#[test]
fn a_success_ends_the_time_of_failing() {
    let mut verdict = Verdict::new(&probe(3, 2));
    course(&mut verdict, "+-");
    assert_eq!(verdict.failing_since(), Some(Duration::from_secs(2)));
    course(&mut verdict, "+");
    assert_eq!(verdict.failing_since(), None);
}

#[test]
fn as_many_failures_as_fall_put_a_node_down() {
    assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "+---"), [Up, Suspect, Suspect, Down]);
    assert_eq!(course(&mut Verdict::new(&probe(1, 2)), "+-"), [Up, Down]);
}

#[test]
fn a_suspect_is_about_to_fall_only_when_few_failures_are_left() {
    let mut verdict = Verdict::new(&probe(4, 2));
    course(&mut verdict, "+-");
    assert!(!verdict.is_falling(2) && verdict.is_falling(3), "three failures are left");
    course(&mut verdict, "-");
    assert!(verdict.is_falling(2));
}

#[test]
fn a_link_that_loses_every_other_probe_is_found_out() {
    let expected = [Up, Suspect, Suspect, Suspect, Suspect, Down];
    assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "+-+-+-"), expected);
}

#[test]
fn rise_successes_in_a_row_clear_a_suspicion() {
    let expected = [Up, Suspect, Suspect, Up, Suspect, Suspect, Down];
    assert_eq!(course(&mut Verdict::new(&probe(3, 2)), "+-++---"), expected);
}

#[test]
fn a_node_that_is_down_has_to_succeed_rise_times_in_a_row() {
    let expected = [Down, Recovering, Down, Recovering, Recovering, Up];
    assert_eq!(course(&mut Verdict::new(&probe(3, 3)), "-+-+++"), expected);
    assert_eq!(course(&mut Verdict::new(&probe(3, 1)), "-+"), [Down, Up]);
}

#[test]
fn our_own_sickness_is_never_read_as_down() {
    let mut verdict = Verdict::new(&probe(1, 1));
    assert_eq!(course(&mut verdict, "+????"), [Up; 5]);
    assert!(verdict.visible() && verdict.inconclusive());
    assert_eq!(verdict.reason(), Some("too many open files"));
    assert_eq!(course(&mut verdict, "+"), [Up]);
    assert_eq!(verdict.reason(), None);
}

#[test]
fn a_refused_connection_is_visible_and_silence_is_not() {
    let mut verdict = Verdict::new(&probe(3, 2));
    assert!(!verdict.visible());
    verdict.observe(Duration::ZERO, &failure(true));
    assert!(verdict.visible());
    verdict.observe(Duration::ZERO, &failure(false));
    assert!(!verdict.visible());
}

#[test]
fn since_is_the_time_of_the_last_change() {
    let mut verdict = Verdict::new(&probe(3, 2));
    course(&mut verdict, "+++-+");
    assert_eq!((verdict.health(), verdict.since()), (Suspect, Duration::from_secs(4)));
}

#[test]
fn a_verdict_in_doubt_is_probed_fast() {
    let mut verdict = Verdict::new(&probe(3, 2));
    let mut delays = vec![verdict.pace(false).delay.as_millis()];
    for result in ["+", "-", "-", "-", "+", "+"] {
        course(&mut verdict, result);
        delays.push(verdict.pace(false).delay.as_millis());
    }
    assert_eq!(delays, [250, 1000, 250, 250, 1000, 250, 1000]);
}

#[test]
fn a_probe_that_is_overdue_counts_for_nothing_but_a_closer_look() {
    let mut verdict = Verdict::new(&probe(3, 2));
    course(&mut verdict, "+");
    assert_eq!(verdict.observe(Duration::from_secs(9), &Observation::Overdue), None);
    assert_eq!((verdict.health(), verdict.since().as_secs()), (Up, 1));
    assert!(verdict.visible() && verdict.in_doubt());
    assert_eq!(verdict.pace(false), verdict.pace(true));
    course(&mut verdict, "+");
    assert!(!verdict.in_doubt());
}

#[test]
fn a_node_that_is_down_is_not_looked_at_closer_for_its_silence() {
    let mut verdict = Verdict::new(&probe(3, 2));
    course(&mut verdict, "-");
    verdict.observe(Duration::ZERO, &Observation::Overdue);
    assert_eq!(verdict.pace(false).delay, Duration::from_secs(1));
}

#[test]
fn a_suspect_has_the_fast_interval_to_answer_or_twice_what_it_took() {
    let timeouts = |round_trip| {
        let mut verdict = Verdict::new(&PROBE);
        verdict.observe(Duration::ZERO, &Observation::Success { round_trip });
        let up = verdict.pace(true).timeout;
        verdict.observe(Duration::ZERO, &failure(false));
        (up, verdict.pace(false).timeout)
    };
    let [fast, timeout] = [PROBE.fast_interval, PROBE.timeout];
    assert_eq!(timeouts(Duration::from_millis(1)), (timeout, fast));
    assert_eq!(timeouts(Duration::from_millis(200)), (timeout, Duration::from_millis(400)));
    assert_eq!(timeouts(Duration::from_millis(450)), (timeout, timeout));
}

#[test]
fn each_fall_in_a_short_time_doubles_the_rise_up_to_its_cap() {
    let mut verdict = Verdict::new(&Probe { rise_max: 6, ..probe(1, 2) });
    course(&mut verdict, "+");
    let mut needed = Vec::new();
    for _ in 0..4 {
        course(&mut verdict, "-");
        needed.push(verdict.rise_needed());
        let almost = "+".repeat(verdict.rise_needed() as usize - 1);
        course(&mut verdict, &almost);
        assert_eq!(verdict.health(), Recovering);
        course(&mut verdict, "+");
        assert_eq!(verdict.health(), Up);
    }
    assert_eq!(needed, [2, 4, 6, 6]);
}

#[test]
fn a_time_without_a_fall_forgets_one() {
    let mut verdict = Verdict::new(&Probe { flap_decay: Duration::from_secs(10), ..probe(1, 1) });
    let mut at = |second, observation: &Observation| {
        verdict.observe(Duration::from_secs(second), observation);
        verdict.rise_needed()
    };
    at(0, &success());
    assert_eq!(at(1, &failure(true)), 1);
    at(2, &success());
    assert_eq!(at(3, &failure(true)), 2);
    at(4, &success());
    at(5, &success());
    assert_eq!(at(13, &failure(true)), 4, "9 s are not enough");
    at(14, &success());
    at(15, &success());
    at(16, &success());
    at(17, &success());
    assert_eq!(at(47, &failure(true)), 1, "three are forgotten");
}

#[test]
fn a_suspect_has_as_long_as_its_attempts_can_take() {
    let mut verdict = Verdict::new(&probe(3, 2));
    course(&mut verdict, "+");
    assert_eq!(verdict.time_left(), None);
    course(&mut verdict, "-");
    assert_eq!(verdict.time_left(), Some(2 * PROBE.fast_interval));
    course(&mut verdict, "-");
    assert_eq!(verdict.time_left(), Some(PROBE.fast_interval));
    course(&mut verdict, "-");
    assert_eq!(verdict.time_left(), None);
}

/// The time in milliseconds that a suspect has to answer after successes of these durations; `-1`: a failure.
fn haste(took: &[i64]) -> u128 {
    let mut verdict = Verdict::new(&probe(3, 2));
    for took in took {
        let observation = match u64::try_from(*took) {
            Ok(took) => Observation::Success { round_trip: Duration::from_millis(took) },
            Err(_) => failure(false),
        };
        verdict.observe(Duration::ZERO, &observation);
    }
    verdict.observe(Duration::ZERO, &failure(false));
    assert_eq!(verdict.health(), Suspect);
    verdict.pace(false).timeout.as_millis()
}

#[test]
fn a_suspect_has_twice_its_slowest_answer_of_late_and_the_first_behind_a_silence_is_none() {
    assert_eq!(haste(&[1, 1]), 250, "fast-interval");
    assert_eq!(haste(&[200, 200]), 400);
    assert_eq!(haste(&[1, 1, 200, 1]), 350, "each answer forgets 1/8");
    assert_eq!(haste(&[900, 900]), 500, "no longer than timeout");
    assert_eq!(haste(&[200, 1]), 250);
    assert_eq!(haste(&[1, -1, -1, -1, 200, 1]), 250);
    assert_eq!(haste(&[1, -1, -1, -1, 200, -1, 200, 1]), 250);
    assert_eq!(haste(&[1, -1, -1, -1, 200, 200]), 400, "it is slow indeed");
    assert_eq!(haste(&[1, 200, 200, -1, 1]), 350, "a lost probe is no silence");
}
