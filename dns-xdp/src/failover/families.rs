//! The answers of one family if its health differs from the other family's. This module is pure.
//!
//! The decision is made about nodes: a node is up while one of its families is. If the answers have a node whose IPv4
//! or IPv6 is dead, [`super::decide`] also decides for that family alone (`decided`). That decision is about the nodes
//! with that family. While the answers are frozen, the answers of a family stay too, except where an operator's intent
//! changes them (`frozen`).
mod decided;
mod frozen;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub(super) use self::decided::families;
pub(super) use self::frozen::Frozen;
use super::{Answers, Decision, Effective, MemberState, NodeState, View};
use crate::cluster::{Cluster, Family, FamilyPart};

/// The results of the probes in one family. A [`View`] has both families if they differ for some node, otherwise none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FamilyView {
    /// The family.
    pub family: Family,
    /// Like [`NodeState::serving`], in the order of the cluster's nodes. A node without the family has the value of the
    /// node.
    pub nodes: Vec<Option<bool>>,
    /// The results for the members of each service with its own probes.
    pub members: BTreeMap<String, Vec<Option<bool>>>,
}

/// The names whose nodes in one family differ from the decision about nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Families {
    ipv4: Apart,
    ipv6: Apart,
}

/// The names whose nodes in this family differ from the decision about nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apart {
    /// For such a node, the node whose address its name answers; `None`: no address of this family.
    pub nodes: BTreeMap<usize, Option<usize>>,
    /// The nodes whose addresses such a service answers, by its place in [`Answers::services`]. Services share these
    /// lists too.
    pub services: BTreeMap<usize, Arc<[usize]>>,
    /// The kind of nodes that answer while no node is up in this family. `None`: a node is up, or the families are
    /// alike.
    pub last_resort: Option<LastResort>,
}

/// The kind of addresses that are answered while no node is up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LastResort {
    /// The addresses of held nodes.
    Held,
    /// The addresses of drained nodes.
    Drained,
    /// The addresses that `all-down` chooses.
    AllDown,
}

impl Families {
    /// Whether the answers of both families equal the decision about nodes.
    pub fn are_alike(&self) -> bool {
        *self == Families::default()
    }

    /// Returns the answers that differ in a family.
    pub fn of(&self, family: Family) -> &Apart {
        match family {
            Family::Ipv4 => &self.ipv4,
            Family::Ipv6 => &self.ipv6,
        }
    }

    /// Sets the answers that differ in a family.
    pub(super) fn set(&mut self, family: Family, apart: Apart) {
        match family {
            Family::Ipv4 => self.ipv4 = apart,
            Family::Ipv6 => self.ipv6 = apart,
        }
    }

    /// Returns the same answers for a cluster in which nodes and services have other places. A name is left out if its
    /// nodes were removed.
    pub(super) fn carried(
        &self,
        place: impl Fn(usize) -> Option<usize>,
        place_of_service: impl Fn(usize) -> Option<usize>,
    ) -> Families {
        let carried = |apart: &Apart| {
            let mut lists: HashMap<*const usize, Option<Arc<[usize]>>> = HashMap::new();
            let service = |(&service, answering): (&usize, &Arc<[usize]>)| {
                let list = lists.entry(answering.as_ptr()).or_insert_with(|| {
                    let left: Vec<usize> = answering.iter().filter_map(|&node| place(node)).collect();
                    (answering.is_empty() || !left.is_empty()).then(|| left.into())
                });
                Some((place_of_service(service)?, list.clone()?))
            };
            let node = |(&node, &answering): (&usize, &Option<usize>)| match answering {
                Some(answering) => Some((place(node)?, Some(place(answering)?))),
                None => Some((place(node)?, None)),
            };
            Apart {
                nodes: apart.nodes.iter().filter_map(node).collect(),
                services: apart.services.iter().filter_map(service).collect(),
                last_resort: apart.last_resort,
            }
        };
        Families { ipv4: carried(&self.ipv4), ipv6: carried(&self.ipv6) }
    }
}

/// [`Apart`] by the names of nodes, in the form that is kept on disk over a restart.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastApart {
    /// Like [`Apart::nodes`].
    #[serde(default)]
    pub nodes: BTreeMap<String, Option<String>>,
    /// Like [`Apart::services`].
    #[serde(default)]
    pub services: BTreeMap<String, Vec<String>>,
}

impl Families {
    /// Returns the differences by the names of nodes and services. Families without a difference are left out.
    pub(super) fn named(
        &self,
        name: impl Fn(usize) -> String,
        name_of_service: impl Fn(usize) -> String,
    ) -> BTreeMap<Family, LastApart> {
        let apart = Family::ALL.into_iter().map(|family| (family, self.of(family)));
        let apart = apart.filter(|(_, apart)| !apart.nodes.is_empty() || !apart.services.is_empty());
        let named = apart.map(|(family, apart)| {
            let nodes = apart.nodes.iter().map(|(&node, answering)| (name(node), answering.map(&name)));
            let services = apart.services.iter().map(|(&service, answering)| {
                (name_of_service(service), answering.iter().map(|&node| name(node)).collect())
            });
            (family, LastApart { nodes: nodes.collect(), services: services.collect() })
        });
        named.collect()
    }

    /// Returns differences that were kept by names. `place` and `place_of_service` return the places of nodes and
    /// services.
    pub(super) fn placed(
        named: &BTreeMap<Family, LastApart>,
        place: impl Fn(&String) -> Option<usize>,
        place_of_service: impl Fn(&String) -> Option<usize>,
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
            let services = last.services.iter().filter_map(|(service, nodes)| {
                Some((place_of_service(service)?, nodes.iter().filter_map(&place).collect()))
            });
            let apart = Apart { nodes: nodes.collect(), services: services.collect(), ..Apart::default() };
            families.set(family, apart);
        }
        families
    }
}

impl Answers {
    /// Returns the node whose address a node's name answers in this family.
    pub fn node_in(&self, family: Family, node: usize) -> Option<usize> {
        let apart = self.families.of(family).nodes.get(&node);
        apart.copied().unwrap_or_else(|| self.by_node.get(node).copied().flatten())
    }

    /// Returns the nodes whose addresses a service answers in this family.
    pub fn service_in(&self, family: Family, service: &str) -> &[usize] {
        let place = self.place_of_service(service);
        place.map(|place| self.service_at(family, place)).unwrap_or_default()
    }

    /// Returns the nodes that the service at this place in [`Answers::services`] answers in a family.
    pub(super) fn service_at(&self, family: Family, place: usize) -> &[usize] {
        self.families.of(family).services.get(&place).unwrap_or(&self.services[place])
    }
}

impl Decision {
    /// Whether a node was down in a family; `place` as in [`Decision::is_out`].
    pub fn is_out_in(&self, family: Family, place: usize, node: &str) -> bool {
        let Some(place) = self.answers.place(place, node) else { return false };
        let is_apart = self.answers.families.of(family).nodes.contains_key(&place);
        self.effective.get(place) == Some(&Effective::Down)
            || is_apart && self.answers.by_node.get(place) == Some(&Some(place))
    }
}

/// The service lists computed so far. The key is the group of the services and the 2 lists that a list is made from.
/// `None`: the families of such services are alike.
type Lists = HashMap<(usize, [*const usize; 2]), Option<Arc<[usize]>>>;

/// Returns the view of the nodes that have a family. `found` has the probes' results in the family, if they differ from
/// the results for the nodes.
fn part_view(cluster: &Cluster, part: &FamilyPart, view: &View, found: Option<&FamilyView>) -> View {
    let node = |&place: &usize| {
        let state = view.nodes[place];
        let serving = found.map_or(state.serving, |found| found.nodes[place]);
        NodeState { serving, ..state }
    };
    let members = view.members.iter().filter_map(|(name, whole)| {
        let (_, group) = cluster.members().service(name)?;
        let serving = found.and_then(|found| found.members.get(name));
        let candidates = group.members.iter().chain(&*group.backup).zip(whole).enumerate();
        let has_family = candidates.filter(|(_, (node, _))| part.place(**node).is_some());
        let state = |(place, (_, whole)): (usize, (&usize, &MemberState))| {
            let serving = serving.and_then(|serving| serving.get(place));
            MemberState { serving: serving.copied().unwrap_or(whole.serving), ..*whole }
        };
        let states: Vec<MemberState> = has_family.map(state).collect();
        (!states.is_empty()).then(|| (name.clone(), states))
    });
    let (nodes, members) = (part.places().iter().map(node).collect(), members.collect());
    View { nodes, members, ..View::default() }
}

#[cfg(test)]
mod tests;
