//! Scenes: static records that are changed on one server are in the answers of all.
use anyhow::{Result, ensure};
use dns_xdp_tests::bed::agreement::wait_for_agreement;
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::etcd::Access;
use dns_xdp_tests::bed::plan::Plan;

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

/// Waits until every server answers exactly these texts.
fn wait_for_texts(cluster: &Cluster, texts: &[&str]) -> Result<()> {
    crate::scenes_updates::wait_for_texts(cluster, "_acme-challenge", texts)
}
