//! The combined verdicts of the servers that share a store, as one server sees them. This module is pure.
use std::collections::HashMap;
use std::sync::Arc;

use super::state::in_family;
use crate::cluster::Family;
use crate::failover::{Answers, Apart};
use crate::fnv::Fnv1a;
use crate::health::Subject;
use crate::store::InputsVersion;
use crate::store::client::{Mode, Seen, View};
use crate::store::votes::{Agreed, Observers, is_prober};

/// The other servers' verdicts, and whether they count.
#[derive(Debug, Clone)]
pub(in crate::controller) struct SharedView {
    view: Arc<View>,
    /// Whether the store is lost. Its verdicts then count only where this server's own verdict is missing.
    alone: bool,
    server: String,
}

impl SharedView {
    pub(in crate::controller) fn new(seen: &Seen, server: &str) -> Self {
        let (view, alone) = (Arc::clone(&seen.view), seen.mode != Mode::Joined);
        SharedView { view, alone, server: server.to_owned() }
    }

    pub(in crate::controller) fn is_alone(&self) -> bool {
        self.alone
    }

    /// The version of the inputs of its decisions; `None`: it decides from its own verdicts.
    pub(in crate::controller) fn moment(&self) -> Option<InputsVersion> {
        (!self.alone).then_some(self.view.judged)
    }

    /// The servers' agreement on a subject, or on a subject in one family. The servers' verdicts over IPv6 are listed
    /// separately only if they differ from their verdicts on the subject.
    pub(in crate::controller) fn agree(
        &self,
        subject: &Subject,
        family: Option<Family>,
        observers: Observers,
    ) -> Agreed {
        let text = subject.to_string();
        match family {
            Some(Family::Ipv6) => {
                self.view.tally.agree_apart(&text, &in_family(subject, Family::Ipv6), observers)
            }
            Some(Family::Ipv4) | None => self.view.tally.agree(&text, observers),
        }
    }

    /// Whether this server probes a node; a lone server probes every node.
    pub(in crate::controller) fn probes(&self, node: &str, count: usize) -> bool {
        let servers = self.view.servers.keys().map(String::as_str);
        self.alone || is_prober(&self.server, node, servers, count)
    }

    /// Whether this server probes the same nodes as it would with the other view.
    pub(in crate::controller) fn probes_as(&self, other: &SharedView) -> bool {
        self.alone == other.alone && self.view.servers.keys().eq(other.view.servers.keys())
    }
}

/// A digest that is equal on servers with the same answers. Every version of dns-xdp computes it from the same fields.
pub(in crate::controller) fn digest(answers: &Answers, epoch: u32) -> String {
    let mut hash = Fnv1a::new();
    hash.add(epoch.to_string().into_bytes());
    for answering in &answers.by_node {
        hash.add(answering.map_or(" -".to_owned(), |node| format!(" {node}")).into_bytes());
    }
    // Services share lists, so only a few lists have to be written out.
    let mut texts: HashMap<*const usize, String> = HashMap::new();
    for (service, answering) in answers.services() {
        let text = texts.entry(answering.as_ptr()).or_insert_with(|| format!(" {answering:?}"));
        hash.add([b' '].into_iter().chain(service.bytes()).chain(text.bytes()));
    }
    for family in Family::ALL.into_iter().filter(|_| !answers.families.are_alike()) {
        let Apart { nodes, services, last_resort } = answers.families.of(family);
        hash.add(format!(" {family} {last_resort:?} {nodes:?}").into_bytes());
        for (service, answering) in services {
            let text = texts.entry(answering.as_ptr()).or_insert_with(|| format!(" {answering:?}"));
            hash.add(format!(" {service}").bytes().chain(text.bytes()));
        }
    }
    for (name, set) in &answers.sets {
        hash.add(format!(" {name} {}", digest(&set.answers, epoch)).into_bytes());
    }
    format!("{:016x}", hash.finish())
}

#[cfg(test)]
pub(in crate::controller) mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::store::votes::Verdicts;

    /// The verdicts of three servers: for each server the nodes up, down and unreachable. This server is the first.
    pub(in crate::controller) fn said(mode: Mode, said: [[&[&str]; 3]; 3]) -> SharedView {
        let set = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let verdicts = said.map(|[up, down, unreachable]| Verdicts {
            up: set(up),
            down: set(down),
            unreachable: set(unreachable),
            ..Verdicts::default()
        });
        let names = ["node1", "node2", "node3"].map(str::to_owned);
        let view = View::of(names.clone().into_iter().zip(verdicts), names);
        let since = Timestamp::UNIX_EPOCH;
        let seen = Seen {
            view: Arc::new(view),
            mode,
            trouble: None,
            since,
            offered: None,
            is_up: mode == Mode::Joined,
        };
        SharedView::new(&seen, "node1")
    }

    #[test]
    fn a_server_that_is_alone_probes_everyone() {
        let none: [[&[&str]; 3]; 3] = [[&[]; 3]; 3];
        let (joined, alone) = (said(Mode::Joined, none), said(Mode::Alone, none));
        let nodes: Vec<String> = (1..=30).map(|number| format!("node{number}")).collect();
        let ours = |view: &SharedView| nodes.iter().filter(|node| view.probes(node, 1)).count();
        assert_eq!(ours(&alone), 30);
        assert!((5..20).contains(&ours(&joined)), "{}", ours(&joined));
        assert!(joined.probes("node1", 1), "its own node");
        assert!(!joined.probes_as(&alone) && joined.probes_as(&joined.clone()));
    }
}
