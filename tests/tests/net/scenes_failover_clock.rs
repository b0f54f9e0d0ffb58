//! Scenes: the daemon loses time, by a pause or by a step of its wall clock.
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use dns_xdp_tests::bed::cluster::{scene, stage};
use dns_xdp_tests::bed::fake_clock::FakeClock;
use dns_xdp_tests::bed::node::{Node, healths};
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::views::{SOON, wait_for_address};
use dns_xdp_tests::bed::wait;
use dns_xdp_tests::bed::watch::{Question, Watch, all_answered, names, since};
use jiff::{SignedDuration, Timestamp};
use nix::sys::signal::Signal;

const LABELS: [&str; 4] = ["node1", "node2", "node3", "@"];

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_pause_of_ten_seconds_with_a_probe_under_way_takes_no_node_out() {
    // One failure is enough for a verdict here, and the probe under way would be that failure.
    let plan = Plan::new(3)
        .line("health", "interval = \"200ms\"")
        .line("health", "fast-interval = \"100ms\"")
        .line("health", "timeout = \"2s\"")
        .line("health", "fall = 1");
    scene(&plan, |cluster| {
        let server = &cluster.nodes[0];
        let watch = Watch::start(&cluster.client, Question::all(&[server.ipv4()], &LABELS))?;
        // This is like moving the machine with its network to another host.
        cluster.nodes[2].pull_cable()?;
        sleep(Duration::from_millis(400));
        server.signal(Signal::SIGSTOP)?;
        sleep(Duration::from_secs(10));
        cluster.nodes[2].put_cable_back()?;
        server.signal(Signal::SIGCONT)?;
        let awake = Instant::now();
        while awake.elapsed() < Duration::from_secs(2) {
            let status = server.status()?;
            ensure!(!healths(&status)?.contains(&"down"), "declared down after a pause: {status:#}");
        }
        let (changes, _) = watch.finish()?;
        all_answered(&changes)?;
        ensure!(changes.len() == LABELS.len(), "the answers changed: {changes:?}");
        wait_until_all_up(server)
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_node_that_died_while_the_daemon_was_paused_is_found_out_after_clean_rounds() {
    /// The longest time until the daemon trusts its timers again, with the default settings.
    const CLEAN_ROUNDS: Duration = Duration::from_secs(3);
    scene(&Plan::new(3), |cluster| {
        let dead = cluster.nodes[2].ipv4();
        let [server, healthy] = [0, 1].map(|node| cluster.nodes[node].ipv4());
        let promise = cluster.nodes[0].promise()?;
        let watch = Watch::start(&cluster.client, Question::all(&[server], &LABELS))?;
        cluster.nodes[0].signal(Signal::SIGSTOP)?;
        sleep(Duration::from_secs(1));
        cluster.nodes[2].kill_database()?;
        sleep(Duration::from_secs(2));
        cluster.nodes[0].signal(Signal::SIGCONT)?;
        let awake = Instant::now();
        let mut seen = Vec::new();
        let repaired = watch.wait_for(promise + CLEAN_ROUNDS + Duration::from_secs(1), |change| {
            seen.push(change.clone());
            change.question.label == "node3" && !names(change, dead)
        })?;
        println!("repaired {:.2} s after the pause", (repaired.at - awake).as_secs_f64());
        for (label, address) in [("node1", server), ("node2", healthy)] {
            let mut others = seen.iter().filter(|change| change.question.label == label);
            ensure!(others.all(|change| change.answer == Ok(vec![address])), "{label} suffers: {seen:?}");
        }
        Ok(())
    });
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_step_of_the_wall_clock_touches_neither_answers_nor_lease_nor_health() {
    const HOUR: i64 = 3600;
    const LEASE: Duration = Duration::from_secs(2);
    let plan = Plan::quick(3).line("xdp", &format!("stale-after = \"{}s\"", LEASE.as_secs()));
    stage(&plan, |cluster| {
        let directory = cluster.nodes[0].config.parent().context("a configuration is in a directory")?;
        let clock = FakeClock::new(directory)?;
        cluster.nodes[0].environment = clock.environment();
        cluster.start()?;
        let [server, dead] = [0, 2].map(|node| cluster.nodes[node].ipv4());
        let promise = cluster.nodes[0].promise()?;
        for step in [HOUR, -HOUR] {
            let watch = Watch::start(&cluster.client, Question::all(&[server], &LABELS))?;
            clock.set(step)?;
            sleep(LEASE + Duration::from_secs(1));
            let before = cluster.nodes[0].stats()?.answered_by_xdp();
            sleep(Duration::from_millis(200));
            ensure!(cluster.nodes[0].stats()?.answered_by_xdp() > before, "the program answers no more");
            let death = Instant::now();
            cluster.nodes[2].kill_database()?;
            sleep(promise + Duration::from_secs(1));
            let status = cluster.nodes[0].status()?;
            ensure!(
                healths(&status)? == ["up", "up", "down"] && status["frozen"].is_null(),
                "{step:+} s: {status:#}"
            );
            // The daemon's own clock has stepped. The time of the publication in `status` is by that clock.
            let published: Timestamp =
                status["published"].as_str().context("no time of publication")?.parse()?;
            let ahead = published.duration_since(Timestamp::now() + SignedDuration::from_secs(step));
            ensure!(ahead.abs() < SignedDuration::from_secs(60), "the step is not in force: {published}");
            let (changes, _) = watch.finish()?;
            all_answered(&changes)?;
            let early = changes.iter().filter(|change| change.at < death).count();
            ensure!(early == LABELS.len(), "{step:+} s changed the answers: {changes:?}");
            let late = since(&changes, death + promise + Duration::from_secs(1));
            ensure!(late.into_iter().all(|change| !names(change, dead)), "not repaired: {changes:?}");
            cluster.nodes[2].start_database()?;
            wait_for_address(cluster, 0, "node3", dead, SOON)?;
        }
        Ok(())
    });
}

fn wait_until_all_up(server: &Node) -> Result<()> {
    wait::until("all nodes are up", SOON, || {
        let status = server.status()?;
        ensure!(healths(&status)?.iter().all(|health| *health == "up"), "{status:#}");
        Ok(())
    })?;
    Ok(())
}
