//! Scenes: the verdict of each kind of probe on a node, in `status` on every server.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene, stage};
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::redis::Server;
use dns_xdp_tests::bed::wait;
use dns_xdp_tests::bed::web::{Authority, Page, Web};
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

/// The longest time for anything that needs a verdict, with the settings of [`Plan::quick`].
const SOON: Duration = Duration::from_secs(8);
const WEB_PORT: u16 = 8443;
/// The port beside the node's own database.
const REDIS_PORT: u16 = 6390;
const TLS_PORT: u16 = 6391;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_bad_certificate_takes_the_node_out_and_status_says_what_is_wrong_with_it() {
    let directory = tempfile::tempdir().expect("there is room for a file");
    let authority = Authority::new().expect("there is randomness");
    let ca = directory.path().join("ca.pem");
    authority.write(&ca).expect("there is room for a file");
    let health = format!(
        "health = {{ probe = \"https\", port = {WEB_PORT}, host = \"db.example.com\", ca = \"{}\" }}",
        ca.display()
    );
    stage(&Plan::quick(3).line("node2", &health), |cluster| {
        let page = |host, expired| -> Result<Page> {
            Ok(Page { status: "200 OK", body: "", tls: Some(authority.certify(host, expired)?) })
        };
        let good = page("db.example.com", false)?;
        let web = Web::start(&cluster.nodes[1].namespace, WEB_PORT, good.clone())?;
        cluster.start()?;
        web.show(page("db.example.com", true)?);
        out_with(cluster, 1, "certificate: expired")?;
        web.show(good);
        cluster.wait_until_healthy()?;
        web.show(page("www.example.com", false)?);
        out_with(cluster, 1, "certificate: not for db.example.com")
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_page_that_says_something_else_takes_the_node_out() {
    let health = format!(
        "health = {{ probe = \"http\", port = {WEB_PORT}, path = \"/role\", body = \"^role: (primary|any)$\" }}"
    );
    stage(&Plan::quick(3).line("node2", &health), |cluster| {
        let page = |status, body| Page { status, body, tls: None };
        let web = Web::start(&cluster.nodes[1].namespace, WEB_PORT, page("200 OK", "role: primary"))?;
        cluster.start()?;
        web.show(page("200 OK", "role: replica"));
        out_with(cluster, 1, "body does not match")?;
        web.show(page("200 OK", "role: any"));
        cluster.wait_until_healthy()?;
        web.show(page("503 Service Unavailable", "role: any"));
        out_with(cluster, 1, "http 503")
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_command_that_hangs_is_killed_with_its_group_and_leaves_no_process() {
    let directory = tempfile::tempdir().expect("there is room for a file");
    let [script, hang, pids] = ["probe", "hang", "pids"].map(|name| directory.path().join(name));
    let text = format!(
        "#!/bin/sh\n[ -e {} ] || exit 0\nsleep 1000 &\necho $$ $! >> {}\nwait\n",
        hang.display(),
        pids.display()
    );
    fs::write(&script, text).expect("there is room for a file");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("the file is ours");
    let health = format!("health = {{ probe = \"exec\", command = [\"{}\"] }}", script.display());
    scene(&Plan::quick(3).line("node2", &health), |cluster| {
        fs::write(&hang, "")?;
        // A hanging command may be the server's or the node's fault: the node counts as not visible, and the two others
        // are a quorum.
        out_with(cluster, 1, "timeout")?;
        // Further commands start and hang; the first ones have long exceeded their time.
        let seen = fs::read_to_string(&pids)?;
        let first: Vec<&str> = seen.lines().take(3).collect();
        ensure!(first.len() == 3, "{seen}");
        gone(&first)?;
        for node in &mut cluster.nodes {
            node.stop(Signal::SIGTERM)?;
        }
        let seen = fs::read_to_string(&pids)?;
        gone(&seen.lines().collect::<Vec<_>>())
            .context("of those that a daemon had running when it was stopped")
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_dead_name_server_and_a_silent_host_are_found_out_by_those_who_ask_for_them() {
    let plan = Plan::quick(3).line("node2", "health = { probe = \"dns\" }").line(
        "node3",
        "health = { require = \"all\", probes = [{ probe = \"icmp\" }, { probe = \"tcp\" }] }",
    );
    scene(&plan, |cluster| {
        cluster.nodes[1].stop(Signal::SIGKILL)?;
        out_with_on(cluster, &[0, 2], 1, "refused")?;
        cluster.nodes[1].start()?;
        cluster.wait_until_healthy()?;
        cluster.nodes[2].pull_cable()?;
        out_with_on(cluster, &[0, 1], 2, "icmp: timeout; tcp: timeout")
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_redis_server_that_cannot_serve_takes_the_node_out_and_says_why() {
    let directory = tempfile::tempdir().expect("there is room for a file");
    let health = format!("health = {{ probe = \"redis\", port = {REDIS_PORT} }}");
    stage(&Plan::quick(3).line("node2", &health), |cluster| {
        let node = &cluster.nodes[1].namespace;
        let redis = Server::start(node, directory.path(), REDIS_PORT, "replica-serve-stale-data no\n")?;
        cluster.start()?;
        redis.command(&["CONFIG", "SET", "requirepass", "secret"])?;
        out_with(cluster, 1, "it wants a password: set `password-file`")?;
        redis.command(&["-a", "secret", "CONFIG", "SET", "requirepass", ""])?;
        cluster.wait_until_healthy()?;

        redis.command(&["CONFIG", "SET", "protected-mode", "yes"])?;
        out_with(cluster, 1, "protected mode: it takes no connection from other machines")?;
        redis.command(&["CONFIG", "SET", "protected-mode", "no"])?;
        cluster.wait_until_healthy()?;

        // node3 has no such master.
        let master = cluster.nodes[2].ipv4().to_string();
        redis.command(&["REPLICAOF", &master, "1"])?;
        out_with(cluster, 1, "a replica without its master")?;
        redis.command(&["REPLICAOF", "NO", "ONE"])?;
        cluster.wait_until_healthy()?;

        redis.command(&["DEBUG", "POPULATE", "20000"])?;
        // Loading a key takes this many microseconds, and the server looks at its clients after this many octets.
        redis.command(&["CONFIG", "SET", "key-load-delay", "300"])?;
        redis.command(&["CONFIG", "SET", "loading-process-events-interval-bytes", "1024"])?;
        let mut loading = redis.start_command(&["DEBUG", "RELOAD"])?;
        out_with(cluster, 1, "loading its data")?;
        ensure!(loading.wait()?.success(), "the server has not loaded its data");
        cluster.wait_until_healthy()
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_redis_master_is_asked_for_over_tls_with_a_password() {
    let directory = tempfile::tempdir().expect("there is room for a file");
    let file = |name: &str| directory.path().join(name);
    let [ca, cert, key, password] = ["ca.pem", "cert.pem", "key.pem", "password"].map(file);
    let authority = Authority::new().expect("there is randomness");
    authority.write(&ca).expect("there is room for a file");
    authority
        .write_identity(&["db.example.com".to_owned()], false, &cert, &key)
        .expect("there is room for a file");
    fs::write(&password, "secret\n").expect("there is room for a file");
    let tls = format!(
        "tls-port {TLS_PORT}\ntls-cert-file {}\ntls-key-file {}\ntls-ca-cert-file {}\ntls-auth-clients no\n\
         user probe on >secret +ping +role\n",
        cert.display(),
        key.display(),
        ca.display()
    );
    let health = format!(
        "health = {{ probe = \"redis\", port = {TLS_PORT}, role = \"master\", user = \"probe\", tls = true, \
         host = \"db.example.com\", ca = \"{}\", password-file = \"{}\" }}",
        ca.display(),
        password.display()
    );
    stage(&Plan::quick(3).line("node2", &health), |cluster| {
        let redis = Server::start(&cluster.nodes[1].namespace, directory.path(), REDIS_PORT, &tls)?;
        cluster.start()?;
        let master = cluster.nodes[2].ipv4().to_string();
        redis.command(&["REPLICAOF", &master, "1"])?;
        out_with(cluster, 1, "a replica, not a master")?;
        redis.command(&["REPLICAOF", "NO", "ONE"])?;
        cluster.wait_until_healthy()?;

        redis.command(&["ACL", "SETUSER", "probe", "-role"])?;
        out_with(cluster, 1, "its user may not run ROLE: allow +role")?;
        redis.command(&["ACL", "SETUSER", "probe", "+role"])?;
        cluster.wait_until_healthy()?;

        redis.command(&["ACL", "SETUSER", "probe", "resetpass", ">other"])?;
        out_with(cluster, 1, "wrong user or password, or the user is disabled")?;
        fs::write(&password, "other\n")?;
        for node in &cluster.nodes {
            node.cli_ok(&["reload"])?;
        }
        cluster.wait_until_healthy()?;
        for node in &cluster.nodes {
            let status = node.status()?.to_string();
            let log = fs::read_to_string(&node.log)?;
            ensure!(!status.contains("secret") && !log.contains("secret"), "the password is shown");
        }
        Ok(())
    });
}

/// Waits until every server has the node (from 0) down for this reason, sees a quorum, and answers another address.
fn out_with(cluster: &Cluster, node: usize, reason: &str) -> Result<()> {
    out_with_on(cluster, &[0, 1, 2], node, reason)
}

fn out_with_on(cluster: &Cluster, servers: &[usize], node: usize, reason: &str) -> Result<()> {
    let dns = cluster.dns_client()?;
    let dead = cluster.nodes[node].ipv4();
    let qname = format!("{}.{ZONE}.", cluster.nodes[node].name);
    for server in servers {
        let server = &cluster.nodes[*server];
        wait::until(&format!("{} has it down: {reason}", server.name), SOON, || {
            let status = server.status()?;
            let entry = &status["nodes"][node];
            ensure!(entry["health"] == "down" && entry["reason"] == reason, "{entry:#}");
            ensure!(status["quorum"]["ok"] == true, "{status:#}");
            let addresses = dns.addresses(server.ipv4(), &qname, RecordType::A)?;
            ensure!(!addresses.contains(&dead), "{addresses:?}");
            Ok(())
        })?;
    }
    Ok(())
}

/// Waits until none of these processes is left, not even as a zombie.
fn gone(lines: &[&str]) -> Result<()> {
    wait::until("the processes are gone", SOON, || {
        let pids = lines.iter().flat_map(|line| line.split_whitespace());
        let left: Vec<&str> = pids.filter(|pid| Path::new("/proc").join(pid).exists()).collect();
        ensure!(left.is_empty(), "{left:?}");
        Ok(())
    })?;
    Ok(())
}
