//! Scenes: static records, aliases and wildcards, by command, from a file, and as a zone file.
use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::views::{SOON, wait_for_address};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

/// The rcode, the records of the answer and the additional records that a server gives, in lower case.
fn answer(
    cluster: &Cluster,
    name: &str,
    rtype: RecordType,
) -> Result<(ResponseCode, Vec<String>, Vec<String>)> {
    let qname = if name == "@" { format!("{ZONE}.") } else { format!("{name}.{ZONE}.") };
    let message = cluster.ask(cluster.nodes[0].ipv4(), &qname, rtype)?;
    let texts = |records: &[hickory_proto::rr::Record]| {
        records.iter().map(|record| record.to_string().to_lowercase()).collect()
    };
    Ok((message.metadata.response_code, texts(&message.answers), texts(&message.additionals)))
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn records_come_and_go_by_command_and_are_in_force_when_it_returns() {
    scene(&Plan::quick(3), |cluster| {
        let server = &cluster.nodes[0];
        server.cli_ok(&["record", "add", "_redis._tcp", "SRV", "0 0 6379 node2", "--ttl", "1m"])?;
        let address = cluster.nodes[1].ipv4();
        let (rcode, answers, additionals) = answer(cluster, "_redis._tcp", RecordType::SRV)?;
        ensure!(rcode == ResponseCode::NoError, "{rcode}");
        ensure!(answers == [format!("_redis._tcp.{ZONE}. 60 in srv 0 0 6379 node2.{ZONE}.")], "{answers:?}");
        ensure!(
            additionals.iter().any(|record| record.ends_with(&format!(" in a {address}"))),
            "{additionals:?}"
        );

        // The addresses of a target are the present ones.
        cluster.nodes[1].kill_database()?;
        let substitute = |cluster: &Cluster| -> Result<()> {
            let (_, _, additionals) = answer(cluster, "_redis._tcp", RecordType::SRV)?;
            let has_dead = additionals.iter().any(|record| record.ends_with(&format!(" in a {address}")));
            ensure!(!additionals.is_empty() && !has_dead, "{additionals:?}");
            Ok(())
        };
        dns_xdp_tests::bed::wait::until("another node answers for the target", SOON, || substitute(cluster))?;
        cluster.nodes[1].start_database()?;
        wait_for_address(cluster, 0, "node2", address, SOON)?;

        let server = &cluster.nodes[0];
        let (_, before, _) = answer(cluster, "@", RecordType::SOA)?;
        server.cli_ok(&["record", "add", "node1", "TXT", "one"])?;
        server.cli_ok(&["record", "add", "node1", "TXT", "two; and more"])?;
        let (_, answers, _) = answer(cluster, "node1", RecordType::TXT)?;
        ensure!(answers.len() == 2, "{answers:?}");
        let (_, after, _) = answer(cluster, "@", RecordType::SOA)?;
        ensure!(before != after, "the serial is the same: {after:?}");
        let listed = server.cli_ok(&["record", "list"])?;
        ensure!(listed.contains("\"two; and more\"") && listed.contains("file"), "{listed}");
        let text = server.config_text()?;
        ensure!(text.contains("values = [\"one\", \"two; and more\"]"), "{text}");
        let events = server.cli_ok(&["events", "--json"])?;
        ensure!(events.contains("record node1 TXT added"), "{events}");

        // The program answers the address of this name, and absence, as before.
        let passed = server.stats()?.answered_by_responder();
        for rtype in [RecordType::A, RecordType::MX] {
            answer(cluster, "node1", rtype)?;
        }
        ensure!(server.stats()?.answered_by_responder() == passed, "the responder was asked");

        server.cli_ok(&["record", "remove", "node1", "TXT", "one"])?;
        let (_, answers, _) = answer(cluster, "node1", RecordType::TXT)?;
        ensure!(answers.len() == 1, "{answers:?}");
        server.cli_ok(&["record", "set", "node1", "TXT", "three", "--ephemeral"])?;
        let query = server.cli_ok(&["query", "node1", "TXT"])?;
        ensure!(query.contains("\"three\"") && query.contains("answered by responder"), "{query}");
        server.cli_ok(&["reload"])?;
        let (_, answers, _) = answer(cluster, "node1", RecordType::TXT)?;
        ensure!(answers[0].contains("two; and more"), "{answers:?}");
        server.cli_ok(&["record", "remove", "node1", "TXT"])?;
        let (rcode, answers, _) = answer(cluster, "node1", RecordType::TXT)?;
        ensure!(rcode == ResponseCode::NoError && answers.is_empty(), "{answers:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_cannot_be_is_refused_and_changes_nothing() {
    scene(&Plan::quick(3), |cluster| {
        let server = &cluster.nodes[0];
        let before = server.config_text()?;
        for (arguments, code, part) in [
            (&["node1", "A", "192.0.2.1"][..], 2, "`node1` is a node"),
            (&["node1", "CNAME", "node2"], 2, "CNAME"),
            (&["x", "SOA", "a b 1 2 3 4 5"], 2, "the zone makes"),
            (&["x", "MX", "mail"], 2, "write it like \"10 mail\""),
            (&["x", "NONSENSE", "a"], 2, "no type"),
        ] {
            let refused = server.cli(&[&["record", "add"], arguments].concat())?;
            let told = String::from_utf8_lossy(&refused.stderr);
            ensure!(refused.status.code() == Some(code) && told.contains(part), "{arguments:?}: {told}");
        }
        ensure!(server.config_text()? == before, "the file has changed");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_zone_file_is_imported_as_a_whole_and_another_server_takes_the_exported_one() {
    scene(&Plan::quick(3), |cluster| {
        let server = &cluster.nodes[0];
        let directory = tempfile::tempdir()?;
        let path = |name: &str| directory.path().join(name).display().to_string();
        let file = "\
$TTL 300
@ IN SOA ns1 hostmaster 1 14400 3600 604800 300
  IN NS ns1
  IN MX 10 mail
mail A 192.0.2.25
www CNAME node1
*.dev CNAME www
key._domainkey TXT ( \"v=DKIM1; k=rsa; \"
                     \"p=AAAA\" )
";
        std::fs::write(path("good.zone"), file)?;
        std::fs::write(path("bad.zone"), format!("{file}node1 60 A 192.0.2.99\n"))?;
        let before = server.config_text()?;
        let refused = server.cli(&["zone", "import", &path("bad.zone")])?;
        let told = String::from_utf8_lossy(&refused.stderr);
        ensure!(!refused.status.success() && told.contains("`node1` is a node"), "{told}");
        ensure!(server.config_text()? == before, "a part was imported");

        let printed = server.cli_ok(&[
            "zone",
            "import",
            "--print",
            "--config",
            &server.config.display().to_string(),
            &path("good.zone"),
        ])?;
        ensure!(printed.contains("[[record]]\nname = \"*.dev\"\ntype = \"CNAME\""), "{printed}");
        ensure!(server.config_text()? == before, "`--print` changes nothing");
        let imported = server.cli(&["zone", "import", &path("good.zone")])?;
        let told = String::from_utf8_lossy(&imported.stderr);
        ensure!(imported.status.success() && told.contains("line 2: the SOA record is left out"), "{told}");
        server.cli_ok(&["zone", "import", &path("good.zone")])?;

        let address = cluster.nodes[0].ipv4();
        for name in ["www", "x.y.dev"] {
            let (_, answers, _) = answer(cluster, name, RecordType::A)?;
            ensure!(
                answers.last().is_some_and(|last| last.ends_with(&format!(" in a {address}"))),
                "{answers:?}"
            );
        }
        let (rcode, answers, _) = answer(cluster, "nothing", RecordType::A)?;
        ensure!(rcode == ResponseCode::NXDomain && answers.is_empty(), "{rcode}: {answers:?}");

        std::fs::write(path("exported.zone"), server.cli_ok(&["zone", "export"])?)?;
        let checked =
            std::process::Command::new("nsd-checkzone").arg(ZONE).arg(path("exported.zone")).output()?;
        ensure!(checked.status.success(), "{}", String::from_utf8_lossy(&checked.stdout));
        Ok(())
    });
}
