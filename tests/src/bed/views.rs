//! Checks the servers' answers about the nodes of a cluster.
use std::net::IpAddr;
use std::time::Duration;

use anyhow::{Result, bail, ensure};
use hickory_proto::rr::RecordType;

use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::plan::ZONE;
use crate::bed::wait;

/// The longest time for anything that needs a verdict, with the settings of
/// [`Plan::quick`](crate::bed::plan::Plan::quick).
pub const SOON: Duration = Duration::from_secs(8);

/// Waits until all `servers` answer the same other address for the dead node's name.
///
/// # Errors
/// The servers do not agree within [`SOON`].
pub fn agreed_substitute(cluster: &Cluster, servers: &[usize], dead: usize) -> Result<IpAddr> {
    let dns = cluster.dns_client()?;
    let dead = &cluster.nodes[dead];
    let qname = format!("{}.{ZONE}.", dead.name);
    let (address, _) = wait::until("the servers agree on a substitute", SOON, || {
        let mut views = Vec::new();
        for server in servers {
            views.extend(dns.addresses(cluster.nodes[*server].ipv4(), &qname, RecordType::A)?);
        }
        ensure!(views.iter().all(|view| *view == views[0] && *view != dead.ipv4()), "{views:?}");
        Ok(views[0])
    })?;
    Ok(address)
}

/// Checks that the dead address is in no section of any response, for any name.
///
/// # Errors
/// One of `servers` answers the dead address, or does not answer.
pub fn no_server_answers(cluster: &Cluster, servers: &[usize], dead: usize) -> Result<()> {
    let dns = cluster.dns_client()?;
    let dead = &cluster.nodes[dead];
    let labels = cluster.nodes.iter().enumerate();
    let labels = labels.flat_map(|(index, node)| [format!("{}.", node.name), format!("ns{}.", index + 1)]);
    for label in labels.chain([String::new()]) {
        for (server, rtype) in servers
            .iter()
            .flat_map(|server| [RecordType::A, RecordType::AAAA, RecordType::NS].map(|rtype| (server, rtype)))
        {
            let server: &Node = &cluster.nodes[*server];
            let addresses = dns.every_address(server.ipv4(), &format!("{label}{ZONE}."), rtype)?;
            if addresses.iter().any(|address| dead.addresses.contains(address)) {
                bail!("{} answers {addresses:?} to {label}{ZONE} {rtype}", server.name);
            }
        }
    }
    Ok(())
}

/// Waits until a server answers this address and no other for a name below the zone.
///
/// # Errors
/// The server does not answer this address within `limit`.
pub fn wait_for_address(
    cluster: &Cluster,
    server: usize,
    name: &str,
    address: IpAddr,
    limit: Duration,
) -> Result<()> {
    let dns = cluster.dns_client()?;
    let server = &cluster.nodes[server];
    wait::until(&format!("{} answers {address} for {name}", server.name), limit, || {
        let addresses = dns.addresses(server.ipv4(), &format!("{name}.{ZONE}."), RecordType::A)?;
        ensure!(addresses == [address], "it answers {addresses:?}");
        Ok(())
    })?;
    Ok(())
}
