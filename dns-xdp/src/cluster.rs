//! The cluster as the operator describes it: its nodes, its services, and the admin intent of each node.
//!
//! `kind` has the kinds of probe, `address` the addresses that no node can have, `family` IPv4 and IPv6. `family_part`
//! is the part of a cluster that has one family. `set_part` is a cluster with the addresses of one address set.
//! `members` are the nodes of the services. The module `config` reads a file.
mod address;
mod family;
mod family_part;
mod kind;
mod members;
mod set_part;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::{Deref, DerefMut};
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use hickory_proto::rr::Name;
use serde::{Deserialize, Serialize};

#[cfg(test)]
pub(crate) use address::NO_NODES;
pub use address::SpecialAddress;
pub(crate) use family::some_of;
pub use family::{Family, FamilyRule};
pub(crate) use family_part::FamilyPart;
pub use kind::{
    Authorities, Dns, Exec, Expect, Http, PasswordFile, Pattern, ProbeKind, Redis, Role, TcpDialogue, Trust,
};
pub(crate) use members::{Group, Members};
pub(crate) use set_part::SetPart;

/// The nodes and services of one zone, with tables that are computed from them.
#[derive(Debug, Clone)]
pub struct Cluster {
    parts: Parts,
    /// The members, computed once. Each change of the parts discards them.
    members: OnceLock<Arc<Members>>,
    /// The part of each family, computed once. Clones share it.
    families: Arc<[OnceLock<FamilyPart>; 2]>,
    /// The part of each address set that a suffix uses, computed once. Clones share it.
    sets: Arc<OnceLock<Vec<SetPart>>>,
}

/// The nodes and services of one zone, in the order of the configuration. Names are lower case and relative to the zone
/// (`node1`, `db.prod`). [`crate::config`] has checked every reference between them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parts {
    /// The nodes, at least one. Names and addresses are unique.
    pub nodes: Vec<Node>,
    /// The configured services. If no service is named [`APEX`], the apex answers the nodes with [`Node::is_in_apex`].
    pub services: Vec<Service>,
    /// The further names under which the zone's names are repeated. None of them is at or below another.
    pub suffixes: Vec<Suffix>,
}

impl Cluster {
    /// Makes a cluster of these nodes and services, without a suffix.
    pub fn new(nodes: Vec<Node>, services: Vec<Service>) -> Self {
        Cluster::of(Parts { nodes, services, suffixes: Vec::new() })
    }

    /// Makes a cluster of its parts.
    pub fn of(parts: Parts) -> Self {
        let members = Arc::new(Members::new(&parts));
        Cluster::with(parts, members)
    }

    fn with(parts: Parts, members: Arc<Members>) -> Self {
        Cluster { parts, members: OnceLock::from(members), families: Arc::default(), sets: Arc::default() }
    }

    /// Returns its nodes and services.
    pub fn into_parts(self) -> Parts {
        self.parts
    }

    /// Returns the files that hold passwords of probes, each once.
    pub fn password_files(&self) -> BTreeSet<&Path> {
        let of_services = self.services.iter().filter_map(|service| service.health.as_ref());
        let checks = self.nodes.iter().map(|node| &node.health).chain(of_services);
        let probes = checks.flat_map(|check| &check.probes);
        let passwords = probes.filter_map(|probe| match &probe.kind {
            ProbeKind::Redis(redis) => redis.password.as_ref(),
            _ => None,
        });
        passwords.map(|password| password.path.as_path()).collect()
    }

    /// Returns how many nodes count for the quorum.
    pub fn voters(&self) -> usize {
        self.nodes.iter().filter(|node| node.is_voter).count()
    }

    /// Whether the node of this name counts for the quorum.
    pub(crate) fn is_voter(&self, name: &str) -> bool {
        self.node(name).is_some_and(|node| node.is_voter)
    }

    /// Returns the members of its services.
    pub(crate) fn members(&self) -> &Arc<Members> {
        self.members.get_or_init(|| Arc::new(Members::new(&self.parts)))
    }

    /// Returns the part of the cluster that has addresses of a family.
    pub(crate) fn in_family(&self, family: Family) -> &FamilyPart {
        self.families[family as usize].get_or_init(|| FamilyPart::new(self, family))
    }

    /// Returns the part of each address set that a suffix uses, in the order of their names.
    pub(crate) fn address_sets(&self) -> &[SetPart] {
        if self.parts.suffixes.is_empty() {
            return &[];
        }
        self.sets.get_or_init(|| SetPart::all(self))
    }

    /// Returns the part of an address set, if a suffix uses it.
    pub(crate) fn address_set(&self, name: &str) -> Option<&SetPart> {
        self.address_sets().iter().find(|part| part.name() == name)
    }

    /// Returns the node of this name.
    pub(crate) fn node(&self, name: &str) -> Option<&Node> {
        self.parts.nodes.get(self.members().place(name)?)
    }

    /// Returns the service of this name, if it is configured.
    pub(crate) fn service(&self, name: &str) -> Option<&Service> {
        self.parts.services.get(self.members().configured(name)?)
    }
}

impl PartialEq for Cluster {
    fn eq(&self, other: &Cluster) -> bool {
        self.parts == other.parts
    }
}

impl Eq for Cluster {}

impl Deref for Cluster {
    type Target = Parts;

    fn deref(&self) -> &Parts {
        &self.parts
    }
}

impl DerefMut for Cluster {
    fn deref_mut(&mut self) -> &mut Parts {
        self.members = OnceLock::new();
        self.families = Arc::default();
        self.sets = Arc::default();
        &mut self.parts
    }
}

/// The service name that stands for the zone's apex (RFC 1035, section 5.1: the origin).
pub const APEX: &str = "@";

/// One node: a server of the cluster, and usually one of the zone's name servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name, relative to the zone.
    pub name: String,
    /// Its IPv4 address. At least one of the two addresses is set.
    pub ipv4: Option<Ipv4Addr>,
    /// See [`Node::ipv4`].
    pub ipv6: Option<Ipv6Addr>,
    /// The name-server name of this node, relative to the zone: `ns1` for the first node unless given. `None`: the node is
    /// not a name server.
    pub ns: Option<String>,
    /// Whether it counts for the quorum.
    pub is_voter: bool,
    /// Whether the apex answers its address, unless the apex is configured as a service.
    pub is_in_apex: bool,
    /// Names of the nodes that take over this node's name, in order of preference; empty: rendezvous hash.
    pub backup: Vec<String>,
    /// Its share of the names of dead nodes, relative to the weights of the other nodes.
    pub weight: u32,
    /// Its named address sets besides its own addresses: `[node.addresses.internal]`.
    pub sets: BTreeMap<String, SetAddresses>,
    /// The probes that decide about its health.
    pub health: HealthCheck,
}

/// The addresses of a node in one address set. At least one of them is set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetAddresses {
    /// The IPv4 address.
    pub ipv4: Option<Ipv4Addr>,
    /// The IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
}

impl SetAddresses {
    /// Returns the addresses, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }
}

/// Another name under which every name of the zone is repeated: `[[suffix]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Suffix {
    /// The name, fully qualified and in lower case.
    pub name: Name,
    /// The address set that the names below it answer; `None`: the nodes' own addresses.
    pub set: Option<String>,
}

impl Node {
    /// Whether it has an address. A node of a cluster has one; in the part of an address set it may have none.
    pub(crate) fn has_address(&self) -> bool {
        self.ipv4.is_some() || self.ipv6.is_some()
    }

    /// Returns its own addresses and those of its address sets. An address may occur twice.
    pub fn all_addresses(&self) -> impl Iterator<Item = IpAddr> + '_ {
        self.addresses().chain(self.sets.values().flat_map(SetAddresses::addresses))
    }

    /// Returns the addresses of the node, IPv4 first.
    pub fn addresses(&self) -> impl Iterator<Item = IpAddr> + use<> {
        self.ipv4.map(IpAddr::V4).into_iter().chain(self.ipv6.map(IpAddr::V6))
    }

    /// Whether probes decide about its health. Otherwise the node counts as healthy, and it substitutes only for the nodes
    /// that have it as `backup`.
    pub fn is_probed(&self) -> bool {
        !self.health.probes.is_empty()
    }

    /// Whether it is a name server or counts for the quorum.
    pub fn is_server(&self) -> bool {
        self.ns.is_some() || self.is_voter
    }

    /// Returns the address that probes are sent to: IPv4 if there is one.
    pub fn probe_address(&self) -> IpAddr {
        self.addresses().next().expect("a node has an address")
    }
}

/// A name that answers with its healthy members in rotation, or with the first healthy member. An answer has at most
/// `answers_max` members.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Service {
    /// Its name, relative to the zone, or [`APEX`].
    pub name: String,
    /// Names of the member nodes, in the order of the configuration.
    pub nodes: Vec<String>,
    /// Which of its healthy members it answers.
    pub order: Order,
    /// Names of the nodes that answer while no member is healthy, in order of preference. The first healthy one answers
    /// alone.
    pub backup: Vec<String>,
    /// With fewer healthy members than this, it answers all of them, healthy or not.
    pub min_healthy: usize,
    /// The answer while neither a member nor a backup is healthy. `None`: a service with its own probes answers as
    /// `[failover]` says. A service without its own probes answers the substitutes of its members.
    pub all_down: Option<AllDown>,
    /// The most addresses of a family in an answer; `None`: as the zone says.
    pub answers_max: Option<usize>,
    /// The probes that decide about its members; `None`: a member is as healthy as its node.
    pub health: Option<HealthCheck>,
}

impl Service {
    /// Returns its members, then its backups: every node that the service's own probes may judge.
    pub fn candidates(&self) -> impl Iterator<Item = &String> {
        self.nodes.iter().chain(&self.backup)
    }
}

/// Which of its healthy members a service answers: `[[service]] order`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Order {
    /// All healthy members. Each answer begins with a different member.
    #[default]
    Rotate,
    /// The first healthy member in the order of the configuration: active and passive.
    First,
}

impl Order {
    /// Returns the name in the configuration.
    pub fn text(self) -> &'static str {
        match self {
            Order::Rotate => "rotate",
            Order::First => "first",
        }
    }
}

/// `all-down`: the answer while no node is up, or while no member of a service is healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum AllDown {
    /// Each name answers its configured address: fail open.
    Configured,
    /// The last answer from when a node was healthy.
    LastGood,
    /// The name exists and has no address.
    Nodata,
    /// REFUSED, so that resolvers ask elsewhere.
    Refused,
}

impl AllDown {
    /// Returns the name in the configuration.
    pub fn text(self) -> &'static str {
        match self {
            AllDown::Configured => "configured",
            AllDown::LastGood => "last-good",
            AllDown::Nodata => "nodata",
            AllDown::Refused => "refused",
        }
    }
}

/// The probes that decide about the health of a node, or of a node as a member of a service.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HealthCheck {
    /// The probes; empty for a node that is not probed.
    pub probes: Vec<Probe>,
    /// How many of the probes have to succeed.
    pub require: Require,
    /// How the families' health combines.
    pub families: FamilyRule,
}

impl HealthCheck {
    /// Returns the longest time from a node's death to the verdict, whichever of the probes notices it.
    pub fn time_to_detect(&self) -> Duration {
        self.probes.iter().map(Probe::time_to_detect).max().unwrap_or_default()
    }
}

/// How many probes of a node have to succeed for it to be healthy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Require {
    /// All of the probes.
    All,
    /// One of the probes.
    Any,
    /// This many of the probes; at least one, at most all.
    Count(usize),
}

impl Require {
    /// Returns how many of `probes` have to succeed.
    pub fn needed(self, probes: usize) -> usize {
        match self {
            Require::All => probes,
            Require::Any => 1,
            Require::Count(count) => count,
        }
    }
}

/// One probe of a node's health.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Probe {
    /// The kind of the probe, with its settings.
    pub kind: ProbeKind,
    /// The target of the probe; `None`: the node itself.
    pub target: Option<Elsewhere>,
    /// Time from one attempt to the next while the verdict is clear.
    pub interval: Duration,
    /// Time from one attempt to the next while the verdict is in doubt.
    pub fast_interval: Duration,
    /// An attempt without a result after this time has failed.
    pub timeout: Duration,
    /// Failures until the verdict is down.
    pub fall: u32,
    /// Successes in a row until the verdict is up again.
    pub rise: u32,
    /// The limit on `rise` for a node that keeps falling. Each fall doubles `rise` up to this limit.
    pub rise_max: u32,
    /// How long a node has to be up until one of its falls no longer counts.
    pub flap_decay: Duration,
}

impl Probe {
    /// Whether a node is probed at each of its addresses. Otherwise one probe counts for both families.
    pub fn is_made_at_each_address(&self) -> bool {
        self.target.is_none() && !matches!(self.kind, ProbeKind::Exec(_))
    }

    /// Returns the longest time from a node's death to the verdict. The node dies right after a success, and the next
    /// attempt starts an `interval` later. The `fall` attempts start `fast-interval` apart, and the last one waits for
    /// its timeout.
    pub fn time_to_detect(&self) -> Duration {
        self.interval + self.fast_interval * (self.fall - 1) + self.timeout
    }
}

/// The target of a probe that is not sent to the node itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elsewhere {
    /// An address or a name, as the operator wrote it.
    pub written: String,
    /// Its address when the configuration was read.
    pub address: IpAddr,
}

/// The operator's intent for a node, shown beside its real state.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Admin {
    /// The probes decide.
    #[default]
    Auto,
    /// In the answers, whatever the probes say.
    Up,
    /// Out of the answers, whatever the probes say.
    Down,
    /// Out of the answers for maintenance, although the node is healthy.
    Drain,
}

impl fmt::Display for Admin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Admin::Auto => "auto",
            Admin::Up => "up",
            Admin::Down => "down",
            Admin::Drain => "drain",
        })
    }
}
