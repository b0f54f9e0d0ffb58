//! The answers of one family where it does not fare as the other: pure.
//!
//! The decision is made about nodes: a node is up while one of its families is. Where it names a node whose IPv4 or IPv6 is
//! dead, [`decide`] is asked once more for that family alone, about the nodes that have it.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use super::rendezvous::substitute;
use super::{Answers, Decision, Effective, MemberState, NodeState, View, decide, trusted};
use crate::cluster::{Admin, Cluster, Family, Node, Service};
use crate::config::{Failover, Quorum};

/// What the probes say in one family. A [`View`] has both families if they differ for some node, else none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyView {
    /// The family.
    pub family: Family,
    /// As [`NodeState::serving`], in the order of the cluster's nodes. Of a node without the family it is that of the node.
    pub nodes: Vec<Option<bool>>,
    /// The same of the members of each service whose health is found out apart.
    pub members: BTreeMap<String, Vec<Option<bool>>>,
}

/// The names that answer other nodes in one family than the decision about nodes says.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Families {
    ipv4: Apart,
    ipv6: Apart,
}

/// The same of one family.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apart {
    /// For such a node, the one whose address its name answers; `None`: no address of this family.
    pub nodes: BTreeMap<usize, Option<usize>>,
    /// For such a service, the nodes whose addresses it answers.
    pub services: BTreeMap<String, Vec<usize>>,
    /// No node is up in this family: its addresses are answered as `all-down` says.
    pub all_down: bool,
}

impl Families {
    /// Whether both families answer as the nodes do.
    pub fn are_alike(&self) -> bool {
        *self == Families::default()
    }

    /// What is different in a family.
    pub fn of(&self, family: Family) -> &Apart {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// Sets what is different in a family.
    pub(super) fn set(&mut self, family: Family, apart: Apart) {
        match family {
            Family::Ipv4 => self.ipv4 = apart,
            Family::Ipv6 => self.ipv6 = apart,
        }
    }

    /// The same for a cluster in which the nodes have other places. A name whose nodes are gone is no longer apart.
    pub(super) fn carried(&self, place: impl Fn(usize) -> Option<usize>) -> Families {
        let carried = |apart: &Apart| Apart {
            nodes: (apart.nodes.iter())
                .filter_map(|(&node, &answering)| match answering {
                    Some(answering) => Some((place(node)?, Some(place(answering)?))),
                    None => Some((place(node)?, None)),
                })
                .collect(),
            services: (apart.services.iter())
                .map(|(service, nodes)| {
                    (service.clone(), nodes.iter().filter_map(|&node| place(node)).collect::<Vec<usize>>())
                })
                .filter(|(_, nodes)| !nodes.is_empty())
                .collect(),
            all_down: apart.all_down,
        };
        Families { ipv4: carried(&self.ipv4), ipv6: carried(&self.ipv6) }
    }

    /// The same without the nodes that `is_out` names: an operator has taken them out, or has said what they are.
    pub(super) fn without(&self, is_out: impl Fn(usize) -> bool) -> Families {
        let without = |apart: &Apart| {
            let stays =
                |node: &usize, answering: &Option<usize>| !is_out(*node) && !answering.is_some_and(&is_out);
            let mut apart = apart.clone();
            apart.nodes.retain(|node, answering| stays(node, answering));
            apart.services.values_mut().for_each(|nodes| nodes.retain(|node| !is_out(*node)));
            apart.services.retain(|_, nodes| !nodes.is_empty());
            apart
        };
        Families { ipv4: without(&self.ipv4), ipv6: without(&self.ipv6) }
    }
}

/// [`Apart`] by the names of nodes, as it is kept on disk over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastApart {
    /// As [`Apart::nodes`].
    #[serde(default)]
    pub nodes: BTreeMap<String, Option<String>>,
    /// As [`Apart::services`].
    #[serde(default)]
    pub services: BTreeMap<String, Vec<String>>,
}

impl Families {
    /// By the names of the nodes; families without a difference are left out.
    pub(super) fn named(&self, name: impl Fn(usize) -> String) -> BTreeMap<Family, LastApart> {
        let apart = Family::ALL.into_iter().map(|family| (family, self.of(family)));
        let apart = apart.filter(|(_, apart)| !apart.nodes.is_empty() || !apart.services.is_empty());
        let named = apart.map(|(family, apart)| {
            let nodes = apart.nodes.iter().map(|(&node, answering)| (name(node), answering.map(&name)));
            let services = apart
                .services
                .iter()
                .map(|(service, nodes)| (service.clone(), nodes.iter().map(|&node| name(node)).collect()));
            (family, LastApart { nodes: nodes.collect(), services: services.collect() })
        });
        named.collect()
    }

    /// What was kept by names; `place`: where the nodes are that have them.
    pub(super) fn placed(
        named: &BTreeMap<Family, LastApart>,
        place: impl Fn(&String) -> Option<usize>,
    ) -> Families {
        let mut families = Families::default();
        for (&family, last) in named {
            let nodes = last.nodes.iter().filter_map(|(node, answering)| {
                let answering = match answering {
                    Some(answering) => Some(place(answering)?),
                    None => None,
                };
                Some((place(node)?, answering))
            });
            let services = last
                .services
                .iter()
                .map(|(service, nodes)| (service.clone(), nodes.iter().filter_map(&place).collect()));
            let apart = Apart { nodes: nodes.collect(), services: services.collect(), ..Apart::default() };
            families.set(family, apart);
        }
        families
    }
}

impl Answers {
    /// The node whose address of this family the name of a node answers.
    pub fn node_in(&self, family: Family, node: usize) -> Option<usize> {
        let apart = self.families.of(family).nodes.get(&node);
        apart.copied().unwrap_or_else(|| self.by_node.get(node).copied().flatten())
    }

    /// The nodes whose addresses of this family a service answers.
    pub fn service_in(&self, family: Family, service: &str) -> &[usize] {
        let apart = self.families.of(family).services.get(service);
        apart.map(Vec::as_slice).or_else(|| self.service(service)).unwrap_or_default()
    }
}

/// What each family answers otherwise than `answers`, which is decided about nodes.
pub(super) fn families(
    cluster: &Cluster,
    rules: &Failover,
    view: &View,
    answers: &Answers,
    previous: Option<&Decision>,
) -> Families {
    let mut families = Families::default();
    if view.families.is_empty() {
        return families;
    }
    let doubted = Doubted::new(cluster, view);
    for family_view in &view.families {
        if doubted.has(family_view.family) {
            let one = OneFamily { cluster, view, family_view, doubted: &doubted };
            families.set(family_view.family, one.apart(rules, answers, previous));
        }
    }
    families
}

/// The nodes that are up and dead in one family.
struct Doubted {
    /// By family and node.
    nodes: BTreeMap<Family, Vec<bool>>,
    /// By family and service, the places of nodes that are such members.
    members: BTreeMap<Family, BTreeMap<String, Vec<usize>>>,
    /// Nodes that may answer for others, and are dead in no family.
    whole: Vec<usize>,
}

impl Doubted {
    fn new(cluster: &Cluster, view: &View) -> Self {
        let (mut nodes, mut members) = (BTreeMap::new(), BTreeMap::new());
        let places: BTreeMap<&str, usize> =
            cluster.nodes.iter().map(|node| node.name.as_str()).zip(0..).collect();
        for FamilyView { family, nodes: serving, members: apart } in &view.families {
            let is_dead = |state: &NodeState, serving: Option<bool>| {
                state.effective() == Effective::Up
                    && NodeState { serving, ..*state }.effective() != Effective::Up
            };
            let each = cluster.nodes.iter().zip(&view.nodes).zip(serving);
            let dead = each
                .map(|((node, state), &serving)| node.address(*family).is_some() && is_dead(state, serving));
            nodes.insert(*family, dead.collect::<Vec<bool>>());
            let of_services = apart.iter().filter_map(|(name, serving)| {
                let service = cluster.services.iter().find(|service| service.name == *name)?;
                let whole = view.members.get(name)?;
                let each = service.candidates().zip(whole).zip(serving);
                let dead = each.filter_map(|((node, member), &serving)| {
                    let place = *places.get(node.as_str())?;
                    let state = view.nodes[place].as_member(member);
                    (cluster.nodes[place].address(*family).is_some() && is_dead(&state, serving))
                        .then_some(place)
                });
                Some((name.clone(), dead.collect()))
            });
            members.insert(*family, of_services.collect());
        }
        let is_doubted = |index: usize| nodes.values().any(|dead: &Vec<bool>| dead[index]);
        let whole = trusted(&view.nodes).into_iter().filter(|&index| !is_doubted(index)).collect();
        Doubted { nodes, members, whole }
    }

    fn has(&self, family: Family) -> bool {
        let has_member = || self.members[&family].values().any(|dead| !dead.is_empty());
        self.nodes.values().flatten().any(|dead| *dead) || has_member()
    }
}

/// One family, as it is decided about.
struct OneFamily<'a> {
    cluster: &'a Cluster,
    view: &'a View,
    family_view: &'a FamilyView,
    doubted: &'a Doubted,
}

impl OneFamily<'_> {
    fn apart(&self, rules: &Failover, answers: &Answers, previous: Option<&Decision>) -> Apart {
        let OneFamily { cluster, family_view, doubted, .. } = self;
        let family = family_view.family;
        let dead = &doubted.nodes[&family];
        let places: Vec<usize> = (0..cluster.nodes.len())
            .filter(|&index| cluster.nodes[index].address(family).is_some())
            .collect();
        let (decided, all_down) = self.decided(rules, &places, previous);
        let own = |node: usize| {
            let place = places.binary_search(&node).ok()?;
            decided.by_node[place].map(|answering| places[answering])
        };
        let mut apart = Apart { all_down, ..Apart::default() };
        for (index, answering) in answers.by_node.iter().enumerate() {
            let Some(answering) = *answering else { continue };
            let has_half = doubted.nodes.values().any(|dead| dead[answering]);
            let other = if has_half && answering != index && !doubted.whole.is_empty() {
                // A client that asks for both families reaches one machine.
                substitute(cluster, index, &doubted.whole)
            } else if dead[answering] {
                own(if cluster.nodes[index].address(family).is_some() { index } else { answering })
            } else {
                Some(answering)
            };
            if other != Some(answering) {
                apart.nodes.insert(index, other);
            }
        }
        for (service, answering) in answers.services() {
            let members = doubted.members[&family].get(service);
            let is_dead = |node: &usize| members.map_or(dead[*node], |members| members.contains(node));
            if !answering.iter().any(is_dead) {
                continue;
            }
            let in_family = decided.service(service);
            let other = in_family.map(|nodes| nodes.iter().map(|&place| places[place]).collect());
            let living = || answering.iter().copied().filter(|node| !is_dead(node)).collect();
            let other: Vec<usize> = other.unwrap_or_else(living);
            if other != *answering {
                apart.services.insert(service.to_owned(), other);
            }
        }
        apart
    }

    /// The decision about the nodes that have the family, and whether none of them is up. The quorum is that of the decision
    /// about all nodes.
    fn decided(
        &self,
        rules: &Failover,
        places: &[usize],
        previous: Option<&Decision>,
    ) -> (Arc<Answers>, bool) {
        let OneFamily { cluster, view, family_view, .. } = self;
        let names: BTreeSet<&str> = places.iter().map(|&place| cluster.nodes[place].name.as_str()).collect();
        let has = |name: &String| names.contains(name.as_str());
        let nodes: Vec<Node> = places.iter().map(|&place| cluster.nodes[place].clone()).collect();
        let mut members = BTreeMap::new();
        let services = cluster.services.iter().filter_map(|service| {
            let [named, backup] = [&service.nodes, &service.backup]
                .map(|names| names.iter().filter(|name| has(name)).cloned().collect::<Vec<String>>());
            if let Some((whole, serving)) =
                view.members.get(&service.name).zip(family_view.members.get(&service.name))
            {
                let each = service.candidates().zip(whole).zip(serving);
                let states = each.filter(|((name, _), _)| has(name));
                let states = states.map(|((_, whole), &serving)| MemberState { serving, ..*whole });
                members.insert(service.name.clone(), states.collect::<Vec<MemberState>>());
            }
            let min_healthy = service.min_healthy.min(named.len());
            let is_there = !named.is_empty() || !backup.is_empty();
            is_there.then(|| Service { nodes: named, backup, min_healthy, ..service.clone() })
        });
        let services = services.collect();
        let part = Cluster::new(nodes, services);
        members.retain(|_, states| !states.is_empty());
        let states = places.iter().map(|&place| {
            let state = view.nodes[place];
            // Another node is up in the other family: a held node is not needed.
            let admin = if state.effective() == Effective::Held { Admin::Down } else { state.admin };
            NodeState { serving: family_view.nodes[place], admin, ..state }
        });
        let view = View { nodes: states.collect(), members, ..View::default() };
        let rules = Failover { quorum: Quorum::Count(0), witness: Vec::new(), ..rules.clone() };
        let previous = previous.map(|previous| previous.in_family(family_view.family));
        let decision = decide(&part, &rules, &view, previous.as_ref());
        let all_down = !decision.effective.contains(&Effective::Up) && !decision.drained;
        (decision.answers, all_down)
    }
}

impl Decision {
    /// The same, with what this family answered.
    fn in_family(&self, family: Family) -> Decision {
        let mut decision = self.clone();
        let answers = Arc::make_mut(&mut decision.answers);
        for (&node, &answering) in &self.answers.families.of(family).nodes {
            if let (Some(of_node), Some(answering)) = (answers.by_node.get_mut(node), answering) {
                *of_node = Some(answering);
            }
        }
        answers.families = Families::default();
        decision
    }
}

#[cfg(test)]
mod tests;
