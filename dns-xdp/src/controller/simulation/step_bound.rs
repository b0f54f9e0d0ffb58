//! Tests the work of a core's step with as many names as the program's table holds. It counts the lists that a step
//! makes; it measures no time.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::scale;
use crate::cluster::Family;
use crate::config::Config;
use crate::controller::core::state::State;
use crate::controller::core::{Publication, Published};
use crate::failover::Answers;
use crate::health::{Failure, Observation, ProbeId};
use crate::intent::Intents;

const NODES: usize = 10;

/// The number of different lists that the services of these answers share.
fn lists(answers: &Answers) -> usize {
    answers.services().map(|(_, answering)| answering.as_ptr()).collect::<BTreeSet<_>>().len()
}

fn answers(state: &State) -> &Arc<Answers> {
    &state.decision().unwrap().answers
}

fn kill_the_first(state: &mut State) {
    let first = state.targets().keys().next().unwrap().subject.clone();
    kill(state, |probe| probe.subject == first);
}

fn kill(state: &mut State, dies: impl Fn(&ProbeId) -> bool) {
    let probes: Vec<ProbeId> = state.targets().keys().filter(|probe| dies(probe)).cloned().collect();
    let failure = Observation::Failure(Failure { reason: "refused".to_owned(), visible: true });
    for probe in probes.iter().flat_map(|probe| [probe; 3]) {
        state.observe(probe, Duration::ZERO, &failure);
    }
}

#[test]
fn a_step_works_a_list_out_for_each_set_of_members_and_none_for_each_name() {
    let mut state = State::new(scale::config_of_all_names(NODES), &Intents::new());
    state.decide();
    let before = Arc::clone(answers(&state));
    assert_eq!(before.services().len(), scale::NAMES - 2 * NODES);
    // One set of members for each node, and the apex.
    assert_eq!(lists(&before), NODES + 1);

    state.decide();
    assert!(Arc::ptr_eq(&before, answers(&state)), "the same answers are the same value");
    let published = Published::of(&state).unwrap();
    assert!(Arc::ptr_eq(&before, &published.answers), "nothing is copied for the publisher");

    kill_the_first(&mut state);
    state.decide();
    assert!(before.by_node != answers(&state).by_node && lists(answers(&state)) <= NODES + 1);

    let members = Arc::clone(state.config().cluster.members());
    let other = state.config().at_revision(7);
    assert!(Arc::ptr_eq(&members, other.cluster.members()), "nothing is computed again for another revision");
}

#[test]
fn a_step_with_half_dead_nodes_works_a_list_out_for_each_set_of_members_too() {
    for nodes in [NODES, 1_000] {
        let mut state = State::new(scale::config_of_all_names(nodes), &Intents::new());
        let half: Vec<String> =
            state.config().cluster.nodes.iter().step_by(3).map(|node| node.name.clone()).collect();
        kill(&mut state, |probe| {
            let is_half_dead = probe.subject.node().is_some_and(|node| half.iter().any(|half| half == node));
            is_half_dead && probe.family == Some(Family::Ipv6)
        });
        state.decide();
        let before = Arc::clone(answers(&state));
        let apart = &before.families.of(Family::Ipv6).services;
        assert!(apart.len() > scale::NAMES / 2, "most of the services have such a member");
        let lists: BTreeSet<_> = apart.values().map(|answering| answering.as_ptr()).collect();
        assert!(lists.len() <= nodes + 1, "{} lists", lists.len());
        state.decide();
        assert!(Arc::ptr_eq(&before, answers(&state)), "the same answers are the same value");
        let part = |config: &Config| std::ptr::from_ref(config.cluster.in_family(Family::Ipv6));
        let other = state.config().at_revision(7);
        assert_eq!(part(state.config()), part(&other), "nothing is copied for another revision");
    }
}

#[test]
fn what_events_tell_of_all_names_is_bounded_before_the_core_has_it() {
    let mut state = State::new(scale::config_of_names(NODES, 10_000), &Intents::new());
    state.decide();
    let before = state.zone().unwrap();
    kill_the_first(&mut state);
    state.decide();
    let now = Arc::new(state.zone().unwrap());
    let publication = Publication::new(&Published::of(&state).unwrap(), Some(&before), now, None);
    let told = publication.changes.told_names();
    assert!((500..2_500).contains(&told), "{told} names");
}
