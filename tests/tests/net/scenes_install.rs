//! Scenes: the package in a clean root, and `doctor` on the machine with the package.
use std::fs;
use std::net::UdpSocket;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _, chown};
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::capabilities::{Capabilities, NET_BIND_SERVICE, NET_RAW, XDP};
use dns_xdp_tests::bed::client::addresses_in;
use dns_xdp_tests::bed::cluster::{Cluster, scene, stage};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::package::Installed;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::run::Run;
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;
use nix::sys::signal::Signal;
use serde_json::Value;

/// The highest permitted rating of the unit: the lower, the less a broken daemon can do.
const EXPOSURE: f64 = 2.0;

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn the_package_serves_as_a_user_of_its_own_with_the_shipped_file_filled_in() {
    let run = Run::unique().expect("a run can be made");
    let installed = Installed::install(&run).expect("the package can be installed");
    stage(&Plan::quick(1), |cluster| {
        let node = &mut cluster.nodes[0];
        node.start_database()?;
        node.config = installed.path("etc/dns-xdp/dns-xdp.toml");
        node.socket = installed.path("run/dns-xdp/control.sock");
        node.pins = installed.path("sys/fs/bpf/dns-xdp");
        let mut refused = Command::new(installed.path("usr/bin/dns-xdp"));
        let refused = process::output(refused.arg("run").arg("--config").arg(&node.config), "")?;
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(
            refused.status.code(),
            Some(2),
            "a file that is not filled in is no reason to try again: {said}"
        );
        fill_in(node, &installed)?;
        let _pins = installed.prepare()?;
        node.wrapper = installed.wrapper()?;
        node.program = Some(installed.path("usr/bin/dns-xdp"));
        node.start()?;
        let played = serves(cluster, &installed);
        cluster.nodes[0].end();
        played
    });
    installed.purge().expect("the package can be purged");
    for file in ["usr/bin/dns-xdp", "etc/dns-xdp", "var/lib/dns-xdp"] {
        assert!(!installed.path(file).exists(), "{file} is left");
    }
}

fn fill_in(node: &Node, installed: &Installed) -> Result<()> {
    let [pins, socket] = [&node.pins, &node.socket].map(|path| path.display().to_string());
    let state = installed.path("var/lib/dns-xdp/dns-xdp.state.json").display().to_string();
    let fill = [
        ("name = \"\"", format!("name = \"{ZONE}\"")),
        ("interfaces = []", "interfaces = [\"eth0\"]".to_owned()),
        ("name = \"\"", "name = \"node1\"".to_owned()),
        ("ipv4 = \"\"", format!("ipv4 = \"{}\"", node.ipv4())),
        ("#pin = \"/sys/fs/bpf/dns-xdp\"", format!("pin = \"{pins}\"")),
        ("#socket = \"/run/dns-xdp/control.sock\"", format!("socket = \"{socket}\"")),
        ("#state = \"/var/lib/dns-xdp/dns-xdp.state.json\"", format!("state = \"{state}\"")),
    ];
    let mut text = node.config_text()?;
    for (from, to) in fill {
        ensure!(text.contains(from), "the shipped file has no {from}");
        text = text.replacen(from, &to, 1);
    }
    Ok(fs::write(&node.config, text)?)
}

/// Everything that a daemon does to files, pins and sockets, as the package's unprivileged user.
fn serves(cluster: &mut Cluster, installed: &Installed) -> Result<()> {
    let (user, group) = installed.user()?;
    ensure!(user != 0, "it is root");
    answers(cluster)?;
    let node = &mut cluster.nodes[0];
    has_given_up(node, user)?;
    node.cli_ok(&["node", "add", "node2", "--ipv4", "192.0.2.12"])?;
    node.cli_ok(&["node", "down", "node2", "--reason", "it is not there"])?;
    let file = fs::metadata(&node.config)?;
    ensure!(node.config_text()?.contains("node2"), "the file has not been edited");
    ensure!((file.uid(), file.gid()) == (user, group), "the file is {}'s", file.uid());
    // After root edits the file, it belongs to root.
    chown(&node.config, Some(0), Some(0))?;
    node.cli_ok(&["node", "set", "node2", "--ipv4", "192.0.2.13"])?;
    node.cli_ok(&["reload"])?;
    let socket = fs::metadata(&node.socket)?.permissions().mode() & 0o777;
    ensure!(socket == 0o600, "the socket's mode is {socket:o}");

    node.replace()?;
    has_given_up(node, user)?;
    answers(cluster)?;
    let node = &mut cluster.nodes[0];
    node.stop(Signal::SIGTERM)?;
    node.start()?;
    let log = fs::read_to_string(&node.log)?;
    ensure!(!log.contains("cannot"), "{log}");
    ensure!(node.status()?["nodes"][1]["admin"] == "down", "what was wanted is forgotten");
    answers(cluster)?;
    let node = &mut cluster.nodes[0];
    node.stop(Signal::SIGINT)?;
    let remains = node.remains()?;
    ensure!(remains.is_empty(), "{remains:?} is left");
    node.start()?;
    answers(cluster)
}

/// Echoes are not configured, and its ports are bound.
fn has_given_up(node: &Node, user: u32) -> Result<()> {
    let pid = u32::try_from(node.status()?["pid"].as_u64().context("status tells no pid")?)?;
    wait::until("the daemon has given up what it can", Duration::from_secs(5), || {
        let threads = Capabilities::of_threads(pid)?;
        let without = threads.iter().filter(|thread| thread.permitted == 0).count();
        ensure!(without == 1, "{without} threads have no capability, and not only the log's: {threads:?}");
        for thread in threads {
            let kept = if thread.permitted == 0 { 0 } else { XDP | NET_BIND_SERVICE };
            ensure!((thread.uid, thread.permitted, thread.inherited) == (user, kept, 0), "{thread:?}");
            ensure!(thread.bounding & !(XDP | NET_RAW | NET_BIND_SERVICE) == 0, "{thread:?}");
            ensure!(thread.no_new_privileges && thread.filtered, "{thread:?}");
        }
        Ok(())
    })?;
    Ok(())
}

/// The answer comes from the program.
fn answers(cluster: &Cluster) -> Result<()> {
    let node = &cluster.nodes[0];
    let before = node.stats()?.answered_by_xdp();
    wait::until("the installed daemon answers in the kernel", Duration::from_secs(15), || {
        let response = cluster.ask(node.ipv4(), &format!("node1.{ZONE}."), RecordType::A)?;
        ensure!(addresses_in(&response) == [node.ipv4()], "{response}");
        ensure!(node.stats()?.answered_by_xdp() > before, "the responder answered, not the program");
        Ok(())
    })?;
    Ok(())
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn manual_pages_completion_and_unit_of_the_package_are_in_order() {
    let run = Run::unique().expect("a run can be made");
    let installed = Installed::install(&run).expect("the package can be installed");
    manual_pages(&installed).expect("the pages render");
    readme_and_licences(&installed).expect("links and licences are in order");
    unit(&run, &installed).expect("the unit is in order");
    scene(&Plan::quick(2), |cluster| completion(&installed, &cluster.nodes[0].socket));
}

fn manual_pages(installed: &Installed) -> Result<()> {
    let mut pages = 0;
    for page in fs::read_dir(installed.path("usr/share/man/man1"))? {
        let page = page?.path();
        let text = rendered(&page)?;
        ensure!(text.contains("SYNOPSIS") && text.contains("Example"), "{}: {text}", page.display());
        pages += 1;
    }
    ensure!(pages > 15, "{pages} pages");
    let file =
        fs::read_dir(installed.path("usr/share/man/man5"))?.next().context("no page of section 5")??;
    let file = rendered(&file.path())?;
    ensure!(file.contains("negative-ttl") && file.contains("flap-decay"), "{file}");
    let manual = fs::read_dir(installed.path("usr/share/doc/dns-xdp/manual"))?.count();
    let written = fs::read_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../dns-xdp/doc"))?.count();
    ensure!(manual == written, "{manual} of {written} pages of the manual");
    Ok(())
}

/// The README's links lead to files of the package. The package names the licences of all that it contains.
fn readme_and_licences(installed: &Installed) -> Result<()> {
    let doc = installed.path("usr/share/doc/dns-xdp");
    let readme = read(&doc.join("README.md"));
    let links: Vec<&str> =
        readme.split("](").skip(1).filter_map(|rest| rest.split([')', '#']).next()).collect();
    let pages = links.iter().filter(|link| !link.is_empty() && !link.starts_with("http"));
    ensure!(pages.clone().count() > 10, "{links:?}");
    for link in pages {
        ensure!(doc.join(link).is_file(), "the README links {link}");
    }
    let copyright = read(&doc.join("copyright"));
    ensure!(
        copyright.contains("MIT or Apache-2.0") && copyright.contains("THIRD-PARTY-NOTICES"),
        "{copyright}"
    );
    let notices = read(&doc.join("THIRD-PARTY-NOTICES"));
    ensure!(notices.contains("\ntokio v"), "{notices}");
    Ok(())
}

/// A manual page as displayed.
fn rendered(page: &Path) -> Result<String> {
    let mut man = Command::new("man");
    man.args(["--warnings=w", "--encoding=utf8", "--local-file"]).arg(page).env("MANWIDTH", "100");
    let output = process::output(&mut man, "")?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success() && said.is_empty(), "{}: {said}", page.display());
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn unit(run: &Run, installed: &Installed) -> Result<()> {
    let text = read(&installed.path("usr/lib/systemd/system/dns-xdp.service"));
    // On this machine the program is not at the path in the unit.
    let program = installed.path("usr/bin/dns-xdp").display().to_string();
    let unit = run.directory().join("dns-xdp.service");
    fs::write(&unit, text.replace("/usr/bin/dns-xdp", &program))?;
    let verified =
        process::output(Command::new("systemd-analyze").args(["verify", "--man=no"]).arg(&unit), "")?;
    let said = String::from_utf8_lossy(&verified.stderr);
    let unexpected: Vec<&str> =
        said.lines().filter(|line| line.contains("dns-xdp") && !line.contains("notify-reload")).collect();
    ensure!(unexpected.is_empty(), "{unexpected:#?}");
    let mut rated = Command::new("systemd-analyze");
    let rated = process::succeed(rated.args(["security", "--offline=true", "--no-pager"]).arg(&unit), "")?;
    let exposure =
        rated.lines().last().and_then(|line| line.split(": ").nth(1)?.split(' ').next()?.parse::<f64>().ok());
    let exposure = exposure.with_context(|| format!("no exposure is told:\n{rated}"))?;
    ensure!(exposure <= EXPOSURE, "{exposure} is more than {EXPOSURE}:\n{rated}");
    Ok(())
}

fn completion(installed: &Installed, socket: &Path) -> Result<()> {
    let script = installed.path("usr/share/bash-completion/completions/dns-xdp");
    let path = installed.path("usr/bin");
    let complete = |words: &str, last: usize| {
        let lines = format!(
            "PATH={}:$PATH; source {}; COMP_WORDS=({words}); COMP_CWORD={last}; COMP_TYPE=9\n\
             $(complete -p dns-xdp | sed 's/.*-F \\([^ ]*\\).*/\\1/') dns-xdp \"${{COMP_WORDS[COMP_CWORD]}}\"\n\
             printf '%s\\n' \"${{COMPREPLY[@]}}\"",
            path.display(),
            script.display()
        );
        process::succeed(Command::new("bash").args(["--norc", "-c", &lines]), "")
    };
    process::succeed(Command::new("bash").arg("-n").arg(&script), "")?;
    let verbs = complete("dns-xdp dra", 1)?;
    ensure!(verbs.trim().is_empty(), "drain is no verb of the first level: {verbs}");
    ensure!(
        complete("dns-xdp stat", 1)?.lines().any(|line| line.trim() == "status"),
        "status is not offered"
    );
    let socket = socket.display();
    let nodes = complete(&format!("dns-xdp --socket {socket} node drain ''"), 5)?;
    ensure!(["node1", "node2"].iter().all(|node| nodes.contains(node)), "{nodes}");
    let silent = complete("dns-xdp --socket /nonexistent node drain ''", 5)?;
    ensure!(!silent.contains("node1") && !silent.contains("nonexistent"), "{silent}");
    Ok(())
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_names_a_program_in_the_way_and_who_has_the_port() {
    stage(&Plan::quick(1), |cluster| {
        let link = cluster.occupy(0)?;
        let node = &cluster.nodes[0];
        let taken = node.namespace.enter(|| Ok(UdpSocket::bind("0.0.0.0:53")?))?;
        let (code, findings) = doctor(cluster)?;
        assert_eq!(code, Some(1), "{findings:#}");
        let port = finding(&findings, "port 53");
        assert_eq!(port["level"], "fail", "{findings:#}");
        let pid = format!("pid {}", std::process::id());
        assert!(port["text"].as_str().is_some_and(|text| text.contains(&pid)), "{port:#}");
        let program = finding(&findings, "eth0 program");
        assert_eq!(program["level"], "warn", "the mode is auto: {findings:#}");
        assert_eq!(finding(&findings, "daemon")["level"], "warn", "{findings:#}");

        drop(taken);
        drop(link);
        let (code, findings) = doctor(cluster)?;
        assert_eq!(finding(&findings, "port 53")["level"], "ok", "{findings:#}");
        assert!(finding(&findings, "eth0 program").is_null(), "{findings:#}");
        assert_eq!(code, Some(3), "the daemon is missing, which is a warning: {findings:#}");
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn doctor_has_nothing_against_a_node_that_runs() {
    scene(&Plan::quick(2), |cluster| {
        let (_, findings) = doctor(cluster)?;
        // The other findings are about this machine: its clock, its packet filter.
        for what in ["eth0", "eth0 xdp", "eth0 program", "addresses", "port 53", "tcp 53", "daemon"] {
            assert_ne!(finding(&findings, what)["level"], "fail", "{findings:#}");
        }
        assert_eq!(finding(&findings, "port 53")["text"], "held by the daemon", "{findings:#}");
        let program = finding(&findings, "eth0 program");
        let text = program["text"].as_str().unwrap_or_default();
        assert!(text.starts_with("dns-xdp's program is attached, native"), "{findings:#}");
        Ok(())
    });
}

fn doctor(cluster: &Cluster) -> Result<(Option<i32>, Value)> {
    let node = &cluster.nodes[0];
    let output = node.cli(&["doctor", "--json", "--config", &node.config.display().to_string()])?;
    let said = || String::from_utf8_lossy(&output.stderr).into_owned();
    Ok((output.status.code(), serde_json::from_slice(&output.stdout).with_context(said)?))
}

fn finding<'a>(findings: &'a Value, what: &str) -> &'a Value {
    let mut all = findings.as_array().into_iter().flatten();
    all.find(|finding| finding["what"] == what).unwrap_or(&Value::Null)
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}
