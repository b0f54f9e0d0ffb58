//! The invariants of servers that share a store.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use super::Failback;
use super::invariants::{TOLERANCE, has_intent, recovery, the_quorum_is_what_is_heard, wait};
use super::member::Member;
use super::sharing::Cluster;
use super::store_link::StoreLink;
use super::store_model::StoreModel;
use super::world::{Outlook, Port};
use crate::cluster::{Admin, Family, Node};
use crate::controller::core::digest;
use crate::failover::{Answers, Decision, Effective};
use crate::health::Subject;
use crate::intent::{self, Intents};
use crate::store::Documents;
use crate::store::client::{Mode, View};
use crate::store::votes::{Agreed, Observers, Verdicts};

/// The longest time until a verdict is written and the other servers know it.
const WORD: Duration = Duration::from_millis(400);

/// The state of a server before a step.
#[derive(Debug)]
pub(super) struct Before {
    answers: Option<Arc<Answers>>,
    decision: Option<Decision>,
    probed: BTreeSet<String>,
    mode: Option<Mode>,
    intents: Intents,
}

impl Before {
    pub(super) fn of(member: &Member) -> Self {
        let server = &member.server;
        let probed = server.state().targets().keys().filter_map(|probe| match &probe.subject {
            Subject::Node(name) => Some(name.clone()),
            _ => None,
        });
        Before {
            answers: server.published.clone(),
            decision: server.decision().cloned(),
            probed: probed.collect(),
            mode: member.mode(),
            intents: server.state().intents().clone(),
        }
    }
}

/// Checks a server after it has judged: a frozen server moves no answer.
pub(super) fn judged(
    member: &Member,
    before: Option<&Arc<Answers>>,
    intents: &Intents,
) -> Result<(), String> {
    if let Some(broken) = &member.server.broken {
        return Err(broken.clone());
    }
    let (Some(decision), Some(answered)) = (member.server.decision(), before) else {
        return Ok(());
    };
    let is = member.server.published.as_ref();
    if has_intent(intents) || has_intent(member.server.state().intents()) {
        return Ok(());
    }
    if decision.frozen.is_some() && is.is_none_or(|is| !Arc::ptr_eq(is, answered)) {
        return Err(format!("frozen, and yet {answered:?} became {:?}", member.server.published));
    }
    Ok(())
}

/// Checks a server after it has received a view of the store.
pub(super) fn heard(member: &Member, before: &Before) -> Result<(), String> {
    if before.decision.is_some() {
        judged(member, before.answers.as_ref(), &before.intents)?;
    }
    let (Some(was), Some(is)) = (&before.decision, member.server.decision()) else { return Ok(()) };
    let (then, now) = (before.mode, member.mode());
    a_newly_probed_node_is_presumed_to_be_as_all_find_it(member, before)?;
    if (then, now) == (Some(Mode::Joined), Some(Mode::Alone))
        && before.intents == *member.server.state().intents()
    {
        for (place, node) in nodes(member).iter().enumerate() {
            if !before.probed.contains(&node.name) && was.effective[place] != is.effective[place] {
                return Err(format!(
                    "turned alone, and {} was never probed: {was:?} became {is:?}",
                    node.name
                ));
            }
        }
    }
    let same = was.effective == is.effective && was.frozen.is_none() && is.frozen.is_none();
    if same && then != now && was.answers.by_node != is.answers.by_node {
        return Err(format!("a flap from {then:?} to {now:?}: {was:?} became {is:?}"));
    }
    Ok(())
}

/// Checks that one lost probe does not take out a node that the other servers find up.
fn a_newly_probed_node_is_presumed_to_be_as_all_find_it(
    member: &Member,
    before: &Before,
) -> Result<(), String> {
    let Some((view, _)) = &member.heard else { return Ok(()) };
    for node in nodes(member).iter().filter(|node| !before.probed.contains(&node.name)) {
        let is_probed = member.server.attempts.iter().any(|attempt| attempt.probe.subject == subject(node));
        let is_up = view.tally.agree(&node.name, Observers::Majority).serving == Some(true);
        if is_probed && is_up && member.server.state().node(node).serving() != Some(true) {
            return Err(format!("{} is up for the others, and unknown from here", node.name));
        }
        for family in Family::ALL.into_iter().filter(|_| is_probed) {
            let is_up = agreed(view, node, family).serving == Some(true);
            let here = member.server.state().told_apart(&subject(node)).map(|both| both.of(family).serving());
            if is_up && here.is_some_and(|here| here != Some(true)) {
                return Err(format!("{} is up over {family} for the others, and {here:?} here", node.name));
            }
        }
    }
    Ok(())
}

fn subject(node: &Node) -> Subject {
    Subject::Node(node.name.clone())
}

/// The text that the verdicts use for a node in IPv6, if that verdict differs from the node's.
fn over_ipv6(node: &Node) -> String {
    format!("{} ipv6", node.name)
}

/// The servers' common verdict on a node in a family.
fn agreed(view: &View, node: &Node, family: Family) -> Agreed {
    match family {
        Family::Ipv4 => view.tally.agree(&node.name, Observers::Majority),
        Family::Ipv6 => view.tally.agree_apart(&node.name, &over_ipv6(node), Observers::Majority),
    }
}

/// Checks when a joined server is frozen. It is frozen if the nodes that are visible or that two servers report silent
/// are fewer than the quorum. It is also frozen if no node is visible.
fn only_confirmed_silence_needs_no_quorum(member: &Member, decision: &Decision) -> Result<(), String> {
    let Some((view, _)) = &member.heard else { return Ok(()) };
    if decision.frozen.is_some() {
        return Ok(());
    }
    let unreachable = |node: &&Node| {
        let ipv6 = over_ipv6(node);
        let in_both = Family::ALL.map(|family| {
            let says = |said: &&Verdicts| {
                let is_apart =
                    [&said.up, &said.down, &said.unreachable].iter().any(|all| all.contains(&ipv6));
                let is_ipv6 = family == Family::Ipv6 && is_apart;
                said.unreachable.contains(if is_ipv6 { &ipv6 } else { &node.name })
            };
            view.verdicts.values().map(|said| &**said).filter(says).count() > 1
        });
        in_both == [true; 2]
    };
    let voters = || nodes(member).iter().filter(|node| node.is_voter);
    let confirmed_unreachable = voters().filter(unreachable).count();
    let view = member.server.state().view();
    let visible = nodes(member).iter().zip(&view.nodes);
    let visible = visible.filter(|(node, state)| node.is_voter && state.visible).count();
    let needed = voters().count() / 2 + 1;
    if visible == 0 || visible + confirmed_unreachable < needed {
        return Err(format!(
            "{visible} visible, {confirmed_unreachable} confirmed unreachable, and not frozen: {decision:?}"
        ));
    }
    Ok(())
}

/// Checks the present state of a server.
pub(super) fn check(cluster: &Cluster, index: usize) -> Result<(), String> {
    let member = &cluster.members[index];
    let (server, now) = (&member.server, cluster.world.now);
    let (Some(decision), Some(answers), Some(mode)) =
        (server.decision(), server.published.as_deref(), member.mode())
    else {
        return Ok(());
    };
    if !member.acts() {
        return Ok(());
    }
    if server.state().blind().is_some() {
        let says = member.link.as_ref().is_some_and(|link| link.own().verdicts != Verdicts::default());
        return if says { Err("blind, and yet it has a vote".to_owned()) } else { Ok(()) };
    }
    if mode != Mode::Joined {
        the_quorum_is_what_is_heard(&cluster.world, server, decision)?;
    } else {
        those_at_one_moment_say_the_same(cluster, member, decision)?;
        the_lease_is_confirmed(cluster, member)?;
        only_confirmed_silence_needs_no_quorum(member, decision)?;
        one_bad_link_takes_no_node_out(cluster, member, decision, answers)?;
    }
    let late = member.way.slow + silence(cluster, member) + WORD;
    if mode == Mode::Joined
        && !is_disputed(cluster)
        && now > cluster.wanted_since.max(member.shaken) + late + cluster.lease
        && server.core.local().is_empty()
        && *server.state().intents() != intent::without_holds(&cluster.wanted)
    {
        return Err(format!(
            "{:?} is in force, and {:?} in the store",
            server.state().intents(),
            cluster.wanted
        ));
    }
    if mode == Mode::Joined {
        what_the_store_holds_is_out(member, decision, answers)?;
    }
    the_dead_are_replaced(cluster, member, mode, decision, answers)
}

/// Checks that a node that the store holds is in no answer of a joined server, while another node is up.
fn what_the_store_holds_is_out(
    member: &Member,
    decision: &Decision,
    answers: &Answers,
) -> Result<(), String> {
    let Some((view, _)) = &member.heard else { return Ok(()) };
    if decision.frozen.is_some()
        || !decision.effective.contains(&Effective::Up)
        || !member.server.core.local().released.is_empty()
    {
        return Ok(());
    }
    let stored = intent::holds(&view.documents.intents);
    for (place, node) in nodes(member).iter().enumerate() {
        let is_out = stored.contains_key(&node.name) && admin(member, node) != Admin::Up;
        let in_a_service = || answers.services().any(|(_, nodes)| nodes.contains(&place));
        // If no node is up in a family, its held nodes answer.
        let is_answered_in =
            |family| answers.families.of(family).last_resort.is_none() && is_answered(answers, place, family);
        let is_answered = answers.by_node.contains(&Some(place)) || in_a_service();
        if is_out && (is_answered || Family::ALL.into_iter().any(is_answered_in)) {
            return Err(format!("{} is held and answered: {decision:?} {answers:?}", node.name));
        }
    }
    Ok(())
}

/// The longest time until a server notices that its watch is silent, and begins a new session. This takes 2 comparisons
/// of the view with the store.
fn silence(cluster: &Cluster, member: &Member) -> Duration {
    let silent = member.link.as_ref().is_some_and(|link| link.is_silent() || link.lease().is_none());
    if silent { cluster.lease * 6 / 5 } else { Duration::ZERO }
}

/// Checks that a server does not use the verdicts of other servers that may consider it dead.
fn the_lease_is_confirmed(cluster: &Cluster, member: &Member) -> Result<(), String> {
    let documented = format!("{}{}", crate::store::VERDICTS, member.name);
    if cluster.store.listing.entries.contains_key(&documented) || is_of_a_past(cluster) {
        return Ok(());
    }
    Err("joined, and its verdicts are not in the store".to_owned())
}

fn those_at_one_moment_say_the_same(
    cluster: &Cluster,
    member: &Member,
    decision: &Decision,
) -> Result<(), String> {
    let key = |member: &Member| {
        let state = member.server.state();
        (state.moment(), state.intents().clone(), state.held().holds().clone())
    };
    let comparable = |member: &Member, decision: &Decision| {
        let Some((view, Mode::Joined)) = &member.heard else { return false };
        // A node without a verdict is judged by each server itself. Frozen servers and servers without a live node use
        // earlier answers.
        let is_judged =
            |node: &Node| Family::ALL.into_iter().all(|family| agreed(view, node, family).serving.is_some());
        nodes(member).iter().all(is_judged)
            && decision.frozen.is_none()
            && decision.effective.contains(&Effective::Up)
    };
    if is_of_a_past(cluster) || !comparable(member, decision) {
        return Ok(());
    }
    for other in cluster.members.iter().filter(|other| other.name != member.name) {
        let Some(others) = other.server.decision().filter(|others| comparable(other, others)) else {
            continue;
        };
        if key(other) == key(member) && digest(&others.answers, 0) != digest(&decision.answers, 0) {
            let moment = member.server.state().moment();
            return Err(format!("at {moment:?} {decision:?}, and at {} {others:?}", other.name));
        }
    }
    Ok(())
}

/// Checks that every joined server answers a node that most of its judges find healthy.
fn one_bad_link_takes_no_node_out(
    cluster: &Cluster,
    member: &Member,
    decision: &Decision,
    answers: &Answers,
) -> Result<(), String> {
    let now = cluster.world.now;
    let lease = cluster.lease;
    if decision.frozen.is_some()
        || cluster.probers < 3
        || silence(cluster, member) > Duration::ZERO
        || is_disputed(cluster)
    {
        return Ok(());
    }
    // A server that has run for this time, or that returned no later than this server, has its verdicts in the store. A
    // server that joined at its start finds the older verdicts.
    let there = if member.cold { member.shaken.saturating_sub(lease * 6 / 5) } else { member.shaken };
    let there = there.max(now.saturating_sub(lease * 3 + Duration::from_secs(3)));
    let unreachable = |other: &&Member| {
        let away = !other.server.running || other.way.cut;
        away && now > other.shaken + lease * 2
    };
    let voters: Vec<&Member> = cluster.members.iter().filter(|other| !unreachable(other)).collect();
    for (place, node) in nodes(member).iter().enumerate() {
        if admin(member, node) != Admin::Auto || is_held(member, node) {
            continue;
        }
        for family in Family::ALL.into_iter().filter(|family| node.address(*family).is_some()) {
            let is_good = |other: &&&Member| {
                let outlook = outlook(cluster, other, place, family);
                let undisturbed = other.acts()
                    && other.server.live
                    && other.server.state().blind().is_none()
                    && !other.way.cut
                    && !other.way.puts_hang
                    && (other.shaken <= there || other.name == member.name);
                let known = |since: Duration| {
                    let since = since.max(other.server.judges_since.unwrap_or(now));
                    now > since + recovery(node) + WORD + member.way.slow
                };
                undisturbed && outlook.perfect_since.is_some_and(known)
            };
            let good = voters.iter().filter(is_good).count();
            let is_out = answers.node_in(family, place) != Some(place);
            if voters.len() >= 3 && good + 1 >= voters.len() && is_out {
                return Err(format!(
                    "{} is well over {family} for {good} of {}, and {decision:?}",
                    node.name,
                    voters.len()
                ));
            }
        }
    }
    Ok(())
}

/// Checks that a node that is dead for all servers is in no answer of a joined server. The same holds for a lone server
/// with a quorum.
///
/// Every server finds the death within the repair bound, and writes its verdict within a [`WORD`]. Verdicts of servers
/// that died with the node or cannot write count until their lease ends. A server that cannot write keeps its lease for
/// a while. A silent watch has to be noticed first.
fn the_dead_are_replaced(
    cluster: &Cluster,
    member: &Member,
    mode: Mode,
    decision: &Decision,
    answers: &Answers,
) -> Result<(), String> {
    let (now, lease) = (cluster.world.now, cluster.lease);
    let server = &member.server;
    let Some(judges) = server.judges_since else { return Ok(()) };
    let alone = mode != Mode::Joined;
    if !decision.effective.contains(&Effective::Up)
        || decision.frozen.is_some() && (alone || lacks_evidence(member))
    {
        return Ok(());
    }
    let shaken = cluster.members.iter().map(|other| other.shaken).max().unwrap_or_default();
    let hangs = cluster.members.iter().any(|other| other.way.puts_hang);
    let known = if alone { judges.max(server.reloaded) } else { judges.max(shaken) };
    let in_families = Family::ALL.into_iter().filter(|family| one_is_up(member, decision, *family));
    let in_families = in_families.flat_map(|family| {
        let own = nodes(member).iter().enumerate().filter(move |(_, node)| node.address(family).is_some());
        own.map(move |(place, node)| (family, place, node))
    });
    for (family, place, node) in in_families.filter(|(_, _, node)| admin(member, node) == Admin::Auto) {
        let dead = |other: &Member| outlook(cluster, other, place, family).dead_since;
        let all = cluster.members.iter().filter(|other| other.server.running).map(dead);
        let Some(dead) = all.collect::<Option<Vec<Duration>>>().and_then(|all| all.into_iter().max()) else {
            continue;
        };
        let mut bound = node.health.time_to_detect() + wait(node) + TOLERANCE;
        if !alone {
            let hung = if hangs { lease * 3 / 5 } else { Duration::ZERO };
            bound += lease + hung + WORD + member.way.slow + silence(cluster, member);
        }
        let lasting = now.saturating_sub(dead.max(known));
        if lasting > bound && is_answered(answers, place, family) {
            return Err(format!(
                "{} has been dead over {family} for {lasting:?} and is answered, {mode:?}: {decision:?}",
                node.name
            ));
        }
    }
    Ok(())
}

/// Whether a name answers a node's address of a family.
fn is_answered(answers: &Answers, place: usize, family: Family) -> bool {
    let names = (0..answers.by_node.len()).any(|name| answers.node_in(family, name) == Some(place));
    names || answers.service_in(family, "db").contains(&place)
}

/// Whether any node is up in a family, by this server's knowledge.
fn one_is_up(member: &Member, decision: &Decision, family: Family) -> bool {
    let state = member.server.state();
    nodes(member).iter().zip(&decision.effective).any(|(node, effective)| {
        let is_dead = || {
            let counted = state.family_that_counts(node, family);
            counted.is_some_and(|counted| counted.health.serving() == Some(false))
        };
        *effective == Effective::Up
            && node.address(family).is_some()
            && (admin(member, node) == Admin::Up || !is_dead())
    })
}

/// The expected results of the probes of a server.
fn outlook<'a>(cluster: &'a Cluster, member: &Member, place: usize, family: Family) -> &'a Outlook {
    cluster.world.links[member.server.index][place].outlook_in(family, Port::Node)
}

/// Whether no node is visible, or only one server judges some node.
fn lacks_evidence(member: &Member) -> bool {
    let Some((view, _)) = &member.heard else { return true };
    let votes = |node: &Node| {
        let agreed = view.tally.agree(&node.name, Observers::Majority);
        agreed.up + agreed.down
    };
    nodes(member).iter().any(|node| votes(node) < 2)
        || member.server.state().view().nodes.iter().all(|node| !node.visible)
}

/// Whether the store was restored. Servers may then use different documents until an operator accepts the store.
fn is_disputed(cluster: &Cluster) -> bool {
    cluster.store.restored.is_some()
}

/// Whether a server does not know yet that the store was restored. Until then, its revisions and its lease are from
/// before the restore.
fn is_of_a_past(cluster: &Cluster) -> bool {
    cluster.store.restored.is_some_and(|restored| cluster.world.now < restored + cluster.lease)
}

/// Checks that a clone and its original do not vote at the same time.
pub(super) fn one_of_two_has_the_name(
    cluster: &Cluster,
    member: &Member,
    clone: &StoreLink,
) -> Result<(), String> {
    let now = cluster.world.now;
    let is_joined = member.acts() && member.link.as_ref().is_some_and(|link| link.mode(now) == Mode::Joined);
    if is_joined && clone.mode(now) == Mode::Joined && !is_of_a_past(cluster) {
        return Err(format!("{} and its clone have both joined", member.name));
    }
    Ok(())
}

/// Checks that accepted intents stay in the store until an operator changes them.
pub(super) fn nothing_is_lost(store: &StoreModel, wanted: &Intents) -> Result<(), String> {
    let documents = Documents::read(&store.listing)?;
    if documents.intents != *wanted {
        return Err(format!("{wanted:?} was taken, and {:?} is in the store", documents.intents));
    }
    Ok(())
}

/// Checks that all servers are joined and give the configured answers, after a long enough time without faults.
pub(super) fn at_the_end(cluster: &Cluster) -> Result<(), String> {
    let stored = Documents::read(&cluster.store.listing)?.intents;
    // A restored backup or a removed document loses intents. The servers still agree.
    let wanted = if is_disputed(cluster) { &stored } else { &cluster.wanted };
    for member in &cluster.members {
        if member.mode() != Some(Mode::Joined) {
            return Err(format!("{} is {:?}", member.name, member.mode()));
        }
        let Some(answers) = member.server.published.as_deref() else {
            return Err(format!("{} answers nothing", member.name));
        };
        let holds = intent::holds(wanted);
        if *member.server.state().held().holds() != holds || !member.server.core.local().is_empty() {
            let (state, local) = (member.server.state(), member.server.core.local());
            return Err(format!(
                "{} holds {:?}, {local:?}, and the store {holds:?}",
                member.name,
                state.held().holds()
            ));
        }
        if cluster.failback != Failback::Manual && !holds.is_empty() {
            return Err(format!("{holds:?} has not ended"));
        }
        let is_auto = holds.is_empty() && wanted.values().all(|intent| intent.admin == Admin::Auto);
        if is_auto && *answers != Answers::configured(&member.server.state().config().cluster) {
            return Err(format!("{} answers {answers:?}", member.name));
        }
        if *member.server.state().intents() != intent::without_holds(wanted) {
            return Err(format!("{} uses {:?}", member.name, member.server.state().intents()));
        }
    }
    Ok(())
}

fn nodes(member: &Member) -> &[Node] {
    &member.server.state().config().cluster.nodes
}

fn is_held(member: &Member, node: &Node) -> bool {
    member.server.state().held().holds().contains_key(&node.name)
}

fn admin(member: &Member, node: &Node) -> Admin {
    member.server.state().intent(node).map_or(Admin::Auto, |intent| intent.admin)
}
