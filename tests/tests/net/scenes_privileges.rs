//! Scenes: the privileges of a running daemon that root has started. The daemon still does all its work.
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dns_xdp_tests::bed::capabilities::{Capabilities, NET_BIND_SERVICE, NET_RAW, XDP};
use dns_xdp_tests::bed::client::addresses_in;
use dns_xdp_tests::bed::cluster::{Cluster, scene, stage};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::wait;
use dns_xdp_tests::bed::web::{Authority, Page, Web};
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;

/// The longest time for anything that needs a verdict, with the settings of [`Plan::quick`].
const SOON: Duration = Duration::from_secs(8);
const WEB_PORT: u16 = 8443;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_daemon_of_roots_keeps_what_xdp_takes_and_goes_on_working() {
    let directory = tempfile::tempdir().expect("there is room for a file");
    let [probe, event] = ["probe", "event"].map(|name| Witness::new(directory.path(), name));
    let health = format!("health = {{ probe = \"exec\", command = [\"{}\"] }}", probe.script.display());
    let events = format!("[events]\non-event = [\"{}\"]\n", event.script.display());
    scene(&Plan::quick(2).line("node2", &health).tables(&events), |cluster| {
        let node = &mut cluster.nodes[0];
        has(node, XDP | NET_BIND_SERVICE)?;
        node.cli_ok(&["node", "add", "node3", "--ipv4", "192.0.2.13"])?;
        ensure!(node.config_text()?.contains("node3"), "the file has not been edited");
        node.edit_config("name = \"node3\"", "name = \"node4\"")?;
        node.cli_ok(&["reload"])?;
        for witness in [&probe, &event] {
            let command = witness.capabilities()?;
            ensure!((command.effective, command.permitted, command.inherited) == (0, 0, 0), "{command:?}");
            ensure!(command.no_new_privileges && command.filtered, "{command:?}");
        }
        // An interface that is down loses its IPv6 addresses.
        node.namespace
            .ip("link set eth0 down\nlink set eth0 up\naddress replace 2001:db8::11/64 dev eth0 nodad\n")?;
        answered_in_the_kernel(cluster, "after the link was down")?;
        cluster.nodes[0].replace()?;
        has(&cluster.nodes[0], XDP | NET_BIND_SERVICE)?;
        answered_in_the_kernel(cluster, "after another has taken over")?;
        cluster.nodes[0].stop(Signal::SIGINT)?;
        let remains = cluster.nodes[0].remains()?;
        ensure!(remains.is_empty(), "{remains:?} is left");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn echoes_take_a_capability_that_is_kept_only_where_they_are_configured() {
    stage(&Plan::quick(2), |cluster| {
        for node in &cluster.nodes {
            // With a range that includes the daemon's group, an echo would need no capability.
            node.namespace.enter(|| Ok(fs::write("/proc/sys/net/ipv4/ping_group_range", "1 0")?))?;
        }
        cluster.start()?;
        let node = &mut cluster.nodes[0];
        let ours = node.config_text()?;
        node.edit_config("port = 6379", "probe = \"icmp\"")?;
        let refused = node.cli(&["reload"])?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        ensure!(refused.status.code() == Some(1) && said.contains("CAP_NET_RAW"), "{said}");
        ensure!(said.contains("dns-xdp run --replace"), "{said}");
        node.replace()?;
        has(node, XDP | NET_BIND_SERVICE | NET_RAW)?;
        cluster.wait_until_healthy()?;

        let node = &mut cluster.nodes[0];
        fs::write(&node.config, ours.replace("[xdp]\n", "[xdp]\nmode = \"off\"\n"))?;
        node.stop(Signal::SIGINT)?;
        node.start()?;
        has(node, NET_BIND_SERVICE)?;
        let node = &cluster.nodes[0];
        let response = cluster.ask(node.ipv4(), &format!("node1.{ZONE}."), RecordType::A)?;
        ensure!(addresses_in(&response) == [node.ipv4()], "{response}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn what_the_first_probes_read_and_look_up_keeps_no_privilege_and_holds_nothing_up() {
    // Certificates that the machine's authorities have not signed.
    let authority = Authority::new().expect("there is randomness");
    let health = format!("health = {{ probe = \"https\", port = {WEB_PORT}, host = \"db.example.com\" }}");
    stage(&Plan::quick(2).line("node2", &health), |cluster| {
        let tls = Some(authority.certify("db.example.com", false)?);
        let page = Page { status: "200 OK", body: "", tls };
        let _web = Web::start(&cluster.nodes[1].namespace, WEB_PORT, page)?;
        let node = &mut cluster.nodes[0];
        node.start_database()?;
        for _ in 0..3 {
            node.start()?;
            has(node, XDP | NET_BIND_SERVICE)?;
            node.stop(Signal::SIGINT)?;
        }
        let log = fs::read_to_string(&node.log)?;
        ensure!(log.contains("unknown issuer"), "no authority was read: {log}");
        for trouble in ["goes on with more capabilities", "+blind", "cannot give up"] {
            ensure!(!log.contains(trouble), "{log}");
        }
        Ok(())
    });
}

/// Checks that every thread of the daemon has these capabilities, and that executed programs get none.
fn has(node: &Node, capabilities: u64) -> Result<()> {
    let pid = node.status()?["pid"].as_u64().context("status tells no pid")?;
    // A thread that is at work gives up its last capabilities when it next waits.
    wait::until("the daemon has given up what it can", SOON, || {
        let threads = Capabilities::of_threads(u32::try_from(pid)?)?;
        let has_none = |thread: &&Capabilities| (thread.permitted, thread.effective) == (0, 0);
        let without = threads.iter().filter(has_none).count();
        ensure!(without == 1, "{without} threads have no capability, and not only the log's: {threads:?}");
        for thread in threads.iter().filter(|thread| !has_none(thread)) {
            ensure!(
                (thread.permitted, thread.effective) == (capabilities, capabilities),
                "{capabilities:#x}: {thread:?}"
            );
            ensure!((thread.inherited, thread.bounding) == (0, 0), "{thread:?}");
            ensure!(thread.no_new_privileges && thread.filtered, "{thread:?}");
        }
        Ok(())
    })?;
    Ok(())
}

fn answered_in_the_kernel(cluster: &Cluster, when: &str) -> Result<()> {
    let node = &cluster.nodes[0];
    let before = node.stats()?.answered_by_xdp();
    wait::until(&format!("the program answers {when}"), SOON, || {
        let response = cluster.ask(node.ipv4(), &format!("node1.{ZONE}."), RecordType::A)?;
        ensure!(addresses_in(&response) == [node.ipv4()], "{response}");
        ensure!(node.stats()?.answered_by_xdp() > before, "the responder answered");
        Ok(())
    })?;
    Ok(())
}

/// A command that prints its privileges.
struct Witness {
    script: PathBuf,
    told: PathBuf,
}

impl Witness {
    fn new(directory: &Path, name: &str) -> Self {
        let [script, told] = [name.to_owned(), format!("{name}.told")].map(|file| directory.join(file));
        let told_by = told.display();
        // The interpreter's own capabilities.
        let text = format!("#!/bin/sh\ncat /proc/$$/status > {told_by}.$$ && mv {told_by}.$$ {told_by}\n");
        fs::write(&script, text).expect("there is room for a file");
        fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).expect("the file is ours");
        Witness { script, told }
    }

    /// Returns the capabilities of the script's process, once it has the daemon's filter.
    fn capabilities(&self) -> Result<Capabilities> {
        let (capabilities, _) = wait::until(&format!("{} has run", self.script.display()), SOON, || {
            let capabilities = Capabilities::parse(&fs::read_to_string(&self.told)?)?;
            ensure!(capabilities.filtered, "{capabilities:?}");
            Ok(capabilities)
        })?;
        Ok(capabilities)
    }
}
