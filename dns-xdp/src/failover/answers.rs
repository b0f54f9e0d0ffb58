//! Which nodes each name answers, as indexes into the cluster's nodes.
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::rendezvous::substitute;
use super::{Effective, MemberState, NodeState, View, trusted};
use crate::cluster::{APEX, Admin, Cluster, Node};

/// Who answers for whom. The indexes point into the nodes of the cluster it was made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// For each node the one whose addresses its name answers; `None`: refused.
    pub by_node: Vec<Option<usize>>,
    /// For each service, the apex among them, the nodes whose addresses it answers; empty: refused.
    pub services: BTreeMap<String, Vec<usize>>,
    /// Of each node that may be out of the answers before long: in how many seconds. Caches are not to keep it longer.
    pub seconds_left: BTreeMap<usize, u32>,
    /// The names of the nodes, so that the answers can be carried over to a cluster that has changed.
    nodes: Vec<String>,
}

/// Answers by the names of nodes, as they are kept on disk over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAnswers {
    /// When they were decided.
    pub at: Timestamp,
    /// For each node the one that answers for it; `None`: refused.
    pub nodes: BTreeMap<String, Option<String>>,
    /// For each service the nodes that it answers.
    pub services: BTreeMap<String, Vec<String>>,
}

impl LastAnswers {
    /// The answers as they were decided at this time.
    pub fn new(answers: &Answers, at: Timestamp) -> Self {
        let name = |index: usize| answers.nodes[index].clone();
        let by_node = answers.by_node.iter().map(|answering| answering.map(name));
        let services = answers.services.iter();
        LastAnswers {
            at,
            nodes: answers.nodes.iter().cloned().zip(by_node).collect(),
            services: services
                .map(|(service, nodes)| (service.clone(), nodes.iter().map(|&index| name(index)).collect()))
                .collect(),
        }
    }

    /// The answers of a cluster, which may have changed since.
    pub fn answers(&self, cluster: &Cluster) -> Answers {
        let nodes: Vec<String> = self.nodes.keys().cloned().collect();
        let place = |name: &String| nodes.binary_search(name).ok();
        let by_node = (0..)
            .zip(self.nodes.values())
            .map(|(index, answering)| answering.as_ref().map(|answering| place(answering).unwrap_or(index)));
        let services = self.services.iter();
        let services =
            services.map(|(service, nodes)| (service.clone(), nodes.iter().filter_map(place).collect()));
        let answers = Answers {
            by_node: by_node.collect(),
            services: services.collect(),
            seconds_left: BTreeMap::new(),
            nodes: nodes.clone(),
        };
        answers.carried(cluster)
    }
}

impl Answers {
    /// Whether every name answers the same nodes as in `others`.
    pub(crate) fn names_as(&self, others: &Answers) -> bool {
        self.by_node == others.by_node && self.services == others.services && self.nodes == others.nodes
    }

    /// Every node answers for itself, every service all its members.
    pub fn configured(cluster: &Cluster) -> Self {
        Answers::new(cluster, (0..cluster.nodes.len()).map(Some).collect(), members(cluster))
    }

    /// The answers while no node is up: the configured ones, without the nodes that an operator has taken down.
    pub(super) fn hoping(cluster: &Cluster, view: &View) -> Self {
        let is_taken_down = |state: &NodeState| state.admin == Admin::Down;
        let others = (0..).zip(&view.nodes).filter(|(_, state)| !is_taken_down(state));
        let others: Vec<usize> = others.map(|(index, _)| index).collect();
        let answers = if others.is_empty() {
            Answers::configured(cluster)
        } else {
            Answers::live(cluster, view, &others)
        };
        answers.but_passing(cluster, view)
    }

    /// The same with the operator's `up`, `down` and `drain`. A node that is to be up answers for itself. A node that is to
    /// be out is replaced everywhere, if any other node answers for itself.
    pub(super) fn obeying(&self, cluster: &Cluster, view: &View) -> Self {
        let mut obeying = self.clone();
        if view.nodes.iter().all(|state| state.admin == Admin::Auto) {
            return obeying;
        }
        let is_out = |index: usize| matches!(view.nodes[index].admin, Admin::Down | Admin::Drain);
        let is_in = |index: usize| view.nodes[index].admin == Admin::Up;
        for (index, answering) in obeying.by_node.iter_mut().enumerate().filter(|(index, _)| is_in(*index)) {
            *answering = Some(index);
        }
        for (service, members) in members(cluster) {
            let wanted: Vec<usize> = members.iter().copied().filter(|index| is_in(*index)).collect();
            if wanted.is_empty() || view.members.contains_key(&service) {
                continue;
            }
            let answering = obeying.services.entry(service).or_default();
            // With a member in the answers, a substitute is not needed.
            answering.retain(|index| members.contains(index));
            *answering = distinct(answering.iter().copied().chain(wanted));
        }
        let answers_itself = |index: &usize| obeying.by_node[*index] == Some(*index) && !is_out(*index);
        let left: Vec<usize> = (0..obeying.by_node.len()).filter(answers_itself).collect();
        if left.is_empty() {
            return obeying;
        }
        for (index, answering) in obeying.by_node.iter_mut().enumerate() {
            if answering.is_some_and(is_out) {
                *answering = substitute(cluster, index, &left);
            }
        }
        for answering in obeying.services.values_mut() {
            let stay: Vec<usize> = answering.iter().copied().filter(|&index| !is_out(index)).collect();
            *answering = if stay.is_empty() {
                distinct(answering.iter().filter_map(|&member| obeying.by_node[member]))
            } else {
                stay
            };
        }
        obeying
    }

    /// Where the cluster that it was made for had a node; `likely`: where to look first.
    pub(super) fn place(&self, likely: usize, node: &str) -> Option<usize> {
        match self.nodes.get(likely) {
            Some(known) if known == node => Some(likely),
            _ => self.nodes.iter().position(|known| known == node),
        }
    }

    /// Every name is refused.
    pub(super) fn withheld(cluster: &Cluster) -> Self {
        let services = members(cluster).into_keys().map(|service| (service, Vec::new())).collect();
        Answers::new(cluster, vec![None; cluster.nodes.len()], services)
    }

    /// A node that is up answers for itself, one that is not has a substitute among the `trusted`. A service answers its
    /// trusted members; if there are none, whoever answers for its members; if there are too few, all of them that an
    /// operator has not taken out.
    pub(super) fn live(cluster: &Cluster, view: &View, trusted: &[usize]) -> Self {
        let is_trusted: BTreeSet<usize> = trusted.iter().copied().collect();
        let stand_in = |(index, state): (usize, &NodeState)| match state.effective() {
            Effective::Up => Some(index),
            Effective::Down | Effective::Drain if is_trusted.contains(&index) => Some(index),
            Effective::Down | Effective::Drain => substitute(cluster, index, trusted),
        };
        let by_node: Vec<Option<usize>> = (0..).zip(&view.nodes).map(stand_in).collect();
        let mut services = members(cluster);
        let least: BTreeMap<&str, usize> =
            cluster.services.iter().map(|service| (service.name.as_str(), service.min_healthy)).collect();
        for (service, answering) in &mut services {
            let healthy = match view.members.get(service) {
                Some(apart) => healthy(answering, apart, view),
                None => answering.iter().copied().filter(|index| is_trusted.contains(index)).collect(),
            };
            if healthy.len() < least.get(service.as_str()).copied().unwrap_or(0) {
                let is_out = |index: &usize| {
                    matches!(view.nodes[*index].admin, Admin::Down | Admin::Drain)
                        && !is_trusted.contains(index)
                };
                let stay: Vec<usize> = answering.iter().copied().filter(|index| !is_out(index)).collect();
                if !stay.is_empty() {
                    *answering = stay;
                    continue;
                }
            }
            *answering = if healthy.is_empty() {
                distinct(answering.iter().filter_map(|&member| by_node[member]))
            } else {
                healthy
            };
        }
        Answers { seconds_left: doubts(cluster, view), ..Answers::new(cluster, by_node, services) }
    }

    /// The same, but services with probes of their own answer the members that pass them, if any does.
    pub(super) fn but_passing(mut self, cluster: &Cluster, view: &View) -> Self {
        let members = members(cluster);
        for (service, apart) in &view.members {
            let passing = healthy(&members[service], apart, view);
            if !passing.is_empty() {
                self.services.insert(service.clone(), passing);
            }
        }
        self.seconds_left = doubts(cluster, view);
        self
    }

    fn new(cluster: &Cluster, by_node: Vec<Option<usize>>, services: BTreeMap<String, Vec<usize>>) -> Self {
        let nodes = cluster.nodes.iter().map(|node| node.name.clone()).collect();
        Answers { by_node, services, seconds_left: BTreeMap::new(), nodes }
    }

    /// Whether any name is refused.
    pub(crate) fn refused(&self) -> bool {
        self.by_node.contains(&None)
    }

    /// The same answers for a cluster that may have changed since: what is gone is replaced by what is
    /// configured.
    pub(super) fn carried(&self, cluster: &Cluster) -> Self {
        let now: BTreeMap<&str, usize> =
            cluster.nodes.iter().map(|node| node.name.as_str()).zip(0..).collect();
        let place = |then: usize| now.get(self.nodes[then].as_str()).copied();
        let then: BTreeMap<&str, Option<usize>> =
            self.nodes.iter().map(String::as_str).zip(self.by_node.iter().copied()).collect();
        let carry = |(index, node): (usize, &Node)| match then.get(node.name.as_str()) {
            Some(None) => None,
            Some(Some(answering)) => place(*answering).or(Some(index)),
            None => Some(index),
        };
        let by_node = (0..).zip(&cluster.nodes).map(carry).collect();
        let mut services = members(cluster);
        for (service, answering) in &mut services {
            match self.services.get(service) {
                Some(previous) if previous.is_empty() => answering.clear(),
                Some(previous) => {
                    let kept = distinct(previous.iter().filter_map(|&then| place(then)));
                    if !kept.is_empty() {
                        *answering = kept;
                    }
                }
                None => {}
            }
        }
        let left = self.seconds_left.iter().filter_map(|(&then, &left)| Some((place(then)?, left)));
        Answers { seconds_left: left.collect(), ..Answers::new(cluster, by_node, services) }
    }
}

/// The members of a service with probes of its own that pass them, as [`trusted`] has it.
fn healthy(members: &[usize], apart: &[MemberState], view: &View) -> Vec<usize> {
    let states = members.iter().zip(apart).map(|(&index, member)| view.nodes[index].as_member(member));
    trusted(&states.collect::<Vec<_>>()).into_iter().map(|place| members[place]).collect()
}

/// How soon each suspect may be out of some answer.
fn doubts(cluster: &Cluster, view: &View) -> BTreeMap<usize, u32> {
    let own = (0..).zip(&view.nodes).filter_map(|(index, state)| Some((index, state.doubt()?)));
    let mut doubts: BTreeMap<usize, u32> = own.collect();
    if view.members.is_empty() {
        return doubts;
    }
    let members = members(cluster);
    for (service, apart) in &view.members {
        for (&index, member) in members.get(service).into_iter().flatten().zip(apart) {
            if let Some(left) = view.nodes[index].as_member(member).doubt() {
                let soonest = doubts.entry(index).or_insert(left);
                *soonest = left.min(*soonest);
            }
        }
    }
    doubts
}

/// The members of every service; the apex, unless it is configured, has all nodes.
fn members(cluster: &Cluster) -> BTreeMap<String, Vec<usize>> {
    let places: BTreeMap<&str, usize> =
        cluster.nodes.iter().map(|node| node.name.as_str()).zip(0..).collect();
    let index = |name: &String| places.get(name.as_str()).copied();
    let apex = (APEX.to_owned(), (0..cluster.nodes.len()).collect());
    let configured = cluster.services.iter().map(|service| {
        let members = service.nodes.iter().filter_map(index).collect();
        (service.name.clone(), members)
    });
    std::iter::once(apex).chain(configured).collect()
}

fn distinct(nodes: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    nodes.filter(|&node| seen.insert(node)).collect()
}
