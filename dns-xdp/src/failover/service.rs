//! Chooses the nodes that one service answers, among its members and its backups. This module is pure.
use std::collections::BTreeSet;

use super::holds::held;
use super::{MemberState, NodeState, View, trusted};
use crate::cluster::{Admin, AllDown, Group, Order};

/// The nodes that a service answers while one of its members or backups is healthy. `None`: the service is down.
/// `is_healthy` tells whether a node is healthy by the node's own probes.
///
/// The healthy members answer, all of them or the first. If fewer than `min-healthy` are healthy, all members that are
/// neither held nor taken out by an operator answer. While no member is healthy, the first healthy backup answers.
pub(super) fn serving(group: &Group, view: &View, is_healthy: impl Fn(usize) -> bool) -> Option<Vec<usize>> {
    let [members, backups] = healthy(group, view, &is_healthy);
    if members.is_empty() {
        return backups.first().map(|&first| vec![first]);
    }
    if members.len() < group.min_healthy {
        let taken_out = |&index: &usize| is_taken_out(view, index) && !is_healthy(index);
        let left: Vec<usize> = group.members.iter().copied().filter(|index| !taken_out(index)).collect();
        return Some(if left.is_empty() { members } else { left });
    }
    Some(in_order(group.order, members))
}

/// The rule for the answer of a service while it is down. `usual`: the rule of `[failover]`, which holds for services
/// with their own probes. Other services answer their members' substitutes, like the members' own names.
pub(super) fn rule_while_down(group: &Group, usual: AllDown) -> AllDown {
    let usual = if group.apart.is_some() { usual } else { AllDown::Configured };
    group.all_down.unwrap_or(usual)
}

/// The answer of a service that is down and fails open: the nodes that answer for its members by `by_node`. With
/// `min-healthy`, the answer is the members that an operator has not taken out.
pub(super) fn fail_open(
    group: &Group,
    view: &View,
    by_node: &[Option<usize>],
    is_healthy: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let taken_out = |&index: &usize| is_taken_out(view, index) && !is_healthy(index);
    let left = group.members.iter().copied().filter(|index| group.min_healthy > 0 && !taken_out(index));
    let left: Vec<usize> = left.collect();
    if !left.is_empty() {
        return in_order(group.order, left);
    }
    in_order(group.order, distinct(group.members.iter().filter_map(|&member| by_node[member])))
}

/// The nodes of `kept`, the service's earlier answer, without nodes that an operator has taken out.
pub(super) fn remaining(group: &Group, view: &View, kept: &[usize]) -> Vec<usize> {
    in_order(group.order, kept.iter().copied().filter(|&index| !is_taken_out(view, index)).collect())
}

/// Returns the nodes that a service answers with while the answers are frozen.
///
/// `kept` are the nodes of its previous answer. `by_node[i]` is the node that answers for node `i`, with the operator's
/// intents applied. `left` are the nodes that answer for themselves and that no operator has taken out. `is_probed` tells
/// whether a node has probes: a node without probes answers for no other.
///
/// Members that an operator wants up are added. If an operator has taken out every node of the answer, the first group
/// that is not empty answers. The groups are: members known to be healthy, members that were healthy before, backups of
/// both kinds, substitutes.
pub(super) fn frozen(
    group: &Group,
    view: &View,
    kept: &[usize],
    by_node: &[Option<usize>],
    left: &BTreeSet<usize>,
    is_probed: impl Fn(usize) -> bool,
) -> Vec<usize> {
    let members = &group.members;
    let is_in = |index: &usize| view.nodes[*index].admin == Admin::Up;
    let wanted: Vec<usize> = members.iter().copied().filter(is_in).collect();
    let mut answering = kept.to_vec();
    if !wanted.is_empty() && group.apart.is_none() {
        // With a member in the answers, a substitute is not needed.
        answering.retain(|index| members.contains(index));
        answering = distinct(answering.into_iter().chain(wanted));
    }
    if group.order == Order::First {
        // The file's order decides. It does not matter when each member came into the answers.
        answering.sort_by_key(|index| members.iter().position(|member| member == index));
        answering.sort_by_key(|index| !members.contains(index));
    }
    if left.is_empty() || answering.is_empty() {
        return in_order(group.order, answering);
    }
    let stay = remaining(group, view, &answering);
    if !stay.is_empty() {
        return stay;
    }
    let [all_members, all_backups] = states(group, view);
    for (nodes, is_backup) in [(all_members, false), (all_backups, true)] {
        let fit = |known: fn(&NodeState) -> bool, before: bool| -> Vec<usize> {
            let fit = nodes.iter().filter(|(index, state)| {
                !is_taken_out(view, *index) && known(state) && (!before || left.contains(index))
            });
            fit.map(|(index, _)| *index).collect()
        };
        let healthy = fit(|state| state.serving == Some(true), false);
        let healthy = if healthy.is_empty() { fit(|state| state.serving.is_none(), true) } else { healthy };
        // If a member's node was healthy before, its silence may come from this server's own network.
        let is_probed_as_node = group.apart.is_none();
        let healthy = if healthy.is_empty() && is_probed_as_node { fit(|_| true, true) } else { healthy };
        if let Some(&first) = healthy.first() {
            return if is_backup { vec![first] } else { in_order(group.order, healthy) };
        }
    }
    let substitutes = distinct(answering.iter().filter_map(|&member| by_node[member]));
    if !substitutes.is_empty() {
        return in_order(group.order, substitutes);
    }
    // Node names are refused, except for nodes that an operator wants up, and for nodes without probes.
    let own: Vec<usize> = members.iter().copied().filter(|index| left.contains(index)).collect();
    if !own.is_empty() {
        return in_order(group.order, own);
    }
    match left.iter().find(|&&index| is_probed(index)) {
        Some(&other) => vec![other],
        None => in_order(group.order, answering),
    }
}

/// The healthy members and the healthy backups.
fn healthy(group: &Group, view: &View, is_healthy: &impl Fn(usize) -> bool) -> [Vec<usize>; 2] {
    if !group.apart.as_ref().is_some_and(|name| view.members.contains_key(name)) {
        let healthy = |nodes: &[usize]| nodes.iter().copied().filter(|&index| is_healthy(index)).collect();
        return [healthy(&group.members), healthy(&group.backup)];
    }
    states(group, view).map(|nodes| {
        let states: Vec<NodeState> = nodes.iter().map(|(_, state)| *state).collect();
        let mut healthy: Vec<usize> = trusted(&states).into_iter().map(|place| nodes[place].0).collect();
        if healthy.is_empty() {
            // Held nodes count if no node is up, because they then count as healthy nodes.
            let held = held(&states).into_iter().map(|place| nodes[place].0);
            healthy = held.filter(|&index| is_healthy(index)).collect();
        }
        healthy
    })
}

/// The state of each member and of each backup: by the service's own probes, if it has any.
fn states(group: &Group, view: &View) -> [Vec<(usize, NodeState)>; 2] {
    let apart = group.apart.as_ref().and_then(|name| view.members.get(name)).map(Vec::as_slice);
    let apart = apart.unwrap_or_default();
    let (members, backups) = apart.split_at(group.members.len().min(apart.len()));
    let state = |nodes: &[usize], apart: &[MemberState]| {
        let state = |(place, &index): (usize, &usize)| {
            let node = &view.nodes[index];
            (index, apart.get(place).map_or(*node, |member| node.as_member(member)))
        };
        nodes.iter().enumerate().map(state).collect()
    };
    [state(&group.members, members), state(&group.backup, backups)]
}

fn is_taken_out(view: &View, index: usize) -> bool {
    view.nodes[index].is_taken_out()
}

fn in_order(order: Order, mut nodes: Vec<usize>) -> Vec<usize> {
    if order == Order::First {
        nodes.truncate(1);
    }
    nodes
}

pub(super) fn distinct(nodes: impl Iterator<Item = usize>) -> Vec<usize> {
    let mut seen = BTreeSet::new();
    nodes.filter(|&node| seen.insert(node)).collect()
}

#[cfg(test)]
mod tests;
