//! Chooses a substitute: by the operator's order, otherwise by rendezvous hashing (highest random weight).
//!
//! Each server computes the same choice from names alone. A death moves only the names that the dead node answered. The
//! names of several dead nodes spread over all healthy nodes.
use std::cmp::Reverse;

use crate::cluster::{Cluster, Node};
use crate::fnv::Fnv1a;

/// The node that answers for the node at `dead`. First choice: the first healthy node of its `backup` list that shares
/// an address family with it. Otherwise the healthy node that shares the most families; among those, the one with the
/// highest weight. A node that is not probed is chosen only by a `backup` list. `None`: there is no such node.
pub(super) fn substitute(cluster: &Cluster, dead: usize, healthy: &[usize]) -> Option<usize> {
    let dead = &cluster.nodes[dead];
    let healthy_named =
        |name: &String| healthy.iter().copied().find(|&index| cluster.nodes[index].name == *name);
    let mut backup = dead.backup.iter().filter_map(healthy_named);
    let preference = |&index: &usize| {
        let candidate = &cluster.nodes[index];
        (shared_families(dead, candidate), best_draw(&dead.name, candidate), Reverse(&candidate.name))
    };
    backup.find(|&index| shared_families(dead, &cluster.nodes[index]) > 0).or_else(|| {
        let probed = healthy.iter().copied().filter(|&index| cluster.nodes[index].is_probed());
        probed.max_by_key(preference)
    })
}

/// Returns how many families both nodes have. A node that lacks the address set has none, so every family of the
/// candidate counts.
fn shared_families(dead: &Node, candidate: &Node) -> usize {
    let lacks_the_set = !dead.has_address();
    let ipv4 = (dead.ipv4.is_some() || lacks_the_set) && candidate.ipv4.is_some();
    let ipv6 = (dead.ipv6.is_some() || lacks_the_set) && candidate.ipv6.is_some();
    usize::from(ipv4) + usize::from(ipv6)
}

/// The best of `weight` draws for the candidate. A candidate therefore wins in proportion to its weight, computed in
/// integers only.
fn best_draw(dead: &str, candidate: &Node) -> u64 {
    let first = weight(dead, &candidate.name);
    let draw = |number| finalize(first.wrapping_add(u64::from(number)));
    (1..candidate.weight).map(draw).fold(first, u64::max)
}

/// Returns FNV-1a (64 bits) of both names with a zero byte between them, after the finalizer of MurmurHash3. Without
/// the finalizer, names that differ only in the last byte would not spread. This function must never change, because
/// servers of different versions have to agree.
pub(crate) fn weight(dead: &str, candidate: &str) -> u64 {
    let mut hash = Fnv1a::new();
    hash.add(dead.bytes().chain([0]).chain(candidate.bytes()));
    finalize(hash.finish())
}

fn finalize(mut hash: u64) -> u64 {
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xff51_afd7_ed55_8ccd);
    hash = (hash ^ (hash >> 33)).wrapping_mul(0xc4ce_b9fe_1a85_ec53);
    hash ^ (hash >> 33)
}

#[cfg(test)]
mod tests {
    use super::super::tests::node;
    use super::*;
    use std::collections::BTreeMap;

    fn cluster(nodes: Vec<Node>) -> Cluster {
        Cluster::new(nodes, Vec::new())
    }

    fn ten_healthy_and_two_hundred_dead() -> (Cluster, Vec<usize>) {
        (cluster((1..=210).map(|number| node(number, true, false)).collect()), (0..10).collect())
    }

    #[test]
    fn the_weights_are_the_same_in_every_version() {
        assert_eq!(weight("node2", "node1"), 0xb711_6e5d_c1c0_ec1b);
        assert_eq!(weight("node2", "node3"), 0x1be6_1baa_82c7_7471);
    }

    #[test]
    fn a_node_that_joins_the_dead_moves_only_the_names_that_it_answered() {
        let (cluster, healthy) = ten_healthy_and_two_hundred_dead();
        let lost = 3;
        let fewer: Vec<usize> = healthy.iter().copied().filter(|&index| index != lost).collect();
        for dead in 10..210 {
            let [before, after] = [&healthy, &fewer].map(|healthy| substitute(&cluster, dead, healthy));
            assert_eq!(before == after, before != Some(lost), "{dead}");
        }
    }

    #[test]
    fn the_dead_are_spread_over_all_that_are_healthy() {
        let (cluster, healthy) = ten_healthy_and_two_hundred_dead();
        let mut shares: BTreeMap<usize, usize> = BTreeMap::new();
        for dead in 10..210 {
            *shares.entry(substitute(&cluster, dead, &healthy).unwrap()).or_default() += 1;
        }
        assert_eq!(shares.len(), 10);
        assert!(shares.values().all(|share| (8..=36).contains(share)), "{shares:?}");
    }

    #[test]
    fn a_node_with_more_weight_takes_over_more_in_proportion() {
        let (mut cluster, healthy) = ten_healthy_and_two_hundred_dead();
        cluster.nodes[4].weight = 10;
        let taken = (10..210).filter(|&dead| substitute(&cluster, dead, &healthy) == Some(4)).count();
        assert!((85..=126).contains(&taken), "{taken} of 200, 105 are its share");
    }

    #[test]
    fn the_order_of_the_backup_list_comes_before_the_hash() {
        let mut nodes: Vec<Node> = (1..=5).map(|number| node(number, true, false)).collect();
        nodes[0].backup = vec!["node4".to_owned(), "node2".to_owned()];
        let cluster = cluster(nodes);
        assert_eq!(substitute(&cluster, 0, &[1, 2, 3, 4]), Some(3));
        assert_eq!(substitute(&cluster, 0, &[1, 2, 4]), Some(1));
        assert!(substitute(&cluster, 0, &[2, 4]).is_some());
        assert_eq!(substitute(&cluster, 0, &[]), None);
    }

    #[test]
    fn a_substitute_has_the_families_of_the_dead_node_where_there_is_such_a_node() {
        let mut nodes =
            vec![node(1, true, true), node(2, true, false), node(3, false, true), node(4, true, true)];
        nodes.push(node(5, false, true));
        let cluster = cluster(nodes);
        assert_eq!(substitute(&cluster, 0, &[1, 2, 3]), Some(3));
        assert_eq!(substitute(&cluster, 4, &[1, 2]), Some(2));
        assert_eq!(substitute(&cluster, 4, &[1]), Some(1));
    }

    #[test]
    fn a_backup_without_a_family_of_the_dead_node_is_passed_over() {
        let dead = Node { backup: vec!["node2".to_owned()], ..node(1, true, false) };
        let cluster = cluster(vec![dead, node(2, false, true), node(3, true, false)]);
        assert_eq!(substitute(&cluster, 0, &[1, 2]), Some(2));
    }
}
