//! Scenes: a cluster with internal and external addresses, which has a suffix below its zone and one beside it.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::client::dig::dig;
use dns_xdp_tests::bed::cluster::{Cluster, stage};
use dns_xdp_tests::bed::netns::Namespace;
use dns_xdp_tests::bed::parent::root_hints;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::unbound::{self, Unbound};
use dns_xdp_tests::bed::wait;
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

/// The suffix that is a zone of its own. The parent zone delegates it as it delegates the cluster's zone.
const OWN: &str = "inside.example.com";
/// A verdict, and then the TTL of what the resolvers hold.
const WITH_CACHES: Duration = Duration::from_secs(20);

/// The internal address of a node (from 0).
fn internal(node: usize) -> IpAddr {
    Ipv4Addr::new(10, 0, 0, 11 + node as u8).into()
}

fn plan() -> Plan {
    let set = |number: usize| format!("[node.addresses.internal]\nipv4 = \"{}\"", internal(number - 1));
    let plan = Plan::quick(3).tables(
        "[[service]]\nname = \"db\"\nnodes = [\"node1\", \"node2\"]\n\
         [[suffix]]\nname = \"internal\"\naddresses = \"internal\"\n\
         [[suffix]]\nname = \"inside.example.com.\"\naddresses = \"internal\"\n",
    );
    (1..=3).fold(plan, |plan, number| plan.line(&format!("node{number}"), &set(number)))
}

/// Returns the addresses that a client gets from the resolver beside it, in order.
fn addresses(client: &Namespace, name: &str) -> Result<Vec<IpAddr>> {
    let reply = dig(client, unbound::ADDRESS, &[name, "A"])?;
    let mut found: Vec<IpAddr> = reply.data("A").iter().filter_map(|text| text.parse().ok()).collect();
    found.sort();
    Ok(found)
}

/// Gives every node its internal address, lets it listen there, and starts the cluster with its parent zone.
fn start(cluster: &mut Cluster) -> Result<()> {
    for (index, node) in cluster.nodes.iter().enumerate() {
        let address = internal(index);
        node.namespace.ip(&format!("addr add {address}/24 dev eth0\n"))?;
        node.edit_config("\naddresses = [", &format!("\naddresses = [\"{address}\", "))?;
    }
    cluster.start()?;
    cluster.delegate()?;
    let node = &cluster.nodes[0];
    let config = node.config.to_str().context("the configuration's path is no text")?;
    let own = node.cli_ok(&["delegation", "show", "--zone", OWN, "--config", config, "--format", "bind"])?;
    ensure!(own.contains("10.0.0.11") && !own.contains("192.0.2.11"), "the glue is another set's: {own}");
    let both = cluster.delegation()? + &own;
    cluster.parent.as_mut().context("there is no parent")?.change(&both)
}

#[test]
#[ignore = "needs root, XDP, NSD and Unbound: cargo xtask test net"]
fn clients_inside_and_outside_keep_their_addresses_through_a_death() {
    stage(&plan(), |cluster| {
        start(cluster)?;
        cluster.resolve()?;
        let addresses = [
            Ipv4Addr::new(192, 0, 2, 101).into(),
            Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x101).into(),
            Ipv4Addr::new(10, 0, 0, 100).into(),
        ];
        let (inside, _cable) = cluster.plug("inside", &addresses)?;
        let directory = tempfile::tempdir()?;
        let mut resolver = Unbound::start(&inside, directory.path(), &root_hints())?;
        let played = play(cluster, &inside);
        resolver.end();
        played
    });
}

fn play(cluster: &mut Cluster, inside: &Namespace) -> Result<()> {
    verify(cluster, inside)?;
    let internal_names = [format!("node2.internal.{ZONE}."), format!("node2.{OWN}.")];
    let internal_services = [format!("db.internal.{ZONE}."), format!("db.{OWN}.")];
    let external: Vec<IpAddr> = cluster.nodes.iter().map(|node| node.ipv4()).collect();
    let outside = cluster.client.clone();
    let node2 = format!("node2.{ZONE}.");
    let db = format!("db.{ZONE}.");

    let healthy = || -> Result<()> {
        for name in &internal_names {
            let found = addresses(inside, name)?;
            ensure!(found == [internal(1)], "{name} is {found:?}");
        }
        for name in &internal_services {
            let found = addresses(inside, name)?;
            ensure!(found == [internal(0), internal(1)], "{name} is {found:?}");
        }
        let found = [addresses(&outside, &node2)?, addresses(&outside, &db)?];
        ensure!(found == [vec![external[1]], external[..2].to_vec()], "{found:?}");
        Ok(())
    };
    wait::until("every name has its own addresses", WITH_CACHES, &healthy)?;

    cluster.nodes[1].die()?;
    wait::until("the dead node is gone, and each set answers its own addresses", WITH_CACHES, || {
        for name in &internal_names {
            let found = addresses(inside, name)?;
            ensure!(found == [internal(0)] || found == [internal(2)], "{name} is {found:?}");
        }
        for name in &internal_services {
            let found = addresses(inside, name)?;
            ensure!(found == [internal(0)], "{name} is {found:?}");
        }
        let found = addresses(&outside, &node2)?;
        ensure!(found == [external[0]] || found == [external[2]], "node2 is {found:?}");
        let found = addresses(&outside, &db)?;
        ensure!(found == [external[0]], "db is {found:?}");
        Ok(())
    })?;
    let told = cluster.nodes[0].cli_ok(&["query", "node2.internal"])?;
    ensure!(told.contains("with the addresses `internal`: node2 is down"), "{told}");
    let status = cluster.nodes[0].status()?;
    let set = &status["nodes"][1]["sets"]["internal"];
    ensure!(set["ipv4"] == "10.0.0.12" && set["answers"][0] != "10.0.0.12", "{set:#}");

    cluster.nodes[1].come_back()?;
    wait::until("the node is back under every name", WITH_CACHES, &healthy)?;
    Ok(())
}

/// Runs `delegation verify --zone` inside, where the glue can be reached.
fn verify(cluster: &Cluster, inside: &Namespace) -> Result<()> {
    let mut command = Command::new(process::sibling("dns-xdp")?);
    command.args(["delegation", "verify", "--zone", OWN, "--config"]).arg(&cluster.nodes[0].config);
    command.arg("--resolver").arg(unbound::ADDRESS.to_string());
    let output = inside.output(&mut command)?;
    let text = String::from_utf8_lossy(&output.stdout);
    ensure!(output.status.code() == Some(0), "{text}{}", String::from_utf8_lossy(&output.stderr));
    Ok(())
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_suffix_comes_and_goes_by_command_and_the_program_answers_its_names() {
    stage(&plan(), |cluster| {
        cluster.start()?;
        let server = &cluster.nodes[0];
        let ask = |name: &str, rtype| cluster.ask(server.ipv4(), &format!("{name}."), rtype);
        let rcode = |name: &str| Ok::<_, anyhow::Error>(ask(name, RecordType::A)?.metadata.response_code);

        let passed = server.stats()?.answered_by_responder();
        for name in [format!("node1.internal.{ZONE}"), format!("internal.{ZONE}"), format!("node1.{OWN}")] {
            let found = ask(&name, RecordType::A)?;
            let first = found.answers.first().and_then(|record| record.data.ip_addr());
            ensure!(first.is_some_and(|address| (0..3).map(internal).any(|own| own == address)), "{found}");
        }
        ensure!(rcode(&format!("nobody.internal.{ZONE}"))? == ResponseCode::NXDomain, "it exists");
        ensure!(server.stats()?.answered_by_responder() == passed, "the responder was asked");
        for (name, rtype) in
            [(format!("nobody.{OWN}"), RecordType::A), (format!("node1.{OWN}"), RecordType::MX)]
        {
            let negative = ask(&name, rtype)?;
            let soa = negative.authorities.first().map(|record| record.name.to_string());
            ensure!(soa.as_deref() == Some(&format!("{OWN}.")), "{negative}");
        }
        let servers = ask(OWN, RecordType::NS)?;
        ensure!(servers.answers.len() == 3 && servers.additionals.len() == 3, "{servers}");

        let listed = server.cli_ok(&["suffix", "list"])?;
        ensure!(listed.contains("its own") && listed.contains("below"), "{listed}");
        server.cli_ok(&["suffix", "remove", "internal"])?;
        ensure!(rcode(&format!("node1.internal.{ZONE}"))? == ResponseCode::NXDomain, "it is there yet");
        let refused = server.cli(&["suffix", "add", "node1", "--addresses", "internal"])?;
        let told = String::from_utf8_lossy(&refused.stderr);
        ensure!(
            !refused.status.success() && told.contains("the suffix `node1` is the node `node1`"),
            "{told}"
        );
        let refused = server.cli(&["suffix", "add", "x", "--addresses", "intrenal"])?;
        let told = String::from_utf8_lossy(&refused.stderr);
        ensure!(!refused.status.success() && told.contains("did you mean `internal`?"), "{told}");
        server.cli_ok(&["suffix", "add", "int", "--addresses", "internal"])?;
        ensure!(rcode(&format!("node1.int.{ZONE}"))? == ResponseCode::NoError, "it is not there");
        ensure!(server.config_text()?.contains("name = \"int\""), "the file lacks it");
        Ok(())
    });
}
