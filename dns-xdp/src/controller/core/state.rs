//! The state that decisions are made from: configuration, intents and verdicts. This module is pure, so tests need no
//! network and no kernel.
mod falls;
mod families;
mod holds;
mod urgency;
mod view;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

pub(super) use self::families::{Counted, in_family};
use self::holds::HeldNodes;
use super::confirmation::Confirmation;
use super::shared_view::SharedView;
use crate::cluster::{Admin, Family, HealthCheck, Node};
use crate::config::Config;
use crate::failover::{self, Decision, Effective, LastAnswers, View};
use crate::health::{
    self, ClockGuard, FamilyHealth, Health, Observation, ProbeId, Subject, SubjectHealth, Target, Transition,
    Verdict,
};
use crate::intent::{self, Holds, Intent, Intents};
use crate::store::InputsVersion;
use crate::store::votes::Verdicts;
#[cfg(test)]
use crate::zone::Zone;

/// Verdicts on targets that a configuration no longer has.
pub(in crate::controller) type LostVerdicts = BTreeMap<ProbeId, (Target, Verdict)>;

/// Configuration, intents and verdicts, with the last decision made from them.
#[derive(Debug, Clone)]
pub(in crate::controller) struct State {
    config: Arc<Config>,
    /// The operators' intents, without the holds.
    intents: Intents,
    held: HeldNodes,
    targets: BTreeMap<ProbeId, Target>,
    verdicts: BTreeMap<ProbeId, Verdict>,
    /// The probes of [`State::verdicts`] that are in doubt, by node.
    in_doubt: BTreeMap<String, BTreeSet<ProbeId>>,
    /// The probes that have no result yet.
    unheard: BTreeSet<ProbeId>,
    health_by_subject: BTreeMap<Subject, SubjectHealth>,
    /// The health by family of the subjects that are probed at an address of each family.
    families: BTreeMap<Subject, FamilyHealth>,
    clock_guard: ClockGuard,
    confirmation: Confirmation,
    decision: Option<Decision>,
    /// The servers' shared view; `None`: this server decides alone, as it always does without a store.
    shared: Option<SharedView>,
}

/// The changes that an observation has made.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(in crate::controller) struct Change {
    /// The health of the subject.
    pub(in crate::controller) transition: Option<Transition>,
    /// The subject's health in a family, if both families are probed.
    pub(in crate::controller) families: Vec<(Family, Transition)>,
    /// Whether a decision depends on the change.
    pub(in crate::controller) decisive: bool,
}

impl State {
    /// Creates a state that knows nothing of any node and has no decision. `intents` include the holds.
    pub(in crate::controller) fn new(config: impl Into<Arc<Config>>, intents: &Intents) -> Self {
        let held = HeldNodes::new(intent::holds(intents));
        State { held, ..State::with(config.into(), intent::without_holds(intents), None) }
    }

    fn with(config: Arc<Config>, intents: Intents, shared: Option<SharedView>) -> Self {
        let targets = targets(&config, shared.as_ref());
        let verdict = |(probe, target): (&ProbeId, &Target)| (probe.clone(), Verdict::new(&target.probe));
        let verdicts: BTreeMap<ProbeId, Verdict> = targets.iter().map(verdict).collect();
        let clock_guard = ClockGuard::new(targets.values().map(|target| &target.probe));
        let (health_by_subject, families) = (BTreeMap::new(), BTreeMap::new());
        let decision = None;
        let (in_doubt, unheard) = (BTreeMap::new(), verdicts.keys().cloned().collect());
        let mut state = State {
            config,
            intents,
            held: HeldNodes::default(),
            targets,
            verdicts,
            in_doubt,
            unheard,
            health_by_subject,
            families,
            clock_guard,
            confirmation: Confirmation::default(),
            decision,
            shared,
        };
        state.confirm_anew(Confirmation::default(), |_| true);
        state.recompute();
        state
    }

    /// Continues from the answers before a restart. `released` is `None` without a store. With a store, it has the
    /// holds that have ended on this server alone. The falls of all other nodes are known from the other servers.
    pub(in crate::controller) fn remember(&mut self, answers: &LastAnswers, released: Option<&Holds>) {
        let mut decision = Decision::remembered(answers.answers(&self.config.cluster));
        for (node, effective) in self.config.cluster.nodes.iter().zip(&mut decision.effective) {
            if self.intents.get(&node.name).is_some_and(|intent| intent.admin == Admin::Drain) {
                // An operator took the node out, not its probes.
                *effective = Effective::Drain;
            } else if self.held.contains(&node.name) {
                *effective = Effective::Held;
            } else if *effective == Effective::Up
                && released.is_none_or(|released| released.contains_key(&node.name))
            {
                self.held.falls.presume_up(&node.name);
            }
        }
        self.decision = Some(decision);
    }

    /// Takes a new configuration. A subject with the same name and addresses keeps its verdict, even if its probes have
    /// changed. A new subject is unknown. Returns the verdicts on the targets that the new configuration lacks.
    pub(in crate::controller) fn adopt(&mut self, config: impl Into<Arc<Config>>) -> LostVerdicts {
        let next = State::with(config.into(), self.intents.clone(), self.shared.clone());
        let mut before = std::mem::replace(self, next);
        self.decision = before.decision.take();
        self.held = std::mem::take(&mut before.held);
        self.held.retain(&self.config.cluster.nodes);
        let targets = &self.targets;
        let kept = |probe: &ProbeId| {
            targets.get(probe).is_some_and(|target| before.targets.get(probe) == Some(target))
        };
        std::mem::swap(&mut self.clock_guard, &mut before.clock_guard);
        self.clock_guard.adopt(&before.clock_guard, targets.len(), kept);
        let moved = moved(&before.config, &self.config);
        let fallen = before.fallen();
        for (probe, verdict) in &mut self.verdicts {
            if kept(probe) {
                verdict.clone_from(&before.verdicts[probe]);
            } else if let Some(known) = before.same(probe, &self.targets[probe]) {
                verdict.clone_from(known);
            } else if !probe.subject.node().is_some_and(|node| moved.contains(node))
                && let Some(known) = before.nearest(probe)
            {
                *verdict = known.clone().changed(&self.targets[probe].probe);
            }
        }
        (self.health_by_subject, self.families) = (before.health_by_subject, before.families);
        self.confirm_anew(before.confirmation, |subject| {
            !subject.node().is_some_and(|node| moved.contains(node))
        });
        self.recompute();
        self.note_falls_since(&fallen);
        let lost =
            before.targets.into_iter().filter(|(probe, target)| self.targets.get(probe) != Some(target));
        lost.filter_map(|(probe, target)| {
            let verdict = before.verdicts.remove(&probe)?;
            Some((probe, (target, verdict)))
        })
        .collect()
    }

    /// Takes an earlier configuration again, with the verdicts that were lost since. A later result counts instead.
    pub(in crate::controller) fn take_back(&mut self, config: Arc<Config>, lost: LostVerdicts) {
        self.adopt(config);
        let fallen = self.fallen();
        for (probe, (target, verdict)) in lost {
            if self.targets.get(&probe) == Some(&target)
                && let Some(unknown) = self.verdicts.get_mut(&probe).filter(|known| is_unheard(known))
            {
                *unknown = verdict;
            }
        }
        self.recompute();
        self.note_falls_since(&fallen);
    }

    /// Starts the confirmation for this configuration's quorum, with the earlier results of the subjects that are
    /// `kept`.
    fn confirm_anew(&mut self, before: Confirmation, kept: impl Fn(&Subject) -> bool) {
        let Config { cluster, failover, .. } = &*self.config;
        let is_voter = |subject: &Subject| subject.node().is_none_or(|node| cluster.is_voter(node));
        let needed = failover.quorum.needed(self.config.voters());
        let there: BTreeSet<Subject> =
            all_targets(&self.config).into_keys().map(|probe| probe.subject).collect();
        self.confirmation.adopt(before, needed, is_voter, |subject| there.contains(subject) && kept(subject));
    }

    /// Returns the verdict on the subject's probe that has this target.
    fn same(&self, probe: &ProbeId, target: &Target) -> Option<&Verdict> {
        let mut probes = self.targets.range(ProbeId::all_of(&probe.subject));
        let (same, _) = probes.find(|(_, known)| *known == target)?;
        self.verdicts.get(same)
    }

    /// The verdict that a changed probe begins with: the verdict of the subject's probe with this index, or else of its
    /// first probe. A probe of the same family is preferred.
    fn nearest(&self, probe: &ProbeId) -> Option<&Verdict> {
        let first = ProbeId { index: 0, ..probe.clone() };
        let any = || self.verdicts.range(ProbeId::all_of(&probe.subject)).next();
        let same = self.verdicts.get(probe).or_else(|| self.verdicts.get(&first));
        same.or_else(|| any().map(|(_, verdict)| verdict))
    }

    /// Sets the view that the servers share. A node that this server begins to probe counts as up if the other servers
    /// find it up. One lost probe does not take it out.
    pub(in crate::controller) fn set_peer_view(&mut self, view: SharedView) {
        let same = self.shared.as_ref().is_some_and(|before| before.probes_as(&view));
        self.shared = Some(view);
        if same {
            return;
        }
        let before: Vec<ProbeId> = self.targets.keys().cloned().collect();
        self.adopt(Arc::clone(&self.config));
        let observers = self.config.failover.observers;
        let Some(shared) = &self.shared else { return };
        for (probe, verdict) in &mut self.verdicts {
            if before.binary_search(probe).is_err()
                && shared.agree(&probe.subject, probe.family, observers).serving == Some(true)
            {
                verdict.presume_up();
            }
        }
        self.recompute();
    }

    /// This server's verdicts on its subjects; none while it is blind.
    pub(in crate::controller) fn own_verdicts(&self) -> Verdicts {
        let mut own = Verdicts::default();
        if self.clock_guard.reason().is_some() {
            return own;
        }
        for (subject, subject_health) in
            self.health_by_subject.iter().filter(|(subject, _)| !self.is_discarded(subject))
        {
            // A server of a version that probes only one address reads the verdict over IPv4.
            let ipv4 = self.told_apart(subject).map_or(subject_health, |both| &both.ipv4);
            said(&mut own, subject.to_string(), ipv4);
            if let Some(ipv6) = self.ipv6_apart(subject) {
                said(&mut own, in_family(subject, Family::Ipv6), ipv6);
            }
        }
        own
    }

    pub(super) fn is_joined(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| !shared.is_alone())
    }

    /// The version of the inputs that a joined server's decisions are made from.
    pub(in crate::controller) fn moment(&self) -> Option<InputsVersion> {
        self.shared.as_ref().and_then(SharedView::moment)
    }

    /// Recomputes everything that follows from the verdicts.
    fn recompute(&mut self) {
        let unheard = self.verdicts.iter().filter(|(_, verdict)| is_unheard(verdict));
        self.unheard = unheard.map(|(probe, _)| probe.clone()).collect();
        self.in_doubt.clear();
        for (probe, _) in self.verdicts.iter().filter(|(_, verdict)| verdict.in_doubt()) {
            note_doubt(&mut self.in_doubt, probe, true);
        }
        let all = all_targets(&self.config);
        let told_apart = |probe: &ProbeId| probe.family.is_some();
        self.families = (all.keys().filter(|probe| told_apart(probe)).map(|probe| &probe.subject))
            .map(|subject| (subject.clone(), self.family_health(subject, Duration::ZERO)))
            .collect();
        let unprobed = self.config.cluster.nodes.iter().filter(|node| !node.is_probed());
        let unprobed = unprobed.map(|node| Subject::Node(node.name.clone()));
        let subjects: BTreeSet<Subject> =
            all.into_keys().map(|probe| probe.subject).chain(unprobed).collect();
        let health_by_subject = subjects.into_iter().map(|subject| {
            let subject_health =
                self.subject_health(&subject, self.health_by_subject.get(&subject), Duration::ZERO);
            (subject, subject_health)
        });
        self.health_by_subject = health_by_subject.collect();
    }

    fn subject_health(
        &self,
        subject: &Subject,
        before: Option<&SubjectHealth>,
        now: Duration,
    ) -> SubjectHealth {
        match self.families.get(subject) {
            Some(families) => families.whole(before, now),
            None => self.health_of_all(subject, before, now),
        }
    }

    /// The health check of a subject.
    fn check(&self, subject: &Subject) -> Cow<'_, HealthCheck> {
        let cluster = &self.config.cluster;
        let found = match subject {
            Subject::Node(name) => cluster.node(name).map(|node| &node.health),
            Subject::Member { service, .. } => {
                cluster.service(service).and_then(|service| service.health.as_ref())
            }
            Subject::Witness(_) => None,
        };
        found.map_or_else(|| Cow::Owned(health::of_witness(&cluster.nodes)), Cow::Borrowed)
    }

    /// Sets the intents for the nodes. Holds are set separately; a hold of a node whose intent is `up` ends.
    pub(in crate::controller) fn set_intents(&mut self, intents: Intents) {
        self.held.release_wanted(&intents);
        self.intents = intents;
    }

    pub(in crate::controller) fn held(&self) -> &HeldNodes {
        &self.held
    }

    pub(in crate::controller) fn held_mut(&mut self) -> &mut HeldNodes {
        &mut self.held
    }

    /// Notes which held nodes are healthy. While the answers are frozen or this server is blind, this is not known.
    pub(in crate::controller) fn note_held_health(&mut self, now: Duration) {
        if self.held.holds().is_empty() {
            return;
        }
        let is_known = self.blind().is_none()
            && self.decision.as_ref().is_some_and(|decision| decision.frozen.is_none());
        let view = self.view();
        let states = is_known.then_some((self.config.cluster.nodes.as_slice(), view.nodes.as_slice()));
        self.held.note_health(now, states);
    }

    /// Returns the clock guard. No node is judged while the guard is blind.
    pub(in crate::controller) fn clock_guard(&mut self) -> &mut ClockGuard {
        &mut self.clock_guard
    }

    /// Why no node is judged; `None`: nodes are judged.
    pub(in crate::controller) fn blind(&self) -> Option<&str> {
        self.clock_guard.reason()
    }

    /// Takes the result of a probe at `at` after the origin. Returns `None` if the probe is unknown.
    pub(in crate::controller) fn observe(
        &mut self,
        probe: &ProbeId,
        at: Duration,
        observation: &Observation,
    ) -> Option<Change> {
        let verdict = self.verdicts.get_mut(probe)?;
        let is_heard = match observation {
            Observation::Success { .. } => true,
            Observation::Failure(failure) => failure.visible,
            // The result does not contradict the earlier answer.
            Observation::Inconclusive { .. } => verdict.visible(),
            Observation::Overdue => false,
        };
        let is_discarded = match observation {
            Observation::Overdue => self.clock_guard.discards(probe),
            _ => self.clock_guard.note_result(probe, self.targets.len()),
        };
        if is_discarded {
            return Some(Change::default());
        }
        let counts = || probe.subject.node().is_none_or(|node| self.config.cluster.is_voter(node));
        let confirms = is_heard && counts() && self.confirmation.note_result(probe, at);
        let plain = |verdict: &Verdict| {
            verdict.health() == Health::Up && verdict.visible() && !verdict.inconclusive()
        };
        let was_plain = plain(verdict);
        verdict.observe(at, observation);
        let (in_doubt, unheard) = (verdict.in_doubt(), is_unheard(verdict));
        note_doubt(&mut self.in_doubt, probe, in_doubt);
        note(&mut self.unheard, probe, unheard);
        if was_plain && plain(verdict) {
            // The usual case: the result changes nothing.
            return Some(Change { decisive: confirms, ..Change::default() });
        }
        let (families, families_are_decisive) = self.observe_families(&probe.subject, at);
        let before = self.health_by_subject.get(&probe.subject)?;
        let now = self.subject_health(&probe.subject, Some(before), at);
        let change = Change {
            transition: (before.health != now.health)
                .then_some(Transition { from: before.health, to: now.health }),
            families,
            decisive: confirms || families_are_decisive || decisive(before) != decisive(&now),
        };
        if self.told_apart(&probe.subject).is_none() {
            let (was, is) = (before.serving(), now.serving());
            self.note_fall((&probe.subject, None), was, is, at);
        }
        self.health_by_subject.insert(probe.subject.clone(), now);
        Some(change)
    }

    /// Whether every node and witness has been probed once, with any result.
    pub(in crate::controller) fn round_complete(&self) -> bool {
        self.unheard.is_empty()
    }

    /// Decides again which node answers for each node.
    pub(in crate::controller) fn decide(&mut self) {
        let Config { cluster, failover, .. } = &*self.config;
        let decide = |view: &View| failover::decide(cluster, failover, view, self.decision.as_ref());
        let view = self.view();
        let mut decision = decide(&view);
        if decision.frozen.is_some() && self.confirmation.wanted_since().is_some() {
            // While the answers are frozen, no fall moves them. Each node is then shown with the state that its probes
            // found.
            decision = decide(&self.view_with(&Confirmation::default()));
        }
        if decision.frozen.is_none() {
            self.held.falls.note(&cluster.nodes, &view.nodes);
        }
        self.decision = Some(decision);
    }

    /// Takes the nodes that have fallen since the last call.
    pub(in crate::controller) fn take_fallen(&mut self) -> BTreeSet<String> {
        self.held.falls.take()
    }

    /// The zone that follows from the decision; `None` before the first.
    #[cfg(test)]
    pub(in crate::controller) fn zone(&self) -> Option<Zone> {
        self.decision.as_ref().map(|decision| failover::zone(&self.config, decision))
    }

    pub(in crate::controller) fn config(&self) -> &Arc<Config> {
        &self.config
    }

    pub(in crate::controller) fn intents(&self) -> &Intents {
        &self.intents
    }

    pub(in crate::controller) fn intent(&self, node: &Node) -> Option<&Intent> {
        self.intents.get(&node.name)
    }

    pub(in crate::controller) fn targets(&self) -> &BTreeMap<ProbeId, Target> {
        &self.targets
    }

    pub(in crate::controller) fn verdicts(&self) -> &BTreeMap<ProbeId, Verdict> {
        &self.verdicts
    }

    pub(super) fn health_by_subject(&self) -> &BTreeMap<Subject, SubjectHealth> {
        &self.health_by_subject
    }

    /// The health of a node of the cluster.
    pub(in crate::controller) fn node(&self, node: &Node) -> &SubjectHealth {
        self.health_by_subject.get(&Subject::Node(node.name.clone())).expect("every node has a health")
    }

    pub(in crate::controller) fn decision(&self) -> Option<&Decision> {
        self.decision.as_ref()
    }
}

/// The targets that this server probes. Every server probes the witnesses.
fn targets(config: &Config, shared: Option<&SharedView>) -> BTreeMap<ProbeId, Target> {
    let mut targets = all_targets(config);
    if let Some(shared) = shared {
        targets.retain(|probe, _| match &probe.subject {
            Subject::Node(node) | Subject::Member { node, .. } => {
                shared.probes(node, config.failover.probers)
            }
            Subject::Witness(_) => true,
        });
    }
    targets
}

/// The nodes whose addresses have changed.
fn moved(before: &Config, now: &Config) -> BTreeSet<String> {
    let addresses = |node: &Node| -> Vec<IpAddr> { node.addresses().collect() };
    let before: BTreeMap<&str, Vec<IpAddr>> =
        before.cluster.nodes.iter().map(|node| (node.name.as_str(), addresses(node))).collect();
    let is_moved =
        |node: &&Node| before.get(node.name.as_str()).is_some_and(|known| *known != addresses(node));
    now.cluster.nodes.iter().filter(is_moved).map(|node| node.name.clone()).collect()
}

/// Whether the probe has no result yet.
fn is_unheard(verdict: &Verdict) -> bool {
    verdict.serving().is_none() && !verdict.inconclusive()
}

/// The parts of a subject's health that a decision depends on.
fn decisive(subject_health: &SubjectHealth) -> (Option<bool>, bool, Option<u32>) {
    (subject_health.serving(), subject_health.visible, subject_health.seconds_left())
}

/// Adds the verdict on a subject to this server's verdicts.
fn said(own: &mut Verdicts, subject: String, subject_health: &SubjectHealth) {
    let said = match (subject_health.serving(), subject_health.visible) {
        (None, _) => return,
        (Some(true), _) => &mut own.up,
        (Some(false), true) => &mut own.down,
        (Some(false), false) => &mut own.unreachable,
    };
    said.insert(subject);
}

/// Notes whether a probe is in doubt, for a node or a member. A witness has no other probe that would have to be made
/// fast.
fn note_doubt(by_node: &mut BTreeMap<String, BTreeSet<ProbeId>>, probe: &ProbeId, belongs: bool) {
    let Some(node) = probe.subject.node() else { return };
    if belongs {
        by_node.entry(node.to_owned()).or_default().insert(probe.clone());
    } else if let Some(probes) = by_node.get_mut(node) {
        probes.remove(probe);
        if probes.is_empty() {
            by_node.remove(node);
        }
    }
}

fn note(set: &mut BTreeSet<ProbeId>, probe: &ProbeId, belongs: bool) {
    if belongs {
        set.insert(probe.clone());
    } else {
        set.remove(probe);
    }
}

fn all_targets(config: &Config) -> BTreeMap<ProbeId, Target> {
    health::targets(&config.cluster, &config.failover.witness)
}

#[cfg(test)]
mod roles;
#[cfg(test)]
pub(in crate::controller) mod tests;
