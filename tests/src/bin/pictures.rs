//! The pictures of the README: the status page, and `top`, of a cluster with a dead node. `cargo xtask pictures`.
use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::browser::browse;
use dns_xdp_tests::bed::cluster::Cluster;
use dns_xdp_tests::bed::fetch::{ADDRESS, LISTEN, fetch};
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::process::{exit_code, sibling, succeed};
use dns_xdp_tests::bed::run::Run;
use dns_xdp_tests::bed::terminal::Terminal;
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;

const NODES: u8 = 5;
const SERVICES: &str = "[[service]]\nname = \"db\"\nnodes = [\"node1\", \"node2\", \"node3\"]\n\
    [[service]]\nname = \"cache\"\nnodes = [\"node3\", \"node4\", \"node5\"]\n";
/// Columns and lines.
const TERMINAL: (u16, u16) = (100, 28);
/// The time between two queries of the client.
const PACE: Duration = Duration::from_micros(200);
/// After this time, the terminal shows figures.
const SHOWN: Duration = Duration::from_secs(20);

/// The length of the curve in `top`.
const HISTORY: Duration = Duration::from_secs(40);
/// The time between two requests of the page.
const LOOK: Duration = Duration::from_secs(2);

fn main() -> ExitCode {
    exit_code(draw())
}

fn draw() -> Result<()> {
    let directory = std::env::args().nth(1).context("usage: pictures DIRECTORY")?;
    fs::create_dir_all(&directory).with_context(|| format!("cannot make {directory}"))?;
    let directory = fs::canonicalize(&directory)?;
    let plan = Plan::new(NODES).line("metrics", LISTEN).tables(SERVICES);
    let mut cluster = Cluster::lay(Run::unique()?, &plan)?;
    cluster.start().inspect_err(|_| eprint!("{}", cluster.logs()))?;
    cluster.nodes[1].kill_database()?;
    let client = cluster.dns_client()?;
    let node = &cluster.nodes[0];
    let names = ["db", "node1", "db", "cache", "node2", "db", "@"];
    let mut nth = 0;
    let ask = || {
        nth += 1;
        let name = format!("{}.{ZONE}.", names[nth % names.len()]).replace("@.", "");
        thread::sleep(PACE);
        client.ask(node.ipv4(), &name, RecordType::A).map(drop)
    };
    wait::meanwhile(ask, || {
        let terminal = Terminal::open(node.socket.with_extension("tmux"), TERMINAL)?;
        let program = sibling("dns-xdp")?;
        terminal.line(&format!("{} --socket {} top", program.display(), node.socket.display()))?;
        wait::until("top shows the names that are asked for", SHOWN, || {
            let screen = terminal.screen()?;
            ensure!(screen.contains(&format!("db.{ZONE}.")) && screen.contains("4 of 5 up"), "{screen}");
            Ok(())
        })?;
        // Rates are those between two requests of the page.
        let start = Instant::now();
        while start.elapsed() < HISTORY {
            fetch(node, "/")?;
            thread::sleep(LOOK);
        }
        photograph(node, &page_of(&terminal.coloured()?, node)?, "960,560", &directory.join("top.png"))?;
        photograph(node, &format!("http://{ADDRESS}/"), "1100,820", &directory.join("status.png"))
    })?;
    println!("{}", directory.display());
    Ok(())
}

/// The address of a page that shows a terminal's screen.
fn page_of(screen: &str, node: &Node) -> Result<String> {
    let path: PathBuf = node.config.with_extension("html");
    let text = node.config.with_extension("screen");
    fs::write(&text, screen)?;
    let html = succeed(Command::new("aha").args(["--black", "--title", "top", "-f"]).arg(&text), "")?;
    fs::write(&path, html.replace("<pre>", "<pre style=\"font: 15px/1.25 monospace\">"))?;
    Ok(format!("file://{}", path.display()))
}

fn photograph(node: &Node, url: &str, size: &str, picture: &Path) -> Result<()> {
    let arguments = [format!("--screenshot={}", picture.display()), format!("--window-size={size}")];
    browse(node, url, &arguments.each_ref().map(String::as_str)).map(drop)
}
