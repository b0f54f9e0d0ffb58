//! The answers of each address set that a suffix uses. This module is pure.
//!
//! The decision about a set is the decision about the same nodes with the addresses of that set. A node that lacks the
//! set counts as taken down by an operator: its name answers a substitute's address, and it substitutes for no other.
//! The quorum is judged once, in the decision about the nodes' own addresses: the sets freeze with it.
use std::collections::BTreeMap;
use std::sync::Arc;

use super::{Answers, Decision, Effective, LastResort, NodeState, View, decide, kept};
use crate::cluster::{Admin, Cluster, SetPart};
use crate::config::{Failover, Quorum};

/// The answers under the suffixes of one address set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAnswers {
    /// The nodes that answer. The indexes are those of the whole cluster.
    pub answers: Arc<Answers>,
    /// The kind of nodes that answer while no node with the set is up; `None`: one is up.
    pub last_resort: Option<LastResort>,
}

impl SetAnswers {
    /// Returns the configured answers of every set.
    pub(super) fn configured(cluster: &Cluster) -> BTreeMap<String, SetAnswers> {
        each(cluster, |part| SetAnswers::of(Answers::configured(part.cluster())))
    }

    fn of(answers: Answers) -> Self {
        SetAnswers { answers: Arc::new(answers), last_resort: None }
    }
}

fn each(cluster: &Cluster, answers: impl Fn(&SetPart) -> SetAnswers) -> BTreeMap<String, SetAnswers> {
    cluster.address_sets().iter().map(|part| (part.name().to_owned(), answers(part))).collect()
}

/// Decides for each address set.
pub(super) fn decided(
    cluster: &Cluster,
    rules: &Failover,
    view: &View,
    previous: Option<&Decision>,
) -> BTreeMap<String, SetAnswers> {
    if cluster.address_sets().is_empty() {
        return BTreeMap::new();
    }
    let rules = Failover { quorum: Quorum::Count(0), witness: Vec::new(), ..rules.clone() };
    let kept = previous.map(|previous| (previous, kept(cluster, Some(previous))));
    each(cluster, |part| {
        let before = kept.as_ref().and_then(|(previous, kept)| {
            let answers = Arc::clone(&kept.sets.get(part.name())?.answers);
            Some(Decision { answers, kept: None, ..Decision::clone(previous) })
        });
        let decision = decide(part.cluster(), &rules, &view_of(part, view), before.as_ref());
        let last_resort = last_resort(part, &decision);
        SetAnswers { answers: decision.answers, last_resort }
    })
}

/// Returns the kind of nodes that answer while no node with the set is up.
fn last_resort(part: &SetPart, decision: &Decision) -> Option<LastResort> {
    let nodes = part.cluster().nodes.iter().zip(&decision.effective);
    let is_up = nodes.filter(|(node, _)| node.is_probed()).any(|(_, effective)| *effective == Effective::Up);
    match decision {
        _ if is_up => None,
        Decision { held: true, .. } => Some(LastResort::Held),
        Decision { drained: true, .. } => Some(LastResort::Drained),
        _ => Some(LastResort::AllDown),
    }
}

/// Returns the view of the nodes with the addresses of a set.
fn view_of(part: &SetPart, view: &View) -> View {
    let state = |(node, state): (&crate::cluster::Node, &NodeState)| match node.has_address() {
        true => *state,
        false => {
            NodeState { serving: Some(false), admin: Admin::Down, seconds_left: None, held: false, ..*state }
        }
    };
    View { nodes: part.cluster().nodes.iter().zip(&view.nodes).map(state).collect(), ..view.clone() }
}

impl Answers {
    /// The answers of an address set.
    pub fn set(&self, name: &str) -> Option<&Answers> {
        Some(&self.sets.get(name)?.answers)
    }

    /// Returns the frozen answers of each set with the operator's intents; see [`Answers::obeying`].
    pub(super) fn sets_obeying(&self, cluster: &Cluster, view: &View) -> BTreeMap<String, SetAnswers> {
        each(cluster, |part| match self.sets.get(part.name()) {
            Some(SetAnswers { answers, last_resort }) => {
                let answers = answers.obeying(part.cluster(), &view_of(part, view));
                SetAnswers { answers: Arc::new(answers), last_resort: *last_resort }
            }
            None => {
                let answers = Answers::following(part.cluster(), &self.by_node);
                SetAnswers::of(answers.obeying(part.cluster(), &view_of(part, view)))
            }
        })
    }

    /// Returns the answers of each set for a changed cluster, whose nodes' own answers are `by_node`; see
    /// [`Answers::carried`].
    pub(super) fn sets_carried(
        &self,
        cluster: &Cluster,
        by_node: &[Option<usize>],
    ) -> BTreeMap<String, SetAnswers> {
        each(cluster, |part| match self.sets.get(part.name()) {
            Some(SetAnswers { answers, last_resort }) => {
                let answers = answers.carried(part.cluster());
                SetAnswers { answers: Arc::new(answers), last_resort: *last_resort }
            }
            None => SetAnswers::of(Answers::following(part.cluster(), by_node)),
        })
    }

    /// Whether each set answers the same nodes as in `others`.
    pub(super) fn sets_name_as(&self, others: &Answers) -> bool {
        self.sets.len() == others.sets.len()
            && self.sets.iter().zip(&others.sets).all(|((name, set), (other_name, other))| {
                name == other_name
                    && set.last_resort == other.last_resort
                    && (Arc::ptr_eq(&set.answers, &other.answers) || set.answers.names_as(&other.answers))
            })
    }
}

#[cfg(test)]
mod tests;
