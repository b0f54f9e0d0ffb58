//! Tests that a lost packet does not make a server probe a whole cluster. Also tests that a server that is cut off
//! freezes before a node falls.
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::Configured;
use super::attempt::Attempt;
use super::server::{ROUND_TRIP, Server};
use super::world::{Answer, Loss, World};
use crate::failover::Answers;

/// The time after which every node has been judged.
const CALM: Duration = Duration::from_secs(3);

/// One server, and the nodes that it probes.
struct Alone {
    world: World,
    server: Server,
    random: Rng,
}

impl Alone {
    /// Creates a server. The keys of `[health]` and of `[failover]` are one line each.
    fn new(nodes: usize, [health, failover]: [&str; 2], seed: u64) -> Alone {
        let mut text = format!(
            "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n[health]\n{health}\n[failover]\n{failover}\n"
        );
        for node in 1..=nodes {
            let (high, low) = (node / 250, node % 250 + 1);
            text.push_str(&format!("[[node]]\nname = \"node{node}\"\nipv4 = \"10.0.{high}.{low}\"\n"));
        }
        let mut alone = Alone {
            world: World::new(1, nodes),
            server: Server::new(0, Box::leak(Box::new(Configured::new(text, None)))),
            random: Rng::with_seed(seed),
        };
        alone.server.start(None, Duration::ZERO, &mut alone.random);
        alone
    }

    /// Runs until `until`; `each` checks the server after each step.
    fn run(&mut self, until: Duration, mut each: impl FnMut(&Server)) {
        while let Some(next) = self.server.next().filter(|next| *next < until) {
            self.world.now = next.max(self.world.now);
            self.server.step(&self.world, &mut self.random);
            each(&self.server);
        }
        self.world.now = until;
    }

    /// Cuts the server off: no packet comes from another host any more.
    fn cut(&mut self) {
        for link in self.world.links[0].iter_mut().skip(1) {
            link.cut = true;
        }
        self.world.note_links();
    }

    /// Whether the last attempt at a node has succeeded, and the attempt under way will succeed.
    fn is_heard(&self, node: usize) -> bool {
        let mut attempts = self.server.attempts.iter().filter(|attempt| attempt.node == Some(node));
        let is_heard = |attempt: &Attempt| {
            let is_lost = attempt.under_way.is_some_and(|(_, _, answer)| answer == Answer::Silence);
            !is_lost && self.server.state().verdicts()[&attempt.probe].failing_since().is_none()
        };
        attempts.all(is_heard)
    }

    fn attempts(&self) -> u64 {
        self.server.attempts.iter().map(|attempt| attempt.made).sum()
    }

    fn answers(&self) -> Arc<Answers> {
        self.server.published.clone().expect("it answers")
    }
}

/// The number of attempts in 30 s, with this loss on the link to one of `nodes` nodes.
fn attempts(nodes: usize, loss: Loss) -> f64 {
    let mut alone = Alone::new(nodes, ["", ""], 7);
    alone.run(CALM, |_| {});
    alone.world.links[0][nodes / 2].loss = loss;
    alone.world.note_links();
    let before = alone.attempts();
    alone.run(CALM + Duration::from_secs(30), |_| {});
    (alone.attempts() - before) as f64
}

#[test]
fn one_lossy_link_in_a_large_cluster_leaves_the_rate_of_probes_as_it_is() {
    const NODES: usize = 200;
    let quiet = attempts(NODES, Loss::Share(0.0));
    let expected = 30.0 * NODES as f64;
    assert!((expected * 0.99..expected * 1.01).contains(&quiet), "{quiet}");
    for loss in [Loss::Share(0.1), Loss::Share(0.3), Loss::Share(0.6), Loss::EveryOther, Loss::Share(1.0)] {
        let lossy = attempts(NODES, loss);
        println!("{loss:?}: {:.3} of the quiet rate", lossy / quiet);
        assert!(lossy < quiet * 1.1, "{loss:?}: {lossy} instead of {quiet}");
    }
}

/// Cuts a server off at `at`. The error says what the server did wrong.
fn cut_off(nodes: usize, keys: [&str; 2], seed: u64, loss: Loss) -> Result<(), String> {
    let mut alone = Alone::new(nodes, keys, seed);
    let detect = alone.server.state().config().cluster.nodes[0].health.time_to_detect();
    let calm = CALM + 2 * detect;
    alone.run(calm, |_| {});
    if nodes > 1 {
        alone.world.links[0][1].loss = loss;
        alone.world.note_links();
    }
    let mut cut = calm + Duration::from_millis(alone.random.u64(0..2_000));
    alone.run(cut, |_| {});
    while !alone.is_heard(1) {
        // Earlier losses do not count as the cut.
        cut += Duration::from_millis(10);
        alone.run(cut, |_| {});
    }
    let configured = alone.answers();
    alone.cut();
    let names = |answers: &Answers| {
        let services = answers.services().map(|(name, nodes)| (name.to_owned(), nodes.to_vec()));
        (answers.by_node.clone(), services.collect::<Vec<_>>())
    };
    let mut moved = None;
    alone.run(cut + 3 * detect, |server| {
        let is_frozen = server.decision().is_some_and(|decision| decision.frozen.is_some());
        let answers = server.published.as_deref().map(names);
        if moved.is_none() && answers != Some(names(&configured)) {
            moved = Some(format!("frozen: {is_frozen}, {answers:?}"));
        }
    });
    if let Some(moved) = moved {
        return Err(moved);
    }
    let decision = alone.server.decision().expect("it decides");
    match &decision.frozen {
        None => Err(format!("it is not frozen: {decision:?}")),
        Some(_) => Ok(()),
    }
}

#[test]
fn a_server_that_is_cut_off_freezes_before_a_node_falls() {
    let mut random = Rng::with_seed(1);
    for seed in 0..300 {
        let nodes = random.usize(3..9);
        // An answer that is under way when the server is cut off arrives before the first silence is noticed.
        let least = ROUND_TRIP.as_millis() as u64 + 1;
        let interval = random.u64(least..3_000);
        let fast = random.u64(least..=interval);
        let (timeout, fall) = (random.u64(least..1_500), random.u32(1..6));
        let health = format!(
            "interval = \"{interval}ms\"\nfast-interval = \"{fast}ms\"\ntimeout = \"{timeout}ms\"\nfall = {fall}"
        );
        let result = cut_off(nodes, [&health, ""], seed, Loss::Share(0.0));
        assert_eq!(result, Ok(()), "seed {seed}, {nodes} nodes, {health}");
    }
}

/// Cuts off a server that already doubts a node, because the node loses packets. One or two more failures do not prove
/// that the node is dead.
#[test]
fn a_server_that_is_cut_off_freezes_before_a_node_falls_that_lost_packets_before() {
    for seed in 0..200 {
        let result = cut_off(5, ["rise = 20\nfall = 9", ""], seed, Loss::Share(0.3));
        assert_eq!(result, Ok(()), "seed {seed}");
    }
}
