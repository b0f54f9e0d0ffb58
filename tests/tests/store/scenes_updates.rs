//! Scenes: DNS UPDATE at any server of a store changes the records of all servers.
use std::thread;

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::agreement::{SOON, wait_for_agreement};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::etcd::Access;
use dns_xdp_tests::bed::nsupdate::{CERTBOT, KEYS, Signer, certbot, nsupdate};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;

const ALL: [usize; 3] = [0, 1, 2];

fn plan() -> Plan {
    Plan::quick(3).on_etcd(Access::Open).line("cluster", "lease = \"2s\"").own_tables(KEYS)
}

/// Waits until every server answers exactly these texts.
pub(crate) fn wait_for_texts(cluster: &Cluster, name: &str, texts: &[&str]) -> Result<()> {
    let (dns, name) = (cluster.dns_client()?, format!("{name}.{ZONE}."));
    let mut texts = texts.to_vec();
    texts.sort_unstable();
    for server in &cluster.nodes {
        wait::until(&format!("{} answers {texts:?}", server.name), SOON, || {
            let answer = dns.ask(server.ipv4(), &name, RecordType::TXT)?;
            let mut found: Vec<String> =
                answer.answers.iter().map(|record| record.data.to_string()).collect();
            found.sort();
            ensure!(found == texts, "{found:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// The serial that each server answers.
fn serials(cluster: &Cluster) -> Result<Vec<String>> {
    let serial = |node: usize| {
        let server = cluster.nodes[node].ipv4();
        let answer = cluster.ask(server, &format!("{ZONE}."), RecordType::SOA)?;
        Ok(answer.answers.iter().map(|record| record.data.to_string()).collect())
    };
    ALL.into_iter().map(serial).collect()
}

fn send(cluster: &Cluster, node: usize, signer: Option<Signer>, lines: &str) -> Result<String> {
    nsupdate(&cluster.client, cluster.nodes[node].ipv4(), signer, lines, node == 1)
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn an_update_at_one_server_is_in_the_answers_of_all() {
    scene(&plan(), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let before = serials(cluster)?;
        // One server is asked over TCP.
        for (node, text) in [(0, "one"), (1, "two"), (2, "three")] {
            let told = send(
                cluster,
                node,
                Some(CERTBOT),
                &format!("update add _acme-challenge.{ZONE} 60 TXT {text}"),
            )?;
            ensure!(told.is_empty(), "{told}");
        }
        wait_for_texts(cluster, "_acme-challenge", &["one", "three", "two"])?;
        let after = serials(cluster)?;
        ensure!(
            after.iter().all(|serial| *serial == after[0]) && before[0] != after[0],
            "{before:?} {after:?}"
        );

        // Three clients at once, each at a server of its own: none of the changes is lost.
        let told: Vec<Result<String>> = thread::scope(|scope| {
            let cluster = &*cluster;
            let sends: Vec<_> = ALL
                .into_iter()
                .map(|node| {
                    let line = format!("update add _acme-challenge.db{node}.{ZONE} 60 TXT at-once");
                    scope.spawn(move || send(cluster, node, Some(CERTBOT), &line))
                })
                .collect();
            sends.into_iter().map(|send| send.join().expect("the client does not panic")).collect()
        });
        for told in told {
            let told = told?;
            ensure!(told.is_empty(), "{told}");
        }
        for node in ALL {
            wait_for_texts(cluster, &format!("_acme-challenge.db{node}"), &["at-once"])?;
        }

        let refused = [
            (
                Some(CERTBOT),
                format!("prereq nxdomain node1.{ZONE}\nupdate add _acme-challenge.x.{ZONE} 60 TXT x"),
                "YXDOMAIN",
            ),
            (
                Some(CERTBOT),
                format!(
                    "prereq yxrrset _acme-challenge.{ZONE} TXT one\nupdate add _acme-challenge.x.{ZONE} 60 TXT x"
                ),
                "NXRRSET",
            ),
            (Some(CERTBOT), format!("update add node1.{ZONE} 60 A 192.0.2.99"), "REFUSED"),
            (Some(CERTBOT), format!("update add {ZONE} 60 NS ns9.{ZONE}"), "REFUSED"),
            (Some(CERTBOT), format!("update delete node1.{ZONE}"), "REFUSED"),
            (Some(CERTBOT), "update add _acme-challenge.example.org 60 TXT x".to_owned(), "NOTZONE"),
            (None, format!("update add _acme-challenge.x.{ZONE} 60 TXT x"), "REFUSED"),
            (
                Some(Signer { name: "nobody", ..CERTBOT }),
                format!("update add _acme-challenge.x.{ZONE} 60 TXT x"),
                "BADKEY",
            ),
            (
                Some(Signer { secret: "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=", ..CERTBOT }),
                format!("update add _acme-challenge.x.{ZONE} 60 TXT x"),
                "BADSIG",
            ),
        ];
        for (signer, lines, part) in refused {
            let told = send(cluster, 0, signer, &lines)?;
            ensure!(told.contains(part), "{lines}: {told}");
        }
        wait_for_texts(cluster, "_acme-challenge.x", &[])?;

        let told = send(
            cluster,
            2,
            Some(CERTBOT),
            &format!(
                "prereq yxrrset _acme-challenge.{ZONE} TXT\nupdate delete _acme-challenge.{ZONE} TXT\nupdate delete _acme-challenge.db0.{ZONE} TXT at-once"
            ),
        )?;
        ensure!(told.is_empty(), "{told}");
        wait_for_texts(cluster, "_acme-challenge", &[])?;
        wait_for_texts(cluster, "_acme-challenge.db0", &[])?;
        let exported = cluster.nodes[0].cli_ok(&[
            "cluster",
            "export",
            "--config",
            &cluster.nodes[0].config.display().to_string(),
        ])?;
        ensure!(exported.contains("_acme-challenge.db1") && !exported.contains("secret"), "{exported}");
        wait_for_agreement(cluster, &ALL).map(drop)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn certbot_proves_a_name_through_any_server() {
    scene(&plan(), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        for (node, name) in [(0, "_acme-challenge"), (1, "_acme-challenge.node2"), (2, "_acme-challenge.a.b")]
        {
            let server = cluster.nodes[node].ipv4();
            let full = format!("{name}.{ZONE}");
            certbot(&cluster.client, server, "add", &full, "first")?;
            // A certificate for a name and its wildcard has two texts.
            certbot(&cluster.client, server, "add", &full, "second")?;
            wait_for_texts(cluster, name, &["first", "second"])?;
            certbot(&cluster.client, server, "del", &full, "first")?;
            certbot(&cluster.client, server, "del", &full, "second")?;
            wait_for_texts(cluster, name, &[])?;
        }
        let error = certbot(&cluster.client, cluster.nodes[0].ipv4(), "add", &format!("www.{ZONE}"), "x");
        let error = error.expect_err("the key has no grant for it").to_string();
        ensure!(error.contains("REFUSED"), "{error}");
        Ok(())
    });
}
