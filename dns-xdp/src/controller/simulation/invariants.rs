//! What has to hold after every step, whatever happened.
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::server::{Server, host};
use super::world::World;
use crate::cluster::Admin;
use crate::failover::{Answers, Effective};
use crate::health::Subject;

/// A node that answers every probe is in the answers after this at the latest, however often it fell before: an attempt
/// under way fails, the next one is an interval later, and as many as `rise-max` follow each other.
pub(super) const RECOVERY: Duration = Duration::from_millis(500 + 1_000 + 16 * 250 + 500);
/// Times are compared a little generously: attempts that are due at once are made one after the other.
const TOLERANCE: Duration = Duration::from_millis(1);

/// What a server answered before a step.
#[derive(Debug)]
pub(super) struct Before {
    answers: Option<Arc<Answers>>,
    frozen: bool,
    blind: bool,
}

impl Before {
    pub(super) fn of(server: &Server) -> Self {
        Before {
            answers: server.published.clone(),
            frozen: server.decision().is_some_and(|decision| decision.frozen.is_some()),
            blind: server.state.blind().is_some(),
        }
    }
}

/// Checks a server after a step; `told`: it was the operator who made it.
pub(super) fn check(
    world: &World,
    servers: &[Server],
    index: usize,
    before: &Before,
    told: bool,
) -> Result<(), String> {
    let server = &servers[index];
    if server.state.intents() != &server.disk {
        return Err(format!("intent {:?} is not what is on disk, {:?}", server.state.intents(), server.disk));
    }
    let Some((decision, answers)) = server.decision().zip(server.published.as_deref()) else {
        return Ok(());
    };
    no_answer_is_empty(answers)?;
    let changed = before.answers.as_deref().is_none_or(|before| !ptr::eq(before, answers));
    let frozen = decision.frozen.is_some();
    if changed
        && !told
        && before.answers.is_some()
        && (before.frozen && frozen || before.blind && server.live)
    {
        let why = if before.frozen { "frozen" } else { "blind" };
        return Err(format!("{why}, and yet {:?} became {answers:?}", before.answers));
    }
    if server.state.blind().is_some() || server.paused_until.is_some() || frozen {
        return Ok(());
    }
    the_dead_are_replaced(world, server, answers)?;
    the_living_are_answered(world, server, answers)?;
    if changed {
        those_who_see_the_same_say_the_same(servers, server, answers)?;
    }
    Ok(())
}

fn no_answer_is_empty(answers: &Answers) -> Result<(), String> {
    let empty = answers.services.iter().find(|(_, nodes)| nodes.is_empty());
    match (answers.by_node.iter().position(Option::is_none), empty) {
        (None, None) => Ok(()),
        (node, service) => Err(format!("nothing is answered for node {node:?}, service {service:?}")),
    }
}

/// No address that has been dead for longer than the promise is answered while a node is up, nor one that the operator
/// took out.
fn the_dead_are_replaced(world: &World, server: &Server, answers: &Answers) -> Result<(), String> {
    let Some(decision) = server.decision().filter(|decision| !decision.fail_open) else {
        return Ok(());
    };
    for (place, node) in server.state.config().cluster.nodes.iter().enumerate() {
        let answered = answers.by_node.contains(&Some(place))
            || answers.services.values().any(|nodes| nodes.contains(&place));
        if !answered {
            continue;
        }
        let admin = server.state.intent(node).map_or(Admin::Auto, |intent| intent.admin);
        if matches!(admin, Admin::Down | Admin::Drain) {
            return Err(format!("{} is to be {admin} and is answered: {decision:?}", node.name));
        }
        let Some(dead) = dead_for(world, server, &node.name).filter(|_| admin == Admin::Auto) else {
            continue;
        };
        if dead > node.health.time_to_detect() + TOLERANCE {
            return Err(format!("{} has been dead for {dead:?} and is answered: {decision:?}", node.name));
        }
    }
    Ok(())
}

/// For how long this server has been able to know that a node is dead.
fn dead_for(world: &World, server: &Server, node: &str) -> Option<Duration> {
    let link = &world.links[server.index][host(&Subject::Node(node.to_owned()))?];
    let known = link.dead_since?.max(server.judges_since?).max(server.configured_since[node]);
    Some(world.now.saturating_sub(known))
}

fn the_living_are_answered(world: &World, server: &Server, answers: &Answers) -> Result<(), String> {
    for (place, node) in server.state.config().cluster.nodes.iter().enumerate() {
        if server.state.intent(node).is_some_and(|intent| matches!(intent.admin, Admin::Down | Admin::Drain))
        {
            continue;
        }
        let host = host(&Subject::Node(node.name.clone()));
        let perfect = host.and_then(|host| world.links[server.index][host].perfect_since);
        let since = perfect.zip(server.judges_since).map(|(perfect, judges)| perfect.max(judges));
        let since = since.map(|since| since.max(server.configured_since[&node.name]));
        let long = since.is_some_and(|since| world.now.saturating_sub(since) > RECOVERY);
        if long && answers.by_node[place] != Some(place) {
            return Err(format!("{} is well since {since:?} and not answered: {answers:?}", node.name));
        }
    }
    Ok(())
}

fn those_who_see_the_same_say_the_same(
    servers: &[Server],
    server: &Server,
    answers: &Answers,
) -> Result<(), String> {
    let view = server.state.view();
    let config = server.state.config();
    for other in servers.iter().filter(|other| other.index != server.index) {
        let Some(decision) = other.decision().filter(|decision| decision.frozen.is_none()) else {
            continue;
        };
        let comparable = other.state.config() == config
            && decision.effective.contains(&Effective::Up)
            && other.state.view() == view;
        if comparable && other.published.as_deref() != Some(answers) {
            return Err(format!("{answers:?} here and {:?} at {}", other.published, other.index));
        }
    }
    Ok(())
}

/// When all has been well for long enough, every server answers what is configured.
pub(super) fn at_the_end(servers: &[Server]) -> Result<(), String> {
    for server in servers {
        let Some(answers) = server.published.as_deref().filter(|_| server.live) else {
            return Err(format!("server {} answers nothing", server.index));
        };
        let wanted = server.disk.values().all(|intent| intent.admin == Admin::Auto);
        let configured = Answers::configured(&server.state.config().cluster);
        if wanted && *answers != configured {
            return Err(format!("server {} answers {answers:?}", server.index));
        }
    }
    Ok(())
}
