//! Tests of the urgency of each probe, and of the time when a fall counts.
use super::*;

/// The delay that each probe was given last.
fn delays(bench: &Bench) -> BTreeMap<String, Duration> {
    let pace = |effect: &Effect| match effect {
        Effect::Pace(probe, pace) => Some((probe.subject.to_string(), pace.delay)),
        _ => None,
    };
    bench.effects.iter().filter_map(pace).collect()
}

const FAST: Duration = Duration::from_millis(250);
const USUAL: Duration = Duration::from_secs(1);

#[test]
fn a_doubt_speeds_up_the_probes_of_its_node_and_asks_each_other_node_once() {
    let member = "[service.health]\nport = 11211\n";
    let mut bench = Bench::begin(&format!("{TEXT}{member}"), None, Disk::default());
    let probes: Vec<ProbeId> = bench.core.health.targets().keys().cloned().collect();
    for probe in probes {
        let observation = Observation::Success { round_trip: Duration::from_millis(1) };
        bench.step(Input::Probed { probe, at: bench.elapsed, observation });
    }
    bench.publish_all();
    bench.effects.clear();
    bench.observe("node2", false);
    let delays_of = |bench: &Bench, wanted: &[&str]| -> Vec<Option<Duration>> {
        let delays = delays(bench);
        wanted.iter().map(|subject| delays.get(*subject).copied()).collect()
    };
    let all = ["node1", "node2", "node3", "node1 for db", "node2 for db"];
    let now = Some(Duration::ZERO);
    let given = delays_of(&bench, &all);
    assert_eq!([given[1], given[4]], [Some(FAST); 2]);
    let asked = given.iter().filter(|delay| **delay == now).count();
    assert_eq!(asked, 1, "with node2, which has refused, one more is a quorum: {given:?}");
    bench.effects.clear();
    for node in ["node1", "node3"] {
        bench.observe(node, true);
    }
    let given = delays_of(&bench, &all);
    assert!(given.iter().flatten().all(|delay| *delay == USUAL), "{given:?}");
}

#[test]
fn a_fall_counts_when_a_quorum_was_heard_since_the_node_began_to_fail() {
    let mut bench = Bench::live(TEXT);
    (0..3).for_each(|_| bench.silence("node2"));
    bench.publish_all();
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"], "nothing was heard since");
    bench.observe("node1", true);
    bench.publish_all();
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"], "two are a quorum");
    bench.observe("node3", true);
    bench.publish_all();
    assert_eq!(bench.answers(NODE2), ["192.0.2.13"]);
    let repaired = |effect: &&Effect| matches!(effect, Effect::Record(Record::Repaired(_)));
    assert_eq!(bench.effects.iter().filter(repaired).count(), 1);
}

#[test]
fn a_server_that_hears_no_other_node_freezes_with_its_answers() {
    let mut bench = Bench::live(TEXT);
    (0..3).for_each(|_| bench.silence("node2"));
    bench.observe("node1", true);
    bench.silence("node3");
    bench.publish_all();
    let decision = bench.core.health.decision().unwrap();
    assert!(decision.frozen.is_some(), "{decision:?}");
    assert_eq!(decision.effective[1], crate::failover::Effective::Down, "as its probes have it");
    assert_eq!(bench.answers(NODE2), ["192.0.2.12"]);
}

#[test]
fn restarted_probes_are_given_their_paces_again() {
    let mut bench = Bench::live(TEXT);
    bench.effects.clear();
    bench.step(Input::WasStopped(Duration::from_secs(60)));
    let restart = bench.effects.iter().position(|effect| matches!(effect, Effect::RestartProbes)).unwrap();
    bench.effects.drain(..restart);
    assert_eq!(delays(&bench), ["node1", "node2", "node3"].map(|node| (node.to_owned(), USUAL)).into());
}
