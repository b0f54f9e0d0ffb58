//! Decides which node answers for each node: a pure function of the cluster, the verdicts and the intents.
//!
//! `answers` has the node that answers for each node, `service` chooses among the members of a service, and
//! `rendezvous` chooses substitutes. `families` has the answers that differ in IPv4 or IPv6, and `holds` finds the
//! nodes that fell. `sets` decides for each address set. `zone` makes the zone of a decision; `nodata` computes how long the absence of a family may be
//! cached. The health of nodes is in `health`.
//!
//! Without a store, servers do not talk to each other. They agree because the same states give the same answers, whatever happened
//! before. Only a server that is cut off ([`Decision::frozen`]) or has no healthy node uses its earlier answers.
mod answers;
mod families;
mod holds;
mod nodata;
pub(crate) mod rendezvous;
mod service;
mod sets;
mod zone;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use answers::{Answers, LastAnswers};
pub use families::{Apart, Families, FamilyView, LastResort};
pub(crate) use holds::Falls;
pub use sets::SetAnswers;
pub use zone::{answering, healthy_zone, zone};
pub(crate) use zone::{nodes_of, owner};

use crate::cluster::{Admin, AllDown, Cluster, Group};
use crate::config::Failover;

/// The inputs of a decision, as one server sees them.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct View {
    /// The nodes, in the order of the cluster.
    pub nodes: Vec<NodeState>,
    /// The members of each service with its own probes, by the service's name: first the members in order, then the
    /// backups.
    pub members: BTreeMap<String, Vec<MemberState>>,
    /// The number of witnesses that answered, even with an error.
    pub visible_witnesses: usize,
    /// The number of nodes and witnesses that several servers find silent.
    pub confirmed_unreachable: usize,
    /// The results in each family, if the families of some node differ; otherwise empty.
    pub families: Vec<FamilyView>,
}

/// The state of a node as a member of one service.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemberState {
    /// Like [`NodeState::serving`].
    pub serving: Option<bool>,
    /// Like [`NodeState::seconds_left`].
    pub seconds_left: Option<u32>,
}

/// The state of one node: its verdict, its intent and its hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeState {
    /// Whether its probes find it healthy; `None`: they have no result yet.
    pub serving: Option<bool>,
    /// Whether the host answered, even with an error.
    pub visible: bool,
    /// The operator's intent.
    pub admin: Admin,
    /// The seconds until a suspect may be out of the answers, rounded up.
    pub seconds_left: Option<u32>,
    /// Whether it is held: it fell, and stays out of the answers after its recovery.
    pub held: bool,
}

impl NodeState {
    /// Returns how the node is treated: by its intent if it has one, otherwise by its verdict. A node without a verdict
    /// counts as up, unless it is held.
    pub fn effective(&self) -> Effective {
        match (self.admin, self.serving) {
            (Admin::Auto, None | Some(true)) if self.held => Effective::Held,
            (Admin::Up, _) | (Admin::Auto, None | Some(true)) => Effective::Up,
            (Admin::Down, _) | (Admin::Auto, Some(false)) => Effective::Down,
            (Admin::Drain, _) => Effective::Drain,
        }
    }

    /// Whether the node is out of the answers whatever its probes find: an operator has taken it out, or it is held.
    pub(crate) fn is_taken_out(&self) -> bool {
        match self.admin {
            Admin::Down | Admin::Drain => true,
            Admin::Auto => self.held,
            Admin::Up => false,
        }
    }

    fn proven(&self) -> bool {
        self.effective() == Effective::Up && (self.admin == Admin::Up || self.serving.is_some())
    }

    /// The seconds until the probes may take the node out of the answers.
    fn doubt(&self) -> Option<u32> {
        self.seconds_left.filter(|_| self.admin == Admin::Auto)
    }

    /// Returns the same node as a member of a service with its own probes.
    fn as_member(&self, member: &MemberState) -> NodeState {
        NodeState { serving: member.serving, seconds_left: member.seconds_left, ..*self }
    }
}

/// How a node is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effective {
    /// In the answers.
    Up,
    /// Out of the answers: another node answers for it.
    Down,
    /// Like [`Effective::Down`], by the operator's intent.
    Drain,
    /// Like [`Effective::Down`], although its probes succeed, because it fell before.
    Held,
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Effective::Up => "up",
            Effective::Down => "down",
            Effective::Drain => "drain",
            Effective::Held => "held",
        })
    }
}

/// The nodes and witnesses that this server sees, and the number that it needs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// The number of nodes and witnesses that answered, even with an error.
    pub visible: usize,
    /// The number that has to be visible.
    pub needed: usize,
    /// Whether enough are visible.
    pub ok: bool,
}

/// The decision: the answers and their reasons.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// The node that answers for each node. If the previous decision has equal answers, both decisions share one value.
    pub answers: Arc<Answers>,
    /// How each node is treated, in the order of the cluster; shown even while the answers are frozen.
    pub effective: Vec<Effective>,
    /// Whether the answers name nodes that are down, because no node is up.
    pub fail_open: bool,
    /// Whether the answers name nodes that are drained, because no other node is up.
    pub drained: bool,
    /// Whether the answers name nodes that are held, because no other node is up.
    pub held: bool,
    /// The groups of services that are down, by their numbers in [`Cluster::members`]: no member and no backup is
    /// healthy.
    down: Arc<[usize]>,
    /// Why the previous decision's answers stay, or the configured answers if there was no decision. Only an operator's
    /// `up`, `down` and `drain` change them.
    pub frozen: Option<String>,
    /// While frozen: the answers without the operator's changes.
    kept: Option<Arc<Answers>>,
    /// The count of visible nodes that allows or forbids a failover.
    pub quorum: Quorum,
}

impl Decision {
    /// Returns the parts of the decision before a restart that its saved answers show.
    pub fn remembered(answers: Answers) -> Self {
        let is_own = |(index, answering): (usize, &Option<usize>)| *answering == Some(index);
        let effective = answers.by_node.iter().enumerate().map(|each| match is_own(each) {
            true => Effective::Up,
            false => Effective::Down,
        });
        Decision {
            effective: effective.collect(),
            answers: Arc::new(answers),
            fail_open: false,
            drained: false,
            held: false,
            down: Arc::default(),
            frozen: None,
            kept: None,
            quorum: Quorum { visible: 0, needed: 0, ok: false },
        }
    }

    /// The services that are down, by their places in [`Answers::services`]: no member and no backup is healthy.
    pub(crate) fn services_down<'a>(&'a self, cluster: &'a Cluster) -> impl Iterator<Item = usize> + 'a {
        let groups_of = if self.down.is_empty() { &[][..] } else { cluster.members().groups_of() };
        let down = groups_of.iter().enumerate().filter(|(_, group)| self.down.binary_search(group).is_ok());
        down.map(|(place, _)| place)
    }

    /// Whether a node was down in this decision; `place`: the node's present place in the cluster, which may have
    /// changed since.
    pub fn is_out(&self, place: usize, node: &str) -> bool {
        let place = self.answers.place(place, node);
        place.and_then(|place| self.effective.get(place)) == Some(&Effective::Down)
    }
}

/// Decides which node answers for each node. The view has to be of this cluster.
pub fn decide(cluster: &Cluster, rules: &Failover, view: &View, previous: Option<&Decision>) -> Decision {
    let states = view.nodes.as_slice();
    debug_assert_eq!(cluster.nodes.len(), states.len());
    let effective: Vec<Effective> = states.iter().map(NodeState::effective).collect();
    let quorum = count(cluster, rules, view);
    if !quorum.ok {
        let Quorum { visible, needed, .. } = quorum;
        let voters = cluster.voters() + rules.witness.len();
        let kept = kept(cluster, previous);
        return Decision {
            answers: same_or_new(kept.obeying(cluster, view), previous),
            effective,
            fail_open: previous.is_some_and(|previous| previous.fail_open),
            drained: previous.is_some_and(|previous| previous.drained),
            held: previous.is_some_and(|previous| previous.held),
            down: down_before(cluster, previous),
            kept: Some(kept),
            frozen: Some(format!("{visible} of {voters} nodes and witnesses visible, {needed} needed")),
            quorum,
        };
    }
    let probed: Vec<usize> = (0..states.len()).filter(|&index| cluster.nodes[index].is_probed()).collect();
    let states: Vec<NodeState> = probed.iter().map(|&index| states[index]).collect();
    let mut healthy = trusted(&states);
    let none_is_up = healthy.is_empty();
    if none_is_up {
        healthy = holds::held(&states);
    }
    let held = none_is_up && !healthy.is_empty();
    if healthy.is_empty() {
        healthy = drained(&states);
    }
    let all_down = healthy.is_empty();
    let healthy = healthy.into_iter().map(|place| probed[place]);
    let situation = Situation::new(cluster, rules, view, healthy, previous);
    let mut answers = if all_down { Answers::all_down(&situation) } else { Answers::live(&situation) };
    answers.families = families::families(&situation, &answers);
    answers.sets = sets::decided(cluster, rules, view, previous);
    Decision {
        answers: same_or_new(answers, previous),
        effective,
        fail_open: all_down && matches!(rules.all_down, AllDown::Configured | AllDown::LastGood),
        drained: none_is_up && !held && !all_down,
        held,
        down: situation.down(),
        frozen: None,
        kept: None,
        quorum,
    }
}

/// The inputs of a decision, with the healthy nodes of each service.
struct Situation<'a> {
    cluster: &'a Cluster,
    rules: &'a Failover,
    view: &'a View,
    previous: Option<&'a Decision>,
    /// Whether none of the nodes that are probed may answer.
    all_down: bool,
    /// The nodes that answer: probed nodes that may answer for others, and nodes that are not probed and not taken out.
    healthy: BTreeSet<usize>,
    /// The nodes that answer for each group of services while a member or a backup is healthy; `None`: none is healthy.
    serving: Vec<Option<Arc<[usize]>>>,
}

impl<'a> Situation<'a> {
    fn new(
        cluster: &'a Cluster,
        rules: &'a Failover,
        view: &'a View,
        healthy: impl Iterator<Item = usize>,
        previous: Option<&'a Decision>,
    ) -> Self {
        let mut healthy: BTreeSet<usize> = healthy.collect();
        let all_down = healthy.is_empty();
        let is_assumed = |(index, state): &(usize, &NodeState)| {
            !cluster.nodes[*index].is_probed() && state.effective() == Effective::Up
        };
        healthy.extend(view.nodes.iter().enumerate().filter(is_assumed).map(|(index, _)| index));
        let serving = |group: &Group| service::serving(group, view, |index| healthy.contains(&index));
        let serving = cluster.members().groups().iter().map(|group| serving(group).map(Arc::from)).collect();
        Situation { cluster, rules, view, previous, all_down, healthy, serving }
    }

    /// The groups without a healthy member or backup. If all nodes are down, the event is about the nodes, and groups
    /// without their own probes keep their earlier state.
    fn down(&self) -> Arc<[usize]> {
        let before = down_before(self.cluster, self.previous);
        let groups = self.cluster.members().groups();
        let is_down = |&number: &usize| match self.all_down && groups[number].apart.is_none() {
            true => self.serving[number].is_none() && before.binary_search(&number).is_ok(),
            false => self.serving[number].is_none(),
        };
        let down = (0..groups.len()).filter(is_down);
        if down.clone().eq(before.iter().copied()) { before } else { down.collect() }
    }
}

/// The groups that were down in the previous decision, if that decision was about this cluster.
fn down_before(cluster: &Cluster, previous: Option<&Decision>) -> Arc<[usize]> {
    let previous = previous.filter(|previous| previous.answers.is_about(cluster));
    previous.map_or_else(Arc::default, |previous| Arc::clone(&previous.down))
}

/// Counts the visible nodes and the quorum, among the nodes that are voters. A server that sees fewer nodes than the quorum assumes that it is cut off,
/// and freezes. Nodes that two servers report silent are subtracted from the quorum, unless no node is visible. If no
/// node is visible, all servers freeze.
fn count(cluster: &Cluster, rules: &Failover, view: &View) -> Quorum {
    let nodes = cluster.nodes.iter().zip(&view.nodes);
    let nodes = nodes.filter(|(node, state)| node.is_voter && state.visible).count();
    let visible = nodes + view.visible_witnesses;
    let confirmed_unreachable = if nodes > 0 { view.confirmed_unreachable } else { 0 };
    let needed = rules.quorum.needed(cluster.voters() + rules.witness.len());
    let needed = needed.saturating_sub(confirmed_unreachable).max(needed.min(1));
    Quorum { visible, needed, ok: visible >= needed }
}

/// The nodes that may answer for others: nodes that are up and proven, or else nodes that are not known to be down.
fn trusted(states: &[NodeState]) -> Vec<usize> {
    let those = |wanted: fn(&NodeState) -> bool| -> Vec<usize> {
        (0..).zip(states).filter(|(_, state)| wanted(state)).map(|(index, _)| index).collect()
    };
    let proven = those(NodeState::proven);
    if proven.is_empty() { those(|state| state.effective() == Effective::Up) } else { proven }
}

/// The drained nodes whose probes succeed, or else the drained nodes without a verdict.
fn drained(states: &[NodeState]) -> Vec<usize> {
    healthy_or_unknown(states, |state| state.admin == Admin::Drain)
}

/// The `wanted` nodes whose probes succeed, or else the `wanted` nodes without a verdict.
fn healthy_or_unknown(states: &[NodeState], wanted: impl Fn(&NodeState) -> bool) -> Vec<usize> {
    let those = |serving: Option<bool>| -> Vec<usize> {
        let those = (0..).zip(states).filter(|(_, state)| wanted(state) && state.serving == serving);
        those.map(|(index, _)| index).collect()
    };
    let healthy = those(Some(true));
    if healthy.is_empty() { those(None) } else { healthy }
}

/// Returns the answers of the previous decision if they are equal, otherwise the new answers.
fn same_or_new(answers: Answers, previous: Option<&Decision>) -> Arc<Answers> {
    match previous {
        Some(previous) if *previous.answers == answers => Arc::clone(&previous.answers),
        _ => Arc::new(answers),
    }
}

fn kept(cluster: &Cluster, previous: Option<&Decision>) -> Arc<Answers> {
    let Some(previous) = previous else { return Arc::new(Answers::configured(cluster)) };
    let kept = previous.kept.as_ref().unwrap_or(&previous.answers);
    if kept.is_about(cluster) { Arc::clone(kept) } else { Arc::new(kept.carried(cluster)) }
}

#[cfg(test)]
mod laws;

#[cfg(test)]
mod tests;
