//! `service`: lists and changes the names that answer their healthy nodes, all or the first.
use clap::Subcommand;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::columns::columns;
use super::node::Keeping;
use super::{Format, change, completion, print, print_json};
use crate::cluster::{AllDown, Order};
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
        rules: Rules,
        #[command(flatten)]
        keeping: Keeping,
    },
    /// Give a service other nodes or other rules
    #[command(after_help = "Example: dns-xdp service set db1 --order first --backup node3 --all-down nodata")]
    Set {
        #[command(flatten)]
        name: Name,
        /// The new list of its nodes
        #[arg(
            long,
            value_name = "NODE",
            value_delimiter = ',',
            required_unless_present_any = ["min_healthy", "order", "backup", "all_down"],
            add = completion::nodes()
        )]
        nodes: Vec<String>,
        #[command(flatten)]
        rules: Rules,
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
pub(super) struct Rules {
    /// With fewer healthy nodes than this, but at least one, answer every node that no operator has taken out
    #[arg(long, value_name = "N")]
    min_healthy: Option<usize>,
    /// Answer all its healthy nodes in rotation, or only the first
    #[arg(long, value_name = "ORDER", value_parser = order())]
    order: Option<Order>,
    /// The nodes that answer while none of its nodes is healthy, in order of preference; "" for none
    #[arg(long, value_name = "NODE", value_delimiter = ',', add = completion::nodes())]
    backup: Option<Vec<String>>,
    /// The answer while no backup is healthy either
    #[arg(long, value_name = "RULE", value_parser = all_down())]
    all_down: Option<AllDown>,
}

impl Rules {
    /// Returns the backups. An empty name stands for no backup.
    fn backup(&self) -> Option<Vec<String>> {
        let named = |backup: &Vec<String>| backup.iter().filter(|name| !name.is_empty()).cloned().collect();
        self.backup.as_ref().map(named)
    }
}

fn order() -> impl TypedValueParser<Value = Order> {
    let orders = [Order::Rotate, Order::First];
    PossibleValuesParser::new(orders.map(Order::text))
        .map(move |text| orders.into_iter().find(|order| order.text() == text).unwrap_or_default())
}

fn all_down() -> impl TypedValueParser<Value = AllDown> {
    let rules = [AllDown::Configured, AllDown::LastGood, AllDown::Nodata, AllDown::Refused];
    PossibleValuesParser::new(rules.map(AllDown::text))
        .map(move |text| rules.into_iter().find(|rule| rule.text() == text).unwrap_or(AllDown::Configured))
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
            Service::Add { name: Name { name }, nodes, rules, keeping } => Command::ServiceAdd {
                name,
                nodes,
                min_healthy: rules.min_healthy,
                order: rules.order,
                backup: rules.backup(),
                all_down: rules.all_down,
                ephemeral: keeping.ephemeral,
            },
            Service::Set { name: Name { name }, nodes, rules, keeping } => Command::ServiceSet {
                name,
                nodes,
                min_healthy: rules.min_healthy,
                order: rules.order,
                backup: rules.backup(),
                all_down: rules.all_down,
                ephemeral: keeping.ephemeral,
            },
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
    let head = ["SERVICE", "NODES", "ORDER", "BACKUP", "MIN-HEALTHY", "ALL-DOWN", "STATE", "ANSWERS", "KEPT"];
    let head = head.map(str::to_owned);
    let or_dash = |text: String| if text.is_empty() { "-".to_owned() } else { text };
    let row = |service: &ServiceEntry| {
        [
            service.name.clone(),
            service.nodes.join(","),
            service.order.text().to_owned(),
            or_dash(service.backup.join(",")),
            service.min_healthy.to_string(),
            or_dash(service.all_down.map_or("", AllDown::text).to_owned()),
            if service.down { "down" } else { "up" }.to_owned(),
            or_dash(service.answers.join(",")),
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
            order: Order::Rotate,
            backup: Vec::new(),
            all_down: None,
            down: false,
            answers: vec!["192.0.2.11".to_owned()],
            ephemeral: false,
            shared: true,
        };
        let active = ServiceEntry {
            order: Order::First,
            backup: vec!["node3".to_owned()],
            min_healthy: 0,
            all_down: Some(AllDown::Nodata),
            down: true,
            answers: Vec::new(),
            shared: false,
            ..service.clone()
        };
        let expected = "\
SERVICE  NODES        ORDER   BACKUP  MIN-HEALTHY  ALL-DOWN  STATE  ANSWERS     KEPT
db1      node1,node2  rotate  -       1            -         up     192.0.2.11  store
db1      node1,node2  first   node3   0            nodata    down   -           file
";
        assert_eq!(table(&[service, active]), expected);
    }
}
