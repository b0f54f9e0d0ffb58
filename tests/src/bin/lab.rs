//! The demo's cluster, left running for experiments: `lab up`, `lab enter [STATION]`, `lab down`.
use std::env;
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode};

use anyhow::{Context, Result, bail, ensure};
use dns_xdp_tests::bed::cluster::{CLIENT, Cluster};
use dns_xdp_tests::bed::parent::ADDRESSES;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::process::{exit_code, sibling};
use dns_xdp_tests::bed::run::Run;
use dns_xdp_tests::bed::unbound;

/// The name of the lab; a machine has only one.
const NAME: &str = "lab";
const NODES: u8 = 3;

fn main() -> ExitCode {
    exit_code(obey())
}

fn obey() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["up"] => up(),
        ["down"] => down(),
        ["enter"] => enter("client"),
        ["enter", station] => enter(station),
        _ => bail!("usage: lab up | down | enter [STATION]"),
    }
}

fn up() -> Result<()> {
    ensure!(
        !Run::existing(NAME).exists(),
        "the lab is up: enter it with `cargo xtask lab enter node1`, or take it down"
    );
    let run = Run::named(NAME)?;
    let directory = run.directory();
    let mut cluster = Cluster::lay(run, &Plan::new(NODES))?;
    cluster.delegate()?;
    cluster.resolve()?;
    cluster.start().inspect_err(|_| eprint!("{}", cluster.logs()))?;
    println!("the lab is up: zone {ZONE}");
    for node in &cluster.nodes {
        println!("  {:<8}{:<14}{}", node.name, node.addresses[0], node.addresses[1]);
    }
    println!("  {:<8}{:<14}{}", "parent", ADDRESSES[0], ADDRESSES[1]);
    println!("  {:<8}{:<14}{}", "client", CLIENT[0], CLIENT[1]);
    println!("configurations, logs, sockets: {}", directory.display());
    println!("try:");
    println!("  cargo xtask lab enter client     then: dig @192.0.2.11 node1.{ZONE}");
    println!("  cargo xtask lab enter client     then: redis-cli -h 192.0.2.12 ping");
    println!(
        "  cargo xtask lab enter client     then: dns-xdp delegation verify --config {}/node1.toml --resolver {}",
        directory.display(),
        unbound::ADDRESS
    );
    println!(
        "  cargo xtask lab enter node1      then: dns-xdp --socket {}/node1.sock status",
        directory.display()
    );
    println!("  cargo xtask lab down");
    cluster.keep();
    Ok(())
}

fn down() -> Result<()> {
    let run = Run::existing(NAME);
    let was_up = run.exists();
    run.remove()?;
    println!("{}", if was_up { "the lab is gone" } else { "there was no lab" });
    Ok(())
}

fn enter(station: &str) -> Result<()> {
    let namespace = Run::existing(NAME).namespace(station);
    ensure!(
        namespace.path().exists(),
        "there is no {station}: stations are node1 to node{NODES}, client, parent and switch, once `cargo xtask lab up` has run"
    );
    let binaries = sibling("dns-xdp")?;
    let binaries = binaries.parent().context("the daemon's binary has no directory")?;
    let path = env::var("PATH").unwrap_or_default();
    let shell = env::var("SHELL").unwrap_or_else(|_| "/bin/sh".into());
    println!("in the network of {station}; leave with exit");
    let mut command = Command::new("nsenter");
    command.arg(format!("--net={}", namespace.path().display())).arg(shell);
    command.env("PATH", format!("{}:{path}", binaries.display()));
    // Replaces this process, so that the shell owns the terminal.
    Err(command.exec()).context("cannot start nsenter")
}
