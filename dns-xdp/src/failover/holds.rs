//! Finds the nodes that fall, and chooses among held nodes.
use std::collections::BTreeSet;

use super::{Effective, NodeState, healthy_or_unknown};
use crate::cluster::{Admin, Node};

/// The held nodes whose probes succeed, or else the held nodes without a verdict.
pub(super) fn held(states: &[NodeState]) -> Vec<usize> {
    healthy_or_unknown(states, |state| state.effective() == Effective::Held)
}

/// The nodes that have fallen, found by comparing one decision's view with the earlier views.
#[derive(Debug, Clone, Default)]
pub(crate) struct Falls {
    /// The nodes that were healthy, and have not fallen since.
    up: BTreeSet<String>,
    /// The nodes that have fallen, until they are taken.
    fallen: BTreeSet<String>,
}

impl Falls {
    /// Counts a node as healthy before it has a result, because it was in the answers before a restart.
    pub(crate) fn presume_up(&mut self, node: &str) {
        self.up.insert(node.to_owned());
    }

    /// Takes the states that a decision was made from. A node falls when its probes take it out of the answers. A node
    /// that was never healthy, or that an operator has taken out, does not fall.
    pub(crate) fn note(&mut self, nodes: &[Node], states: &[NodeState]) {
        for (node, state) in nodes.iter().zip(states) {
            match (state.serving, state.admin) {
                (Some(true), _) if !self.up.contains(&node.name) => {
                    self.up.insert(node.name.clone());
                }
                (Some(false), Admin::Auto) => {
                    self.fallen.extend(self.up.take(&node.name));
                }
                (Some(false), Admin::Down | Admin::Drain) => {
                    self.up.remove(&node.name);
                }
                // A node with the intent `up` stays in the answers. It falls when the intent ends.
                (Some(false), Admin::Up) | (Some(true) | None, _) => {}
            }
        }
    }

    /// Returns the nodes that have fallen since the last call.
    pub(crate) fn take(&mut self) -> BTreeSet<String> {
        std::mem::take(&mut self.fallen)
    }

    /// Drops all nodes but the known ones.
    pub(crate) fn retain(&mut self, is_known: impl Fn(&str) -> bool) {
        self.up.retain(|node| is_known(node));
        self.fallen.retain(|node| is_known(node));
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::{node, rules, service, view};
    use super::super::{Decision, MemberState, View, decide};
    use super::*;
    use crate::cluster::Cluster;

    const UP: NodeState =
        NodeState { serving: Some(true), visible: true, admin: Admin::Auto, seconds_left: None, held: false };
    const DEAD: NodeState = NodeState { serving: Some(false), ..UP };
    const HELD: NodeState = NodeState { held: true, ..UP };
    const DRAINED: NodeState = NodeState { admin: Admin::Drain, ..UP };

    fn cluster() -> Cluster {
        let nodes = (1..=3).map(|number| node(number, true, false)).collect();
        Cluster::new(nodes, vec![service("db", &["node1", "node2"])])
    }

    fn decided(cluster: &Cluster, view: &View) -> Decision {
        decide(cluster, &rules(), view, None)
    }

    #[test]
    fn a_held_node_is_in_no_answer_while_another_is_healthy() {
        let cluster = cluster();
        let decision = decided(&cluster, &view(&[HELD, UP, DRAINED]));
        assert_eq!(decision.effective, [Effective::Held, Effective::Up, Effective::Drain]);
        assert_eq!(decision.answers.by_node, [Some(1), Some(1), Some(1)]);
        assert_eq!(decision.answers.service("db"), Some(&[1][..]));
        assert!(!decision.held && !decision.drained && !decision.fail_open);
    }

    #[test]
    fn held_nodes_answer_before_drained_and_dead_ones() {
        let cluster = cluster();
        let decision = decided(&cluster, &view(&[HELD, DEAD, DRAINED]));
        assert_eq!(decision.answers.by_node, [Some(0), Some(0), Some(0)]);
        assert_eq!(decision.answers.service("db"), Some(&[0][..]));
        assert!(decision.held && !decision.drained && !decision.fail_open);
        let dead_and_held = NodeState { held: true, ..DEAD };
        let decision = decided(&cluster, &view(&[dead_and_held, DEAD, DRAINED]));
        assert_eq!(decision.effective[0], Effective::Down);
        assert!(!decision.held && decision.drained);
        assert!(decided(&cluster, &view(&[dead_and_held, DEAD, DEAD])).fail_open);
    }

    #[test]
    fn a_held_node_that_is_wanted_up_is_up() {
        let state = NodeState { admin: Admin::Up, ..HELD };
        assert_eq!(state.effective(), Effective::Up);
        assert!(!state.is_taken_out());
    }

    #[test]
    fn too_few_healthy_members_bring_no_held_one_back() {
        let mut cluster = cluster();
        cluster.services[0].min_healthy = 2;
        assert_eq!(decided(&cluster, &view(&[HELD, UP, UP])).answers.service("db"), Some(&[1][..]));
        assert_eq!(decided(&cluster, &view(&[DEAD, UP, UP])).answers.service("db"), Some(&[0, 1][..]));
    }

    #[test]
    fn a_held_node_is_no_member_of_a_service_with_probes_of_its_own() {
        let mut cluster = cluster();
        cluster.services[0].health = Some(cluster.nodes[0].health.clone());
        let passes = MemberState { serving: Some(true), seconds_left: None };
        let members = [("db".to_owned(), vec![passes, passes])].into();
        let decision = decided(&cluster, &View { members, ..view(&[HELD, UP, UP]) });
        assert_eq!(decision.answers.service("db"), Some(&[1][..]));
    }

    #[test]
    fn a_node_falls_once_and_only_after_it_was_healthy() {
        let nodes = cluster().into_parts().nodes;
        let mut falls = Falls::default();
        let mut next = |states: [NodeState; 3]| -> Vec<String> {
            falls.note(&nodes, &states);
            falls.take().into_iter().collect()
        };
        assert!(next([UP, DEAD, UP]).is_empty(), "node2 was never healthy");
        assert_eq!(next([DEAD, DEAD, UP]), ["node1"]);
        assert!(next([DEAD, UP, UP]).is_empty());
        assert!(next([UP, UP, UP]).is_empty());
        assert_eq!(next([DEAD, DEAD, UP]), ["node1", "node2"]);
    }

    #[test]
    fn a_node_that_was_removed_and_added_again_was_never_healthy() {
        let nodes = cluster().into_parts().nodes;
        let mut falls = Falls::default();
        falls.note(&nodes, &[UP, UP, UP]);
        falls.retain(|node| node != "node1");
        falls.note(&nodes, &[DEAD, DEAD, UP]);
        assert_eq!(falls.take().into_iter().collect::<Vec<_>>(), ["node2"]);
    }

    #[test]
    fn a_node_that_an_operator_has_taken_out_does_not_fall() {
        let nodes = cluster().into_parts().nodes;
        let mut falls = Falls::default();
        falls.presume_up("node1");
        falls.note(&nodes, &[NodeState { admin: Admin::Drain, ..DEAD }, UP, UP]);
        falls.note(&nodes, &[DEAD, NodeState { admin: Admin::Up, ..DEAD }, UP]);
        assert!(falls.take().is_empty());
        falls.note(&nodes, &[DEAD, DEAD, UP]);
        assert!(falls.take().contains("node2"), "it was in the answers until now");
    }
}
