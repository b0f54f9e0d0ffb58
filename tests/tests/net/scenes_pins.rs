//! Scenes: the daemon's own entries of a pin directory, the verbs that remove them, and the entries that stay.
use std::fs;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene, stage};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sys::signal::Signal;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_root_of_a_mount_is_no_pin_directory_and_keeps_what_others_pinned() {
    stage(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let bpffs = Bpffs::mount(&node.config.with_file_name("bpffs"))?;
        fs::create_dir_all(Path::new(&bpffs.0).join("foreign"))?;
        fs::create_dir_all(Path::new(&bpffs.0).join("link-eth0"))?;
        let before = node.config_text()?;
        let pinned_in = |pin: &str| before.replace(&node.pins.display().to_string(), pin);
        let is_refused = |output: &Output| {
            let stderr = refused(output, 2);
            assert!(stderr.contains("`pin`") && stderr.contains("the root of a mount"), "{stderr}");
        };
        fs::write(&node.config, pinned_in(&bpffs.0))?;
        let output = verb(node, "check")?;
        is_refused(&output);
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert!(
            stderr.contains("node1.toml:") && stderr.contains(&format!("rm -r {}/link-eth0", bpffs.0)),
            "{stderr}"
        );
        assert!(!output.stdout.is_empty(), "what the names would answer is left out");
        is_refused(&verb(node, "unload")?);
        is_refused(&node.run_to_the_end(&[])?);
        // Nothing else is tested there, because other programs have pins in it.
        fs::write(&node.config, pinned_in("/sys/fs/bpf"))?;
        is_refused(&verb(node, "check")?);
        ensure!(Path::new(&bpffs.0).join("foreign").is_dir(), "a foreign directory is gone");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_directory_with_foreign_entries_is_refused_and_unload_leaves_these_alone() {
    stage(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        fs::create_dir_all(node.pins.join("foreign/deeper"))?;
        fs::create_dir_all(node.pins.join("maps-vpn"))?;
        fs::create_dir_all(node.pins.join("link-eth9"))?;
        for output in [node.run_to_the_end(&[])?, verb(node, "check")?] {
            let stderr = refused(&output, 2);
            assert!(stderr.contains("/foreign and 1 more") && stderr.contains("not dns-xdp's"), "{stderr}");
        }
        ensure!(names(node)? == ["foreign", "link-eth9", "maps-vpn"], "a refused directory was changed");
        let stderr = String::from_utf8_lossy(&verb(node, "unload")?.stderr).into_owned();
        assert!(stderr.contains("/foreign, which is not dns-xdp's"), "{stderr}");
        ensure!(node.pins.join("foreign/deeper").is_dir(), "a foreign entry is gone");
        ensure!(names(node)? == ["foreign", "maps-vpn"], "{:?}", names(node)?);
        // Without XDP nothing is pinned, and the directory does not matter.
        node.edit_config("[xdp]\n", "[xdp]\nmode = \"off\"\n")?;
        let output = verb(node, "check")?;
        ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        fs::remove_dir_all(node.pins.join("foreign/deeper"))?;
        fs::remove_dir(node.pins.join("foreign"))?;
        fs::remove_dir(node.pins.join("maps-vpn"))?;
        node.cli_ok(&["unload", "--config", &node.config.display().to_string()])?;
        ensure!(!node.pins.exists(), "the directory is left");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_start_without_xdp_leaves_the_program_of_a_daemon_that_runs() {
    scene(&Plan::quick(2), |cluster| {
        let pins = cluster.nodes[0].pins.display().to_string();
        let node = &mut cluster.nodes[1];
        node.stop(Signal::SIGINT)?;
        node.edit_config(&node.pins.display().to_string(), &pins)?;
        node.edit_config("[xdp]\n", "[xdp]\nmode = \"off\"\n")?;
        node.start()?;
        let log = fs::read_to_string(&node.log)?;
        ensure!(log.contains("another dns-xdp holds the pins") && log.contains("another [xdp] pin"), "{log}");
        ensure!(cluster.nodes[0].has_xdp()?, "the other daemon's program is gone");
        answers(cluster)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_foreign_entry_raises_an_alarm_and_stops_neither_the_daemon_nor_unload() {
    scene(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        fs::create_dir(node.pins.join("foreign"))?;
        wait::until("the entry is an alarm", Duration::from_secs(10), || {
            let alarms = node.status()?["alarms"].to_string();
            ensure!(alarms.contains("/foreign") && alarms.contains("the next start"), "{alarms}");
            Ok(())
        })?;
        // A successor that is refused is refused before its predecessor gives way.
        refused(&node.run_to_the_end(&["--replace"])?, 2);
        answers(cluster)?;
        let node = &mut cluster.nodes[0];
        ensure!(node.has_xdp()?, "the predecessor is gone");
        // `unload` works both with a daemon and without one.
        let unloaded = |node: &Node| -> Result<()> {
            let stderr = refused(&verb(node, "unload")?, 0);
            assert!(stderr.contains("/foreign, which is not dns-xdp's"), "{stderr}");
            ensure!(names(node)? == ["foreign"] && !node.has_xdp()?, "{:?}", names(node)?);
            Ok(())
        };
        unloaded(node)?;
        node.stop(Signal::SIGCONT)?;
        fs::remove_dir(node.pins.join("foreign"))?;
        node.start()?;
        fs::create_dir(node.pins.join("foreign"))?;
        node.stop(Signal::SIGKILL)?;
        ensure!(node.has_xdp()?, "nothing is left to unload");
        unloaded(node)?;
        fs::remove_dir(node.pins.join("foreign"))?;
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_can_be_removed_is_removed_beside_what_cannot() {
    scene(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        node.stop(Signal::SIGKILL)?;
        // The entry is examined before the others, because its name sorts first.
        let stuck = node.pins.join("link-aaa");
        fs::create_dir(&stuck)?;
        mount(None::<&str>, &stuck, Some("tmpfs"), MsFlags::empty(), None::<&str>)?;
        let output = verb(node, "unload");
        let left = names(node);
        umount2(&stuck, MntFlags::MNT_DETACH)?;
        let stderr = refused(&output?, 1);
        assert!(stderr.contains("link-aaa") && stderr.contains("everything else"), "{stderr}");
        ensure!(left? == ["link-aaa"] && !node.has_xdp()?, "{:?}", names(node)?);
        node.cli_ok(&["unload", "--config", &node.config.display().to_string()])?;
        ensure!(!node.pins.exists(), "the directory is left");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn unload_by_another_socket_leaves_a_running_daemons_pins() {
    scene(&Plan::quick(1), |cluster| {
        let node = &cluster.nodes[0];
        let other = node.socket.with_file_name("other.sock");
        let mut command = Command::new(dns_xdp_tests::bed::process::sibling("dns-xdp")?);
        command.arg("--socket").arg(other).args(["unload", "--config"]).arg(&node.config);
        let output = node.namespace.output(&mut command)?;
        let stderr = refused(&output, 1);
        assert!(stderr.contains("another dns-xdp holds the pins") && stderr.contains("--socket"), "{stderr}");
        ensure!(node.has_xdp()? && names(node)?.len() == 3, "{:?}", names(node)?);
        answers(cluster)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn an_unloaded_daemon_ends_with_the_code_by_which_it_is_not_started_again() {
    scene(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        node.cli_ok(&["unload", "--config", &node.config.display().to_string()])?;
        let status = node.stop(Signal::SIGCONT)?;
        assert_eq!((status.code(), status.signal()), (Some(4), None), "{status}");
        ensure!(node.remains()?.is_empty(), "{:?}", node.remains()?);
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn programs_that_are_loaded_anew_leave_no_log_behind() {
    scene(&Plan::quick(1).line("xdp", "log = true"), |cluster| {
        let node = &cluster.nodes[0];
        let pid = node.status()?["pid"].as_u64().context("status tells no pid")?;
        let rings = || -> Result<usize> {
            let maps = fs::read_to_string(format!("/proc/{pid}/maps"))?;
            Ok(maps.lines().filter(|line| line.contains("bpf-map")).count())
        };
        let before = rings()?;
        ensure!(before > 0, "no ring is mapped");
        for round in 1..=3 {
            for name in names(node)?.iter().filter(|name| name.starts_with("maps-")) {
                fs::remove_dir_all(node.pins.join(name))?;
            }
            wait::until("the pins are made anew", Duration::from_secs(15), || {
                let log = fs::read_to_string(&node.log)?;
                ensure!(log.matches("another process has removed pins").count() == round, "they are not yet");
                Ok(())
            })?;
            // The loop answers when the new program is attached.
            let alarms = node.status()?["alarms"].to_string();
            ensure!(!alarms.contains("not attached"), "{alarms}");
            answers(cluster)?;
        }
        wait::until("only the last program's rings are mapped", Duration::from_secs(5), || {
            ensure!(rings()? == before, "{} mappings instead of {before}", rings()?);
            Ok(())
        })?;
        Ok(())
    });
}

/// A separate BPF filesystem; it is unmounted on drop.
struct Bpffs(String);

impl Bpffs {
    fn mount(directory: &Path) -> Result<Self> {
        fs::create_dir_all(directory)?;
        mount(Some("bpf"), directory, Some("bpf"), MsFlags::empty(), None::<&str>)?;
        Ok(Bpffs(directory.display().to_string()))
    }
}

impl Drop for Bpffs {
    fn drop(&mut self) {
        umount2(self.0.as_str(), MntFlags::MNT_DETACH).ok();
    }
}

fn verb(node: &Node, verb: &str) -> Result<Output> {
    node.cli(&[verb, "--config", &node.config.display().to_string()])
}

/// The entries of the node's pin directory, sorted.
fn names(node: &Node) -> Result<Vec<String>> {
    let entries = fs::read_dir(&node.pins)?;
    let mut names: Vec<String> =
        entries.map(|entry| Ok(entry?.file_name().to_string_lossy().into_owned())).collect::<Result<_>>()?;
    names.sort();
    Ok(names)
}

fn refused(output: &Output, code: i32) -> String {
    let stderr = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{stderr}");
    stderr
}

fn answers(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[0];
    let addresses = cluster.dns_client()?.addresses(node.ipv4(), &format!("node1.{ZONE}."), RecordType::A)?;
    ensure!(addresses == [node.ipv4()], "node1 is {addresses:?}");
    Ok(())
}
