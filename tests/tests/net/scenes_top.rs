//! Scenes: an operator's terminal with `top` and `status --watch` while a daemon ends and returns.
use std::fs;
use std::thread;
use std::time::Duration;

use anyhow::{Result, ensure};
use dns_xdp::control::api::Names;
use dns_xdp::control::{Client, Command};
use dns_xdp_tests::bed::cluster::scene;
use dns_xdp_tests::bed::node::Node;
use dns_xdp_tests::bed::plan::{Plan, ZONE};
use dns_xdp_tests::bed::process;
use dns_xdp_tests::bed::terminal::Terminal;
use dns_xdp_tests::bed::wait;
use hickory_proto::rr::RecordType;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

const SMALL: (u16, u16) = (80, 24);
const LARGE: (u16, u16) = (120, 40);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn top_shows_nodes_and_names_survives_a_restart_and_gives_the_terminal_back() {
    scene(&Plan::quick(3), |cluster| {
        let terminal = terminal(&cluster.nodes[0], SMALL)?;
        show(&terminal, &cluster.nodes[0], "top")?;
        let screen = terminal.wait_for("Nodes: 3 of 3 up")?;
        ensure!(!screen.contains("printf"), "the shell's lines are out of sight:\n{screen}");

        let asked = cluster.dns_client()?;
        let server = cluster.nodes[0].ipv4();
        let hostile = format!("\\027\\0912j.{ZONE}.");
        wait::meanwhile(
            || {
                for name in ["node2", "node2", "node2", "node3"] {
                    asked.ask(server, &format!("{name}.{ZONE}."), RecordType::A)?;
                }
                // dig reads the escapes as an operator types them.
                cluster.dig(server, &[&hostile, "A"]).map(drop)
            },
            || {
                terminal.wait_for("answers/s, 100 % in the kernel")?;
                let (screen, _) = wait::until("node2 is asked most", Duration::from_secs(10), || {
                    let screen = terminal.screen()?;
                    let node2 = screen.lines().find(|line| line.contains(&format!("node2.{ZONE}.")));
                    let share = |line: &str| line.contains(" 59.") || line.contains(" 60.");
                    ensure!(node2.is_some_and(share), "{screen}");
                    Ok(screen)
                })?;
                ensure!(screen.contains("\\027\\0912j."), "a name's octets are shown escaped:\n{screen}");
                ensure!(screen.contains("xdp nxdomain"), "{screen}");
                Ok(())
            },
        )?;

        terminal.resize(LARGE)?;
        terminal.wait_for("Most asked")?;
        let node = &mut cluster.nodes[0];
        node.stop(Signal::SIGTERM)?;
        terminal.wait_for("NO ANSWER for")?;
        node.start()?;
        wait::until("top has found the daemon again", Duration::from_secs(10), || {
            let screen = terminal.screen()?;
            ensure!(!screen.contains("NO ANSWER") && screen.contains("Nodes: 3 of 3 up"), "{screen}");
            Ok(())
        })?;
        terminal.key("p")?;
        terminal.wait_for("PAUSED")?;
        terminal.key("q")?;
        given_back(&terminal)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_top_that_is_terminated_gives_the_terminal_back() {
    scene(&Plan::quick(1).line("failover", "quorum = 1"), |cluster| {
        let node = &cluster.nodes[0];
        let terminal = terminal(node, SMALL)?;
        let pid = node.socket.with_extension("pid");
        let (top, then) = command(node, "top")?;
        terminal.line(&format!("sh -c 'echo $$ > {}; exec {top}'; {then}", pid.display()))?;
        terminal.wait_for("Nodes: 1 of 1 up")?;
        let pid = fs::read_to_string(&pid)?.trim().parse()?;
        kill(Pid::from_raw(pid), Signal::SIGTERM)?;
        given_back(&terminal)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_watched_status_waits_for_the_daemon_and_ends_with_ctrl_c() {
    scene(&Plan::quick(3), |cluster| {
        let terminal = terminal(&cluster.nodes[0], SMALL)?;
        show(&terminal, &cluster.nodes[0], "status --watch 0.2")?;
        let screen = terminal.wait_for("SERVED AS")?;
        for what in ["quorum   met: 3 visible, 2 needed", "node3", "itself"] {
            ensure!(screen.contains(what), "{what} is missing:\n{screen}");
        }
        cluster.nodes[1].kill_database()?;
        terminal.wait_for("down")?;
        cluster.nodes[0].stop(Signal::SIGTERM)?;
        terminal.wait_for("NO ANSWER for")?;
        cluster.nodes[0].start()?;
        wait::until("the watch has found the daemon again", Duration::from_secs(10), || {
            let screen = terminal.screen()?;
            ensure!(!screen.contains("NO ANSWER") && screen.contains("SERVED AS"), "{screen}");
            Ok(())
        })?;
        terminal.key("C-c")?;
        given_back(&terminal)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn names_are_sampled_only_while_top_runs() {
    scene(&Plan::quick(1).line("failover", "quorum = 1"), |cluster| {
        let node = &cluster.nodes[0];
        let asked = cluster.dns_client()?;
        let server = node.ipv4();
        let ask = |times: usize| -> Result<()> {
            (0..times).try_for_each(|_| asked.ask(server, &format!("node1.{ZONE}."), RecordType::A).map(drop))
        };
        ask(10)?;
        let first = ask_names(node)?;
        assert!(first.sampled && first.names.is_empty(), "{first:?}");
        // The program begins to sample soon after the first command.
        let (second, _) = wait::until("all queries are sampled", Duration::from_secs(5), || {
            ask(10)?;
            let second = ask_names(node)?;
            ensure!((second.samples, second.one_of) == (10, 1), "{second:?}");
            Ok(second)
        })?;
        assert_eq!(second.names[0].name, format!("node1.{ZONE}."), "{second:?}");
        // `top` is absent for longer than sampling lasts without it.
        thread::sleep(Duration::from_secs(6));
        ask(10)?;
        let third = ask_names(node)?;
        assert_eq!(third.samples, 0, "{third:?}");
        Ok(())
    });
}

/// The question of `top` to the daemon, over its socket.
fn ask_names(node: &Node) -> Result<Names> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    Ok(runtime.block_on(Client::new(&node.socket).ask(&Command::Names))?)
}

fn terminal(node: &Node, size: (u16, u16)) -> Result<Terminal> {
    Terminal::open(node.socket.with_extension("tmux"), size)
}

fn show(terminal: &Terminal, node: &Node, verb: &str) -> Result<()> {
    let (line, then) = command(node, verb)?;
    terminal.line(&format!("{line}; {then}"))
}

/// The shell line: the verb, its exit code, and the state of the line discipline.
fn command(node: &Node, verb: &str) -> Result<(String, &'static str)> {
    let program = process::sibling("dns-xdp")?;
    let line = format!("{} --socket {} {verb}", program.display(), node.socket.display());
    Ok((line, "printf 'ended=%s %s\\n' $? \"$(stty -a | grep -o -- '-*icanon')\""))
}

/// The program has ended with 0, and the shell's screen and the line discipline are as they were.
fn given_back(terminal: &Terminal) -> Result<()> {
    let screen = terminal.wait_for("ended=0 icanon")?;
    ensure!(
        !screen.contains("dns-xdp top") && !screen.contains("q quit"),
        "its last screen stays:\n{screen}"
    );
    terminal.line("echo still-'a'-shell")?;
    terminal.wait_for("still-a-shell").map(drop)
}
