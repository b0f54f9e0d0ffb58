//! What is outside the servers: hosts, services on them, and the network between servers and nodes.
use std::time::Duration;

/// Nodes, and how each server reaches them. Server `n` lives on the host of node `n`.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) nodes: Vec<Node>,
    /// By server and node; the last column is the witness.
    pub(super) links: Vec<Vec<Link>>,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    /// The host answers packets.
    pub(super) host: bool,
    /// The service on it accepts connections.
    pub(super) service: bool,
}

/// The way from a server to a node.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) cut: bool,
    /// Share of the attempts that get no answer.
    pub(super) loss: f64,
    /// Since when no attempt on this way can succeed.
    pub(super) dead_since: Option<Duration>,
    /// Since when every attempt on this way succeeds.
    pub(super) perfect_since: Option<Duration>,
}

/// What comes of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    Refused,
    Silence,
}

impl World {
    pub(super) fn new(servers: usize, nodes: usize) -> Self {
        let link = Link { cut: false, loss: 0.0, dead_since: None, perfect_since: Some(Duration::ZERO) };
        World {
            now: Duration::ZERO,
            nodes: vec![Node { host: true, service: true }; nodes],
            links: vec![vec![link; nodes + 1]; servers],
        }
    }

    /// What an attempt of `server` at `node` (`None`: the witness) comes to; `chance` from 0 to 1.
    pub(super) fn answer(&self, server: usize, node: Option<usize>, chance: f64) -> Answer {
        let link = &self.links[server][node.unwrap_or(self.nodes.len())];
        let Some(Node { host, service }) = node.map(|node| &self.nodes[node]) else {
            return if link.cut { Answer::Silence } else { Answer::Refused };
        };
        match (*host && !link.cut && chance >= link.loss, *service) {
            (false, _) => Answer::Silence,
            (true, false) => Answer::Refused,
            (true, true) => Answer::Accepted,
        }
    }

    /// Notes what the links are like after a change.
    pub(super) fn settle(&mut self) {
        let now = self.now;
        for link in &mut self.links {
            for (node, link) in self.nodes.iter().zip(link) {
                let dead = !node.host || !node.service || link.cut;
                let perfect = !dead && link.loss == 0.0;
                let keep = |holds: bool, since: Option<Duration>| holds.then(|| since.unwrap_or(now));
                link.dead_since = keep(dead, link.dead_since);
                link.perfect_since = keep(perfect, link.perfect_since);
            }
        }
    }
}
