//! The health of a subject in each family, if it is probed at addresses of both.
use std::collections::BTreeMap;
use std::time::Duration;

use super::super::confirmation::Confirmation;
use super::view::Judged;
use super::{State, decisive};
use crate::cluster::{Family, FamilyRule, Node, Service};
use crate::failover::{FamilyView, MemberState, NodeState};
use crate::health::{
    Alone, FamilyHealth, Health, ProbeId, Subject, SubjectHealth, Transition, Verdict, best_and_worst,
    in_step,
};

/// The health that counts for a node in the answers, as `status` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(in crate::controller) struct Counted {
    pub(in crate::controller) health: Health,
    /// The reason, unless it is up without a failure.
    pub(in crate::controller) reason: Option<String>,
    /// When this server found this health.
    pub(in crate::controller) since: Duration,
}

impl Judged {
    /// Combines both families: the node serves and is visible if one of them does.
    pub(super) fn either(ipv4: &Judged, ipv6: &Judged) -> Judged {
        let both = [ipv4, ipv6];
        let serving = if both.iter().any(|one| one.serving == Some(true)) {
            Some(true)
        } else if both.iter().any(|one| one.serving.is_none()) {
            None
        } else {
            Some(false)
        };
        Judged {
            serving,
            visible: both.iter().any(|one| one.visible),
            confirmed_unreachable: both.iter().all(|one| one.confirmed_unreachable),
            seconds_left: both.iter().filter_map(|one| one.seconds_left).min(),
        }
    }
}

impl State {
    /// The health of a subject in each family, if each RRset follows its own family.
    pub(in crate::controller) fn told_apart(&self, subject: &Subject) -> Option<&FamilyHealth> {
        self.families.get(subject).filter(|both| both.rule == FamilyRule::Each)
    }

    /// The health of a subject in each family, even if the RRsets do not follow it.
    pub(in crate::controller) fn in_families(&self, subject: &Subject) -> Option<&FamilyHealth> {
        self.families.get(subject)
    }

    /// The health of a subject by all its probes.
    pub(super) fn health_of_all(
        &self,
        subject: &Subject,
        before: Option<&SubjectHealth>,
        now: Duration,
    ) -> SubjectHealth {
        let verdicts: Vec<&Verdict> =
            self.verdicts.range(ProbeId::all_of(subject)).map(|(_, verdict)| verdict).collect();
        if verdicts.is_empty() {
            return SubjectHealth::unknown();
        }
        SubjectHealth::new(&self.check(subject), &verdicts, before, now)
    }

    /// The health of a subject in each family, by the probes of that family.
    pub(super) fn family_health(&self, subject: &Subject, now: Duration) -> FamilyHealth {
        let (check, before) = (self.check(subject), self.families.get(subject));
        let of = |family: Family| before.map(|before| before.of(family));
        let [ipv4, ipv6] = Family::ALL.map(|family| {
            let speaks = |probe: &ProbeId| probe.family.is_none() || probe.family == Some(family);
            let probes = self.verdicts.range(ProbeId::all_of(subject));
            let verdicts: Vec<&Verdict> =
                probes.filter(|(probe, _)| speaks(probe)).map(|(_, verdict)| verdict).collect();
            let subject_health = if verdicts.is_empty() {
                SubjectHealth::unknown()
            } else {
                SubjectHealth::new(&check, &verdicts, of(family), now)
            };
            Alone { subject_health, verdicts }
        });
        let rule = check.families;
        if rule == FamilyRule::Any {
            return FamilyHealth { rule, ipv4: ipv4.subject_health, ipv6: ipv6.subject_health };
        }
        FamilyHealth {
            rule,
            ipv4: in_step(of(Family::Ipv4), &ipv4, &ipv6),
            ipv6: in_step(of(Family::Ipv6), &ipv6, &ipv4),
        }
    }

    /// Whether a probe is to be made soon because the other family of its subject is coming back.
    pub(in crate::controller) fn is_beside_one_that_rises(&self, probe: &ProbeId) -> bool {
        let Some((both, family)) = self.families.get(&probe.subject).zip(probe.family) else { return false };
        both.of(family.other()).health == Health::Recovering
    }

    /// Recomputes the families of a subject. Returns how their health has changed, and whether a decision depends on
    /// it.
    pub(super) fn observe_families(
        &mut self,
        subject: &Subject,
        now: Duration,
    ) -> (Vec<(Family, Transition)>, bool) {
        let Some(before) = self.families.get(subject) else { return (Vec::new(), false) };
        let after = self.family_health(subject, now);
        let turned = |family: &Family| {
            let (from, to) = (before.of(*family).health, after.of(*family).health);
            (from != to).then_some((*family, Transition { from, to }))
        };
        let turned = Family::ALL.iter().filter_map(turned).collect();
        let differs = |family: &Family| decisive(before.of(*family)) != decisive(after.of(*family));
        let is_decisive = after.rule == FamilyRule::Each && Family::ALL.iter().any(differs);
        let fell = |family: Family| (family, before.of(family).serving(), after.of(family).serving());
        let fell = Family::ALL.map(fell);
        let rule = after.rule;
        self.families.insert(subject.clone(), after);
        if rule == FamilyRule::Each {
            for (family, was, is) in fell {
                self.note_fall((subject, Some(family)), was, is, now);
            }
        }
        (turned, is_decisive)
    }

    /// This server's finding on a subject over IPv6, if it differs from the finding over IPv4.
    pub(super) fn ipv6_apart(&self, subject: &Subject) -> Option<&SubjectHealth> {
        let FamilyHealth { ipv4, ipv6, .. } = self.told_apart(subject)?;
        let told = |subject_health: &SubjectHealth| {
            (subject_health.serving(), subject_health.serving() == Some(true) || subject_health.visible)
        };
        Some(ipv6).filter(|ipv6| told(ipv6) != told(ipv4))
    }

    /// Returns the inputs of a decision for each family; empty if no family differs from its node.
    pub(super) fn family_views(
        &self,
        nodes: &[NodeState],
        members: &BTreeMap<String, Vec<MemberState>>,
        confirmation: &Confirmation,
    ) -> Vec<FamilyView> {
        let mut apart: BTreeMap<&Subject, [Option<bool>; 2]> = BTreeMap::new();
        for (subject, both) in self.families.iter().filter(|(_, both)| both.rule == FamilyRule::Each) {
            let serving = Family::ALL
                .map(|family| self.judged_over(family, subject, both.of(family), confirmation).serving);
            if serving[0] != serving[1] {
                apart.insert(subject, serving);
            }
        }
        if apart.is_empty() {
            return Vec::new();
        }
        let cluster = &self.config.cluster;
        let view = |(place, family): (usize, Family)| {
            let own = |subject: Subject, whole: Option<bool>| {
                apart.get(&subject).map_or(whole, |serving| serving[place])
            };
            let node =
                |(node, state): (&Node, &NodeState)| own(Subject::Node(node.name.clone()), state.serving);
            let of_service = |(service, states): (&String, &Vec<MemberState>)| {
                let names = cluster.service(service).into_iter().flat_map(Service::candidates);
                let member = |(node, state): (&String, &MemberState)| {
                    own(Subject::Member { service: service.clone(), node: node.clone() }, state.serving)
                };
                (service.clone(), names.zip(states).map(member).collect())
            };
            FamilyView {
                family,
                nodes: cluster.nodes.iter().zip(nodes).map(node).collect(),
                members: members.iter().map(of_service).collect(),
            }
        };
        Family::ALL.into_iter().enumerate().map(view).collect()
    }

    /// The health that counts for a node: the worse of its families, if each RRset follows its own family.
    pub(in crate::controller) fn health_that_counts(&self, node: &Node) -> Counted {
        let subject = Subject::Node(node.name.clone());
        let whole = self.counted(None, &subject, self.node(node));
        let Some(both) = self.told_apart(&subject) else { return whole };
        let [ipv4, ipv6] = Family::ALL.map(|family| self.counted(Some(family), &subject, both.of(family)));
        if ipv4.health == ipv6.health {
            return whole;
        }
        let [_, worst] = best_and_worst([ipv4.health, ipv6.health]);
        let (family, worse) = if ipv4.health == worst { (Family::Ipv4, ipv4) } else { (Family::Ipv6, ipv6) };
        let reason = worse.reason.unwrap_or_else(|| worst.to_string());
        Counted { reason: Some(format!("{family}: {reason}")), ..worse }
    }

    /// The health that counts for a node in one family. `None`: its families are not judged separately.
    pub(in crate::controller) fn family_that_counts(&self, node: &Node, family: Family) -> Option<Counted> {
        let subject = Subject::Node(node.name.clone());
        let both = self.in_families(&subject)?;
        Some(self.counted(Some(family), &subject, both.of(family)))
    }

    /// This server's own finding, unless the other servers overrule it.
    fn counted(&self, family: Option<Family>, subject: &Subject, subject_health: &SubjectHealth) -> Counted {
        let SubjectHealth { health, since, .. } = *subject_health;
        let own = Counted { health, reason: subject_health.reason.clone(), since };
        let Some(shared) = self.shared.as_ref().filter(|shared| !shared.is_alone()) else { return own };
        let agreed = shared.agree(subject, family, self.config.failover.observers);
        let (health, finders) = match agreed.serving {
            None => return own,
            serving if serving == subject_health.serving() => return own,
            Some(true) => (Health::Up, agreed.up),
            Some(false) => (Health::Down, agreed.down),
        };
        let servers = agreed.up + agreed.down;
        let here = own.reason.map(|reason| format!("; here: {reason}")).unwrap_or_default();
        Counted { health, reason: Some(format!("{health} for {finders} of {servers} servers{here}")), since }
    }
}

/// The text of a subject in one family, as the events and the documents of a store have it.
pub(in crate::controller::core) fn in_family(subject: &Subject, family: Family) -> String {
    format!("{subject} {family}")
}
