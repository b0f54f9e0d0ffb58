//! Decides whether an operator's intent for a node may be granted, or would break the quorum.
use super::state::State;
use crate::cluster::{Admin, Node};
use crate::control::{Refusal, RefusalKind};
use crate::failover::Effective;
use crate::intent::IntentRequest;

/// Refuses an intent that may not come into force.
pub(super) fn judge(state: &State, name: &str, request: &IntentRequest, force: bool) -> Result<(), Refusal> {
    let nodes = &state.config().cluster.nodes;
    let Some(index) = nodes.iter().position(|node| node.name == name) else {
        return Err(Refusal::unknown_node(name, nodes.iter().map(|node| node.name.as_str())));
    };
    let invalid = |problem| Refusal::new(RefusalKind::Invalid, problem);
    request.check().map_err(invalid)?;
    match (request.admin, force) {
        (Admin::Drain, false) => keeps_quorum(state, index),
        (Admin::Drain, true) | (_, false) => Ok(()),
        (_, true) => {
            Err(invalid("only `drain` is refused for the quorum's sake: leave --force out".to_owned()))
        }
    }
}

/// Refuses a drain that would leave fewer nodes than the quorum. A node that is out of the answers already, or does not
/// count for the quorum, can be drained without loss.
fn keeps_quorum(state: &State, index: usize) -> Result<(), Refusal> {
    let Some(decision) = state.decision().filter(|decision| decision.effective[index] == Effective::Up)
    else {
        return Ok(());
    };
    let nodes = &state.config().cluster.nodes;
    if !nodes[index].is_voter {
        return Ok(());
    }
    let is_up = |(effective, node): &(&Effective, &Node)| **effective == Effective::Up && node.is_voter;
    let up = decision.effective.iter().zip(nodes).filter(is_up).count() - 1;
    let (witnesses, needed) = (state.view().visible_witnesses, decision.quorum.needed);
    if up + witnesses >= needed {
        return Ok(());
    }
    let name = &state.config().cluster.nodes[index].name;
    let nodes = if up == 1 { "node" } else { "nodes" };
    let with = match witnesses {
        0 => String::new(),
        1 => " and 1 visible witness".to_owned(),
        more => format!(" and {more} visible witnesses"),
    };
    Err(Refusal::new(
        RefusalKind::Conflict,
        format!(
            "draining `{name}` would leave {up} {nodes}{with} in the answers, fewer than the quorum's {needed}: \
             bring another node back first, or repeat with --force"
        ),
    ))
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::state::tests::{TEXT, healthy, kill, set_intent};
    use super::*;
    use crate::health::{Observation, ProbeId, Subject};

    fn request(admin: Admin) -> IntentRequest {
        IntentRequest { admin, reason: None, by: None, lasting: None }
    }

    fn drain(state: &State, name: &str, force: bool) -> Result<(), Refusal> {
        judge(state, name, &request(Admin::Drain), force)
    }

    #[test]
    fn a_drain_that_leaves_fewer_than_the_quorum_is_refused_with_the_numbers() {
        let mut state = healthy(TEXT);
        assert_eq!(drain(&state, "node2", false), Ok(()));
        set_intent(&mut state, "node2", Admin::Drain);
        let refusal = drain(&state, "node3", false).unwrap_err();
        let text = "draining `node3` would leave 1 node in the answers, fewer than the quorum's 2: \
                    bring another node back first, or repeat with --force";
        assert_eq!((refusal.kind, &*refusal.message), (RefusalKind::Conflict, text));
        assert_eq!(drain(&state, "node3", true), Ok(()));
    }

    #[test]
    fn draining_what_is_out_of_the_answers_is_never_refused() {
        let mut state = healthy(TEXT);
        kill(&mut state, "node1");
        set_intent(&mut state, "node2", Admin::Drain);
        assert!(drain(&state, "node3", false).is_err());
        for name in ["node1", "node2"] {
            assert_eq!(drain(&state, name, false), Ok(()), "{name}");
        }
    }

    #[test]
    fn a_witness_that_is_visible_counts() {
        let text = TEXT.replace("[listen]", "[failover]\nwitness = [\"192.0.2.254\"]\nquorum = 2\n[listen]");
        let mut state = healthy(&text);
        set_intent(&mut state, "node2", Admin::Drain);
        assert!(drain(&state, "node3", false).is_err());
        let seen = Observation::Success { round_trip: Duration::ZERO };
        let witness = ProbeId::first(Subject::Witness([192, 0, 2, 254].into()));
        state.observe(&witness, Duration::ZERO, &seen);
        assert_eq!(drain(&state, "node3", false), Ok(()));
        set_intent(&mut state, "node3", Admin::Drain);
        let message = drain(&state, "node1", false).unwrap_err().message;
        assert!(message.contains("would leave 0 nodes and 1 visible witness in"), "{message}");
    }

    #[test]
    fn requests_that_make_no_sense_are_refused_as_invalid_and_unknown_nodes_by_name() {
        let state = healthy(TEXT);
        let refused =
            |name: &str, request: &IntentRequest, force| judge(&state, name, request, force).unwrap_err();
        for admin in [Admin::Auto, Admin::Up, Admin::Down] {
            let refusal = refused("node1", &request(admin), true);
            assert_eq!(refusal.kind, RefusalKind::Invalid);
            assert!(refusal.message.contains("leave --force out"), "{refusal}");
        }
        let ending = IntentRequest { lasting: Some(Duration::from_secs(1)), ..request(Admin::Auto) };
        assert_eq!(refused("node1", &ending, false).kind, RefusalKind::Invalid);
        let refusal = refused("nod1", &request(Admin::Down), false);
        assert_eq!(refusal.kind, RefusalKind::NotFound);
        assert_eq!(refusal.message, "there is no node `nod1`; did you mean `node1`?");
    }
}
