//! `node`: the node map, and what is wanted of each node.
use std::net::{Ipv4Addr, Ipv6Addr};

use clap::Subcommand;

use super::columns::columns;
use super::{Format, change, print, print_json};
use crate::cluster::Admin;
use crate::control::api::NodeEntry;
use crate::control::{Client, Command};

pub(super) const EXAMPLE: &str = "Example: dns-xdp node drain node1 --reason 'kernel update'";

#[derive(Debug, Subcommand)]
pub(super) enum Node {
    /// List the nodes
    #[command(after_help = "Example: dns-xdp node list --json")]
    List(Format),
    /// Add a node
    #[command(after_help = "Example: dns-xdp node add node4 --ipv4 192.0.2.14 --ipv6 2001:db8::14")]
    Add(Place),
    /// Give a node other addresses
    #[command(after_help = "Example: dns-xdp node set node4 --ipv4 192.0.2.24")]
    Set(Place),
    /// Remove a node
    #[command(after_help = "Example: dns-xdp node remove node4")]
    Remove {
        /// The node's name, relative to the zone
        name: String,
        #[command(flatten)]
        keeping: Keeping,
    },
    /// Take a node out of the answers, whatever its probes say
    #[command(after_help = "Example: dns-xdp node down node1 --reason 'disk full'")]
    Down(Wanted),
    /// Keep a node in the answers, whatever its probes say
    #[command(after_help = "Example: dns-xdp node up node1 --reason 'the probe is wrong'")]
    Up(Wanted),
    /// Let the probes decide about a node
    #[command(after_help = "Example: dns-xdp node auto node1")]
    Auto(Wanted),
    /// Take a healthy node out of the answers, for maintenance
    #[command(after_help = "Example: dns-xdp node drain node1 --reason 'kernel update'")]
    Drain(Wanted),
}

#[derive(Debug, clap::Args)]
pub(super) struct Place {
    /// The node's name, relative to the zone
    name: String,
    /// Its IPv4 address
    #[arg(long, value_name = "A", required_unless_present = "ipv6")]
    ipv4: Option<Ipv4Addr>,
    /// Its IPv6 address
    #[arg(long, value_name = "B")]
    ipv6: Option<Ipv6Addr>,
    #[command(flatten)]
    keeping: Keeping,
}

#[derive(Debug, clap::Args)]
pub(super) struct Keeping {
    /// Leave the configuration file as it is: forgotten at the next reload or start
    #[arg(long)]
    ephemeral: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Wanted {
    /// The node's name, relative to the zone
    name: String,
    /// Why: shown by `status`
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

impl Node {
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<()> {
        match self {
            Node::List(format) => list(client, &format).await,
            other => change(client, &other.into_command()).await,
        }
    }

    fn into_command(self) -> Command {
        match self {
            Node::List(_) => Command::NodeList,
            Node::Add(Place { name, ipv4, ipv6, keeping: Keeping { ephemeral } }) => {
                Command::NodeAdd { name, ipv4, ipv6, ephemeral }
            }
            Node::Set(Place { name, ipv4, ipv6, keeping: Keeping { ephemeral } }) => {
                Command::NodeSet { name, ipv4, ipv6, ephemeral }
            }
            Node::Remove { name, keeping: Keeping { ephemeral } } => Command::NodeRemove { name, ephemeral },
            Node::Down(wanted) => wanted.into_command(Admin::Down),
            Node::Up(wanted) => wanted.into_command(Admin::Up),
            Node::Auto(wanted) => wanted.into_command(Admin::Auto),
            Node::Drain(wanted) => wanted.into_command(Admin::Drain),
        }
    }
}

impl Wanted {
    fn into_command(self, admin: Admin) -> Command {
        Command::Admin { node: self.name, admin, reason: self.reason }
    }
}

async fn list(client: &Client, format: &Format) -> anyhow::Result<()> {
    if format.json {
        return print_json(&client.call(&Command::NodeList).await?);
    }
    let nodes: Vec<NodeEntry> = client.ask(&Command::NodeList).await?;
    print(&table(&nodes))
}

fn table(nodes: &[NodeEntry]) -> String {
    let head = ["NODE", "IPV4", "IPV6", "NS", "BACKUP", "ADMIN", "KEPT", "REASON"].map(str::to_owned);
    let row = |node: &NodeEntry| {
        [
            node.name.clone(),
            node.ipv4.map(|ipv4| ipv4.to_string()).unwrap_or_default(),
            node.ipv6.map(|ipv6| ipv6.to_string()).unwrap_or_default(),
            node.ns.clone(),
            node.backup.join(","),
            node.admin.to_string(),
            if node.ephemeral { "no" } else { "file" }.to_owned(),
            node.reason.clone().unwrap_or_default(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(nodes.iter().map(row)).collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_table() {
        let node = NodeEntry {
            name: "node1".to_owned(),
            ipv4: Some(Ipv4Addr::new(192, 0, 2, 11)),
            ipv6: None,
            ns: "ns1".to_owned(),
            backup: vec!["node2".to_owned(), "node3".to_owned()],
            admin: Admin::Drain,
            reason: Some("kernel update".to_owned()),
            ephemeral: false,
        };
        let expected = "\
NODE   IPV4        IPV6  NS   BACKUP       ADMIN  KEPT  REASON
node1  192.0.2.11  -     ns1  node2,node3  drain  file  kernel update
";
        assert_eq!(table(&[node]), expected);
    }
}
