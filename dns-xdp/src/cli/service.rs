//! `service`: the names that answer all their healthy nodes.
use clap::Subcommand;

use super::columns::columns;
use super::node::Keeping;
use super::{Format, change, completion, print, print_json};
use crate::control::api::ServiceEntry;
use crate::control::{Client, Command};

pub(super) const EXAMPLE: &str = "Example: dns-xdp service add db1 --nodes node1,node2";

#[derive(Debug, Subcommand)]
pub(super) enum Service {
    /// List the services, and what they answer now
    #[command(after_help = "Example: dns-xdp service list --json")]
    List(Format),
    /// Add a service
    #[command(after_help = "Example: dns-xdp service add db1 --nodes node1,node2 --min-healthy 2")]
    Add {
        #[command(flatten)]
        name: Name,
        /// Its nodes
        #[arg(long, value_name = "NODE", value_delimiter = ',', required = true, add = completion::nodes())]
        nodes: Vec<String>,
        #[command(flatten)]
        minimum: Minimum,
        #[command(flatten)]
        keeping: Keeping,
    },
    /// Give a service other nodes, or another minimum of healthy ones
    #[command(after_help = "Example: dns-xdp service set db1 --nodes node1,node2,node3")]
    Set {
        #[command(flatten)]
        name: Name,
        /// Its nodes, all of them
        #[arg(
            long,
            value_name = "NODE",
            value_delimiter = ',',
            required_unless_present = "min_healthy",
            add = completion::nodes()
        )]
        nodes: Vec<String>,
        #[command(flatten)]
        minimum: Minimum,
        #[command(flatten)]
        keeping: Keeping,
    },
    /// Remove a service
    #[command(after_help = "Example: dns-xdp service remove db1")]
    Remove {
        #[command(flatten)]
        name: Name,
        #[command(flatten)]
        keeping: Keeping,
    },
}

#[derive(Debug, clap::Args)]
pub(super) struct Name {
    /// The service's name, relative to the zone; `@` is the zone's own
    #[arg(value_parser = service_name)]
    name: String,
}

fn service_name(text: &str) -> Result<String, String> {
    let name = text.trim();
    if name.is_empty() {
        return Err("a service's name is wanted; `dns-xdp service list` shows them".to_owned());
    }
    Ok(name.to_owned())
}

#[derive(Debug, clap::Args)]
pub(super) struct Minimum {
    /// With fewer healthy nodes than this all of them are answered
    #[arg(long, value_name = "N")]
    min_healthy: Option<usize>,
}

impl Service {
    pub(super) async fn run(self, client: &Client) -> anyhow::Result<()> {
        match self {
            Service::List(format) => list(client, &format).await,
            other => change(client, &other.into_command()).await.map(drop),
        }
    }

    fn into_command(self) -> Command {
        match self {
            Service::List(_) => Command::ServiceList,
            Service::Add { name: Name { name }, nodes, minimum: Minimum { min_healthy }, keeping } => {
                Command::ServiceAdd { name, nodes, min_healthy, ephemeral: keeping.ephemeral }
            }
            Service::Set { name: Name { name }, nodes, minimum: Minimum { min_healthy }, keeping } => {
                Command::ServiceSet { name, nodes, min_healthy, ephemeral: keeping.ephemeral }
            }
            Service::Remove { name: Name { name }, keeping } => {
                Command::ServiceRemove { name, ephemeral: keeping.ephemeral }
            }
        }
    }
}

async fn list(client: &Client, format: &Format) -> anyhow::Result<()> {
    if format.json {
        return print_json(&client.call(&Command::ServiceList).await?);
    }
    let services: Vec<ServiceEntry> = client.ask(&Command::ServiceList).await?;
    print(&table(&services))
}

fn table(services: &[ServiceEntry]) -> String {
    let head = ["SERVICE", "NODES", "MIN-HEALTHY", "ANSWERS", "KEPT"].map(str::to_owned);
    let row = |service: &ServiceEntry| {
        [
            service.name.clone(),
            service.nodes.join(","),
            service.min_healthy.to_string(),
            service.answers.join(","),
            super::node::kept(service.ephemeral, service.shared).to_owned(),
        ]
    };
    let rows: Vec<_> = std::iter::once(head).chain(services.iter().map(row)).collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_list_is_a_table() {
        let service = ServiceEntry {
            name: "db1".to_owned(),
            nodes: vec!["node1".to_owned(), "node2".to_owned()],
            min_healthy: 1,
            answers: vec!["192.0.2.11".to_owned()],
            ephemeral: false,
            shared: true,
        };
        let expected = "\
SERVICE  NODES        MIN-HEALTHY  ANSWERS     KEPT
db1      node1,node2  1            192.0.2.11  store
";
        assert_eq!(table(&[service]), expected);
    }
}
