//! Scenes: how a daemon starts, refuses to start, stops and dies, and what it leaves.
use std::net::{Ipv4Addr, UdpSocket};
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::client::Client;
use dns_xdp_tests::bed::cluster::{Cluster, scene, stage};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_wrong_configuration_is_refused_with_file_and_line() {
    stage(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let line = 1 + node.config_text()?.lines().take_while(|line| *line != "[health]").count();
        node.edit_config("[health]\n", "[health]\nintervall = \"1s\"\n")?;
        let stderr = refused(&node.run_to_the_end(&[])?, 2);
        assert!(stderr.contains(&format!("node1.toml:{}", line + 1)), "{stderr}");
        assert!(stderr.contains("intervall") && stderr.contains("`interval`"), "{stderr}");
        nothing_is_left(node)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_missing_interface_is_named_and_waited_for() {
    scene(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        node.stop(Signal::SIGINT)?;
        node.edit_config("[\"eth0\"]", "[\"eth7\"]")?;
        node.start()?;
        let alarms = node.status()?["alarms"].to_string();
        assert!(alarms.contains("there is no interface eth7"), "{alarms}");
        node.stop(Signal::SIGINT)?;
        nothing_is_left(node)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_port_53_that_is_taken_is_named_and_nothing_stays_attached() {
    stage(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let _holder = node.namespace.enter(|| Ok(UdpSocket::bind((Ipv4Addr::new(192, 0, 2, 11), 53))?))?;
        let stderr = refused(&node.run_to_the_end(&[])?, 1);
        assert!(stderr.contains("192.0.2.11") && stderr.contains("53"), "{stderr}");
        nothing_is_left(node)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_second_daemon_is_refused_and_told_who_holds_the_interface() {
    scene(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let text = node.config_text()?;
        let same_pins = text.replace("node1.sock\"", "node1b.sock\"");
        let same_pins = same_pins.replace("[listen]\n", "[listen]\nport = 5353\n");
        let same_interface = same_pins.replace("/node1\"", "/node1b\"");
        for (text, holder) in [(text, "node1.sock"), (same_pins, "/node1:"), (same_interface, "eth0")] {
            let config = node.config.with_file_name("second.toml");
            std::fs::write(&config, text)?;
            let mut command = Command::new(dns_xdp_tests::bed::process::sibling("dns-xdp")?);
            command.arg("run").arg("--config").arg(config);
            let stderr = refused(&node.namespace.output(&mut command)?, 1);
            assert!(stderr.contains(holder), "{stderr}");
        }
        answers(cluster)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn another_program_on_the_interface_is_left_alone_and_named() {
    stage(&Plan::quick(1), |cluster| {
        let foreign = cluster.occupy(0)?;
        let node = &mut cluster.nodes[0];
        node.edit_config("[xdp]\n", "[xdp]\nmode = \"native\"\n")?;
        let stderr = refused(&node.run_to_the_end(&[])?, 1);
        assert!(stderr.contains("eth0") && stderr.contains("pass"), "{stderr}");
        assert!(node.has_xdp()?, "the other program is gone");
        drop(foreign);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn beside_another_program_the_responder_answers_everything() {
    stage(&Plan::quick(1), |cluster| {
        let foreign = cluster.occupy(0)?;
        cluster.start()?;
        answers(cluster)?;
        let node = &cluster.nodes[0];
        assert_eq!(node.status()?["interfaces"][0]["mode"], "off");
        assert_eq!(node.stats()?.answered_by_xdp(), 0);
        assert!(node.has_xdp()?, "the other program is gone");
        drop(foreign);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn sigint_leaves_nothing() {
    scene(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        assert!(node.has_xdp()?);
        let status = node.stop(Signal::SIGINT)?;
        assert!(status.success(), "{status}");
        nothing_is_left(node)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn after_sigterm_xdp_answers_for_the_grace_and_falls_silent() {
    let plan = Plan::quick(1).line("xdp", "stop-grace = \"2s\"");
    scene(&plan, |cluster| {
        let dns = cluster.dns_client()?;
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        ask(cluster, &dns)?;
        assert!(!cluster.nodes[0].remains()?.is_empty(), "everything stays pinned");
        wait::until("the node is silent", Duration::from_secs(4), || {
            ensure!(ask(cluster, &dns).is_err(), "it answers");
            Ok(())
        })?;
        unload(&cluster.nodes[0])
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_restart_within_the_grace_loses_no_query() {
    scene(&Plan::quick(1), |cluster| {
        let lost = losses(cluster, |cluster| {
            cluster.nodes[0].stop(Signal::SIGTERM)?;
            cluster.nodes[0].start()
        })?;
        assert_eq!(lost, 0);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_killed_daemon_is_outlived_by_its_program_and_the_next_one_adopts_it() {
    let plan = Plan::quick(1).line("xdp", "stale-after = \"4s\"");
    scene(&plan, |cluster| {
        let lost = losses(cluster, |cluster| {
            cluster.nodes[0].stop(Signal::SIGKILL)?;
            cluster.nodes[0].start()
        })?;
        assert_eq!(lost, 0);
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        let dns = cluster.dns_client()?;
        ask(cluster, &dns)?;
        wait::until("the lease ends", Duration::from_secs(7), || {
            ensure!(ask(cluster, &dns).is_err(), "it answers");
            Ok(())
        })?;
        cluster.nodes[0].start()?;
        answers(cluster)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_start_that_is_given_up_leaves_a_predecessors_program_answering_over_other_maps_too() {
    scene(&Plan::quick(1), |cluster| {
        let dns = cluster.dns_client()?;
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        let node = &mut cluster.nodes[0];
        node.edit_config("[xdp]\n", "[xdp]\ncapacity = 100\n")?;
        // No node answers, so the first round of probes takes its full time.
        node.edit_config("timeout = \"300ms\"", "timeout = \"5s\"")?;
        node.edit_config("interval = \"200ms\"", "interval = \"5s\"")?;
        node.edit_config("[[node]]\n", "[[node]]\nname = \"node9\"\nipv4 = \"192.0.2.99\"\n[[node]]\n")?;
        let maps = |node: &Node| Ok::<_, anyhow::Error>(std::fs::read_dir(&node.pins)?.count());
        let before = maps(node)?;
        node.spawn(&[])?;
        wait::until("its maps are there", Duration::from_secs(5), || {
            ensure!(maps(&cluster.nodes[0])? > before, "only those of the predecessor");
            Ok(())
        })?;
        let node = &mut cluster.nodes[0];
        node.stop(Signal::SIGTERM)?;
        assert_eq!(maps(node)?, before, "its own maps are left");
        ask(cluster, &dns)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_replaced_daemon_ends_and_no_query_is_lost() {
    scene(&Plan::quick(1), |cluster| {
        let lost = losses(cluster, |cluster| cluster.nodes[0].replace())?;
        assert_eq!(lost, 0);
        answers(cluster)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_program_over_other_maps_answers_from_the_moment_it_takes_over() {
    scene(&Plan::quick(1).line("xdp", "capacity = 4096"), |cluster| {
        let lost = losses(cluster, |cluster| {
            cluster.nodes[0].edit_config("capacity = 4096", "capacity = 1024")?;
            cluster.nodes[0].replace()
        })?;
        assert_eq!(lost, 0);
        // New maps have new counters.
        let stats = cluster.nodes[0].stats()?;
        assert!(stats.answered_by_xdp() > 0 && stats.answered_by_responder() == 0, "{stats:?}");
        assert_eq!(stats.xdp["lease-expired"], 0, "{stats:?}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn unload_removes_what_a_killed_daemon_left_and_is_content_with_nothing() {
    scene(&Plan::quick(1), |cluster| {
        cluster.nodes[0].stop(Signal::SIGKILL)?;
        unload(&cluster.nodes[0])?;
        unload(&cluster.nodes[0])
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn unload_needs_no_program_that_the_file_names() {
    scene(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        node.stop(Signal::SIGKILL)?;
        node.edit_config("[health]\n", "[events]\non-event = [\"/nonexistent/notify\"]\n[health]\n")?;
        let config = node.config.display().to_string();
        let check = node.cli(&["check", "--config", &config])?;
        ensure!(check.status.code() == Some(2), "{check:?}");
        unload(node)
    });
}

/// A program that stayed attached would keep answering its last zone: its lease may not end.
#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_start_without_xdp_detaches_what_the_daemon_before_has_left() {
    scene(&Plan::quick(1).line("xdp", "stale-after = \"off\""), |cluster| {
        for signal in [Some(Signal::SIGKILL), None] {
            let node = &mut cluster.nodes[0];
            ensure!(node.has_xdp()?, "there is nothing to leave");
            let with_xdp = node.config_text()?;
            node.edit_config("[xdp]\n", "[xdp]\nmode = \"off\"\n")?;
            match signal {
                Some(signal) => {
                    node.stop(signal)?;
                    ensure!(node.has_xdp()?, "the program is gone with its daemon");
                    node.start()?;
                }
                None => node.replace()?,
            }
            ensure!(!node.has_xdp()? && !node.pins.exists(), "the program is left: {:?}", node.remains()?);
            answers(cluster)?;
            let node = &mut cluster.nodes[0];
            std::fs::write(&node.config, with_xdp)?;
            node.replace()?;
        }
        Ok(())
    });
}

fn unload(node: &Node) -> Result<()> {
    node.cli_ok(&["unload", "--config", &node.config.display().to_string()])?;
    nothing_is_left(node)
}

fn nothing_is_left(node: &Node) -> Result<()> {
    let remains = node.remains()?;
    ensure!(remains.is_empty(), "left behind: {remains:?}");
    Ok(())
}

/// The stderr of a daemon that has to refuse with this exit code.
fn refused(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

fn answers(cluster: &Cluster) -> Result<()> {
    ask(cluster, &cluster.dns_client()?)
}

fn ask(cluster: &Cluster, dns: &Client) -> Result<()> {
    let node = &cluster.nodes[0];
    let addresses = dns.addresses(node.ipv4(), &format!("node1.{ZONE}."), RecordType::A)?;
    ensure!(addresses == [node.ipv4()], "node1 is {addresses:?}");
    Ok(())
}

/// The number of unanswered queries while `change` is made; queries follow one after another without a pause.
fn losses(cluster: &mut Cluster, change: impl FnOnce(&mut Cluster) -> Result<()>) -> Result<u32> {
    let dns = cluster.dns_client()?;
    let server = cluster.nodes[0].ipv4();
    let mut lost = 0;
    let ask = || {
        let answer = dns.addresses(server, &format!("node1.{ZONE}."), RecordType::A);
        lost += u32::from(answer.is_err());
        Ok(())
    };
    wait::meanwhile(ask, || change(cluster))?;
    Ok(lost)
}
