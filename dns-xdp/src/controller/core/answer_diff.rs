//! The differences between the decision that events last reported and the present one. This module is pure.
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;

use hickory_proto::rr::Name;

use super::input::Publication;
use super::services_down::ServicesDown;
use super::state::{State, in_family};
use crate::cluster::{APEX, Admin, Family, Node};
use crate::event::{AnswerChange, AnswerChanges, Kind, Occurrence};
use crate::failover::Effective;
use crate::health::{Subject, SubjectHealth};
use crate::zone::{Addresses, Zone};

/// The parts of a decision that events report.
#[derive(Debug, Clone)]
pub(in crate::controller) struct Reported {
    frozen: Option<String>,
    fail_open: bool,
    services_down: ServicesDown,
    parties: Vec<Party>,
}

/// A node, or a node as a member of a service with its own probes.
#[derive(Debug, Clone)]
struct Party {
    subject: String,
    node: String,
    /// Whether it is in the answers.
    up: bool,
    /// The reason as text: `node2 is down (refused)`.
    why: String,
    addresses: Vec<IpAddr>,
    /// The fully qualified names that this party is about: those of one service. Empty: every name.
    names: Vec<String>,
}

impl Reported {
    /// The state in force; `None` before the first decision.
    pub(super) fn new(state: &State) -> Option<Self> {
        let decision = state.decision()?;
        let nodes = state.config().cluster.nodes.iter().zip(&decision.effective);
        let nodes = nodes.map(|(node, effective)| node_party(state, node, *effective));
        let members = state
            .health_by_subject()
            .iter()
            .filter_map(|(subject, subject_health)| member_party(state, subject, subject_health));
        let families = state.health_by_subject().keys().flat_map(|subject| family_parties(state, subject));
        let parties = nodes.chain(members).chain(families).collect();
        let services_down = ServicesDown::new(state, decision);
        Some(Reported {
            frozen: decision.frozen.clone(),
            fail_open: decision.fail_open,
            services_down,
            parties,
        })
    }

    /// Whether the answers are frozen.
    pub(super) fn is_frozen(&self) -> bool {
        self.frozen.is_some()
    }

    /// Returns the differences since `before`; `publication`: the changed answers. If the configuration has changed
    /// too, all changed answers belong to the event of that change, because the configured answers differ. Otherwise
    /// the changed answers belong to a failover or a failback.
    pub(super) fn since(
        &self,
        before: &Reported,
        publication: Option<&Publication>,
        change: Option<Occurrence>,
    ) -> Vec<Occurrence> {
        let mut answers =
            publication.map_or_else(Changes::default, |publication| publication.changes.clone());
        let mut reported = Vec::new();
        if let Some(change) = change {
            reported.push(change.with(std::mem::take(&mut answers).all));
        }
        reported.extend(freeze(before.frozen.as_deref(), self.frozen.as_deref()));
        match (before.fail_open, self.fail_open) {
            (false, true) => reported.push(fail_open(std::mem::take(&mut answers).all)),
            (true, false) => reported.push(Occurrence::new(Kind::FailOpenOver)),
            _ => {}
        }
        reported.extend(self.services_down.since(&before.services_down));
        if !answers.away.is_empty() {
            let gone = self.turned(before, false);
            // If no node went out, a substitute changed. The reason then names the nodes that are out.
            let out = if gone.is_empty() { self.out().collect() } else { gone };
            reported.push(named(Kind::Failover, &out).with(answers.away));
        }
        if !answers.back.is_empty() {
            reported.push(named(Kind::Failback, &self.turned(before, true)).with(answers.back));
        }
        reported
    }

    /// Returns the differences from the configured answers when a daemon gives its first answers.
    pub(super) fn at_the_start(&self, publication: &Publication, server: &str) -> Vec<Occurrence> {
        let zone = &publication.zone;
        let (version, names, epoch) = (env!("CARGO_PKG_VERSION"), zone.names().len(), zone.epoch());
        let reason = format!("dns-xdp {version} as {server}: {names} names are answered, epoch {epoch}");
        let answers = publication.changes.all.clone();
        let mut reported = vec![Occurrence::new(Kind::Start).because(reason).with(answers)];
        reported.extend(freeze(None, self.frozen.as_deref()));
        reported.extend(self.fail_open.then(|| fail_open(AnswerChanges::default())));
        reported.extend(self.services_down.at_the_start());
        reported
    }

    fn out(&self) -> impl Iterator<Item = &Party> {
        self.parties.iter().filter(|party| !party.up)
    }

    /// Returns the parties that have come into the answers since `before` (`up`), or have left them.
    fn turned(&self, before: &Reported, up: bool) -> Vec<&Party> {
        let before: BTreeMap<&str, bool> =
            before.parties.iter().map(|party| (party.subject.as_str(), party.up)).collect();
        let turned = |party: &&Party| party.up == up && before.get(party.subject.as_str()) == Some(&!up);
        self.parties.iter().filter(turned).collect()
    }
}

/// The names whose addresses have changed, in the form that events report. Finding them takes time in proportion to the
/// zone, so it is not done in the core.
#[derive(Debug, Clone, Default)]
pub(in crate::controller) struct Changes {
    all: AnswerChanges,
    /// Names that answer the configured addresses again, or more of them.
    back: AnswerChanges,
    /// The other names.
    away: AnswerChanges,
}

impl Changes {
    /// Every name whose addresses have changed, ignoring their order. `configured` is the zone of healthy nodes,
    /// `reported` has the nodes that are out.
    pub(super) fn between(before: &Zone, now: &Zone, configured: &Zone, reported: &Reported) -> Self {
        let out = Out::of(reported);
        let mut changes = Changes::default();
        let gone = before.names().filter(|(name, _)| now.addresses(name).is_none()).map(|(name, _)| name);
        for name in now.names().map(|(name, _)| name).chain(gone) {
            let [before, now] = [before, now].map(|zone| zone.addresses(name));
            if before == now {
                continue;
            }
            let [before, now] = [before, now].map(Answer::of);
            if before == now {
                continue;
            }
            let text = name.to_string();
            let returns = returns(&text, [&before, &now], &Answer::of(configured.addresses(name)), &out);
            let list = if returns { &mut changes.back } else { &mut changes.away };
            let is_told = !list.is_full() || !changes.all.is_full();
            let change = is_told.then(|| AnswerChange { name: text, old: before.words(), new: now.words() });
            list.push(change.clone());
            changes.all.push(change);
        }
        changes
    }

    /// The number of names whose changes events list in full.
    #[cfg(test)]
    pub(in crate::controller) fn told_names(&self) -> usize {
        [&self.all, &self.back, &self.away].map(AnswerChanges::len).iter().sum()
    }
}

/// The answer of a name, compared without its order.
enum Answer<'a> {
    Missing,
    Refused,
    /// The addresses, and the same addresses sorted.
    Addresses(&'a Addresses, BTreeSet<IpAddr>),
}

impl<'a> Answer<'a> {
    fn of(addresses: Option<&'a Addresses>) -> Self {
        match addresses {
            None => Answer::Missing,
            Some(addresses) if addresses.refused => Answer::Refused,
            Some(addresses) => Answer::Addresses(addresses, addresses.iter().collect()),
        }
    }

    fn addresses(&self) -> Option<&BTreeSet<IpAddr>> {
        match self {
            Answer::Missing | Answer::Refused => None,
            Answer::Addresses(_, set) => Some(set),
        }
    }

    fn words(&self) -> Vec<String> {
        match self {
            Answer::Missing => vec!["NXDOMAIN".to_owned()],
            Answer::Refused => vec!["REFUSED".to_owned()],
            Answer::Addresses(addresses, _) => addresses.iter().map(|address| address.to_string()).collect(),
        }
    }
}

impl PartialEq for Answer<'_> {
    fn eq(&self, other: &Self) -> bool {
        match (self, other) {
            (Answer::Addresses(_, one), Answer::Addresses(_, other)) => one == other,
            (Answer::Missing, Answer::Missing) | (Answer::Refused, Answer::Refused) => true,
            _ => false,
        }
    }
}

/// The addresses of the parties that are out, under every name or under one name.
struct Out<'a> {
    addresses: BTreeSet<(Option<&'a str>, IpAddr)>,
    /// The names of services with their own probes.
    apart: BTreeSet<&'a str>,
}

impl<'a> Out<'a> {
    fn of(reported: &'a Reported) -> Self {
        let names = |party: &'a Party| -> Vec<Option<&'a str>> {
            match party.names.as_slice() {
                [] => vec![None],
                names => names.iter().map(|name| Some(name.as_str())).collect(),
            }
        };
        let places = |party: &'a Party| {
            let each = names(party).into_iter();
            each.flat_map(|name| party.addresses.iter().map(move |address| (name, *address)))
        };
        Out {
            addresses: reported.out().flat_map(places).collect(),
            apart: reported.parties.iter().flat_map(|party| &party.names).map(String::as_str).collect(),
        }
    }

    fn has(&self, name: &str, address: IpAddr) -> bool {
        self.addresses.contains(&(self.apart.get(name).copied(), address))
    }
}

/// Whether a name returns: it answers only configured addresses, at least as many as before, and gains no address of a
/// party that is out.
fn returns(name: &str, [before, now]: [&Answer<'_>; 2], configured: &Answer<'_>, out: &Out<'_>) -> bool {
    let (Some(now), Some(configured)) = (now.addresses(), configured.addresses()) else {
        return now == configured;
    };
    let none = BTreeSet::new();
    let before = before.addresses().unwrap_or(&none);
    now.is_subset(configured)
        && !before.intersection(configured).any(|address| !now.contains(address))
        && !now.difference(before).any(|address| out.has(name, *address))
}

fn node_party(state: &State, node: &Node, effective: Effective) -> Party {
    let subject_health = state.node(node);
    let intent = state.intent(node).filter(|intent| intent.admin != Admin::Auto);
    let treated = match intent {
        Some(intent) => intent.admin.to_string(),
        None if effective == Effective::Held => effective.to_string(),
        None if !node.is_probed() => effective.to_string(),
        None => subject_health.health.to_string(),
    };
    let reason = intent.and_then(|intent| intent.reason.as_ref()).or(subject_health.reason.as_ref());
    Party {
        subject: node.name.clone(),
        node: node.name.clone(),
        up: effective == Effective::Up,
        why: why(&node.name, &treated, reason),
        addresses: node.all_addresses().collect(),
        names: Vec::new(),
    }
}

fn member_party(state: &State, subject: &Subject, subject_health: &SubjectHealth) -> Option<Party> {
    let Subject::Member { service, node } = subject else {
        return None;
    };
    let node = state.config().cluster.node(node)?;
    let (fall_waits, subject) = (state.fall_waits(subject), subject.to_string());
    let up = match state.intent(node).map_or(Admin::Auto, |intent| intent.admin) {
        Admin::Auto => {
            let is_held = state.held().holds().contains_key(&node.name);
            (subject_health.serving() != Some(false) || fall_waits) && !is_held
        }
        Admin::Up => true,
        Admin::Down | Admin::Drain => false,
    };
    Some(Party {
        up,
        node: node.name.clone(),
        why: why(&subject, subject_health.health.text(), subject_health.reason.as_ref()),
        addresses: node.all_addresses().collect(),
        names: full_names(state, service),
        subject,
    })
}

/// The families of a subject, each with its own address. While the whole subject is out, its families are not separate
/// parties.
fn family_parties(state: &State, subject: &Subject) -> Vec<Party> {
    let Some(both) = state.told_apart(subject) else { return Vec::new() };
    let (name, service) = match subject {
        Subject::Node(node) => (node, None),
        Subject::Member { service, node } => (node, Some(service)),
        Subject::Witness(_) => return Vec::new(),
    };
    let Some(node) = state.config().cluster.node(name) else { return Vec::new() };
    let is_auto = state.intent(node).is_none_or(|intent| intent.admin == Admin::Auto);
    let is_out =
        |family: Family| both.of(family).serving() == Some(false) && !state.fall_waits_in(subject, family);
    let is_out_as_a_whole = Family::ALL.into_iter().all(is_out);
    let party = |family: Family| {
        let subject_health = both.of(family);
        let up = !is_auto || is_out_as_a_whole || !is_out(family);
        let subject = in_family(subject, family);
        Party {
            up,
            node: node.name.clone(),
            why: why(&subject, subject_health.health.text(), subject_health.reason.as_ref()),
            addresses: node.all_addresses().filter(|address| Family::of(*address) == family).collect(),
            names: service.map(|service| full_names(state, service)).unwrap_or_default(),
            subject,
        }
    };
    Family::ALL.map(party).into()
}

/// The names of a service in the zone and under its suffixes, fully qualified.
fn full_names(state: &State, service: &str) -> Vec<String> {
    let suffixes = state.config().cluster.suffixes.iter().map(|suffix| &suffix.name);
    let origins = std::iter::once(&state.config().zone.apex).chain(suffixes);
    let full =
        |origin: &Name| if service == APEX { origin.to_string() } else { format!("{service}.{origin}") };
    origins.map(full).collect()
}

fn why(subject: &str, treated: &str, reason: Option<&String>) -> String {
    let reason = reason.map(|reason| format!(" ({reason})")).unwrap_or_default();
    format!("{subject} is {treated}{reason}")
}

fn freeze(before: Option<&str>, now: Option<&str>) -> Option<Occurrence> {
    match (before, now) {
        (None, Some(reason)) => Some(Occurrence::new(Kind::Frozen).because(reason)),
        (Some(_), None) => Some(Occurrence::new(Kind::Thawed)),
        _ => None,
    }
}

fn fail_open(answers: AnswerChanges) -> Occurrence {
    Occurrence::new(Kind::FailOpen).because("no node is up: dead addresses are answered").with(answers)
}

/// Names the parties. The subject is the only party, or the one node that all parties are about. Several nodes are
/// named in the reason.
fn named(kind: Kind, parties: &[&Party]) -> Occurrence {
    let why: Vec<&str> = parties.iter().map(|party| party.why.as_str()).collect();
    let occurrence = Occurrence::new(kind).because(why.join(", "));
    match parties {
        [party] => occurrence.about(&party.subject),
        [first, others @ ..] if others.iter().all(|other| other.node == first.node) => {
            occurrence.about(&first.node)
        }
        _ => occurrence,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use super::super::input::Published;
    use super::super::state::tests::{TEXT, config, healthy, kill, observe};
    use super::*;
    use crate::health::{Failure, Observation, ProbeId};
    use crate::intent::{Intent, Intents};

    fn reported(state: &State) -> Reported {
        Reported::new(state).unwrap()
    }

    fn published(before: Option<&State>, now: &State) -> Publication {
        let before = before.map(|before| before.zone().unwrap());
        Publication::new(&Published::of(now).unwrap(), before.as_ref(), Arc::new(now.zone().unwrap()), None)
    }

    fn since(before: &State, now: &State, change: Option<Occurrence>) -> Vec<Occurrence> {
        reported(now).since(&reported(before), Some(&published(Some(before), now)), change)
    }

    /// The events between one state and the next.
    fn step(before: &State, now: &State) -> Vec<String> {
        texts(&since(before, now, None))
    }

    fn texts(reported: &[Occurrence]) -> Vec<String> {
        reported.iter().map(ToString::to_string).collect()
    }

    fn revive(state: &mut State, node: &str) {
        for _ in 0..2 {
            observe(state, node, true);
        }
        state.decide();
    }

    #[test]
    fn a_failover_is_one_event_with_every_name_and_so_is_the_failback() {
        let good = healthy(TEXT);
        let mut bad = good.clone();
        kill(&mut bad, "node2");
        let failover = ["+failover node2: node2 is down (refused); \
             demo.example.com. 192.0.2.11 192.0.2.12 192.0.2.13 -> 192.0.2.11 192.0.2.13, \
             db.demo.example.com. 192.0.2.11 192.0.2.12 -> 192.0.2.11, \
             node2.demo.example.com. 192.0.2.12 -> 192.0.2.13, \
             ns2.demo.example.com. 192.0.2.12 -> 192.0.2.13"];
        assert_eq!(step(&good, &bad), failover);
        let mut back = bad.clone();
        revive(&mut back, "node2");
        let failback = step(&bad, &back);
        assert!(
            failback.len() == 1 && failback[0].starts_with("-failback node2: node2 is up; "),
            "{failback:?}"
        );
        assert!(failback[0].contains("node2.demo.example.com. 192.0.2.13 -> 192.0.2.12"), "{failback:?}");
        assert!(step(&back, &back.clone()).is_empty());
    }

    #[test]
    fn a_service_that_has_one_of_two_dead_members_back_returns_in_part() {
        let text =
            TEXT.replace("nodes = [\"node1\", \"node2\"]", "nodes = [\"node1\", \"node2\", \"node3\"]");
        let text = text.replace("name = \"node3\"", "name = \"node3\"\nbackup = [\"node2\"]");
        let mut bad = healthy(&text);
        kill(&mut bad, "node2");
        kill(&mut bad, "node3");
        let mut better = bad.clone();
        revive(&mut better, "node2");
        let events = since(&bad, &better, None);
        let [away, back] = events.as_slice() else { panic!("{events:?}") };
        assert_eq!((away.kind, back.kind), (Kind::Failover, Kind::Failback));
        let names = |event: &Occurrence| event.answers.iter().map(|it| it.name.clone()).collect::<Vec<_>>();
        assert!(names(back).contains(&"db.demo.example.com.".to_owned()), "{back}");
        assert_eq!(names(away), ["node3.demo.example.com.", "ns3.demo.example.com."]);
        assert_eq!(away.reason.as_deref(), Some("node3 is down (refused)"));
        assert_eq!((away.subject.as_deref(), back.subject.as_deref()), (Some("node3"), Some("node2")));
    }

    #[test]
    fn an_answer_that_names_a_dead_node_again_has_not_returned() {
        let good = healthy(TEXT);
        let mut bad = good.clone();
        kill(&mut bad, "node2");
        let wrong = Published { reported: Arc::new(reported(&bad)), ..Published::of(&good).unwrap() };
        let zone = Arc::new(good.zone().unwrap());
        let published = Publication::new(&wrong, bad.zone().as_ref(), zone, None);
        let events = reported(&bad).since(&reported(&bad), Some(&published), None);
        assert_eq!(events.iter().map(|event| event.kind).collect::<Vec<_>>(), [Kind::Failover]);
        assert_eq!(events[0].reason.as_deref(), Some("node2 is down (refused)"));
    }

    #[test]
    fn a_member_with_a_health_of_its_own_is_out_of_its_service_alone() {
        let mut state = healthy(&format!("{TEXT}[service.health]\nport = 7000\n"));
        let subject = Subject::Member { service: "db".to_owned(), node: "node2".to_owned() };
        let failure = Failure { reason: "refused".to_owned(), visible: true };
        for _ in 0..3 {
            let probe = ProbeId::first(subject.clone());
            state.observe(&probe, Duration::ZERO, &Observation::Failure(failure.clone())).unwrap();
        }
        let reported = reported(&state);
        let out: Vec<(&str, &[String])> = reported.out().map(|party| (&*party.why, &*party.names)).collect();
        assert_eq!(out, [("node2 for db is down (refused)", &["db.demo.example.com.".to_owned()][..])]);
    }

    #[test]
    fn nodes_that_go_together_are_named_in_the_reason() {
        let good = healthy(TEXT);
        let mut bad = good.clone();
        kill(&mut bad, "node2");
        let begins = jiff::Timestamp::UNIX_EPOCH;
        let drained = Intent { reason: Some("new disk".to_owned()), ..Intent::new(Admin::Drain, begins) };
        bad.set_intents(Intents::from([("node1".to_owned(), drained)]));
        bad.decide();
        let events = since(&good, &bad, None);
        let failovers: Vec<&Occurrence> =
            events.iter().filter(|event| event.kind == Kind::Failover).collect();
        assert_eq!((failovers.len(), &failovers[0].subject), (1, &None));
        let reason = failovers[0].reason.as_deref();
        assert_eq!(reason, Some("node1 is drain (new disk), node2 is down (refused)"));
    }

    #[test]
    fn what_a_new_configuration_changes_is_told_with_it() {
        let mut state = healthy(TEXT);
        let before = state.clone();
        state.adopt(config(&TEXT.replace("name = \"db\"", "name = \"cache\"")));
        state.decide();
        let change = super::super::occurrences::reload(&["services changed".to_owned()]);
        let events = since(&before, &state, Some(change));
        let expected = ["reload: services changed; \
             cache.demo.example.com. NXDOMAIN -> 192.0.2.11 192.0.2.12, \
             db.demo.example.com. 192.0.2.11 192.0.2.12 -> NXDOMAIN"];
        assert_eq!(texts(&events), expected);
    }

    #[test]
    fn failing_open_is_no_failback() {
        let good = healthy(TEXT);
        let mut bad = good.clone();
        kill(&mut bad, "node1");
        kill(&mut bad, "node2");
        let mut open = bad.clone();
        kill(&mut open, "node3");
        let events = step(&bad, &open);
        assert!(events.len() == 1 && events[0].starts_with("+fail-open: no node is up"), "{events:?}");
        let mut back = open.clone();
        revive(&mut back, "node3");
        let kinds: Vec<Kind> = since(&open, &back, None).iter().map(|event| event.kind).collect();
        assert_eq!(kinds, [Kind::FailOpenOver, Kind::Failover]);
    }

    #[test]
    fn freezing_is_told_once_and_so_is_its_end() {
        let state = healthy(TEXT);
        let good = reported(&state);
        let mut frozen = good.clone();
        frozen.frozen = Some("1 of 3 visible".to_owned());
        assert_eq!(texts(&frozen.since(&good, None, None)), ["+freeze: 1 of 3 visible"]);
        assert!(frozen.since(&frozen, None, None).is_empty());
        assert_eq!(texts(&good.since(&frozen, None, None)), ["-freeze"]);
    }

    #[test]
    fn a_start_tells_what_is_not_as_configured() {
        let mut state = healthy(TEXT);
        let start = texts(&reported(&state).at_the_start(&published(None, &state), "node1"));
        assert!(start.len() == 1 && start[0].starts_with("start: dns-xdp "), "{start:?}");
        assert!(start[0].contains(" as node1: 8 names are answered, epoch "), "{start:?}");
        kill(&mut state, "node2");
        let start = texts(&reported(&state).at_the_start(&published(None, &state), "node1"));
        assert!(start[0].contains("node2.demo.example.com. 192.0.2.12 -> 192.0.2.13"), "{start:?}");
    }
}
