//! The invariants that have to hold after every step.
use std::ptr;
use std::sync::Arc;
use std::time::Duration;

use super::NODES;
use super::attempt::number;
use super::server::{ROUND_TRIP, Server};
use super::world::{Outlook, Port, World};
use crate::cluster::{Admin, Cluster, Family, Node, Probe};
use crate::config::{Failback, PROBE};
use crate::failover::{Answers, Decision, Effective, SetAnswers};
use crate::health::{Health, Subject};
use crate::intent::{self, Intents};

/// Returns the time within which a node that answers every probe is back in the answers, however often it fell. The
/// next attempt comes one interval later; at most `rise-max` attempts follow.
pub(super) fn recovery(node: &Node) -> Duration {
    let Probe { interval, fast_interval, rise_max, .. } = node.health.probes[0];
    interval + fast_interval * rise_max + ROUND_TRIP + wait(node) * 2
}

/// Returns the longest time that a changed family waits for the node's other family: 2 results, each up to the timeout.
/// A family that rises also waits for an attempt under way.
pub(super) fn wait(node: &Node) -> Duration {
    let Probe { fast_interval, timeout, .. } = node.health.probes[0];
    if node.is_dual_stack() { (fast_interval + timeout) * 2 } else { Duration::ZERO }
}

/// The time within which a node that answers every second probe is out of the answers. This is the sum of: one answered
/// probe, the first failure with its timeout, and the fast attempts until `fall` of them failed. The last attempt may
/// take its timeout, and hearing a quorum takes one more timeout.
const HALF_LOST: Duration = Duration::from_millis(2 * 1_000 + 500 + 4 * 250 + 500 + 500);
/// The tolerance in comparing times: attempts for the same time are made one after another.
pub(super) const TOLERANCE: Duration = Duration::from_millis(1);

/// The state of a server before a step.
#[derive(Debug)]
pub(super) struct Before {
    answers: Option<Arc<Answers>>,
    intents: Intents,
    live: bool,
    /// Whether it is blind: it judges by no probe.
    blind: bool,
}

impl Before {
    pub(super) fn of(server: &Server) -> Self {
        Before {
            answers: server.published.clone(),
            intents: server.state().intents().clone(),
            live: server.live,
            blind: server.is_all_blind(),
        }
    }
}

/// Whether a node has an intent. Intents count even while the answers are frozen.
pub(super) fn has_intent(intents: &Intents) -> bool {
    intents.values().any(|intent| intent.admin != Admin::Auto)
}

/// Checks a server after a step; `told`: whether the step was an operator's command.
pub(super) fn check(
    world: &World,
    servers: &mut [Server],
    index: usize,
    before: &Before,
    told: bool,
) -> Result<(), String> {
    note_falls(&mut servers[index]);
    let server = &servers[index];
    if let Some(broken) = &server.broken {
        return Err(broken.clone());
    }
    if !server.is_settled() || !server.running && server.is_slow {
        // Its decision is still being published. At the end, everything is published, and the answers are the
        // configured ones.
        return Ok(());
    }
    let kept = intent::with_holds(server.state().intents(), server.state().held().holds());
    if server.running && kept != server.disk {
        return Err(format!("intent {kept:?} is not what is on disk, {:?}", server.disk));
    }
    if server.running
        && server.paused_until.is_none()
        && server.state().blind().is_some() != server.held_up.is_some()
    {
        return Err(format!("blind: {:?}, and yet {:?}", server.state().blind(), server.held_up));
    }
    let Some((decision, answers)) = server.decision().zip(server.published.as_deref()) else {
        return Ok(());
    };
    no_answer_is_empty(answers)?;
    if answers.names_as(&decision.answers) {
        sets_stay_apart(&server.state().config().cluster, answers)?;
    }
    let changed = before.answers.as_deref().is_none_or(|before| !ptr::eq(before, answers));
    let frozen = decision.frozen.is_some();
    let reloaded = told && server.reloaded == world.now;
    let obeys = has_intent(&before.intents) || has_intent(server.state().intents());
    let is_frozen = frozen && !obeys;
    if changed && before.live && !reloaded && !server.is_slow && (is_frozen || before.blind && !told) {
        let why = if frozen { "frozen" } else { "blind" };
        return Err(format!("{why}, and yet {:?} became {answers:?}", before.answers));
    }
    if server.state().blind().is_some() || server.paused_until.is_some() {
        return Ok(());
    }
    the_quorum_is_what_is_heard(world, server, decision)?;
    if frozen {
        return Ok(());
    }
    a_fallen_node_does_not_come_back_by_itself(server, decision, answers)?;
    for family in Family::ALL {
        let living = living(world, server, family);
        the_dead_are_replaced((world, server, family), decision, answers, &living)?;
        the_living_are_answered(server, family, answers, &living)?;
    }
    suspects_are_not_kept_in_caches(server, answers)?;
    if changed {
        if reloaded {
            a_new_node_is_unknown(world, server)?;
        }
        an_unknown_node_answers_only_for_itself(server, answers)?;
        servers_that_see_the_same_answer_the_same(servers, server, answers)?;
    }
    Ok(())
}

fn no_answer_is_empty(answers: &Answers) -> Result<(), String> {
    let empty = answers.services().find(|(_, nodes)| nodes.is_empty());
    match (answers.by_node.iter().position(Option::is_none), empty) {
        (None, None) => answers.sets.values().try_for_each(|set| no_answer_is_empty(&set.answers)),
        (node, service) => Err(format!("nothing is answered for node {node:?}, service {service:?}")),
    }
}

/// Checks that names under a suffix answer only nodes with the suffix's addresses. Otherwise they would answer an address
/// of another set, or none.
pub(super) fn sets_stay_apart(cluster: &Cluster, answers: &Answers) -> Result<(), String> {
    for (set, SetAnswers { answers, .. }) in &answers.sets {
        let lacks = |node: &usize| !cluster.nodes[*node].sets.contains_key(set);
        let names = (0..answers.by_node.len())
            .flat_map(|name| Family::ALL.map(|family| answers.node_in(family, name)));
        let services = answers.services().flat_map(|(_, nodes)| nodes.iter().copied());
        if let Some(node) = names.flatten().chain(services).find(lacks) {
            return Err(format!("node {node} lacks the set {set}, and yet it answers: {answers:?}"));
        }
    }
    Ok(())
}

/// Checks that a server that has long heard fewer nodes than the quorum is frozen. A server that has long heard enough
/// nodes must not be frozen.
pub(super) fn the_quorum_is_what_is_heard(
    world: &World,
    server: &Server,
    decision: &Decision,
) -> Result<(), String> {
    let config = server.state().config();
    let Some(judges) = server.judges_since else {
        return Ok(());
    };
    let known = judges.max(server.reloaded);
    let long = |since: Option<Duration>| {
        since.is_some_and(|since| {
            world.now.saturating_sub(since.max(known)) > PROBE.time_to_detect() + TOLERANCE
        })
    };
    let nodes = config.cluster.nodes.iter().filter(|node| node.is_voter);
    let nodes = nodes.map(|node| Some(number(&node.name)));
    let voters = nodes.chain(config.failover.witness.iter().map(|_| None));
    let (mut silent, mut clear, mut all) = (0, 0, 0);
    for link in voters.map(|voter| world.link(server.index, voter)) {
        all += 1;
        silent += usize::from(long(link.silent_since));
        clear += usize::from(long(link.clear_since));
    }
    let needed = all / 2 + 1;
    match &decision.frozen {
        Some(_) if clear >= needed => Err(format!("{clear} of {all} are heard, and yet {decision:?}")),
        None if all - silent < needed => Err(format!("{silent} of {all} are silent, and yet {decision:?}")),
        _ => Ok(()),
    }
}

/// The living nodes, by port and place in the cluster.
type Living = [[bool; NODES + 1]; 2];

/// Counts the nodes that a server has seen fall. If no answers are decided, or the server has been killed, no node
/// falls.
fn note_falls(server: &mut Server) {
    let mut fallen = std::mem::take(&mut server.fallen);
    let mut seen_up = std::mem::take(&mut server.seen_up);
    let nodes = &server.state().config().cluster.nodes;
    let is_wanted =
        |name: &String| server.state().intents().get(name).is_some_and(|it| it.admin == Admin::Up);
    let is_known = |name: &String| nodes.iter().any(|node| node.name == *name);
    fallen.retain(|name| is_known(name) && !is_wanted(name));
    seen_up.retain(is_known);
    let decision = server.decision().filter(|decision| decision.frozen.is_none() && server.is_settled());
    for (node, effective) in nodes.iter().zip(decision.iter().flat_map(|decision| &decision.effective)) {
        let serving = server.state().node(node).serving();
        match (serving, admin(server, node)) {
            (Some(true), _) => seen_up.extend([node.name.clone()]),
            (Some(false), Admin::Auto) if *effective == Effective::Down => {
                fallen.extend(seen_up.take(&node.name));
            }
            (Some(false), Admin::Down | Admin::Drain) => seen_up.retain(|name| *name != node.name),
            _ => {}
        }
    }
    (server.fallen, server.seen_up) = (fallen, seen_up);
}

/// Checks that with manual failback, a fallen node is in no answer while another node is up.
fn a_fallen_node_does_not_come_back_by_itself(
    server: &Server,
    decision: &Decision,
    answers: &Answers,
) -> Result<(), String> {
    let config = server.state().config();
    if config.failover.failback != Failback::Manual || !decision.effective.contains(&Effective::Up) {
        return Ok(());
    }
    let cluster = &config.cluster;
    for (place, node) in cluster.nodes.iter().enumerate() {
        let in_a_service = || answers.services().any(|(_, nodes)| nodes.contains(&place));
        let is_out = server.fallen.contains(&node.name) && admin(server, node) != Admin::Up;
        if is_out && (answers.by_node.contains(&Some(place)) || in_a_service()) {
            return Err(format!("{} fell and came back by itself: {decision:?} {answers:?}", node.name));
        }
    }
    Ok(())
}

/// The nodes that have to be in the answers: healthy in a family for long enough, and not taken out by an operator.
fn living(world: &World, server: &Server, family: Family) -> Living {
    [Port::Node, Port::Member].map(|port| {
        let lives = |node: &Node| {
            let known = known_since(server, node);
            let since = outlook((world, server, family), node, port).perfect_since.zip(known);
            node.address(family).is_some()
                && !matches!(admin(server, node), Admin::Down | Admin::Drain)
                && (!is_held(server, node) || admin(server, node) == Admin::Up)
                && since.is_some_and(|(perfect, known)| {
                    world.now.saturating_sub(perfect.max(known)) > recovery(node)
                })
        };
        let mut living = [false; NODES + 1];
        for (living, node) in living.iter_mut().zip(&server.state().config().cluster.nodes) {
            *living = lives(node);
        }
        living
    })
}

/// Checks a family in which a node is up: its RRset has no address that an operator took out. It also has no address
/// that has been dead for longer than the repair bound. A service with its own probes does not answer a member that
/// fails them while another member passes them.
fn the_dead_are_replaced(
    (world, server, family): (&World, &Server, Family),
    decision: &Decision,
    answers: &Answers,
    [living, living_members]: &Living,
) -> Result<(), String> {
    let cluster = &server.state().config().cluster;
    let is_up = |(node, effective): (&Node, &Effective)| {
        let both = server.state().told_apart(&Subject::Node(node.name.clone()));
        let is_dead = both.is_some_and(|both| both.of(family).serving() == Some(false));
        let is_up = *effective == Effective::Up && (admin(server, node) == Admin::Up || !is_dead);
        is_up && node.address(family).is_some()
    };
    let one_is_up = cluster.nodes.iter().zip(&decision.effective).any(is_up) || living.contains(&true);
    let in_family = |node: &(usize, &Node)| node.1.address(family).is_some();
    for (place, node) in cluster.nodes.iter().enumerate().filter(in_family) {
        let by_own_probes = |service: &str| probed_apart(cluster, service);
        let under = |apart: bool| {
            let mut services = answers.services().filter(|(name, _)| by_own_probes(name) == apart);
            services.any(|(name, _)| answers.service_in(family, name).contains(&place))
        };
        let by_name = (0..answers.by_node.len()).any(|name| answers.node_in(family, name) == Some(place));
        let answered = by_name || under(false);
        let admin = admin(server, node);
        if one_is_up && matches!(admin, Admin::Down | Admin::Drain) && (answered || under(true)) {
            return Err(format!("{} is to be {admin} and is answered: {decision:?}", node.name));
        }
        let is_dead = |port| dead((world, server, family), node, port).filter(|_| admin == Admin::Auto);
        if let Some(dead) = is_dead(Port::Node).filter(|_| one_is_up && answered) {
            return Err(format!("{} has been {dead} and is answered: {decision:?}", node.name));
        }
        for (service, _) in answers.services().filter(|(name, _)| by_own_probes(name)) {
            let members = answers.service_in(family, service);
            let configured = cluster.services.iter().find(|configured| configured.name == service);
            let one_passes = cluster.nodes.iter().zip(living_members).any(|(node, lives)| {
                *lives && configured.is_some_and(|configured| configured.nodes.contains(&node.name))
            });
            if let Some(dead) = is_dead(Port::Member).filter(|_| one_passes && members.contains(&place)) {
                return Err(format!("{} has been {dead} for {service}: {decision:?}", node.name));
            }
        }
    }
    Ok(())
}

/// The fault of a node that has lasted so long that this server has to know it.
fn dead((world, server, family): (&World, &Server, Family), node: &Node, port: Port) -> Option<String> {
    let known = known_since(server, node)?;
    let Outlook { dead_since, half_since, .. } = outlook((world, server, family), node, port);
    let longer = |since: Option<Duration>, than: Duration| {
        let lasting = world.now.saturating_sub(since?.max(known));
        (lasting > than + TOLERANCE).then_some(lasting)
    };
    let dead = longer(*dead_since, node.health.time_to_detect() + wait(node));
    let half = || longer(*half_since, HALF_LOST + wait(node));
    dead.map(|lasting| format!("dead over {family} for {lasting:?}"))
        .or_else(|| half().map(|lasting| format!("half lost for {lasting:?}")))
}

fn the_living_are_answered(
    server: &Server,
    family: Family,
    answers: &Answers,
    [living, living_members]: &Living,
) -> Result<(), String> {
    let cluster = &server.state().config().cluster;
    for (place, node) in cluster.nodes.iter().enumerate() {
        if living[place] && answers.node_in(family, place) != Some(place) {
            return Err(format!("{} is well and not answered: {answers:?}", node.name));
        }
        for service in cluster.services.iter().filter(|service| service.nodes.contains(&node.name)) {
            let lives = if service.health.is_some() { living_members } else { living };
            if lives[place] && !answers.service_in(family, &service.name).contains(&place) {
                return Err(format!("{} is well and not in {}: {answers:?}", node.name, service.name));
            }
        }
    }
    Ok(())
}

/// Checks that the TTL of a suspect's address is at most the time that the node can stay a suspect.
fn suspects_are_not_kept_in_caches(server: &Server, answers: &Answers) -> Result<(), String> {
    for attempt in server.attempts.iter().filter(|attempt| attempt.failures > 0) {
        let verdict = &server.state().verdicts()[&attempt.probe];
        let node = match &attempt.probe.subject {
            Subject::Node(name) | Subject::Member { node: name, .. } => name,
            Subject::Witness(_) => continue,
        };
        let nodes = &server.state().config().cluster.nodes;
        let Some(place) = nodes.iter().position(|known| known.name == *node) else {
            continue;
        };
        if verdict.health() != Health::Suspect || admin(server, &nodes[place]) != Admin::Auto {
            continue;
        }
        let both = server.state().told_apart(&attempt.probe.subject);
        if both.is_some_and(|both| both.of(attempt.family()).serving() == Some(false)) {
            // The node is still out: it waited for the other family to rise.
            continue;
        }
        // Each failure that is still needed for a fall may take a whole timeout.
        let most = (PROBE.timeout * (PROBE.fall - attempt.failures)).as_millis().div_ceil(1000);
        match answers.seconds_left.get(&place) {
            Some(&left) if u128::from(left) <= most => {}
            left => {
                return Err(format!(
                    "{:?} is suspect, for {most} s at most, and may be kept for {left:?}: {answers:?} {:?}",
                    attempt.probe,
                    server.state().decision()
                ));
            }
        }
    }
    Ok(())
}

fn a_new_node_is_unknown(world: &World, server: &Server) -> Result<(), String> {
    for node in &server.state().config().cluster.nodes {
        let health = server.state().node(node).health;
        let place = (node.name.clone(), node.probe_address());
        if server.there_since[&place] == world.now && health != Health::Unknown {
            return Err(format!("{} is new and judged {health}", node.name));
        }
    }
    Ok(())
}

fn an_unknown_node_answers_only_for_itself(server: &Server, answers: &Answers) -> Result<(), String> {
    let nodes = &server.state().config().cluster.nodes;
    let health = |node: &Node| (admin(server, node), server.state().node(node).serving());
    let is_proven = |node: &Node| matches!(health(node), (Admin::Auto, Some(true))) && !is_held(server, node);
    let one_is_proven = nodes.iter().any(is_proven);
    for (place, node) in nodes.iter().enumerate().filter(|(_, node)| health(node) == (Admin::Auto, None)) {
        let others = answers.by_node.iter().enumerate().filter(|(other, _)| *other != place);
        if one_is_proven && others.clone().any(|(_, answering)| *answering == Some(place)) {
            return Err(format!("nothing is known of {} and it answers for others: {answers:?}", node.name));
        }
    }
    Ok(())
}

fn servers_that_see_the_same_answer_the_same(
    servers: &[Server],
    server: &Server,
    answers: &Answers,
) -> Result<(), String> {
    let view = server.state().view();
    let config = server.state().config();
    for other in servers.iter().filter(|other| other.index != server.index) {
        let decision = other.decision().filter(|decision| decision.frozen.is_none() && other.is_settled());
        let Some(decision) = decision else {
            continue;
        };
        let comparable = other.state().config() == config
            && decision.effective.contains(&Effective::Up)
            && other.state().view() == view;
        if comparable && other.published.as_deref() != Some(answers) {
            return Err(format!("{answers:?} here and {:?} at {}", other.published, other.index));
        }
    }
    Ok(())
}

/// Checks that every server gives the configured answers, after a long enough time without faults.
pub(super) fn at_the_end(servers: &[Server]) -> Result<(), String> {
    for server in servers {
        let Some(answers) = server.published.as_deref().filter(|_| server.live) else {
            return Err(format!("server {} answers nothing", server.index));
        };
        let is_held = server.state().config().failover.failback == Failback::Manual
            && !server.state().held().holds().is_empty();
        let wanted = server.disk.values().all(|intent| intent.admin == Admin::Auto) && !is_held;
        let configured = Answers::configured(&server.state().config().cluster);
        if !server.is_settled() || !server.unanswered.is_empty() {
            return Err(format!("server {} has not answered all, {:?}", server.index, server.unanswered));
        }
        if wanted && *answers != configured {
            return Err(format!("server {} answers {answers:?}", server.index));
        }
    }
    Ok(())
}

fn outlook<'a>(
    (world, server, family): (&'a World, &Server, Family),
    node: &Node,
    port: Port,
) -> &'a Outlook {
    world.link(server.index, Some(number(&node.name))).outlook_in(family, port)
}

/// Since when this server has been able to know of a node.
fn known_since(server: &Server, node: &Node) -> Option<Duration> {
    Some(server.judges_since?.max(server.configured_since[&node.name]))
}

fn admin(server: &Server, node: &Node) -> Admin {
    server.state().intent(node).map_or(Admin::Auto, |intent| intent.admin)
}

fn is_held(server: &Server, node: &Node) -> bool {
    server.state().held().holds().contains_key(&node.name)
}

fn probed_apart(cluster: &Cluster, service: &str) -> bool {
    cluster.services.iter().any(|configured| configured.name == *service && configured.health.is_some())
}
