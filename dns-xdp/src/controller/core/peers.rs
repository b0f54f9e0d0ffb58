//! The servers of a store: which are live, when each was last seen, and whether they agree. This module is pure.
use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;

use crate::control::api::{ClusterServer, ClusterStatus};
use crate::store::client::{Mode, Seen};
use crate::store::{InputsVersion, Revision, Server};

/// The servers that were seen, and until when.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::controller) struct Peers {
    present: BTreeSet<String>,
    /// When each server that is no longer there was last seen.
    until: BTreeMap<String, Timestamp>,
}

impl Peers {
    /// Takes the present view. A server that does not see the store sees no other server.
    pub(in crate::controller) fn note(&mut self, seen: &Seen, now: Timestamp) {
        let present = if seen.is_up { seen.view.servers.keys().cloned().collect() } else { BTreeSet::new() };
        let gone = std::mem::replace(&mut self.present, present);
        self.until.extend(gone.into_iter().map(|name| (name, now)));
    }

    /// Returns the answer to `status --cluster`: this server, the other servers of the store, and the nodes without a
    /// server in the store.
    pub(in crate::controller) fn call<'a>(
        &self,
        seen: &Seen,
        (name, own): (&str, Server),
        nodes: impl Iterator<Item = &'a str>,
        now: Timestamp,
    ) -> ClusterStatus {
        let view = &seen.view;
        let mut servers: BTreeMap<&str, Server> =
            view.servers.iter().map(|(name, server)| (name.as_str(), Server::clone(server))).collect();
        servers.insert(name, own);
        let missing = nodes.filter(|node| !servers.contains_key(node));
        let missing: Vec<ClusterServer> =
            missing.map(|node| self.server(node, Server::default(), (false, Mode::Alone), now)).collect();
        let disagreement = disagreement(&servers);
        let living = servers.into_iter().map(|(server, said)| {
            let joined = view.servers.contains_key(server) && (server != name || seen.mode == Mode::Joined);
            let mode = if joined { Mode::Joined } else { Mode::Alone };
            let told = self.server(server, said, (true, mode), now);
            if server == name { ClusterServer { last_seen: Some(now), ..told } } else { told }
        });
        ClusterStatus {
            epoch: view.documents.epoch(),
            revision: view.revision,
            mode: seen.mode,
            servers: living.chain(missing).collect(),
            disagreement,
        }
    }

    fn server(&self, name: &str, said: Server, (alive, mode): (bool, Mode), now: Timestamp) -> ClusterServer {
        let Server { version, epoch, revision, digest, quorum, trouble, .. } = said;
        let last_seen = if self.present.contains(name) { Some(now) } else { self.until.get(name).copied() };
        let name = name.to_owned();
        ClusterServer { name, version, epoch, revision, digest, alive, mode, quorum, trouble, last_seen }
    }
}

/// The servers whose answers differ although their inputs are the same, and servers that lag behind.
fn disagreement(servers: &BTreeMap<&str, Server>) -> Vec<String> {
    let mut told = Vec::new();
    let newest = servers.values().map(|server| server.epoch).max().unwrap_or(0);
    let mut digests: BTreeMap<(Revision, InputsVersion), BTreeMap<&str, Vec<&str>>> = BTreeMap::new();
    for (name, server) in servers {
        if server.epoch < newest {
            told.push(format!("{name} is at epoch {}, others at {newest}", server.epoch));
        }
        let moment = InputsVersion { revision: server.revision, entries: server.entries };
        if moment == InputsVersion::default() {
            continue;
        }
        let of_moment = digests.entry((server.epoch, moment)).or_default();
        of_moment.entry(&server.digest).or_default().push(name);
    }
    for ((epoch, _), digests) in digests.into_iter().filter(|(_, digests)| digests.len() > 1) {
        let groups: Vec<String> = digests.into_values().map(|names| names.join(" and ")).collect();
        told.push(format!("at epoch {epoch} the answers differ: {}", groups.join(" against ")));
    }
    told
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;
    use crate::store::client::View;
    use crate::store::{Entry, Listing, SERVERS};

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn seen(mode: Mode, servers: &[(&str, u64, &str)]) -> Seen {
        let entry = |(name, epoch, digest): &(&str, u64, &str)| {
            let value = format!(r#"{{"epoch":{epoch},"revision":9,"digest":"{digest}"}}"#);
            (format!("{SERVERS}{name}"), Entry { value: value.into_bytes(), revision: 9 })
        };
        let listing =
            Listing { revision: 9, entries: servers.iter().map(entry).collect(), ..Listing::default() };
        let view = Arc::new(View::read(&listing, &View::default()));
        Seen { view, mode, trouble: None, since: at(0), offered: None, is_up: mode == Mode::Joined }
    }

    fn own() -> (&'static str, Server) {
        ("node1", Server { epoch: 7, revision: 9, digest: "a".to_owned(), ..Server::default() })
    }

    #[test]
    fn a_server_that_left_was_seen_until_then_and_an_unknown_one_never() {
        let all = seen(Mode::Joined, &[("node1", 7, "a"), ("node2", 7, "a")]);
        let mut peers = Peers::default();
        peers.note(&all, at(10));
        let nodes = || ["node1", "node2", "node3"].into_iter();
        let told = peers.call(&all, own(), nodes(), at(20));
        let last = |told: &ClusterStatus| -> Vec<_> {
            told.servers.iter().map(|server| (server.alive, server.last_seen)).collect()
        };
        assert_eq!(last(&told), [(true, Some(at(20))), (true, Some(at(20))), (false, None)]);

        let alone = seen(Mode::Joined, &[("node1", 7, "a")]);
        peers.note(&alone, at(30));
        let told = peers.call(&alone, own(), nodes(), at(40));
        assert_eq!(last(&told), [(true, Some(at(40))), (false, Some(at(30))), (false, None)]);

        // The last knowledge of the other servers is from before the store was lost.
        peers.note(&all, at(50));
        let lost = Seen { mode: Mode::Alone, is_up: false, ..all };
        peers.note(&lost, at(60));
        let told = peers.call(&lost, own(), nodes(), at(70));
        assert_eq!(last(&told), [(true, Some(at(70))), (true, Some(at(60))), (false, None)]);
        assert_eq!(told.servers[0].mode, Mode::Alone);
    }

    #[test]
    fn servers_disagree_that_answer_otherwise_from_the_same_or_lag_behind() {
        let told = |servers: &[(&str, u64, &str)]| {
            let seen = seen(Mode::Joined, servers);
            Peers::default().call(&seen, own(), ["node1"].into_iter(), at(0)).disagreement
        };
        assert!(told(&[("node2", 7, "a")]).is_empty());
        assert_eq!(told(&[("node2", 6, "b")]), ["node2 is at epoch 6, others at 7"]);
        assert_eq!(
            told(&[("node2", 7, "b"), ("node3", 7, "a")]),
            ["at epoch 7 the answers differ: node1 and node3 against node2"]
        );
    }
}
