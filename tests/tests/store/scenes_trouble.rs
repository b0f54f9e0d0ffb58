//! Scenes: servers with a store that loses members or its history, is restored, has invalid documents, or refuses them.
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{scope, sleep};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::agreement::{SOON, steady_but_for, store, wait_for_agreement, wait_for_mode, watch};
use dns_xdp_tests::bed::cluster::{Cluster, scene};
use dns_xdp_tests::bed::etcd::Access;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::wait;
use nix::sys::signal::Signal;

const SERVERS: usize = 3;
const ALL: [usize; SERVERS] = [0, 1, 2];
/// The longest time until members have a new leader, and clients another member.
const ELECTED: Duration = Duration::from_secs(5);

fn plan(access: Access) -> Plan {
    Plan::quick(SERVERS as u8).on_etcd(access).line("cluster", "lease = \"2s\"")
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn members_that_die_or_stand_still_and_a_history_that_is_forgotten_change_no_answer() {
    scene(&plan(Access::Open), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let watched = watch(cluster, &ALL)?;
        slow(cluster)?;
        for blow in [Signal::SIGKILL, Signal::SIGSTOP] {
            let leader = cluster.etcd()?.leader()?;
            let struck = Instant::now();
            if blow == Signal::SIGKILL {
                cluster.etcd()?.members[leader].kill()?;
            } else {
                cluster.etcd()?.members[leader].signal(blow)?;
            }
            let other = (1..3).map(|step| (leader + step) % 3).collect::<Vec<_>>();
            cluster.etcd()?.wait_until_healthy(&other)?;
            wait_for_agreement(cluster, &ALL)?;
            for server in ALL {
                obeyed(cluster, server)?;
            }
            println!("{blow} of the leader: each server obeys again after {:.2?}", struck.elapsed());
            if blow == Signal::SIGKILL {
                cluster.etcd()?.members[leader].start()?;
            } else {
                cluster.etcd()?.members[leader].signal(Signal::SIGCONT)?;
            }
            cluster.etcd()?.wait_until_healthy(&ALL)?;
        }

        // One server misses changes, and the store compacts them.
        let etcd = cluster.etcd.as_ref().context("no store")?;
        etcd.cut_off(&cluster.nodes[0])?;
        wait_for_mode(&cluster.nodes[0], "alone")?;
        for _ in 0..3 {
            obeyed(cluster, 1)?;
        }
        etcd.compact()?;
        etcd.join(&cluster.nodes[0])?;
        wait_for_agreement(cluster, &ALL)?;
        // Servers that watch meanwhile miss nothing.
        cluster.etcd()?.compact()?;
        obeyed(cluster, 2)?;
        wait_for_agreement(cluster, &ALL)?;
        steady_but_for(watched, None).map(drop)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn a_store_that_is_restored_from_an_older_backup_is_not_trusted_until_an_operator_accepts_it() {
    scene(&plan(Access::Open), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let backup = cluster.etcd()?.save("older.backup")?;
        cluster.nodes[0].cli_ok(&["node", "down", "node2"])?;
        wait_for_agreement(cluster, &ALL)?;
        let watched = watch(cluster, &ALL)?;
        cluster.etcd()?.restore(&backup)?;
        for node in &cluster.nodes {
            let trouble = wait_for_mode(node, "frozen")?;
            ensure!(trouble.contains("dns-xdp cluster accept"), "{trouble}");
        }
        let refused = cluster.nodes[1].cli(&["node", "up", "node2"])?;
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        // The backup has no intents. Other clients write, so that its revision passes the newest one seen.
        for number in 0..99 {
            cluster.etcd()?.ctl(&["put", "/others", &number.to_string()])?;
        }
        sleep(Duration::from_secs(3));
        for node in &cluster.nodes {
            let store = store(node)?;
            ensure!(store["mode"] == "frozen", "{}: {store}", node.name);
        }
        steady_but_for(watched, None).context("of a store that is not trusted")?;
        // One command on one server is enough.
        cluster.nodes[2].cli_ok(&["cluster", "accept"])?;
        wait_for_agreement(cluster, &ALL)?;
        for node in &cluster.nodes {
            let status = node.status()?;
            ensure!(status["nodes"][1]["admin"] == "auto", "{}: {}", node.name, status["nodes"][1]);
        }
        obeyed(cluster, 0)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn a_document_that_is_none_is_refused_by_all_and_a_server_starts_without_the_store() {
    const KEY: &str = "config/nodes";
    scene(&plan(Access::Open), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let watched = watch(cluster, &ALL)?;
        let right = cluster.etcd()?.read(KEY)?;
        for (wrong, word) in [
            (right.replacen("192.0.2.12", "192.0.2.1200", 1), "ipv4"),
            ("[[node]\n".to_owned(), "nodes"),
            ("[listen]\ninterfaces = [\"lo\"]\n".to_owned(), "listen"),
            (String::from("\u{fffd}\u{1}"), "nodes"),
        ] {
            cluster.etcd()?.write(KEY, &wrong)?;
            for node in &cluster.nodes {
                wait::until(&format!("{} says what is wrong", node.name), SOON, || {
                    let store = store(node)?;
                    let trouble = store["trouble"].as_str().unwrap_or_default();
                    ensure!(trouble.contains(KEY) && trouble.contains(word), "{word}: {store}");
                    Ok(())
                })?;
            }
        }
        // A start uses the documents that were in force.
        cluster.nodes[2].replace()?;
        let log = std::fs::read_to_string(&cluster.nodes[2].log)?;
        ensure!(log.contains("last good copy") && log.contains(KEY), "{log}");
        cluster.etcd()?.write(KEY, right.trim_end())?;
        wait_for_agreement(cluster, &ALL)?;
        for node in &cluster.nodes {
            ensure!(store(node)?["trouble"].is_null(), "{}: {}", node.name, store(node)?);
        }
        steady_but_for(watched, None).context("of a document that is none")?;

        let watched = watch(cluster, &ALL)?;
        let etcd = cluster.etcd.as_ref().context("no store")?;
        etcd.cut_off(&cluster.nodes[0])?;
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        cluster.nodes[0].start()?;
        let trouble = wait_for_mode(&cluster.nodes[0], "alone")?;
        println!("a start without the store: {trouble}");
        ensure!(!trouble.is_empty(), "a server that has not reached the store does not say so");
        let log = std::fs::read_to_string(&cluster.nodes[0].log)?;
        ensure!(log.contains("copy"), "the log does not say that it goes by a copy");
        cluster.etcd.as_ref().context("no store")?.join(&cluster.nodes[0])?;
        wait_for_agreement(cluster, &ALL)?;
        steady_but_for(watched, None).map(drop)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn a_server_that_the_store_refuses_says_why_and_answers_from_its_copy() {
    for (access, words) in
        [(Access::Password, ["password", "password-file"]), (Access::Certificate, ["certificate", "cert"])]
    {
        scene(&plan(access), |cluster| {
            wait_for_agreement(cluster, &ALL)?;
            let watched = watch(cluster, &ALL)?;
            cluster.etcd()?.spoil()?;
            cluster.nodes[0].stop(Signal::SIGTERM)?;
            cluster.nodes[0].start()?;
            let (trouble, _) = wait::until("the server says why", SOON, || {
                let store = store(&cluster.nodes[0])?;
                ensure!(store["mode"] == "alone", "{store}");
                let trouble = store["trouble"].as_str().unwrap_or_default().to_lowercase();
                ensure!(words.iter().all(|word| trouble.contains(word)), "{trouble}");
                Ok(trouble)
            })?;
            println!("{access:?}: {trouble}");
            let output = cluster.nodes[0].cli(&["cluster", "show", "--config", &path(cluster)?])?;
            let said = String::from_utf8_lossy(&output.stderr).to_lowercase();
            println!("{access:?}: {}", said.trim());
            ensure!(output.status.code() == Some(1) && said.contains(words[0]), "{output:?}");
            cluster.etcd()?.mend()?;
            cluster.nodes[0].replace()?;
            wait_for_agreement(cluster, &ALL)?;
            obeyed(cluster, 0)?;
            steady_but_for(watched, None).map(drop)
        });
    }
}

/// A slow store still works: every server obeys it, and no server becomes *alone*.
fn slow(cluster: &Cluster) -> Result<()> {
    let etcd = cluster.etcd.as_ref().context("no store")?;
    let is_over = AtomicBool::new(false);
    let slowed = Instant::now();
    scope(|scope| {
        let slowing = scope.spawn(|| etcd.hold_up(&is_over));
        // This is longer than the time after which a server becomes *alone*.
        let heard = ALL.repeat(4).into_iter().try_for_each(|server| obeyed(cluster, server));
        is_over.store(true, Ordering::Relaxed);
        slowing.join().expect("sending signals does not panic")?;
        heard
    })?;
    println!("while the store is slow: each server obeys, in {:.2?} in all", slowed.elapsed());
    for node in &cluster.nodes {
        let events = node.cli_ok(&["events"])?;
        ensure!(!events.contains("+alone"), "{}: {events}", node.name);
    }
    Ok(())
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test store"]
fn a_server_without_ca_accepts_the_machines_authorities() {
    // The places of the machine's authorities: a file, and a directory.
    let trusting = |file: &str, nowhere: &str| {
        [("SSL_CERT_FILE", file), ("SSL_CERT_DIR", nowhere)]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
    };
    scene(&plan(Access::Certificate), |cluster| {
        wait_for_agreement(cluster, &ALL)?;
        let node = &mut cluster.nodes[0];
        let text = node.config_text()?;
        let line = text.lines().find(|line| line.starts_with("ca = ")).context("the plan names no `ca`")?;
        let ca = line.trim_start_matches("ca = ").trim_matches('"').to_owned();
        node.edit_config(&format!("{line}\n"), "")?;
        node.stop(Signal::SIGTERM)?;
        let [nobody, nowhere] = ["nobody.pem", "nowhere"].map(|name| node.config.with_file_name(name));
        std::fs::write(&nobody, "")?;
        let (nobody, nowhere) = (nobody.display().to_string(), nowhere.display().to_string());
        node.environment = trusting(&nobody, &nowhere).into();
        let refused = node.run_to_the_end(&[])?;
        let stderr = String::from_utf8_lossy(&refused.stderr);
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        ensure!(stderr.contains("no `ca`") && stderr.contains("trusts no certificate authority"), "{stderr}");
        node.environment = trusting(&ca, &nowhere).into();
        node.start()?;
        wait_for_mode(node, "joined").map(drop)
    });
}

fn path(cluster: &Cluster) -> Result<String> {
    Ok(cluster.nodes[0].config.to_str().context("the path is no text")?.to_owned())
}

/// Sets an intent that changes no answer, and checks that all servers soon have it.
fn obeyed(cluster: &Cluster, server: usize) -> Result<()> {
    let reason = format!("at {:?}", Instant::now());
    // A server's session may end at any time after a member's death, and a server without a session refuses.
    let verb = |arguments: &[&str]| {
        wait::until("a verb is taken", ELECTED, || cluster.nodes[server].cli_ok(arguments))
    };
    verb(&["node", "up", "node3", "--reason", &reason])?;
    for node in &cluster.nodes {
        if store(node)?["mode"] != "joined" {
            continue;
        }
        wait::until(&format!("{} has heard of it", node.name), Duration::from_secs(2), || {
            let status = node.status()?;
            let heard = status["nodes"][2]["reason"].as_str().unwrap_or_default();
            ensure!(heard.contains(&reason), "{heard}");
            Ok(())
        })?;
    }
    verb(&["node", "auto", "node3"])?;
    Ok(())
}
