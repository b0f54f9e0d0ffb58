//! The answers of a family while the answers are frozen, with the operator's intents.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::rendezvous::substitute;
use super::super::service;
use super::super::{Answers, View};
use super::{Apart, Families, Lists, part_view};
use crate::cluster::{Admin, Cluster, Family};

/// The frozen answers, and the view with the operator's intents.
pub(in super::super) struct Frozen<'a> {
    pub(in super::super) cluster: &'a Cluster,
    pub(in super::super) view: &'a View,
    /// The frozen answers without the operator's intents, for this cluster.
    pub(in super::super) kept: &'a Answers,
}

impl Frozen<'_> {
    /// Whether an operator has taken a node out.
    pub(in super::super) fn is_out(&self, node: usize) -> bool {
        matches!(self.view.nodes[node].admin, Admin::Down | Admin::Drain)
    }

    /// Whether an operator wants a node up.
    pub(in super::super) fn is_in(&self, node: usize) -> bool {
        self.view.nodes[node].admin == Admin::Up
    }

    /// Whether a node was up, and dead in one of its families.
    pub(in super::super) fn is_half_dead(&self, node: usize) -> bool {
        Family::ALL.into_iter().any(|family| self.is_dead(family, node))
    }

    fn is_dead(&self, family: Family, node: usize) -> bool {
        let is_apart = self.kept.families.of(family).nodes.contains_key(&node);
        is_apart && self.kept.by_node[node] == Some(node) && !self.is_in(node)
    }

    /// Returns the answers of each family. `now` has the answers about nodes with the operator's intents, and was made
    /// with `substitutes`.
    ///
    /// A node that an operator wants up answers for itself. A node that is out, or dead in the family, is replaced by a
    /// node that was healthy in the family.
    pub(in super::super) fn families(&self, now: &Answers, substitutes: &[usize]) -> Families {
        let mut families = self.kept.families.clone();
        for family in Family::ALL {
            let kept = self.kept.families.of(family);
            if !kept.nodes.is_empty() || !kept.services.is_empty() {
                families.set(family, self.apart(family, now, substitutes));
            }
        }
        families
    }

    fn apart(&self, family: Family, now: &Answers, substitutes: &[usize]) -> Apart {
        let kept = self.kept.families.of(family);
        let lives = |&node: &usize| {
            now.by_node[node] == Some(node) && !self.is_out(node) && !self.is_dead(family, node)
        };
        let living: Vec<usize> =
            self.cluster.in_family(family).places().iter().copied().filter(lives).collect();
        let is_whole = |node: &usize| {
            !self.is_half_dead(*node) && !self.is_out(*node) && self.cluster.nodes[*node].is_probed()
        };
        let whole: Vec<usize> = substitutes.iter().copied().filter(is_whole).collect();
        let other = |index: usize| {
            let is_itself = now.by_node[index] == Some(index);
            // A client that asks for both families has to reach one machine. A node that answers for its own name in
            // the other family is the exception.
            let candidates = if is_itself || whole.is_empty() { &living } else { &whole };
            substitute(self.cluster, index, candidates)
        };
        let mut nodes = BTreeMap::new();
        for (index, &answering) in now.by_node.iter().enumerate().filter(|(index, _)| !self.is_in(*index)) {
            let before = kept.nodes.get(&index).filter(|_| !self.is_out(index));
            let in_family = match (before, answering) {
                (Some(&Some(before)), _) if self.is_out(before) => other(index).or(Some(before)),
                (Some(&before), _) => before,
                (None, Some(answering)) if self.is_dead(family, answering) => {
                    other(index).or_else(|| self.kept.node_in(family, answering))
                }
                (None, answering) => answering,
            };
            if in_family != answering {
                nodes.insert(index, in_family);
            }
        }
        let services = self.services(family, now, &nodes, &living);
        Apart { nodes, services, last_resort: kept.last_resort }
    }

    /// Returns the services whose answers in this family differ from `now`. Looks at services that differed before, and
    /// at services that an intent has changed. `nodes` has the node names that differ. `living` has the nodes that
    /// answer for themselves in the family. Computes each list once.
    fn services(
        &self,
        family: Family,
        now: &Answers,
        nodes: &BTreeMap<usize, Option<usize>>,
        living: &[usize],
    ) -> BTreeMap<usize, Arc<[usize]>> {
        let Frozen { cluster, view, kept } = self;
        let part = cluster.in_family(family);
        let found = view.families.iter().find(|found| found.family == family);
        let part_view = part_view(cluster, part, view, found);
        let by_node = part.places().iter().map(|node| {
            let answering = nodes.get(node).copied().unwrap_or(now.by_node[*node]);
            answering.and_then(|answering| part.place(answering))
        });
        let by_node: Vec<Option<usize>> = by_node.collect();
        let left: BTreeSet<usize> = living.iter().filter_map(|&node| part.place(node)).collect();
        let other = |group: usize, before: &[usize], now: &[usize]| {
            let before: Vec<usize> = before.iter().filter_map(|&node| part.place(node)).collect();
            let group = &part.cluster().members().groups()[group];
            let is_probed = |place: usize| part.cluster().nodes[place].is_probed();
            let other = service::frozen(group, &part_view, &before, &by_node, &left, is_probed);
            let other: Arc<[usize]> = other.iter().map(|&place| part.places()[place]).collect();
            let now = now.iter().filter(|node| part.place(**node).is_some());
            (!now.eq(&*other)).then_some(other)
        };
        let mut lists = Lists::new();
        let both = kept.services.iter().zip(&now.services);
        let each = cluster.members().groups_of().iter().zip(both).enumerate();
        let services = each.filter_map(|(service, (&group, (before, now)))| {
            let apart = kept.families.of(family).services.get(&service);
            if apart.is_none() && before == now {
                return None;
            }
            let before = apart.unwrap_or(before);
            let list = lists.entry((group, [before, now].map(|list| list.as_ptr())));
            let list = list.or_insert_with(|| other(group, before, now));
            Some((service, Arc::clone(list.as_ref()?)))
        });
        services.collect()
    }
}
