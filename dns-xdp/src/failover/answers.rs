//! The nodes that each name answers, as indexes into the cluster's nodes.
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use super::families::{Families, Frozen, LastApart};
use super::rendezvous::substitute;
use super::service::{self, distinct};
use super::sets::SetAnswers;
use super::{Effective, NodeState, Situation, View, kept};
use crate::cluster::{Admin, AllDown, Cluster, Family, Group, Members, Node, Order};

/// The nodes that answer for each node and each service. The indexes point into the nodes of the cluster that the
/// answers were made for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answers {
    /// For each node, the node whose addresses its name answers; `None`: refused.
    pub by_node: Vec<Option<usize>>,
    /// The nodes that may soon be out of the answers: in how many seconds. Caches must not keep them longer.
    pub seconds_left: BTreeMap<usize, u32>,
    /// The answers that differ in a family.
    pub families: Families,
    /// The answers of each address set that a suffix uses, by its name.
    pub sets: BTreeMap<String, SetAnswers>,
    /// For each service in the order of the names, the nodes whose addresses it answers; empty: refused. Services with
    /// the same rules and the same answer share a list.
    pub(super) services: Vec<Arc<[usize]>>,
    /// The names of the services, the apex among them.
    names: Arc<[String]>,
    /// The names of the nodes, so that the answers can be carried over to a changed cluster.
    nodes: Arc<[String]>,
}

/// Answers by the names of nodes, in the form that is kept on disk over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastAnswers {
    /// The time when they were decided.
    pub at: Timestamp,
    /// For each node, the node that answers for it; `None`: refused.
    pub nodes: BTreeMap<String, Option<String>>,
    /// For each service the nodes that it answers.
    pub services: BTreeMap<String, Vec<String>>,
    /// The answers that differ in a family.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub families: BTreeMap<Family, LastApart>,
    /// The answers of each address set.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub sets: BTreeMap<String, LastAnswers>,
}

impl LastAnswers {
    /// Returns the answers with the time of their decision.
    pub fn new(answers: &Answers, at: Timestamp) -> Self {
        let name = |index: usize| answers.nodes[index].clone();
        let by_node = answers.by_node.iter().map(|answering| answering.map(name));
        let service = |(service, nodes): (&str, &[usize])| {
            (service.to_owned(), nodes.iter().map(|&index| name(index)).collect())
        };
        LastAnswers {
            at,
            nodes: answers.nodes.iter().cloned().zip(by_node).collect(),
            services: answers.services().map(service).collect(),
            families: answers.families.named(name, |service| answers.names[service].clone()),
            sets: (answers.sets.iter())
                .map(|(name, set)| (name.clone(), LastAnswers::new(&set.answers, at)))
                .collect(),
        }
    }

    /// Returns the answers for a cluster, which may have changed since they were decided.
    pub fn answers(&self, cluster: &Cluster) -> Answers {
        let nodes: Arc<[String]> = self.nodes.keys().cloned().collect();
        let names: Arc<[String]> = self.services.keys().cloned().collect();
        let place = |name: &String| nodes.binary_search(name).ok();
        let place_of_service = |name: &String| names.binary_search(name).ok();
        let by_node = (0..)
            .zip(self.nodes.values())
            .map(|(index, answering)| answering.as_ref().map(|answering| place(answering).unwrap_or(index)));
        let services = self.services.values().map(|nodes| nodes.iter().filter_map(place).collect());
        let answers = Answers {
            by_node: by_node.collect(),
            seconds_left: BTreeMap::new(),
            families: Families::placed(&self.families, place, place_of_service),
            sets: BTreeMap::new(),
            services: services.collect(),
            names: Arc::clone(&names),
            nodes: Arc::clone(&nodes),
        };
        let mut carried = answers.carried(cluster);
        for part in cluster.address_sets() {
            if let Some((last, set)) = self.sets.get(part.name()).zip(carried.sets.get_mut(part.name())) {
                set.answers = Arc::new(last.answers(part.cluster()));
            }
        }
        carried
    }
}

impl Answers {
    /// The nodes whose addresses a service answers, the apex among them; empty: refused.
    pub fn service(&self, name: &str) -> Option<&[usize]> {
        Some(&self.services[self.place_of_service(name)?])
    }

    /// The place of a service in [`Answers::services`].
    pub(super) fn place_of_service(&self, name: &str) -> Option<usize> {
        self.names.binary_search_by(|known| known.as_str().cmp(name)).ok()
    }

    /// Each service in the order of the names, with the nodes whose addresses it answers; none: refused.
    pub fn services(&self) -> impl ExactSizeIterator<Item = (&str, &[usize])> {
        self.names.iter().zip(&self.services).map(|(name, answering)| (name.as_str(), &**answering))
    }

    /// Whether every name answers the same nodes as in `others`.
    pub(crate) fn names_as(&self, others: &Answers) -> bool {
        self.by_node == others.by_node
            && self.services == others.services
            && self.names == others.names
            && self.families == others.families
            && self.sets_name_as(others)
            && self.nodes == others.nodes
    }

    /// Returns the configured answers: every node answers for itself, and every service answers all its members or the
    /// first. Another node answers for a node that lacks the address set.
    pub fn configured(cluster: &Cluster) -> Self {
        let answers = Answers::of_able(cluster, |index| cluster.nodes[index].has_address());
        Answers { sets: SetAnswers::configured(cluster), ..answers }
    }

    /// Returns the answers of an address set that has no earlier answers. `by_node` are the nodes' own answers: only the
    /// nodes that answer for themselves there are answered. Without such a node: the configured answers.
    pub(super) fn following(cluster: &Cluster, by_node: &[Option<usize>]) -> Self {
        let is_able = |index: usize| cluster.nodes[index].has_address() && by_node[index] == Some(index);
        match (0..cluster.nodes.len()).any(is_able) {
            true => Answers::of_able(cluster, is_able),
            false => Answers::configured(cluster),
        }
    }

    /// Every able node answers for itself, and every service answers all its able members or the first. Able nodes
    /// answer for the others.
    fn of_able(cluster: &Cluster, is_able: impl Fn(usize) -> bool) -> Self {
        let able: Vec<usize> = (0..cluster.nodes.len()).filter(|&index| is_able(index)).collect();
        let answering = |index: usize| match is_able(index) {
            true => Some(index),
            false => substitute(cluster, index, &able).or(Some(index)),
        };
        let by_node: Vec<Option<usize>> = (0..cluster.nodes.len()).map(answering).collect();
        let in_order = |order: Order, nodes: &[usize]| match order {
            Order::Rotate => nodes.into(),
            Order::First => nodes.iter().copied().take(1).collect(),
        };
        let answers = Answers::of_groups(cluster, Vec::new(), |_, group| {
            if group.members.iter().all(|&member| is_able(member)) {
                return match group.order {
                    Order::Rotate => Arc::clone(&group.members),
                    Order::First => in_order(group.order, &group.members),
                };
            }
            let able = |nodes: &[usize]| -> Vec<usize> {
                nodes.iter().copied().filter(|&node| is_able(node)).collect()
            };
            match (&*able(&group.members), &*able(&group.backup)) {
                ([], [first, ..]) => Arc::from([*first]),
                ([], []) => in_order(
                    group.order,
                    &distinct(group.members.iter().filter_map(|&member| by_node[member])),
                ),
                (members, _) => in_order(group.order, members),
            }
        });
        Answers { by_node, ..answers }
    }

    /// Returns the answers with the operator's `up`, `down` and `drain`. A node with `up` answers for itself. A node
    /// that is taken out is replaced everywhere, if any other node answers for itself. The answers have to be about
    /// this cluster.
    pub(super) fn obeying(&self, cluster: &Cluster, view: &View) -> Self {
        let mut obeying = Answers { sets: self.sets_obeying(cluster, view), ..self.clone() };
        // A node that lacks the address set counts as taken out, and is in no earlier answer.
        let mut intents = view.nodes.iter().zip(&cluster.nodes).filter(|(_, node)| node.has_address());
        if intents.all(|(state, _)| state.admin == Admin::Auto) {
            return obeying;
        }
        let frozen = Frozen { cluster, view, kept: self };
        for (index, answering) in obeying.by_node.iter_mut().enumerate() {
            if frozen.is_in(index) {
                *answering = Some(index);
            }
        }
        let answers_itself =
            |index: &usize| obeying.by_node[*index] == Some(*index) && !frozen.is_out(*index);
        let left: Vec<usize> = (0..obeying.by_node.len()).filter(answers_itself).collect();
        let mut whole: Vec<usize> =
            left.iter().copied().filter(|&index| !frozen.is_half_dead(index)).collect();
        if whole.is_empty() {
            whole.clone_from(&left);
        }
        for (index, answering) in obeying.by_node.iter_mut().enumerate() {
            if answering.is_some_and(|answering| frozen.is_out(answering)) {
                *answering = substitute(cluster, index, &whole).or(*answering);
            }
        }
        let left: BTreeSet<usize> = left.into_iter().collect();
        let is_probed = |index: usize| cluster.nodes[index].is_probed();
        obeying.services = obeying.changed(cluster.members(), |group, kept| {
            service::frozen(group, view, kept, &obeying.by_node, &left, is_probed)
        });
        obeying.families = frozen.families(&obeying, &whole);
        obeying
    }

    /// The place of a node in the cluster that the answers were made for; `likely`: the place to look at first.
    pub(super) fn place(&self, likely: usize, node: &str) -> Option<usize> {
        match self.nodes.get(likely) {
            Some(known) if known == node => Some(likely),
            _ => self.nodes.iter().position(|known| known == node),
        }
    }

    /// Returns the answers while some node is healthy. A node that is up answers for itself; any other node has a
    /// healthy substitute. Services answer by [`service::serving`], or by their rule while they are down.
    pub(super) fn live(situation: &Situation<'_>) -> Self {
        let Situation { cluster, rules, view, healthy, serving, .. } = situation;
        let by_node = substitutes(cluster, view, healthy);
        let is_healthy = |index: usize| healthy.contains(&index);
        // A service is not down if the address set is what its members lack: it answers their substitutes.
        let has_address = |node: &usize| cluster.nodes[*node].has_address();
        let rule = |group: &Group| match group.members.iter().chain(&*group.backup).any(has_address) {
            true => service::rule_while_down(group, rules.all_down),
            false => AllDown::Configured,
        };
        let mut answers =
            Answers::of_groups(cluster, Vec::new(), |number, group| match (&serving[number], rule(group)) {
                (Some(serving), _) => Arc::clone(serving),
                (None, AllDown::Nodata | AllDown::Refused) => Arc::default(),
                (None, AllDown::Configured | AllDown::LastGood) => {
                    service::fail_open(group, view, &by_node, is_healthy).into()
                }
            });
        answers.take_last_good(situation, rule);
        Answers { by_node, seconds_left: doubts(cluster, view), ..answers }
    }

    /// Returns the answers while no node is up. They follow `[failover] all-down`. A service that its own probes do not
    /// find down gives its usual answer. A service with its own rule follows that rule.
    pub(super) fn all_down(situation: &Situation<'_>) -> Self {
        let Situation { cluster, rules, view, serving, previous, .. } = situation;
        let is_taken_down = |index: &usize| view.nodes[*index].admin == Admin::Down;
        let others: BTreeSet<usize> = (0..view.nodes.len()).filter(|index| !is_taken_down(index)).collect();
        let hoping = match others.is_empty() {
            true => Answers::configured(cluster),
            false => {
                let by_node = substitutes(cluster, view, &others).into_iter().enumerate();
                let by_node: Vec<_> = by_node.map(|(index, answering)| answering.or(Some(index))).collect();
                let is_hoped_for = |index: usize| others.contains(&index);
                let answers = Answers::of_groups(cluster, Vec::new(), |_, group| {
                    let serving = service::serving(group, view, is_hoped_for);
                    serving.unwrap_or_else(|| service::fail_open(group, view, &by_node, is_hoped_for)).into()
                });
                Answers { by_node, ..answers }
            }
        };
        let mut by_node = match rules.all_down {
            AllDown::Configured => hoping.by_node.clone(),
            AllDown::LastGood => {
                let good = Some(kept(cluster, *previous)).filter(|good| !good.refused());
                good.unwrap_or_else(|| Arc::new(Answers::configured(cluster))).obeying(cluster, view).by_node
            }
            AllDown::Nodata | AllDown::Refused => vec![None; cluster.nodes.len()],
        };
        // A node that is not probed answers for itself, whatever happens to the others.
        situation.healthy.iter().for_each(|&index| by_node[index] = Some(index));
        let rule = |group: &Group| group.all_down.unwrap_or(rules.all_down);
        let members = cluster.members();
        let list = |(&number, hoping): (&usize, &Arc<[usize]>)| match (
            &serving[number],
            rule(&members.groups()[number]),
        ) {
            (Some(serving), _) => Arc::clone(serving),
            (None, AllDown::Nodata | AllDown::Refused) => Arc::default(),
            (None, AllDown::Configured | AllDown::LastGood) => Arc::clone(hoping),
        };
        let services = members.groups_of().iter().zip(&hoping.services).map(list).collect();
        let mut answers = Answers { services, ..hoping };
        answers.take_last_good(situation, rule);
        Answers { by_node, seconds_left: doubts(cluster, view), ..answers }
    }

    /// Gives services that are down their earlier answers, if this is their rule.
    fn take_last_good(&mut self, situation: &Situation<'_>, rule: impl Fn(&Group) -> AllDown) {
        let Situation { cluster, view, serving, previous, .. } = situation;
        let members = cluster.members();
        let looks_back =
            |number: usize| serving[number].is_none() && rule(&members.groups()[number]) == AllDown::LastGood;
        if previous.is_none() || !(0..serving.len()).any(looks_back) {
            return;
        }
        let kept = kept(cluster, *previous);
        let good = kept.changed(members, |group, kept| service::remaining(group, view, kept));
        for (place, number) in members.groups_of().iter().enumerate() {
            if looks_back(*number) && !good[place].is_empty() {
                self.services[place] = Arc::clone(&good[place]);
            }
        }
    }

    /// Returns answers that give each service the list of its group. Each list is computed once.
    fn of_groups(
        cluster: &Cluster,
        by_node: Vec<Option<usize>>,
        answering: impl Fn(usize, &Group) -> Arc<[usize]>,
    ) -> Self {
        let members = cluster.members();
        let groups = members.groups().iter().enumerate();
        let lists: Vec<Arc<[usize]>> = groups.map(|(number, group)| answering(number, group)).collect();
        Answers {
            by_node,
            seconds_left: BTreeMap::new(),
            families: Families::default(),
            sets: BTreeMap::new(),
            services: members.groups_of().iter().map(|&group| Arc::clone(&lists[group])).collect(),
            names: Arc::clone(members.services()),
            nodes: Arc::clone(members.nodes()),
        }
    }

    /// Returns the list of each service after `change`. A list that services of a group share is changed once.
    fn changed(
        &self,
        members: &Members,
        change: impl Fn(&Group, &[usize]) -> Vec<usize>,
    ) -> Vec<Arc<[usize]>> {
        let mut lists: HashMap<(usize, *const usize), Arc<[usize]>> = HashMap::new();
        let list = |(&group, answering): (&usize, &Arc<[usize]>)| {
            let list = lists.entry((group, answering.as_ptr()));
            Arc::clone(list.or_insert_with(|| change(&members.groups()[group], answering).into()))
        };
        members.groups_of().iter().zip(&self.services).map(list).collect()
    }

    /// Whether the answers were made for exactly this cluster.
    pub(super) fn is_about(&self, cluster: &Cluster) -> bool {
        let members = cluster.members();
        Arc::ptr_eq(&self.nodes, members.nodes()) && Arc::ptr_eq(&self.names, members.services())
    }

    /// Whether any name is refused.
    pub(crate) fn refused(&self) -> bool {
        self.by_node.contains(&None)
    }

    /// Returns the same answers for a cluster that may have changed since. Answers with removed nodes are replaced by
    /// the configured answers.
    pub(super) fn carried(&self, cluster: &Cluster) -> Self {
        let members = cluster.members();
        let now: BTreeMap<&str, usize> =
            cluster.nodes.iter().map(|node| node.name.as_str()).zip(0..).collect();
        let place = |then: usize| {
            let place = now.get(self.nodes[then].as_str()).copied();
            place.filter(|&place| cluster.nodes[place].has_address())
        };
        let mut carried = Answers::configured(cluster);
        let configured = &carried.by_node;
        let then: BTreeMap<&str, Option<usize>> =
            self.nodes.iter().map(String::as_str).zip(self.by_node.iter().copied()).collect();
        let carry = |(index, node): (usize, &Node)| match then.get(node.name.as_str()) {
            Some(None) => None,
            Some(Some(answering)) => place(*answering).or(configured[index]),
            None => configured[index],
        };
        carried.by_node = (0..).zip(&cluster.nodes).map(carry).collect();
        carried.sets = self.sets_carried(cluster, &carried.by_node);
        let mut lists: HashMap<*const usize, Option<Arc<[usize]>>> = HashMap::new();
        let same_names = Arc::ptr_eq(&self.names, members.services());
        let place_of_service = |place: usize, names: &[String], name: &String| match same_names {
            true => Some(place),
            false => names.binary_search(name).ok(),
        };
        for (number, (name, answering)) in members.services().iter().zip(&mut carried.services).enumerate() {
            let Some(then) = place_of_service(number, &self.names, name) else { continue };
            let previous = &self.services[then];
            let kept = lists.entry(previous.as_ptr()).or_insert_with(|| {
                let kept = distinct(previous.iter().filter_map(|&then| place(then)));
                (previous.is_empty() || !kept.is_empty()).then(|| kept.into())
            });
            if let Some(kept) = kept {
                *answering = Arc::clone(kept);
            }
        }
        let left = self.seconds_left.iter().filter_map(|(&then, &left)| Some((place(then)?, left)));
        carried.seconds_left = left.collect();
        let service = |then: usize| place_of_service(then, members.services(), &self.names[then]);
        carried.families = self.families.carried(place, service);
        carried
    }
}

/// Returns the node that answers for each node: the node itself while it is up, otherwise a healthy substitute.
fn substitutes(cluster: &Cluster, view: &View, healthy: &BTreeSet<usize>) -> Vec<Option<usize>> {
    let candidates: Vec<usize> = healthy.iter().copied().collect();
    let stand_in = |(index, state): (usize, &NodeState)| match state.effective() {
        Effective::Up => Some(index),
        _ if healthy.contains(&index) => Some(index),
        Effective::Down | Effective::Drain | Effective::Held => substitute(cluster, index, &candidates),
    };
    (0..).zip(&view.nodes).map(stand_in).collect()
}

/// The seconds until each suspect may be out of some answer.
fn doubts(cluster: &Cluster, view: &View) -> BTreeMap<usize, u32> {
    let own = (0..).zip(&view.nodes).filter_map(|(index, state)| Some((index, state.doubt()?)));
    let mut doubts: BTreeMap<usize, u32> = own.collect();
    for (service, apart) in &view.members {
        let group = cluster.members().service(service).map(|(_, group)| group);
        let candidates = group.into_iter().flat_map(|group| group.members.iter().chain(&*group.backup));
        for (&index, member) in candidates.zip(apart) {
            if let Some(left) = view.nodes[index].as_member(member).doubt() {
                let soonest = doubts.entry(index).or_insert(left);
                *soonest = left.min(*soonest);
            }
        }
    }
    doubts
}
