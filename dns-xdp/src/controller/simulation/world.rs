//! The world outside the servers: hosts, their services, and the network between servers and nodes.
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_proto::rr::Name;

use super::is_dual_stack;
use crate::cluster::Family;
use crate::zone::{Origin, Zone};

/// Nodes, and how each server reaches them. Server `n` lives on the host of node `n`.
#[derive(Debug)]
pub(super) struct World {
    pub(super) now: Duration,
    pub(super) nodes: Vec<Node>,
    /// The links by server and node; the last column is the witness.
    pub(super) links: Vec<Vec<Link>>,
}

#[derive(Debug, Clone)]
pub(super) struct Node {
    /// Whether the host answers packets.
    pub(super) host: bool,
    /// Whether the service on each [`Port`] accepts connections.
    pub(super) services: [bool; 2],
    /// Whether packets of each family reach the host. A host without an IPv6 address is probed over IPv4 only.
    pub(super) families: [bool; 2],
    pub(super) is_dual_stack: bool,
}

impl Node {
    const WELL: Node = Node { host: true, services: [true; 2], families: [true; 2], is_dual_stack: false };

    /// Whether packets of a family reach the host.
    fn is_reached(&self, family: Family) -> bool {
        self.host && self.families[family as usize]
    }
}

/// The service on a host that a probe asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Port {
    /// The service that the node's health check asks.
    Node,
    /// The service that a service's own check of its members asks.
    Member,
}

/// The link from a server to a node.
#[derive(Debug, Clone)]
pub(super) struct Link {
    pub(super) cut: bool,
    /// For each family, whether none of its packets gets through.
    pub(super) cut_families: [bool; 2],
    pub(super) loss: Loss,
    /// Since when no packet at all gets through.
    pub(super) silent_since: Option<Duration>,
    /// Since when every packet gets through.
    pub(super) clear_since: Option<Duration>,
    /// The expected results over IPv4, by [`Port`].
    pub(super) outlook: [Outlook; 2],
    /// The expected results over IPv6, by [`Port`].
    pub(super) outlook_ipv6: [Outlook; 2],
}

/// The loss of attempts on a link that is not cut.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Loss {
    /// This share of the attempts gets no answer.
    Share(f64),
    /// Every second attempt of each probe gets no answer, beginning with the first.
    EveryOther,
}

/// The expected results of attempts at one port.
#[derive(Debug, Clone, Default)]
pub(super) struct Outlook {
    /// Since when no attempt can succeed.
    pub(super) dead_since: Option<Duration>,
    /// Since when every second attempt is lost and the others succeed.
    pub(super) half_since: Option<Duration>,
    /// Since when every attempt succeeds.
    pub(super) perfect_since: Option<Duration>,
}

/// The result of an attempt.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Answer {
    Accepted,
    Refused,
    Silence,
}

impl Link {
    /// Whether packets of a family get through to a node.
    fn passes(&self, node: &Node, family: Family) -> bool {
        node.is_reached(family) && !self.cut && !self.cut_families[family as usize]
    }

    /// Whether no packets get through to a node.
    fn is_silent(&self, node: &Node) -> bool {
        let passes = |family| self.passes(node, family);
        !(passes(Family::Ipv4) || node.is_dual_stack && passes(Family::Ipv6))
    }

    /// The expected results of attempts at a port over a family.
    pub(super) fn outlook_in(&self, family: Family, port: Port) -> &Outlook {
        match family {
            Family::Ipv4 => &self.outlook[port as usize],
            Family::Ipv6 => &self.outlook_ipv6[port as usize],
        }
    }

    /// Whether an attempt gets lost; `chance` from 0 to 1, `made`: the number of earlier attempts of this probe.
    pub(super) fn loses(&self, made: u64, chance: f64) -> bool {
        match self.loss {
            Loss::Share(share) => chance < share,
            Loss::EveryOther => made.is_multiple_of(2),
        }
    }
}

impl World {
    pub(super) fn new(servers: usize, nodes: usize) -> Self {
        let link = Link {
            cut: false,
            cut_families: [false; 2],
            loss: Loss::Share(0.0),
            silent_since: None,
            clear_since: None,
            outlook: Default::default(),
            outlook_ipv6: Default::default(),
        };
        let mut world = World {
            now: Duration::ZERO,
            nodes: (1..=nodes)
                .map(|number| Node { is_dual_stack: is_dual_stack(number), ..Node::WELL })
                .collect(),
            links: vec![vec![link; nodes + 1]; servers],
        };
        world.note_links();
        world
    }

    /// The link from a server to a node; `None`: to the witness.
    pub(super) fn link(&self, server: usize, node: Option<usize>) -> &Link {
        &self.links[server][node.unwrap_or(self.nodes.len())]
    }

    /// The result of an attempt of `server` at `node` (`None`: the witness) that is not lost.
    pub(super) fn answer(&self, server: usize, node: Option<usize>, family: Family, port: Port) -> Answer {
        let link = self.link(server, node);
        let Some(node) = node.map(|node| &self.nodes[node]) else {
            return if link.cut { Answer::Silence } else { Answer::Refused };
        };
        match (link.passes(node, family), node.services[port as usize]) {
            (false, _) => Answer::Silence,
            (true, false) => Answer::Refused,
            (true, true) => Answer::Accepted,
        }
    }

    /// Ends all faults.
    pub(super) fn mend(&mut self) {
        for node in &mut self.nodes {
            *node = Node { is_dual_stack: node.is_dual_stack, ..Node::WELL };
        }
        for link in self.links.iter_mut().flatten() {
            (link.cut, link.cut_families, link.loss) = (false, [false; 2], Loss::Share(0.0));
        }
    }

    /// Notes the state of the links after a change.
    pub(super) fn note_links(&mut self) {
        let now = self.now;
        let keep = |holds: bool, since: &mut Option<Duration>| {
            *since = holds.then(|| since.unwrap_or(now));
        };
        let witness = &Node::WELL;
        for link in &mut self.links {
            for (node, link) in self.nodes.iter().chain([witness]).zip(link) {
                let silent = link.is_silent(node);
                let clear = !silent && link.loss == Loss::Share(0.0);
                keep(silent, &mut link.silent_since);
                keep(clear, &mut link.clear_since);
                for family in Family::ALL {
                    let silent = !link.passes(node, family);
                    let (clear, half) = (link.loss == Loss::Share(0.0), link.loss == Loss::EveryOther);
                    let outlook = match family {
                        Family::Ipv4 => &mut link.outlook,
                        Family::Ipv6 => &mut link.outlook_ipv6,
                    };
                    for (alive, outlook) in node.services.iter().zip(outlook) {
                        keep(silent || !alive, &mut outlook.dead_since);
                        keep(!silent && *alive && half, &mut outlook.half_since);
                        keep(!silent && *alive && clear, &mut outlook.perfect_since);
                    }
                }
            }
        }
    }
}

/// An empty zone: histories check only the answers.
pub(super) fn no_zone() -> &'static Arc<Zone> {
    static ZONE: OnceLock<Arc<Zone>> = OnceLock::new();
    ZONE.get_or_init(|| {
        let name = Name::from_ascii("demo.example.com.").expect("a name");
        let origin = Origin {
            apex: name.clone(),
            contact: name.clone(),
            serial: 1,
            ns_ttl_seconds: 60,
            negative_ttl_seconds: 60,
            name_servers: vec![name],
        };
        Arc::new(Zone::new(origin, []))
    })
}
