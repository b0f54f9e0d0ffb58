//! What is known and wanted, and the decision that follows: pure, and so testable without a network or a kernel.
use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use super::concert::Concert;
use crate::cluster::{Admin, HealthCheck, Node, Service};
use crate::config::Config;
use crate::failover::{self, Decision, MemberState, NodeState, View};
use crate::health::{
    self, Blindness, Health, Observation, ProbeId, Standing, Subject, Target, Transition, Verdict,
};
use crate::intent::{Intent, Intents};
use crate::store::Moment;
use crate::store::agreement::Verdicts;
use crate::zone::Zone;

/// Configuration, intents and verdicts, with the decision last made of them.
#[derive(Debug, Clone)]
pub(super) struct State {
    config: Config,
    intents: Intents,
    targets: BTreeMap<ProbeId, Target>,
    verdicts: BTreeMap<ProbeId, Verdict>,
    standings: BTreeMap<Subject, Standing>,
    blindness: Blindness,
    decision: Option<Decision>,
    /// What the servers say together; `None`: this one decides alone, as it always does without a store.
    concert: Option<Concert>,
}

/// What is known of a subject, as a decision looks at it.
struct Judged {
    serving: Option<bool>,
    visible: bool,
    /// It is not, and several servers say so.
    attested: bool,
    seconds_left: Option<u32>,
}

/// What an observation has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Change {
    /// The health of the subject.
    pub(super) transition: Option<Transition>,
    /// Something that a decision looks at.
    pub(super) decisive: bool,
}

impl State {
    /// Nothing is known of any node, and nothing decided.
    pub(super) fn new(config: Config, intents: Intents) -> Self {
        State::with(config, intents, None)
    }

    fn with(config: Config, intents: Intents, concert: Option<Concert>) -> Self {
        let targets = targets(&config, concert.as_ref());
        let verdict = |(probe, target): (&ProbeId, &Target)| (probe.clone(), Verdict::new(&target.probe));
        let verdicts = targets.iter().map(verdict).collect();
        let blindness = Blindness::new(targets.values().map(|target| &target.probe));
        let standings = BTreeMap::new();
        let decision = None;
        let mut state = State { config, intents, targets, verdicts, standings, blindness, decision, concert };
        state.stand();
        state
    }

    /// Takes another configuration. Who is probed as before keeps its verdict, who is new or changed is unknown.
    pub(super) fn adopt(&mut self, config: Config) {
        let next = State::with(config, self.intents.clone(), self.concert.clone());
        let before = std::mem::replace(self, next);
        self.decision = before.decision;
        let targets = &self.targets;
        let kept = |probe: &ProbeId| {
            targets.get(probe).is_some_and(|target| before.targets.get(probe) == Some(target))
        };
        let limits = std::mem::replace(&mut self.blindness, before.blindness);
        self.blindness.adopt(&limits, kept);
        self.verdicts.extend(before.verdicts.into_iter().filter(|(probe, _)| kept(probe)));
        self.standings = before.standings;
        self.stand();
    }

    /// Takes what the servers say together. Who is probed by this one because of it, and whom the others find up, is not
    /// given up for one lost probe.
    pub(super) fn hear(&mut self, concert: Concert) {
        let same = self.concert.as_ref().is_some_and(|before| before.probes_as(&concert));
        self.concert = Some(concert);
        if same {
            return;
        }
        let before: Vec<ProbeId> = self.targets.keys().cloned().collect();
        self.adopt(self.config.clone());
        let observers = self.config.failover.observers;
        let Some(concert) = &self.concert else { return };
        for (probe, verdict) in &mut self.verdicts {
            if before.binary_search(probe).is_err()
                && concert.agree(&probe.subject, observers).serving == Some(true)
            {
                verdict.presume_up();
            }
        }
        self.stand();
    }

    /// What this server makes of those that it probes. While it is blind: nothing.
    pub(super) fn own_verdicts(&self) -> Verdicts {
        let mut own = Verdicts::default();
        if self.blindness.reason().is_some() {
            return own;
        }
        for (subject, standing) in &self.standings {
            let said = match (standing.serving(), standing.visible) {
                (None, _) => continue,
                (Some(true), _) => &mut own.up,
                (Some(false), true) => &mut own.down,
                (Some(false), false) => &mut own.gone,
            };
            said.insert(subject.to_string());
        }
        own
    }

    pub(super) fn is_joined(&self) -> bool {
        self.concert.as_ref().is_some_and(|concert| !concert.is_alone())
    }

    /// What the decisions of a server that is joined are made from.
    pub(super) fn moment(&self) -> Option<Moment> {
        self.concert.as_ref().and_then(Concert::moment)
    }

    /// Works every standing out.
    fn stand(&mut self) {
        let all = all_targets(&self.config);
        let subjects: Vec<Subject> = all.into_keys().map(|probe| probe.subject).collect();
        let standings = subjects.into_iter().map(|subject| {
            let standing = self.standing(&subject, self.standings.get(&subject), Duration::ZERO);
            (subject, standing)
        });
        self.standings = standings.collect();
    }

    fn standing(&self, subject: &Subject, before: Option<&Standing>, now: Duration) -> Standing {
        let first = ProbeId { subject: subject.clone(), index: 0 };
        let last = ProbeId { index: usize::MAX, ..first.clone() };
        let verdicts: Vec<&Verdict> = self.verdicts.range(first..=last).map(|(_, verdict)| verdict).collect();
        if verdicts.is_empty() {
            return Standing::unknown();
        }
        Standing::new(&self.check(subject), &verdicts, before, now)
    }

    /// How the health of a subject is found out.
    fn check(&self, subject: &Subject) -> Cow<'_, HealthCheck> {
        let cluster = &self.config.cluster;
        let found = match subject {
            Subject::Node(name) => {
                cluster.nodes.iter().find(|node| node.name == *name).map(|node| &node.health)
            }
            Subject::Member { service, .. } => {
                let service = cluster.services.iter().find(|known| known.name == *service);
                service.and_then(|service| service.health.as_ref())
            }
            Subject::Witness(_) => None,
        };
        found.map_or_else(|| Cow::Owned(health::of_witness(&cluster.nodes)), Cow::Borrowed)
    }

    /// Sets what is wanted of the nodes.
    pub(super) fn want(&mut self, intents: Intents) {
        self.intents = intents;
    }

    /// The guard against our own blindness: while it has a reason nobody is judged.
    pub(super) fn blindness(&mut self) -> &mut Blindness {
        &mut self.blindness
    }

    /// Why nobody is judged; `None`: everybody is.
    pub(super) fn blind(&self) -> Option<&str> {
        self.blindness.reason()
    }

    /// Takes in what a probe found out at `at` after the origin; `None`: it is not about anyone known.
    pub(super) fn observe(
        &mut self,
        probe: &ProbeId,
        at: Duration,
        observation: &Observation,
    ) -> Option<Change> {
        let verdict = self.verdicts.get_mut(probe)?;
        if self.blindness.reason().is_some() {
            if *observation != Observation::Overdue {
                self.blindness.hear(probe, self.targets.len());
            }
            return Some(Change { transition: None, decisive: false });
        }
        let plain = |verdict: &Verdict| {
            verdict.health() == Health::Up && verdict.visible() && !verdict.inconclusive()
        };
        let was_plain = plain(verdict);
        verdict.observe(at, observation);
        if was_plain && plain(verdict) {
            // As nearly always: nothing follows from it.
            return Some(Change { transition: None, decisive: false });
        }
        let before = self.standings.get(&probe.subject)?;
        let now = self.standing(&probe.subject, Some(before), at);
        let decisive = |standing: &Standing| (standing.serving(), standing.visible, standing.seconds_left());
        let change = Change {
            transition: (before.health != now.health)
                .then_some(Transition { from: before.health, to: now.health }),
            decisive: decisive(before) != decisive(&now),
        };
        self.standings.insert(probe.subject.clone(), now);
        Some(change)
    }

    /// Whether every node and witness has been probed once, whatever came of it.
    pub(super) fn round_complete(&self) -> bool {
        let heard = |verdict: &Verdict| verdict.serving().is_some() || verdict.inconclusive();
        self.verdicts.values().all(heard)
    }

    /// Decides anew who answers for whom.
    pub(super) fn decide(&mut self) {
        let Config { cluster, failover, .. } = &self.config;
        self.decision = Some(failover::decide(cluster, failover, &self.view(), self.decision.as_ref()));
    }

    /// What a decision looks at.
    pub(super) fn view(&self) -> View {
        let cluster = &self.config.cluster;
        let members = self.seen_as_members();
        let mut attested = 0;
        let mut node = |index: usize, node: &Node| {
            let judged = self.judged(&Subject::Node(node.name.clone()), self.node(node));
            let visible = judged.visible || members.contains(node.name.as_str());
            attested += usize::from(judged.attested && !visible);
            NodeState {
                serving: judged.serving.or_else(|| self.is_out(index, node).then_some(false)),
                visible,
                admin: self.intent(node).map_or(Admin::Auto, |intent| intent.admin),
                seconds_left: judged.seconds_left,
            }
        };
        let nodes = cluster.nodes.iter().enumerate().map(|(index, known)| node(index, known)).collect();
        let apart = cluster.services.iter().filter(|service| service.health.is_some());
        let witnesses = self.standings.iter().filter(|(subject, _)| matches!(subject, Subject::Witness(_)));
        let witnesses: Vec<Judged> =
            witnesses.map(|(subject, standing)| self.judged(subject, standing)).collect();
        let silent = witnesses.iter().filter(|witness| witness.attested).count();
        View {
            nodes,
            members: apart.map(|service| (service.name.clone(), self.members(service))).collect(),
            visible_witnesses: witnesses.iter().filter(|witness| witness.visible).count(),
            attested: attested + silent,
        }
    }

    /// The nodes of whose hosts something is heard as members of services that have probes of their own.
    fn seen_as_members(&self) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        for (subject, standing) in &self.standings {
            if let Subject::Member { node, .. } = subject
                && self.judged(subject, standing).visible
            {
                seen.insert(node.as_str());
            }
        }
        seen
    }

    /// What counts of a subject: what the servers agree on, or what this one finds. Where servers agree, how soon a suspect
    /// may fall is nobody's to tell: they would not give the same answers.
    ///
    /// A server that turns alone begins to probe those that others probed for it. Until it has a result of its own, what
    /// was agreed on last counts, of their visibility too: so that turning alone by itself moves no answer.
    fn judged(&self, subject: &Subject, standing: &Standing) -> Judged {
        // Who was added a moment ago has not been silent yet; a witness has to have answered.
        let unknown = standing.health == Health::Unknown && !matches!(subject, Subject::Witness(_));
        let own = Judged {
            serving: standing.serving(),
            visible: unknown || standing.visible,
            attested: false,
            seconds_left: standing.seconds_left(),
        };
        let Some(concert) = &self.concert else { return own };
        let alone = concert.is_alone();
        if alone && own.serving.is_some() {
            return own;
        }
        let agreed = concert.agree(subject, self.config.failover.observers);
        let Some(serving) = agreed.serving else {
            return Judged { seconds_left: own.seconds_left.filter(|_| alone), ..own };
        };
        let attested = agreed.attested && !alone;
        Judged { serving: Some(serving), visible: agreed.visible, attested, seconds_left: None }
    }

    /// The health of a node as it counts, and why it is not plainly up: one's own finding unless the others overrule it.
    pub(super) fn health_that_counts(&self, node: &Node) -> (Health, Option<String>) {
        let standing = self.node(node);
        let own = (standing.health, standing.reason.clone());
        let Some(concert) = self.concert.as_ref().filter(|concert| !concert.is_alone()) else { return own };
        let agreed = concert.agree(&Subject::Node(node.name.clone()), self.config.failover.observers);
        let (health, finders) = match agreed.serving {
            None => return own,
            serving if serving == standing.serving() => return own,
            Some(true) => (Health::Up, agreed.up),
            Some(false) => (Health::Down, agreed.down),
        };
        let servers = agreed.up + agreed.down;
        let here = own.1.map(|reason| format!("; here: {reason}")).unwrap_or_default();
        (health, Some(format!("{health} for {finders} of {servers} servers{here}")))
    }

    /// Nobody says anything of the node at this place any more, and it was out of the answers.
    fn is_out(&self, index: usize, node: &Node) -> bool {
        let Some((decision, _)) = self.decision.as_ref().zip(self.concert.as_ref()) else { return false };
        decision.is_out(index, &node.name)
    }

    fn members(&self, service: &Service) -> Vec<MemberState> {
        let state = |node: &String| {
            let subject = Subject::Member { service: service.name.clone(), node: node.clone() };
            let standing = self.standings.get(&subject).expect("every member has a standing");
            let judged = self.judged(&subject, standing);
            MemberState { serving: judged.serving, seconds_left: judged.seconds_left }
        };
        service.nodes.iter().map(state).collect()
    }

    /// The zone that follows from the decision; `None` before the first.
    pub(super) fn zone(&self) -> Option<Zone> {
        self.decision.as_ref().map(|decision| failover::zone(&self.config, decision))
    }

    pub(super) fn config(&self) -> &Config {
        &self.config
    }

    pub(super) fn intents(&self) -> &Intents {
        &self.intents
    }

    pub(super) fn intent(&self, node: &Node) -> Option<&Intent> {
        self.intents.get(&node.name)
    }

    pub(super) fn targets(&self) -> &BTreeMap<ProbeId, Target> {
        &self.targets
    }

    pub(super) fn verdicts(&self) -> &BTreeMap<ProbeId, Verdict> {
        &self.verdicts
    }

    pub(super) fn standings(&self) -> &BTreeMap<Subject, Standing> {
        &self.standings
    }

    /// The standing of a node of the cluster.
    pub(super) fn node(&self, node: &Node) -> &Standing {
        self.standings.get(&Subject::Node(node.name.clone())).expect("every node has a standing")
    }

    pub(super) fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }
}

/// Those that this server probes. Witnesses are every server's.
fn targets(config: &Config, concert: Option<&Concert>) -> BTreeMap<ProbeId, Target> {
    let mut targets = all_targets(config);
    if let Some(concert) = concert {
        targets.retain(|probe, _| match &probe.subject {
            Subject::Node(node) | Subject::Member { node, .. } => {
                concert.probes(node, config.failover.probers)
            }
            Subject::Witness(_) => true,
        });
    }
    targets
}

fn all_targets(config: &Config) -> BTreeMap<ProbeId, Target> {
    health::targets(&config.cluster, &config.failover.witness)
}

#[cfg(test)]
pub(super) mod tests {
    use std::net::IpAddr;
    use std::path::Path;

    use super::super::concert::tests::said;
    use super::*;
    use crate::failover::Effective;
    use crate::health::Failure;
    use crate::store::mirror::Mode;
    use hickory_proto::rr::Name;

    pub(in crate::controller) const TEXT: &str = r#"# three nodes
[zone]
name = "demo.example.com"
[listen]
interfaces = ["eth0"]
[[node]]
name = "node1"
ipv4 = "192.0.2.11"
[[node]]
name = "node2"
ipv4 = "192.0.2.12"
backup = ["node3"]
[[node]]
name = "node3"
ipv4 = "192.0.2.13"
[[service]]
name = "db"
nodes = ["node1", "node2"]
"#;

    pub(in crate::controller) fn config(text: &str) -> Config {
        Config::parse(text, Path::new("/etc/dns-xdp/dns-xdp.toml")).unwrap()
    }

    /// A decided state in which every node is up.
    pub(in crate::controller) fn healthy(text: &str) -> State {
        let mut state = State::new(config(text), Intents::new());
        let nodes: Vec<String> = state.config.cluster.nodes.iter().map(|node| node.name.clone()).collect();
        for node in nodes {
            observe(&mut state, &node, true);
        }
        state.decide();
        state
    }

    pub(in crate::controller) fn probe(node: &str) -> ProbeId {
        ProbeId { subject: Subject::Node(node.to_owned()), index: 0 }
    }

    pub(in crate::controller) fn observe(state: &mut State, node: &str, success: bool) -> Change {
        let observation = if success {
            Observation::Success { round_trip: Duration::from_millis(1) }
        } else {
            Observation::Failure(Failure { reason: "refused".to_owned(), visible: true })
        };
        state.observe(&probe(node), Duration::from_secs(7), &observation).unwrap()
    }

    pub(in crate::controller) fn kill(state: &mut State, node: &str) {
        for _ in 0..3 {
            observe(state, node, false);
        }
        state.decide();
    }

    /// Sets what is wanted of one more node, and decides.
    pub(in crate::controller) fn want(state: &mut State, node: &str, admin: Admin) {
        let mut intents = state.intents.clone();
        intents.insert(node.to_owned(), Intent::new(admin, jiff::Timestamp::UNIX_EPOCH));
        state.want(intents);
        state.decide();
    }

    pub(in crate::controller) fn addresses(state: &State, name: &str) -> Vec<IpAddr> {
        let name = Name::from_ascii(name).unwrap().append_domain(&state.config.zone.apex).unwrap();
        state.zone().unwrap().addresses(&name).unwrap().iter().collect()
    }

    fn ip(last: u8) -> IpAddr {
        IpAddr::from([192, 0, 2, last])
    }

    #[test]
    fn a_round_is_complete_when_everyone_was_heard_even_if_we_cannot_probe() {
        let mut state = State::new(config(TEXT), Intents::new());
        observe(&mut state, "node1", true);
        observe(&mut state, "node2", false);
        assert!(!state.round_complete());
        let sick = Observation::Inconclusive { reason: "too many open files".to_owned() };
        state.observe(&probe("node3"), Duration::ZERO, &sick);
        assert!(state.round_complete());
    }

    #[test]
    fn nobody_is_judged_by_the_blind() {
        let mut state = healthy(TEXT);
        state.blindness().pulse(Duration::ZERO);
        assert!(state.blindness().pulse(Duration::from_secs(10)));
        for _round in 0..health::CLEAN_ROUNDS {
            for node in ["node1", "node2", "node3"] {
                assert!(state.blind().is_some());
                assert_eq!(observe(&mut state, node, false), Change { transition: None, decisive: false });
            }
        }
        assert_eq!(state.blind(), None);
        assert!(observe(&mut state, "node2", false).transition.is_some());
    }

    #[test]
    fn turning_alone_moves_no_answer_before_there_is_a_result_of_its_own() {
        let five: String = (4..=5)
            .map(|node| format!("[[node]]\nname = \"node{node}\"\nipv4 = \"192.0.2.1{node}\"\n"))
            .collect();
        let text = format!("{TEXT}{five}[cluster]\nstore = \"file\"\n[failover]\nprobers = 1\n");
        let (up, gone): (&[&str], &[&str]) = (&["node1", "node2"], &["node3", "node4", "node5"]);
        let by_all = [[up, &[], gone], [up, &[], gone], [&[], &[], gone]];
        let mut state = State::new(config(&text), Intents::new());
        state.hear(said(Mode::Joined, by_all));
        let probed = state.targets().len();
        observe(&mut state, "node1", true);
        state.decide();
        let joined = state.decision().unwrap().clone();
        assert_eq!((joined.frozen.as_deref(), joined.quorum.visible), (None, 2));
        state.hear(said(Mode::Alone, by_all));
        assert!(probed < 5 && state.targets().len() == 5);
        state.decide();
        let alone = state.decision().unwrap().clone();
        assert_eq!((&alone.answers, alone.quorum.visible, alone.quorum.ok), (&joined.answers, 2, false));
        assert_eq!(alone.effective, joined.effective);
        for node in ["node2", "node3", "node4"] {
            observe(&mut state, node, true);
        }
        state.decide();
        let seeing = state.decision().unwrap();
        let (up, down) = (Effective::Up, Effective::Down);
        assert_eq!((&*seeing.effective, seeing.quorum.ok), ([up, up, up, up, down].as_slice(), true));
    }

    #[test]
    fn a_node_that_was_added_is_not_out_because_another_one_was_at_its_place() {
        let mut state = healthy(TEXT);
        kill(&mut state, "node2");
        state.hear(said(Mode::Joined, [[&["node1", "node3"], &["node2"], &[]]; 3]));
        state.decide();
        let node4 = "[[node]]\nname = \"node4\"\nipv4 = \"192.0.2.14\"\n";
        let text = TEXT.replace("[[node]]\nname = \"node2\"", &format!("{node4}[[node]]\nname = \"node2\""));
        state.adopt(config(&text));
        state.decide();
        assert_eq!(state.decision().unwrap().effective[1], Effective::Up);
        assert_eq!(addresses(&state, "node2"), [ip(13)]);
    }

    #[test]
    fn only_what_a_decision_looks_at_is_decisive() {
        let mut state = healthy(TEXT);
        let suspect = observe(&mut state, "node2", false);
        assert_eq!(suspect.transition, Some(Transition { from: Health::Up, to: Health::Suspect }));
        assert!(suspect.decisive, "its TTL is to shrink");
        assert!(!observe(&mut state, "node2", false).decisive);
        assert!(observe(&mut state, "node2", false).decisive);
    }

    #[test]
    fn a_dead_node_is_answered_for_and_a_changed_one_begins_anew() {
        let mut state = healthy(TEXT);
        kill(&mut state, "node2");
        assert_eq!(addresses(&state, "node2"), [ip(13)]);
        state.adopt(config(&TEXT.replace("192.0.2.12", "192.0.2.99")));
        state.decide();
        assert_eq!(addresses(&state, "node2"), [ip(99)]);
        let health = |index: usize| state.node(&state.config.cluster.nodes[index]).health;
        assert_eq!([0, 1].map(health), [Health::Up, Health::Unknown]);
        assert!(!state.round_complete());
    }

    #[test]
    fn an_unchanged_node_keeps_its_verdict_over_a_reload() {
        let mut state = healthy(TEXT);
        kill(&mut state, "node2");
        state.adopt(config(&TEXT.replace("[listen]", "ttl = \"9s\"\n[listen]")));
        state.decide();
        assert_eq!(addresses(&state, "node2"), [ip(13)]);
    }

    #[test]
    fn a_node_that_was_added_answers_its_own_name_and_nobody_elses() {
        let mut state = healthy(TEXT);
        kill(&mut state, "node2");
        state.adopt(config(&format!("{TEXT}[[node]]\nname = \"node4\"\nipv4 = \"192.0.2.14\"\n")));
        state.decide();
        assert_eq!(addresses(&state, "node4"), [ip(14)]);
        assert_eq!(state.decision().unwrap().quorum.visible, 4, "it has not been silent yet");
        assert_eq!(addresses(&state, ""), [ip(11), ip(13)]);
    }

    #[test]
    fn the_operator_is_obeyed_at_the_next_decision() {
        let mut state = healthy(TEXT);
        want(&mut state, "node2", Admin::Drain);
        assert_eq!(addresses(&state, "node2"), [ip(13)]);
        assert_eq!(state.decision().unwrap().effective[1], Effective::Drain);
        assert_eq!(state.node(&state.config.cluster.nodes[1]).health, Health::Up);
    }
}
