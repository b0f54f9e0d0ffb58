//! Scenes: static records that are changed on one server are in the answers of all.
use anyhow::{Result, ensure};
use dns_xdp_tests::bed::agreement::{SOON, wait_for_agreement};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::etcd::Access;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;

const ALL: [usize; 3] = [0, 1, 2];

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn a_record_that_is_added_on_one_server_is_answered_by_all_and_kept_in_the_store() {
    let plan = Plan::quick(3).on_etcd(Access::Open).line("cluster", "lease = \"2s\"");
    scene(&plan, |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        cluster.nodes[1].cli_ok(&["record", "add", "_acme-challenge", "TXT", "one"])?;
        wait_for_texts(cluster, &["one"])?;
        cluster.nodes[2].cli_ok(&["record", "add", "_acme-challenge", "TXT", "two"])?;
        wait_for_texts(cluster, &["one", "two"])?;
        let listed = cluster.nodes[0].cli_ok(&["record", "list"])?;
        ensure!(listed.contains("_acme-challenge") && listed.contains("store"), "{listed}");
        let config = cluster.nodes[0].config.display().to_string();
        let exported = cluster.nodes[0].cli_ok(&["cluster", "export", "--config", &config])?;
        ensure!(exported.contains("[[record]]") && exported.contains("_acme-challenge"), "{exported}");
        let refused = cluster.nodes[0].cli(&["record", "add", "node1", "CNAME", "node2"])?;
        let told = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(2) && told.contains("`node1` is a node"), "{told}");
        cluster.nodes[0].cli_ok(&["record", "remove", "_acme-challenge", "TXT"])?;
        wait_for_texts(cluster, &[])?;
        wait_for_agreement(cluster, &ALL).map(drop)
    });
}

fn wait_for_texts(cluster: &Cluster, texts: &[&str]) -> Result<()> {
    let (dns, name) = (cluster.dns_client()?, format!("_acme-challenge.{ZONE}."));
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
