//! `stats`: prints every counter.
use std::collections::BTreeMap;

use super::columns::columns;
use super::{Format, print, print_json};
use crate::control::api::Stats;
use crate::control::{Client, Command};

pub(super) const EXAMPLE: &str = "Example: dns-xdp stats --json";

pub(super) async fn stats(client: &Client, format: &Format) -> anyhow::Result<()> {
    if format.json {
        return print_json(&client.call(&Command::Stats).await?);
    }
    print(&table(&client.ask(&Command::Stats).await?))
}

fn table(stats: &Stats) -> String {
    let group = |name: &'static str, counters: &BTreeMap<String, u64>| {
        let row = |(counter, count): (&String, &u64)| [name.to_owned(), counter.clone(), count.to_string()];
        counters.iter().map(row).collect::<Vec<_>>()
    };
    let groups = [
        ("xdp", &stats.xdp),
        ("responder", &stats.responder),
        ("controller", &stats.controller),
        ("transmit-errors", &stats.transmit_errors),
    ];
    let rows: Vec<_> = groups.into_iter().flat_map(|(name, counters)| group(name, counters)).collect();
    columns(&rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counters_are_shown_with_their_group() {
        let counters = |name: &str, count| BTreeMap::from([(name.to_owned(), count)]);
        let stats = Stats {
            xdp: counters("answered", 12),
            responder: counters("NXDOMAIN", 3),
            controller: BTreeMap::new(),
            transmit_errors: counters("eth0", 7),
        };
        assert_eq!(
            table(&stats),
            "xdp              answered  12\nresponder        NXDOMAIN  3\ntransmit-errors  eth0      7\n"
        );
    }
}
