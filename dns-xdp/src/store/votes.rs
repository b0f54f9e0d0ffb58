//! The agreement of several servers on their subjects, and which server probes which node. This module is pure.
//!
//! Every server computes both from the same documents, so that no server has to tell another.
mod vote_count;

use std::cmp::Reverse;
use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};

pub use self::vote_count::VoteCount;
pub use crate::config::Observers;
use crate::failover::rendezvous::weight;

/// One server's verdicts on its subjects, each by the text of its [`Subject`](crate::health::Subject). A subject in
/// none of the sets has no verdict. A verdict on a subject holds for both families of its addresses, unless `node1
/// ipv6` is in a set too.
///
/// Unknown fields are ignored, because servers of several versions read each other's verdicts during an upgrade.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdicts {
    /// The subjects that pass their probes.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub up: BTreeSet<String>,
    /// The subjects that fail, but whose hosts answer.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub down: BTreeSet<String>,
    /// The subjects that fail, and whose hosts are silent.
    #[serde(default, rename = "gone", skip_serializing_if = "BTreeSet::is_empty")]
    pub unreachable: BTreeSet<String>,
    /// The nodes that fell for this server and have no hold in the store yet. This is not a verdict on their present
    /// health.
    #[serde(default, skip_serializing_if = "BTreeSet::is_empty")]
    pub fallen: BTreeSet<String>,
}

/// The servers' agreement on a subject.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Agreed {
    /// Whether the subject belongs in the answers; `None`: no server has judged it.
    pub serving: Option<bool>,
    /// Whether its host may be visible: it is not known to be silent.
    pub visible: bool,
    /// Whether its host is silent, and more than one server says so.
    pub confirmed_unreachable: bool,
    /// The number of servers that find it up.
    pub up: usize,
    /// The number of servers that find it down.
    pub down: usize,
    /// The number of servers that have to find it down.
    pub needed: usize,
}

/// The servers that probe a node. These are the `count` servers (at least one) with the highest weight for the node
/// (rendezvous hashing), and the server of the node's own name. With rendezvous hashing, a server that comes or goes
/// moves few nodes.
pub fn probers<'a>(
    node: &str,
    servers: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> BTreeSet<&'a str> {
    let (own, others): (BTreeSet<&str>, BTreeSet<&str>) =
        servers.into_iter().partition(|server| *server == node);
    let mut others: Vec<&str> = others.into_iter().collect();
    others.sort_by_cached_key(|server| Reverse((weight(node, server), *server)));
    others.truncate(count.max(1));
    own.into_iter().chain(others).collect()
}

/// Whether a server is among the [`probers`] of a node, computed without the whole list.
pub fn is_prober<'a>(
    server: &str,
    node: &str,
    servers: impl IntoIterator<Item = &'a str>,
    count: usize,
) -> bool {
    let own = (weight(node, server), server);
    let ahead = |other: &&str| *other != node && (weight(node, other), *other) > own;
    server == node || servers.into_iter().filter(ahead).count() < count.max(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use proptest::prelude::*;

    const SUBJECT: &str = "node1";

    /// The verdicts of servers on one subject, one letter each: up, down, gone (unreachable), or no verdict.
    fn said(letters: &str) -> BTreeMap<String, Verdicts> {
        let verdicts = letters.chars().map(|letter| {
            let mut verdicts = Verdicts::default();
            let said = match letter {
                'u' => &mut verdicts.up,
                'd' => &mut verdicts.down,
                'g' => &mut verdicts.unreachable,
                _ => return verdicts,
            };
            said.insert(SUBJECT.to_owned());
            verdicts
        });
        (1..).map(|number| format!("server{number}")).zip(verdicts).collect()
    }

    fn agree(subject: &str, verdicts: &BTreeMap<String, Verdicts>, observers: Observers) -> Agreed {
        VoteCount::of(verdicts.values()).agree(subject, observers)
    }

    fn names(count: usize) -> Vec<String> {
        (1..=count).map(|number| format!("node{number}")).collect()
    }

    #[test]
    fn a_subject_is_dead_when_as_many_as_it_takes_say_so_and_silent_when_as_many_hear_nothing() {
        use Observers::{Count, Majority};
        let (yes, no) = (Some(true), Some(false));
        for (letters, observers, serving, visible, needed) in [
            ("", Majority, None, true, 1),
            ("???", Majority, None, true, 1),
            ("u", Majority, yes, true, 1),
            ("d", Majority, no, true, 1),
            ("g", Majority, no, false, 1),
            ("ug", Majority, yes, true, 2),
            ("gg", Majority, no, false, 2),
            ("ugu", Majority, yes, true, 2),
            ("ugg", Majority, no, false, 2),
            ("udg", Majority, no, true, 2),
            ("?dg", Majority, no, true, 2),
            ("uugg", Majority, yes, true, 3),
            ("uuggg", Majority, no, false, 3),
            ("uudgg", Majority, no, true, 3),
            ("uuuug", Count(1), no, false, 1),
            ("uuugg", Count(3), yes, true, 3),
            ("gg???", Count(3), no, false, 2),
            ("ug", Count(3), yes, true, 2),
            ("uuu", Count(0), yes, true, 1),
            ("ggg", Count(usize::MAX), no, false, 3),
        ] {
            let agreed = agree(SUBJECT, &said(letters), observers);
            let expected = Agreed {
                serving,
                visible,
                confirmed_unreachable: !visible && letters.matches('g').count() > 1,
                needed,
                up: letters.matches('u').count(),
                down: letters.matches(['d', 'g']).count(),
            };
            assert_eq!(agreed, expected, "{letters} {observers:?}");
        }
    }

    #[test]
    fn what_is_said_of_a_family_counts_for_it_and_what_is_said_of_the_subject_for_the_other() {
        let mut verdicts = said("uuu");
        for server in ["server1", "server2"] {
            verdicts.get_mut(server).unwrap().unreachable.insert(format!("{SUBJECT} ipv6"));
        }
        let counted = VoteCount::of(verdicts.values());
        let apart = |observers| counted.agree_apart(SUBJECT, "node1 ipv6", observers);
        let Agreed { serving, visible, up, down, .. } = apart(Observers::Majority);
        assert_eq!((serving, visible, up, down), (Some(false), false, 1, 2));
        assert_eq!(apart(Observers::Count(3)).serving, Some(true));
        assert_eq!(agree(SUBJECT, &verdicts, Observers::Majority).serving, Some(true));
        let older = VoteCount::of(said("ggu").values());
        assert_eq!(older.agree_apart(SUBJECT, "node1 ipv6", Observers::Majority).serving, Some(false));
    }

    #[test]
    fn a_server_has_one_vote_on_a_family_whatever_it_says_of_the_subject() {
        let mut verdicts = said("udg");
        for said in verdicts.values_mut() {
            said.up.insert(format!("{SUBJECT} ipv6"));
        }
        let counted = VoteCount::of(verdicts.values());
        let Agreed { up, down, .. } = counted.agree_apart(SUBJECT, "node1 ipv6", Observers::Majority);
        assert_eq!((up, down), (3, 0));
    }

    #[test]
    fn what_is_said_of_one_subject_says_nothing_of_another() {
        assert_eq!(agree("node2", &said("ggg"), Observers::Majority).serving, None);
    }

    #[test]
    fn a_server_that_says_several_things_has_one_vote_for_the_best_of_them() {
        let mut verdicts = said("gg");
        verdicts.get_mut("server1").unwrap().up.insert(SUBJECT.to_owned());
        let Agreed { serving, up, down, .. } = agree(SUBJECT, &verdicts, Observers::Majority);
        assert_eq!((serving, up, down), (Some(true), 1, 1));
    }

    #[test]
    fn verdicts_are_short_in_the_store_and_read_those_of_a_newer_version() {
        let [up, down] = [["node1", "node2"].as_slice(), &["node3 for db"]]
            .map(|subjects| subjects.iter().map(|&subject| subject.to_owned()).collect());
        let verdicts = Verdicts { up, down, ..Verdicts::default() };
        let text = serde_json::to_string(&verdicts).unwrap();
        assert_eq!(text, r#"{"up":["node1","node2"],"down":["node3 for db"]}"#);
        let newer = text.replace("\"up\"", "\"suspect\":[\"node1\"],\"up\"");
        assert_eq!(serde_json::from_str::<Verdicts>(&newer).unwrap(), verdicts);
        assert_eq!(serde_json::from_str::<Verdicts>("{}").unwrap(), Verdicts::default());
    }

    /// Pins the hash: if it changes, servers of different versions probe different nodes.
    #[test]
    fn the_probers_are_the_same_in_every_version() {
        let servers = names(7);
        let probers = |node| Vec::from_iter(probers(node, servers.iter().map(String::as_str), 2));
        assert_eq!(probers("node1"), ["node1", "node6", "node7"]);
        assert_eq!(probers("elsewhere"), ["node4", "node6"]);
    }

    #[test]
    fn a_node_has_a_prober_even_if_none_is_asked_for() {
        assert_eq!(probers("node2", ["node1"], 0), BTreeSet::from(["node1"]));
        assert!(probers("node2", [], 5).is_empty());
    }

    #[test]
    fn a_server_that_comes_or_goes_moves_its_share_of_the_nodes_and_no_more() {
        const PROBERS: usize = 5;
        let (servers, nodes) = (names(20), 1000);
        let (newcomer, known) = servers.split_last().unwrap();
        let mut moved = 0;
        for node in (0..nodes).map(|number| format!("host{number}")) {
            let [few, all] =
                [known, &servers].map(|servers| probers(&node, servers.iter().map(String::as_str), PROBERS));
            let lost: Vec<_> = few.difference(&all).collect();
            let gained: Vec<_> = all.difference(&few).collect();
            assert_eq!(lost.len(), gained.len());
            assert!(gained.is_empty() || gained == [newcomer], "{gained:?}");
            moved += gained.len();
        }
        let share = nodes * PROBERS / servers.len();
        assert!((share * 4 / 5..share * 6 / 5).contains(&moved), "{moved}, {share} is its share");
    }

    proptest! {
        #[test]
        fn one_server_alone_takes_no_node_out_where_three_have_judged(
            others in "u{2,9}", alone in "[ugd]", place in any::<prop::sample::Index>(),
        ) {
            let mut letters = others;
            letters.insert_str(place.index(letters.len() + 1), &alone);
            let agreed = agree(SUBJECT, &said(&letters), Observers::Majority);
            prop_assert_eq!((agreed.serving, agreed.visible), (Some(true), true));
        }

        #[test]
        fn it_does_not_matter_which_server_says_what(letters in "[udg?]{0,9}", count in 0usize..6, shuffled in any::<u64>()) {
            let observers = if count == 0 { Observers::Majority } else { Observers::Count(count) };
            let mut other: Vec<char> = letters.chars().collect();
            fastrand::Rng::with_seed(shuffled).shuffle(&mut other);
            let other: String = other.into_iter().collect();
            prop_assert_eq!(agree(SUBJECT, &said(&letters), observers), agree(SUBJECT, &said(&other), observers));
        }

        #[test]
        fn one_more_that_finds_it_dead_brings_no_node_back(letters in "[udg?]{1,9}") {
            let serving = |letters: &str| agree(SUBJECT, &said(letters), Observers::Majority).serving;
            let worse = letters.replacen('u', "g", 1);
            prop_assert!(serving(&letters) != Some(false) || serving(&worse) == Some(false));
        }

        #[test]
        fn a_silent_subject_is_not_serving(letters in "[udg?]{0,9}", count in 0usize..12) {
            for observers in [Observers::Majority, Observers::Count(count)] {
                let agreed = agree(SUBJECT, &said(&letters), observers);
                prop_assert!(agreed.visible || agreed.serving == Some(false));
            }
        }

        #[test]
        fn a_node_is_probed_by_as_many_as_are_wanted_and_by_itself(servers in 1usize..12, count in 1usize..8, node in 1usize..15, shuffled in any::<u64>()) {
            let names = names(servers);
            let node = format!("node{node}");
            let mut servers: Vec<&str> = names.iter().map(String::as_str).collect();
            let expected = probers(&node, servers.iter().copied(), count);
            fastrand::Rng::with_seed(shuffled).shuffle(&mut servers);
            for server in &names {
                let is_prober = is_prober(server, &node, servers.iter().copied(), count);
                prop_assert_eq!(is_prober, expected.contains(server.as_str()));
            }
            servers.extend(names.first().map(String::as_str));
            let probers = probers(&node, servers.iter().copied(), count);
            prop_assert_eq!(&probers, &expected);
            let own = usize::from(names.contains(&node));
            prop_assert!(own == 0 || probers.contains(node.as_str()));
            prop_assert_eq!(probers.len(), count.min(names.len() - own) + own);
        }
    }
}
