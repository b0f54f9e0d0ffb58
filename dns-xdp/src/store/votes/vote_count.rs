//! The votes of all servers on every subject, counted once and updated as verdicts change. This module is pure.
use std::collections::{BTreeMap, BTreeSet};

use super::{Agreed, Observers, Verdicts};
use crate::cluster::Family;

/// The number of servers whose verdict cannot be explained by one server's own trouble.
const SEVERAL: usize = 2;

/// The votes of the servers on each subject that some server has judged.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct VoteCount {
    votes: BTreeMap<String, Votes>,
    /// The votes on a whole subject by servers that also vote on one of its families. The key is the subject's text in
    /// that family.
    overruled: BTreeMap<String, Votes>,
}

/// The servers that have judged a subject, each with one vote.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Votes {
    up: usize,
    down: usize,
    unreachable: usize,
}

impl Votes {
    fn of(&mut self, vote: Vote) -> &mut usize {
        match vote {
            Vote::Up => &mut self.up,
            Vote::Down => &mut self.down,
            Vote::Unreachable => &mut self.unreachable,
        }
    }

    fn agree(self, observers: Observers) -> Agreed {
        let Votes { up, down, unreachable } = self;
        let down = down + unreachable;
        let votes = up + down;
        let needed = observers.needed(votes);
        let visible = unreachable < needed;
        Agreed {
            serving: (votes > 0).then_some(down < needed),
            visible,
            confirmed_unreachable: !visible && unreachable >= SEVERAL,
            up,
            down,
            needed,
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Vote {
    Up,
    Down,
    Unreachable,
}

impl VoteCount {
    /// Counts all verdicts.
    pub fn of<'a>(verdicts: impl IntoIterator<Item = &'a Verdicts>) -> VoteCount {
        let mut tally = VoteCount::default();
        for verdicts in verdicts {
            tally.add(verdicts);
        }
        tally
    }

    /// Adds the votes of a server.
    pub fn add(&mut self, verdicts: &Verdicts) {
        for (subject, vote) in votes(verdicts) {
            add(&mut self.votes, subject, vote);
            if let Some(overruled) = overruled(subject, verdicts) {
                add(&mut self.overruled, subject, overruled);
            }
        }
    }

    /// Removes votes that were [added](VoteCount::add).
    pub fn take_back(&mut self, verdicts: &Verdicts) {
        for (subject, vote) in votes(verdicts) {
            take_back(&mut self.votes, subject, vote);
            if let Some(overruled) = overruled(subject, verdicts) {
                take_back(&mut self.overruled, subject, overruled);
            }
        }
    }

    /// Combines the servers' votes on a subject. Only servers that have judged it vote. If a server has several
    /// verdicts on it, the best one counts.
    pub fn agree(&self, subject: &str, observers: Observers) -> Agreed {
        self.votes.get(subject).copied().unwrap_or_default().agree(observers)
    }

    /// Like [`VoteCount::agree`], for a subject in one family, which has the text `apart`. The verdict on the whole
    /// subject counts for a server without a verdict on the family.
    pub fn agree_apart(&self, subject: &str, apart: &str, observers: Observers) -> Agreed {
        let of = |counted: &BTreeMap<String, Votes>, subject: &str| {
            counted.get(subject).copied().unwrap_or_default()
        };
        let (whole, overruled) = (of(&self.votes, subject), of(&self.overruled, apart));
        let own = of(&self.votes, apart);
        let votes = Votes {
            up: whole.up.saturating_sub(overruled.up) + own.up,
            down: whole.down.saturating_sub(overruled.down) + own.down,
            unreachable: whole.unreachable.saturating_sub(overruled.unreachable) + own.unreachable,
        };
        votes.agree(observers)
    }
}

fn add(counted: &mut BTreeMap<String, Votes>, subject: &String, vote: Vote) {
    match counted.get_mut(subject) {
        Some(votes) => *votes.of(vote) += 1,
        None => *counted.entry(subject.clone()).or_default().of(vote) += 1,
    }
}

fn take_back(counted: &mut BTreeMap<String, Votes>, subject: &str, vote: Vote) {
    let Some(votes) = counted.get_mut(subject) else { return };
    let count = votes.of(vote);
    *count = count.saturating_sub(1);
    if *votes == Votes::default() {
        counted.remove(subject);
    }
}

/// A server's vote on the whole subject, if `subject` is a subject in one family: `node1 ipv6`.
fn overruled(subject: &str, verdicts: &Verdicts) -> Option<Vote> {
    let (whole, family) = subject.rsplit_once(' ')?;
    if Family::ALL.iter().all(|known| known.text() != family) {
        return None;
    }
    let Verdicts { up, down, unreachable, fallen: _ } = verdicts;
    let said = [(up, Vote::Up), (down, Vote::Down), (unreachable, Vote::Unreachable)];
    said.into_iter().find(|(set, _)| set.contains(whole)).map(|(_, vote)| vote)
}

/// The best verdict of a server on each subject.
fn votes(verdicts: &Verdicts) -> impl Iterator<Item = (&String, Vote)> {
    let Verdicts { up, down, unreachable, fallen: _ } = verdicts;
    let none_of =
        |sets: &[&BTreeSet<String>], subject: &String| !sets.iter().any(|set| set.contains(subject));
    let down_alone = down.iter().filter(move |subject| none_of(&[up], subject));
    let unreachable_alone = unreachable.iter().filter(move |subject| none_of(&[up, down], subject));
    let up = up.iter().map(|subject| (subject, Vote::Up));
    up.chain(down_alone.map(|subject| (subject, Vote::Down)))
        .chain(unreachable_alone.map(|subject| (subject, Vote::Unreachable)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn verdicts() -> impl Strategy<Value = Verdicts> {
        let subjects = || proptest::collection::btree_set("node[1-4]( ipv6)?", 0..4);
        (subjects(), subjects(), subjects()).prop_map(|(up, down, unreachable)| Verdicts {
            up,
            down,
            unreachable,
            ..Verdicts::default()
        })
    }

    #[test]
    #[ignore = "a measurement: cargo test -p dns-xdp --lib -- --ignored --nocapture scale"]
    fn scale_of_counting_votes() {
        const SERVERS: usize = 100;
        let nodes: Vec<String> = (0..1000).map(|node| format!("node{node}")).collect();
        let probed = |server: usize| nodes.iter().skip(server % 20).step_by(20).cloned().collect();
        let said: Vec<Verdicts> =
            (0..SERVERS).map(|server| Verdicts { up: probed(server), ..Verdicts::default() }).collect();
        let began = std::time::Instant::now();
        let searched = |node: &String| said.iter().filter(|said| said.up.contains(node)).count();
        let searched: usize = nodes.iter().map(searched).sum();
        let by_search = began.elapsed();
        let mut tally = VoteCount::of(&said);
        let began = std::time::Instant::now();
        tally.take_back(&said[0]);
        tally.add(&said[0]);
        let counted: usize = nodes.iter().map(|node| tally.agree(node, Observers::Majority).up).sum();
        let by_count = began.elapsed();
        assert_eq!(searched, counted);
        println!(
            "{SERVERS} servers, 1000 nodes: searched in {by_search:.1?}, one server anew and all read in {by_count:.1?}"
        );
    }

    proptest! {
        #[test]
        fn a_count_that_is_kept_up_to_date_is_what_counting_anew_gives(
            servers in proptest::collection::vec((0usize..4, verdicts()), 0..20),
        ) {
            let mut said: BTreeMap<usize, Verdicts> = BTreeMap::new();
            let mut tally = VoteCount::default();
            for (server, verdicts) in servers {
                if let Some(before) = said.insert(server, verdicts.clone()) {
                    tally.take_back(&before);
                }
                tally.add(&verdicts);
                prop_assert_eq!(&tally, &VoteCount::of(said.values()));
            }
        }
    }
}
