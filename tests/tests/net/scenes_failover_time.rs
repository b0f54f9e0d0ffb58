//! Scenes: how long a dead address is answered, and how often an answer changes.
use std::thread::sleep;
use std::time::{Duration, Instant};

use anyhow::{Result, ensure};
use dns_xdp_tests::bed::cluster::{Cluster, scene, stage};
use dns_xdp_tests::bed::node::healths;
use dns_xdp_tests::bed::plan::Plan;
use dns_xdp_tests::bed::watch::{Question, Watch, all_answered, names, since};
use dns_xdp_tests::jitter::random_share;

/// The tolerance for publishing on a busy machine.
const ALLOWANCE: Duration = Duration::from_secs(1);

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn with_the_default_settings_every_death_is_repaired_within_the_bound() {
    const ROUNDS: usize = 5;
    /// The default interval. The deaths are spread over it.
    const INTERVAL: Duration = Duration::from_secs(1);
    // Each round has a victim of its own, so that no victim has just been dead. The first victims refuse connections.
    // The later victims are silent, and their silence has to leave a quorum.
    stage(&Plan::new(1 + 2 * ROUNDS as u8), |cluster| {
        for node in &mut cluster.nodes {
            node.start_database()?;
        }
        cluster.nodes[0].start()?;
        let status = cluster.nodes[0].status()?;
        ensure!(healths(&status)?.iter().all(|health| *health == "up"), "{status:#}");
        let promise = cluster.nodes[0].promise()?;
        ensure!(promise == Duration::from_secs(2), "the default promise is {promise:?}");
        for victim in 1..=2 * ROUNDS {
            sleep(INTERVAL.mul_f64(random_share()));
            let took = time_to_repair(cluster, victim, victim > ROUNDS)?;
            println!("node{}: {:.2} s", victim + 1, took.as_secs_f64());
            ensure!(took <= promise + ALLOWANCE, "node{}: repaired after {took:?}", victim + 1);
        }
        Ok(())
    });
}

fn time_to_repair(cluster: &mut Cluster, victim: usize, is_silent: bool) -> Result<Duration> {
    let (server, dead) = (cluster.nodes[0].ipv4(), cluster.nodes[victim].ipv4());
    let label = cluster.nodes[victim].name.clone();
    let watch = Watch::start(&cluster.client, Question::all(&[server], &[&label]))?;
    let death = Instant::now();
    if is_silent {
        cluster.nodes[victim].pull_cable()?;
    } else {
        cluster.nodes[victim].kill_database()?;
    }
    let repaired = watch.wait_for(Duration::from_secs(10), |change| !names(change, dead))?;
    Ok(repaired.at - death)
}

#[test]
#[ignore = "needs root and XDP: cargo xtask test net"]
fn a_service_that_flaps_once_a_second_changes_the_answers_a_few_times_only() {
    const FLAPS: usize = 8;
    // If each flap caused a fall and a return, there would be 15 changes.
    const CHANGES: usize = 7;
    scene(&Plan::quick(3), |cluster| {
        let servers = [0, 2].map(|node| cluster.nodes[node].ipv4());
        let dead = cluster.nodes[1].ipv4();
        let watch = Watch::start(&cluster.client, Question::all(&servers, &["node2", "@"]))?;
        for flap in 1..=FLAPS {
            cluster.nodes[1].kill_database()?;
            if flap < FLAPS {
                sleep(Duration::from_millis(500));
                cluster.nodes[1].start_database()?;
                sleep(Duration::from_millis(500));
            }
        }
        let death = Instant::now();
        let limit = cluster.nodes[0].promise()? + ALLOWANCE;
        sleep(limit + Duration::from_millis(300));
        let (changes, _) = watch.finish()?;
        all_answered(&changes)?;
        let late = since(&changes, death + limit).find(|change| names(change, dead));
        ensure!(late.is_none(), "dead and answered: {late:?}");
        for server in servers {
            let question = Question { server, label: "node2".to_owned() };
            let turns = changes.iter().filter(|change| change.question == question).count() - 1;
            println!("{server}: {turns} changes at {FLAPS} flaps");
            ensure!(turns <= CHANGES, "{turns} changes at {FLAPS} flaps: {changes:?}");
        }
        Ok(())
    });
}
