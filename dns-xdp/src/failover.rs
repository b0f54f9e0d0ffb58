//! Who answers for whom: a pure function of the cluster, the verdicts and the admin intent.
//!
//! Servers do not talk to each other. They agree because the same states give the same answers, whatever
//! happened before; only a server that is cut off ([`Decision::frozen`]) or that has no node left to name
//! looks back.
mod answers;
mod rendezvous;
mod zone;

use std::fmt;

use serde::{Deserialize, Serialize};

pub use answers::Answers;
pub use zone::{healthy_zone, zone};

use crate::cluster::{Admin, Cluster};
use crate::config::{AllDown, Failover};

/// What is known and wanted of one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NodeState {
    /// What the probes say; `None` while they have said nothing.
    pub serving: Option<bool>,
    /// The host answered something.
    pub visible: bool,
    /// What the operator wants.
    pub admin: Admin,
}

impl NodeState {
    /// The admin intent where there is one, else the probes' verdict. A node that is unknown has the benefit
    /// of the doubt.
    pub fn effective(&self) -> Effective {
        match (self.admin, self.serving) {
            (Admin::Up, _) | (Admin::Auto, None | Some(true)) => Effective::Up,
            (Admin::Down, _) | (Admin::Auto, Some(false)) => Effective::Down,
            (Admin::Drain, _) => Effective::Drain,
        }
    }

    fn proven(&self) -> bool {
        self.effective() == Effective::Up && (self.admin == Admin::Up || self.serving.is_some())
    }
}

/// How a node is treated.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Effective {
    /// In the answers.
    Up,
    /// Out of the answers: another answers for it.
    Down,
    /// As [`Effective::Down`], because the operator wants it.
    Drain,
}

impl fmt::Display for Effective {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Effective::Up => "up",
            Effective::Down => "down",
            Effective::Drain => "drain",
        })
    }
}

/// How many nodes and witnesses are visible from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Quorum {
    /// Nodes and witnesses that answered something.
    pub visible: usize,
    /// How many of them it takes.
    pub needed: usize,
    /// Enough are visible.
    pub ok: bool,
}

/// What is answered and why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Decision {
    /// Who answers for whom.
    pub answers: Answers,
    /// How each node is treated, in the order of the cluster; shown even where the answers are frozen.
    pub effective: Vec<Effective>,
    /// The answers name nodes that are down, because no node is up.
    pub fail_open: bool,
    /// Why the answers are those of the previous decision, or the configured ones if there was none.
    pub frozen: Option<String>,
    /// The count that allows or forbids a decision.
    pub quorum: Quorum,
}

/// Decides who answers for whom. `states` are in the order of the cluster's nodes.
pub fn decide(
    cluster: &Cluster,
    rules: &Failover,
    states: &[NodeState],
    visible_witnesses: usize,
    previous: Option<&Decision>,
) -> Decision {
    debug_assert_eq!(cluster.nodes.len(), states.len());
    let effective: Vec<Effective> = states.iter().map(NodeState::effective).collect();
    let quorum = count(rules, states, visible_witnesses);
    if !quorum.ok {
        let Quorum { visible, needed, .. } = quorum;
        let voters = states.len() + rules.witness.len();
        return Decision {
            answers: kept(cluster, previous),
            effective,
            fail_open: previous.is_some_and(|previous| previous.fail_open),
            frozen: Some(format!("{visible} of {voters} nodes and witnesses visible, {needed} needed")),
            quorum,
        };
    }
    let trusted = trusted(states);
    let all_down = trusted.is_empty();
    let answers = match rules.all_down {
        _ if !all_down => Answers::live(cluster, &effective, &trusted),
        AllDown::Configured => Answers::configured(cluster),
        AllDown::LastGood => kept(cluster, previous.filter(|previous| !previous.answers.refused())),
        AllDown::Refused => Answers::withheld(cluster),
    };
    let fail_open = all_down && rules.all_down != AllDown::Refused;
    Decision { answers, effective, fail_open, frozen: None, quorum }
}

fn count(rules: &Failover, states: &[NodeState], visible_witnesses: usize) -> Quorum {
    let visible = states.iter().filter(|state| state.visible).count() + visible_witnesses;
    let needed = rules.quorum.needed(states.len() + rules.witness.len());
    Quorum { visible, needed, ok: visible >= needed }
}

/// The nodes that may answer for others: those that are up and proved it, or else those not known to be down.
fn trusted(states: &[NodeState]) -> Vec<usize> {
    let those = |wanted: fn(&NodeState) -> bool| -> Vec<usize> {
        (0..).zip(states).filter(|(_, state)| wanted(state)).map(|(index, _)| index).collect()
    };
    let proven = those(NodeState::proven);
    if proven.is_empty() { those(|state| state.effective() == Effective::Up) } else { proven }
}

fn kept(cluster: &Cluster, previous: Option<&Decision>) -> Answers {
    match previous {
        Some(previous) => previous.answers.carried(cluster),
        None => Answers::configured(cluster),
    }
}

#[cfg(test)]
mod laws;

#[cfg(test)]
mod tests {
    use super::*;
    use crate::cluster::{HealthCheck, Node, Require, Service};
    use crate::config::{self, Config, NsAddresses};
    use hickory_proto::rr::Name;
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
    use std::time::Duration;

    /// `node<number>` with an address of each family that is wanted.
    pub(super) fn node(number: usize, ipv4: bool, ipv6: bool) -> Node {
        let last = u8::try_from(number).unwrap();
        Node {
            name: format!("node{number}"),
            ipv4: ipv4.then_some(Ipv4Addr::new(192, 0, 2, last)),
            ipv6: ipv6.then_some(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, last.into())),
            ns: format!("ns{number}"),
            backup: Vec::new(),
            weight: 1,
            health: HealthCheck { probes: vec![config::PROBE], require: Require::All },
        }
    }

    pub(super) fn service(name: &str, nodes: &[&str]) -> Service {
        let nodes = nodes.iter().map(|&node| node.to_owned()).collect();
        Service { name: name.to_owned(), nodes, min_healthy: 0, health: None }
    }

    pub(super) fn rules() -> Failover {
        Failover { quorum: config::Quorum::Majority, witness: Vec::new(), all_down: AllDown::Configured }
    }

    pub(super) fn config(cluster: Cluster) -> Config {
        Config {
            path: "/etc/dns-xdp/dns-xdp.toml".into(),
            zone: config::ZoneConfig {
                apex: Name::from_ascii("demo.example.com.").unwrap(),
                ttl_seconds: 5,
                ttl_min_seconds: 1,
                ns_ttl_seconds: 60,
                negative_ttl_seconds: 300,
                contact: Name::from_ascii("hostmaster.example.com.").unwrap(),
                ns_addresses: NsAddresses::Live,
            },
            listen: config::Listen { interfaces: vec!["eth0".to_owned()], addresses: Vec::new(), port: 53 },
            xdp: config::Xdp {
                mode: config::Mode::Auto,
                pin: "/sys/fs/bpf/dns-xdp".into(),
                stale_after: None,
                stop_grace: Duration::from_secs(5),
                capacity: 4096,
                log: false,
            },
            failover: rules(),
            cluster,
            control: config::Control { socket: "control.sock".into(), state: "state.json".into() },
            metrics: None,
        }
    }

    fn three_nodes() -> Config {
        let nodes: Vec<Node> = (1..=3).map(|number| node(number, true, false)).collect();
        let db = service("db", &["node1", "node2"]);
        let mut config = config(Cluster { nodes, services: vec![db] });
        config.cluster.nodes[1].backup = vec!["node3".to_owned()];
        config
    }

    const UP: NodeState = NodeState { serving: Some(true), visible: true, admin: Admin::Auto };
    const REFUSES: NodeState = NodeState { serving: Some(false), ..UP };
    const SILENT: NodeState = NodeState { visible: false, ..REFUSES };
    const UNKNOWN: NodeState = NodeState { serving: None, ..UP };
    const DRAINED: NodeState = NodeState { admin: Admin::Drain, ..UP };

    fn decided(config: &Config, states: &[NodeState], previous: Option<&Decision>) -> Decision {
        decide(&config.cluster, &config.failover, states, 0, previous)
    }

    /// The last numbers of the addresses under a name.
    fn answers(config: &Config, decision: &Decision, name: &str) -> Vec<u8> {
        let name = Name::from_ascii(name).unwrap().append_domain(&config.zone.apex).unwrap();
        let zone = zone(config, decision);
        let last = |address| match address {
            IpAddr::V4(ipv4) => ipv4.octets()[3],
            IpAddr::V6(ipv6) => ipv6.octets()[15],
        };
        zone.addresses(&name).unwrap().iter().map(last).collect()
    }

    #[test]
    fn a_dead_node_is_replaced_under_every_name() {
        let config = three_nodes();
        for dead in [SILENT, REFUSES, DRAINED] {
            let decision = decided(&config, &[UP, dead, UP], None);
            let all = ["node1", "node2", "node3", "ns1", "ns2", "ns3", "", "db"];
            let expected: [&[u8]; 8] = [&[1], &[3], &[3], &[1], &[3], &[3], &[1, 3], &[1]];
            assert_eq!(all.map(|name| answers(&config, &decision, name)), expected);
        }
    }

    #[test]
    fn a_service_without_a_healthy_member_answers_its_members_substitutes() {
        let config = three_nodes();
        let decision = decided(&config, &[REFUSES, REFUSES, UP], None);
        assert_eq!(answers(&config, &decision, "db"), [3]);
    }

    #[test]
    fn name_servers_can_keep_the_addresses_of_the_glue() {
        let mut config = three_nodes();
        config.zone.ns_addresses = NsAddresses::Fixed;
        let decision = decided(&config, &[UP, SILENT, UP], None);
        assert_eq!(answers(&config, &decision, "ns2"), [2]);
        assert_eq!(answers(&config, &decision, "node2"), [3]);
    }

    #[test]
    fn an_isolated_server_keeps_what_it_answered() {
        let config = three_nodes();
        let before = decided(&config, &[UP, REFUSES, UP], None);
        let isolated = decided(&config, &[UP, SILENT, SILENT], Some(&before));
        assert_eq!(isolated.answers, before.answers);
        assert_eq!(isolated.frozen.as_deref(), Some("1 of 3 nodes and witnesses visible, 2 needed"));
        assert_eq!(isolated.quorum, Quorum { visible: 1, needed: 2, ok: false });
        let from_the_start = decided(&config, &[UP, SILENT, SILENT], None);
        assert_eq!(answers(&config, &from_the_start, "node2"), [2]);
    }

    #[test]
    fn frozen_answers_follow_a_node_that_is_added_or_removed() {
        let mut config = three_nodes();
        let before = decided(&config, &[REFUSES, REFUSES, UP], None);
        config.cluster.nodes.insert(0, node(4, true, false));
        let isolated = decided(&config, &[SILENT; 4], Some(&before));
        assert_eq!(
            ["node4", "node1", "node2"].map(|name| answers(&config, &isolated, name)),
            [[4], [3], [3]]
        );
        config.cluster.nodes.retain(|node| node.name != "node3");
        let isolated = decided(&config, &[SILENT; 3], Some(&isolated));
        assert_eq!(
            ["node4", "node1", "node2"].map(|name| answers(&config, &isolated, name)),
            [[4], [1], [2]]
        );
        assert_eq!(answers(&config, &isolated, "db"), [1, 2]);
    }

    #[test]
    fn a_witness_that_is_visible_counts_for_the_quorum() {
        let mut config = three_nodes();
        config.failover.witness = vec![Ipv4Addr::new(192, 0, 2, 254).into()];
        let states = [UP, UP, SILENT];
        let quorum = |witnesses| decide(&config.cluster, &config.failover, &states, witnesses, None).quorum;
        assert_eq!(quorum(0), Quorum { visible: 2, needed: 3, ok: false });
        assert_eq!(quorum(1), Quorum { visible: 3, needed: 3, ok: true });
    }

    #[test]
    fn with_every_node_down_the_rule_decides() {
        let mut config = three_nodes();
        let good = decided(&config, &[UP, REFUSES, UP], None);
        let mut answer = |rule, previous| {
            config.failover.all_down = rule;
            let decision = decided(&config, &[REFUSES; 3], previous);
            (decision.fail_open, answers(&config, &decision, "node2"), answers(&config, &decision, "").len())
        };
        assert_eq!(answer(AllDown::Configured, Some(&good)), (true, vec![2], 3));
        assert_eq!(answer(AllDown::LastGood, Some(&good)), (true, vec![3], 2));
        assert_eq!(answer(AllDown::LastGood, None), (true, vec![2], 3));
        assert_eq!(answer(AllDown::Refused, Some(&good)), (false, vec![], 0));
    }

    #[test]
    fn a_node_that_is_unknown_answers_its_own_name_and_no_other() {
        let config = three_nodes();
        let decision = decided(&config, &[UP, REFUSES, UNKNOWN], None);
        assert_eq!(["node2", "node3", ""].map(|name| answers(&config, &decision, name)), [[1], [3], [1]]);
    }

    #[test]
    fn the_operator_overrules_the_probes() {
        let config = three_nodes();
        let forced_up = NodeState { admin: Admin::Up, ..REFUSES };
        let forced_down = NodeState { admin: Admin::Down, ..UP };
        let decision = decided(&config, &[forced_down, forced_up, UP], None);
        assert_eq!(decision.effective, [Effective::Down, Effective::Up, Effective::Up]);
        assert_eq!(answers(&config, &decision, ""), [2, 3]);
    }

    #[test]
    fn the_healthy_zone_answers_what_is_configured() {
        let config = three_nodes();
        assert_eq!(healthy_zone(&config), zone(&config, &decided(&config, &[UP; 3], None)));
        assert!(healthy_zone(&config).addresses(&config.zone.apex).unwrap().rotate);
    }
}
