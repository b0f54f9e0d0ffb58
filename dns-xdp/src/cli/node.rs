//! `node`: lists and changes the nodes, and sets the admin intent of each.
mod show;

use std::net::{Ipv4Addr, Ipv6Addr};
use std::time::Duration;

use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};
use nix::unistd::{Uid, User};

use super::columns::columns;
use super::wait::Awaited;
use super::{Format, change, completion, print, print_json};
use crate::cluster::{Admin, Family};
use crate::config::edit::NodeKeys;
use crate::control::api::NodeEntry;
use crate::control::{Client, Command};
use crate::intent;

pub(super) const EXAMPLE: &str = "Example: dns-xdp node drain node1 --reason 'kernel update' --for 2h --wait";

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// List the nodes
    #[command(after_help = "Example: dns-xdp node list --json")]
    List(Format),
    /// Show everything about one node
    #[command(after_help = "Example: dns-xdp node show node1")]
    Show {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        format: Format,
    },
    /// Add a node
    #[command(after_help = "Example: dns-xdp node add node4 --ipv4 192.0.2.14 --ipv6 2001:db8::14")]
    Add {
        #[command(flatten)]
        name: Name,
        /// Its IPv4 address
        #[arg(long, value_name = "A", required_unless_present = "ipv6")]
        ipv4: Option<Ipv4Addr>,
        /// Its IPv6 address
        #[arg(long, value_name = "B")]
        ipv6: Option<Ipv6Addr>,
        #[command(flatten)]
        roles: Roles,
        #[command(flatten)]
        keeping: Keeping,
    },
    /// Give a node other addresses, roles or backups
    #[command(
        after_help = "Example: dns-xdp node set node4 --ipv4 192.0.2.24 --weight 2 --backup node1,node2"
    )]
    Set(Set),
    /// Remove a node
    #[command(after_help = "Example: dns-xdp node remove node4 --wait")]
    Remove {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        keeping: Keeping,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Take a node out of the answers, whatever its probes say
    #[command(after_help = "Example: dns-xdp node down node1 --reason 'disk full'")]
    Down {
        #[command(flatten)]
        wanted: Wanted,
        #[command(flatten)]
        waiting: Waiting,
    },
    /// Keep a node in the answers, whatever its probes say
    #[command(after_help = "Example: dns-xdp node up node1 --reason 'the probe is wrong' --for 1h")]
    Up(Wanted),
    /// Let the probes decide about a node
    #[command(after_help = "Example: dns-xdp node auto node1")]
    Auto {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        why: Why,
        #[command(flatten)]
        place: Whereabouts,
    },
    /// Let a node that fell and is held come back into the answers
    #[command(after_help = "Example: dns-xdp node failback node1")]
    Failback(Name),
    /// Take a healthy node out of the answers, for maintenance
    #[command(
        after_help = "Example: dns-xdp node drain node1 --reason 'kernel update' --for 2h --wait\n\nWithout a store, drain the node on every server before it goes down."
    )]
    Drain {
        #[command(flatten)]
        wanted: Wanted,
        /// Drain it even if fewer nodes than the quorum are left in the answers
        #[arg(long)]
        force: bool,
        #[command(flatten)]
        waiting: Waiting,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// The node's name, relative to the zone
    #[arg(value_parser = node_name, add = completion::nodes())]
    name: String,
}

fn node_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() {
        return Err("a node's name is wanted; `dns-xdp node list` shows them".to_owned());
    }
    Ok(name.to_owned())
}

#[derive(Debug, clap::Args)]
#[command(group = clap::ArgGroup::new("changed").required(true).multiple(true).args([
    "ipv4", "ipv6", "no_ipv4", "no_ipv6", "ns", "quorum", "apex", "probed", "weight", "backup"
]))]
pub(super) struct Set {
    #[command(flatten)]
    name: Name,
    /// Its IPv4 address
    #[arg(long, value_name = "A")]
    ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address
    #[arg(long, value_name = "B")]
    ipv6: Option<Ipv6Addr>,
    /// Take its IPv4 address away
    #[arg(long, conflicts_with_all = ["ipv4", "no_ipv6"])]
    no_ipv4: bool,
    /// Take its IPv6 address away
    #[arg(long, conflicts_with = "ipv6")]
    no_ipv6: bool,
    #[command(flatten)]
    roles: Roles,
    #[command(flatten)]
    keeping: Keeping,
}

/// Options as their keys in the file.
#[derive(Debug, clap::Args)]
pub(super) struct Roles {
    /// The name of its name server, relative to the zone; "" if it is not a name server
    #[arg(long, value_name = "NAME")]
    ns: Option<String>,
    /// Whether it counts for the quorum
    #[arg(long, value_name = "YES", value_parser = yes_or_no())]
    quorum: Option<bool>,
    /// Whether the zone's own name answers it
    #[arg(long, value_name = "YES", value_parser = yes_or_no())]
    apex: Option<bool>,
    /// Whether it is probed; a node without probes counts as healthy
    #[arg(long, value_name = "YES", value_parser = yes_or_no())]
    probed: Option<bool>,
    /// Its share of the names that it takes over, 1 to 100
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=100))]
    weight: Option<u32>,
    /// The nodes that take over its name, in order of preference; "" for none
    #[arg(long, value_name = "NODE", value_delimiter = ',', add = completion::nodes())]
    backup: Option<Vec<String>>,
}

fn yes_or_no() -> impl TypedValueParser<Value = bool> {
    PossibleValuesParser::new(["yes", "no"]).map(|word| word == "yes")
}

impl Roles {
    fn into_keys(self, without: Vec<Family>) -> NodeKeys {
        let Roles { ns, quorum, apex, probed, weight, backup } = self;
        // An empty name stands for no backup.
        let backup = backup.map(|names| names.into_iter().filter(|name| !name.is_empty()).collect());
        NodeKeys { ns, quorum, apex, probed, weight, backup, without }
    }
}

#[derive(Debug, clap::Args)]
pub(super) struct Keeping {
    /// Do not change the configuration file; the change ends with the next reload or start
    #[arg(long)]
    pub(super) ephemeral: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Why {
    /// The reason, which `status` shows
    #[arg(long, value_name = "TEXT", value_parser = intent::text)]
    reason: Option<String>,
}

#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    #[command(flatten)]
    name: Name,
    #[command(flatten)]
    why: Why,
    /// How long it lasts; then the probes decide again [default: without an end]
    #[arg(long = "for", value_name = "DURATION", value_parser = intent::lasting)]
    lasting: Option<Duration>,
    #[command(flatten)]
    place: Whereabouts,
}

#[derive(Debug, clap::Args)]
pub(super) struct Whereabouts {
    /// Change this server alone while the store is away; the store gets the change when it is back
    #[arg(long)]
    local: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Waiting {
    /// Wait until no cache that keeps to the TTL holds an address of the node
    #[arg(long)]
    wait: bool,
}

impl Node {
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<()> {
        match &self {
            Node::List(format) => return list(client, format).await,
            Node::Show { name, format } => return show::show(client, &name.name, format).await,
            _ => {}
        }
        let awaited = self.awaited();
        let done = change(client, &self.into_command(who())).await?;
        match awaited {
            Some(awaited) => awaited.wait(client, done.cached_ms.map(Duration::from_millis)).await,
            None => Ok(()),
        }
    }

    /// Returns what `--wait` waits for.
    fn awaited(&self) -> Option<Awaited> {
        match self {
            Node::Remove { name, waiting: Waiting { wait: true }, .. } => Some(Awaited::removed(&name.name)),
            Node::Down { wanted, waiting: Waiting { wait: true } }
            | Node::Drain { wanted, waiting: Waiting { wait: true }, .. } => {
                Some(Awaited::out(&wanted.name.name))
            }
            _ => None,
        }
    }

    fn into_command(self, by: Option<String>) -> Command {
        match self {
            Node::List(_) | Node::Show { .. } => Command::NodeList,
            Node::Add { name: Name { name }, ipv4, ipv6, roles, keeping: Keeping { ephemeral } } => {
                Command::NodeAdd { name, ipv4, ipv6, keys: Box::new(roles.into_keys(Vec::new())), ephemeral }
            }
            Node::Set(Set { name: Name { name }, ipv4, ipv6, no_ipv4, no_ipv6, roles, keeping }) => {
                let given = [(no_ipv4, Family::Ipv4), (no_ipv6, Family::Ipv6)];
                let without = given.into_iter().filter_map(|(is_given, family)| is_given.then_some(family));
                let keys = Box::new(roles.into_keys(without.collect()));
                Command::NodeSet { name, ipv4, ipv6, keys, ephemeral: keeping.ephemeral }
            }
            Node::Remove { name: Name { name }, keeping: Keeping { ephemeral }, .. } => {
                Command::NodeRemove { name, ephemeral }
            }
            Node::Down { wanted, .. } => wanted.into_command(Admin::Down, by, false),
            Node::Up(wanted) => wanted.into_command(Admin::Up, by, false),
            Node::Auto { name, why, place } => {
                Wanted { name, why, lasting: None, place }.into_command(Admin::Auto, by, false)
            }
            Node::Failback(Name { name: node }) => Command::Failback { node, by },
            Node::Drain { wanted, force, .. } => wanted.into_command(Admin::Drain, by, force),
        }
    }
}

impl Wanted {
    fn into_command(self, admin: Admin, by: Option<String>, force: bool) -> Command {
        let Wanted { name: Name { name: node }, why: Why { reason }, lasting, place: Whereabouts { local } } =
            self;
        // At most a year, so its milliseconds fit.
        let for_ms = lasting.map(|lasting| lasting.as_millis() as u64);
        Command::Admin { node, admin, reason, by, for_ms, force, local }
    }
}

/// Returns the user that runs this command, if it is known.
fn who() -> Option<String> {
    let variable = |name| std::env::var(name).ok();
    let user = || User::from_uid(Uid::current()).ok().flatten().map(|user| user.name);
    let candidates = [variable("SUDO_USER"), variable("USER"), user()];
    candidates.into_iter().flatten().find(|name| intent::text(name).is_ok())
}

async fn list(client: &Client, format: &Format) -> anyhow::Result<()> {
    if format.json {
        return print_json(&client.call(&Command::NodeList).await?);
    }
    let nodes: Vec<NodeEntry> = client.ask(&Command::NodeList).await?;
    print(&table(&nodes))
}

fn table(nodes: &[NodeEntry]) -> String {
    let head = ["NODE", "IPV4", "IPV6", "NS", "QUORUM", "HEALTH", "BACKUP", "ADMIN", "KEPT", "REASON"]
        .map(str::to_owned);
    let row = |node: &NodeEntry| {
        [
            node.name.clone(),
            node.ipv4.map(|ipv4| ipv4.to_string()).unwrap_or_default(),
            node.ipv6.map(|ipv6| ipv6.to_string()).unwrap_or_default(),
            node.ns.clone().unwrap_or_else(|| "-".to_owned()),
            if node.quorum { "yes" } else { "no" }.to_owned(),
            node.health.clone(),
            node.backup.join(","),
            node.admin.to_string(),
            kept(node.ephemeral, node.shared).to_owned(),
            wanted(node),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(nodes.iter().map(row)).collect();
    columns(&rows)
}

/// Returns where a node or a service is kept.
pub(super) const fn kept(is_ephemeral: bool, is_shared: bool) -> &'static str {
    match (is_ephemeral, is_shared) {
        (true, _) => "no",
        (false, true) => "store",
        (false, false) => "file",
    }
}

fn wanted(NodeEntry { admin, reason, by, until, local, .. }: &NodeEntry) -> String {
    let by = by.as_deref().filter(|_| *admin != Admin::Auto);
    let wanted = intent::in_words(reason.as_deref(), by, *until);
    let alone = local.then(|| intent::LOCAL.to_owned());
    alone.into_iter().chain(Some(wanted).filter(|text| !text.is_empty())).collect::<Vec<_>>().join("; ")
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// `node1`, which alice has drained.
    pub(in crate::cli) fn drained() -> NodeEntry {
        NodeEntry {
            name: "node1".to_owned(),
            ipv4: Some(Ipv4Addr::new(192, 0, 2, 11)),
            ipv6: None,
            ns: Some("ns1".to_owned()),
            quorum: true,
            apex: true,
            health: "up".to_owned(),
            backup: vec!["node2".to_owned(), "node3".to_owned()],
            admin: Admin::Drain,
            reason: Some("kernel update".to_owned()),
            by: Some("alice".to_owned()),
            until: Some("2026-03-01T12:00:00Z".parse().unwrap()),
            ephemeral: false,
            shared: false,
            local: false,
        }
    }

    #[test]
    fn the_list_is_a_table() {
        let node = drained();
        let expected = "\
NODE   IPV4        IPV6  NS   QUORUM  HEALTH  BACKUP       ADMIN  KEPT  REASON
node1  192.0.2.11  -     ns1  yes     up      node2,node3  drain  file  by alice until 2026-03-01T12:00:00Z: kernel update
lb     192.0.2.11  -     -    no      up      node2,node3  drain  file  by alice until 2026-03-01T12:00:00Z: kernel update
";
        let lb = NodeEntry { name: "lb".to_owned(), ns: None, quorum: false, ..node.clone() };
        assert_eq!(table(&[node, lb]), expected);
    }
}
