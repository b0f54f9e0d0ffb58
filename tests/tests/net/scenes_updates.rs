//! Scenes: DNS UPDATE at servers with files of their own.
use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::nsupdate::{CERTBOT, EXTERNAL_DNS, KEYS, nsupdate};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::process;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

/// Sends an update to the first server. An empty text: it was made.
fn send(cluster: &Cluster, lines: &str) -> Result<String> {
    nsupdate(&cluster.client, cluster.nodes[0].ipv4(), Some(CERTBOT), lines, false)
}

/// The data that a server answers, sorted.
fn data(cluster: &Cluster, node: usize, name: &str, rtype: RecordType) -> Result<Vec<String>> {
    let answer = cluster.ask(cluster.nodes[node].ipv4(), &format!("{name}.{ZONE}."), rtype)?;
    let mut data: Vec<String> = answer.answers.iter().map(|record| record.data.to_string()).collect();
    data.sort();
    Ok(data)
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_only_server_of_a_zone_keeps_updates_in_its_file() {
    scene(&Plan::quick(1).own_tables(KEYS), |cluster| {
        let add = format!(
            "update add _acme-challenge.{ZONE} 60 TXT one\nupdate add _acme-challenge.{ZONE} 60 TXT two"
        );
        let told = send(cluster, &add)?;
        ensure!(told.is_empty(), "{told}");
        // The answer to the update comes when the record is answered.
        ensure!(data(cluster, 0, "_acme-challenge", RecordType::TXT)? == ["one", "two"]);
        let text = cluster.nodes[0].config_text()?;
        ensure!(text.contains("name = \"_acme-challenge\"") && text.contains("[[key.grant]]"), "{text}");
        let events = cluster.nodes[0].cli_ok(&["events", "--json"])?;
        ensure!(events.contains("updated by the key certbot"), "{events}");

        cluster.nodes[0].stop(Signal::SIGTERM)?;
        cluster.nodes[0].start()?;
        ensure!(data(cluster, 0, "_acme-challenge", RecordType::TXT)? == ["one", "two"]);
        // Without `zone`, nsupdate asks for the SOA first.
        let told = send(cluster, &format!("update delete _acme-challenge.{ZONE} TXT \"one\""))?;
        ensure!(told.is_empty(), "{told}");
        ensure!(data(cluster, 0, "_acme-challenge", RecordType::TXT)? == ["two"]);

        // What is wrong changes nothing, and the log says why.
        let before = cluster.nodes[0].config_text()?;
        for (lines, part) in [
            (format!("update add www.{ZONE} 60 TXT x"), "REFUSED"),
            (
                format!(
                    "prereq nxrrset _acme-challenge.{ZONE} TXT\nupdate delete _acme-challenge.{ZONE} TXT"
                ),
                "YXRRSET",
            ),
            (format!("update add _acme-challenge.{ZONE} 700000 TXT x"), "REFUSED"),
        ] {
            let told = send(cluster, &lines)?;
            ensure!(told.contains(part), "{lines}: {told}");
        }
        ensure!(cluster.nodes[0].config_text()? == before, "the file has changed");
        let log = process::tail(&cluster.nodes[0].log, 50);
        ensure!(log.contains("the key has no [[key.grant]] for www.demo.example.com. TXT"), "{log}");
        ensure!(!log.contains("AAECAwQFBgc"), "the secret is in the log: {log}");
        let stats = cluster.nodes[0].cli_ok(&["stats", "--json"])?;
        ensure!(stats.contains("\"YXRRSET\": 1"), "{stats}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn several_servers_without_a_store_refuse_updates_until_local_is_wanted() {
    scene(&Plan::quick(3).own_tables(KEYS), |cluster| {
        let add = format!("update add _acme-challenge.{ZONE} 60 TXT one");
        let told = send(cluster, &add)?;
        ensure!(told.contains("REFUSED"), "{told}");
        let log = process::tail(&cluster.nodes[0].log, 50);
        ensure!(log.contains("3 name servers have this zone, each from its own file"), "{log}");

        let server = &cluster.nodes[0];
        server.edit_config(
            "[[key]]\nname = \"certbot\"",
            "[update]\nlocal = true\n[[key]]\nname = \"certbot\"",
        )?;
        server.cli_ok(&["reload"])?;
        let told = send(cluster, &add)?;
        ensure!(told.is_empty(), "{told}");
        ensure!(data(cluster, 0, "_acme-challenge", RecordType::TXT)? == ["one"]);
        ensure!(
            data(cluster, 1, "_acme-challenge", RecordType::TXT)?.is_empty(),
            "the others have their own files"
        );
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_messages_of_external_dns_work_except_the_transfer() {
    scene(&Plan::quick(1).own_tables(KEYS), |cluster| {
        let send = |lines: String| {
            let told = nsupdate(&cluster.client, cluster.nodes[0].ipv4(), Some(EXTERNAL_DNS), &lines, false)?;
            ensure!(told.is_empty(), "{lines}: {told}");
            Ok(())
        };
        // It sends one message for each endpoint, with a TTL of 0 unless one is configured.
        send(format!(
            "update add www.apps.{ZONE} 0 A 192.0.2.80\nupdate add www.apps.{ZONE} 0 A 192.0.2.81"
        ))?;
        send(format!(
            "update add a-www.apps.{ZONE} 0 TXT \"heritage=external-dns,external-dns/owner=default\""
        ))?;
        ensure!(data(cluster, 0, "www.apps", RecordType::A)? == ["192.0.2.80", "192.0.2.81"]);
        // A change is a removal of each old target, and an addition.
        send(format!(
            "update delete www.apps.{ZONE} A 192.0.2.80\nupdate delete www.apps.{ZONE} A 192.0.2.81"
        ))?;
        send(format!("update add www.apps.{ZONE} 0 CNAME node1.{ZONE}"))?;
        ensure!(data(cluster, 0, "www.apps", RecordType::CNAME)? == [format!("node1.{ZONE}.")]);
        send(format!("update delete www.apps.{ZONE} CNAME node1.{ZONE}"))?;
        ensure!(data(cluster, 0, "www.apps", RecordType::CNAME)?.is_empty());
        let transfer = cluster.dig(cluster.nodes[0].ipv4(), &["+tcp", ZONE, "AXFR"]);
        let text = transfer.map_or_else(|error| error.to_string(), |reply| reply.text);
        ensure!(text.contains("Transfer failed"), "{text}");
        let exported = cluster.nodes[0].cli_ok(&["zone", "export"])?;
        ensure!(exported.contains("a-www.apps"), "{exported}");
        Ok(())
    });
}
