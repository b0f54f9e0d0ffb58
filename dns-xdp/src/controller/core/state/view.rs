//! The inputs of a decision: the health that counts for each node, witness and member.
use std::collections::BTreeSet;

use super::State;
use crate::cluster::{Admin, Family, Node, Service};
use crate::controller::core::confirmation::Confirmation;
use crate::failover::{MemberState, NodeState, View};
use crate::health::{Health, Subject, SubjectHealth};

/// The health of a subject that a decision uses.
pub(super) struct Judged {
    pub(super) serving: Option<bool>,
    pub(super) visible: bool,
    /// Whether it is not visible, and several servers say so.
    pub(super) confirmed_unreachable: bool,
    pub(super) seconds_left: Option<u32>,
}

impl State {
    /// Returns the inputs of a decision.
    pub(in crate::controller) fn view(&self) -> View {
        self.view_with(&self.confirmation)
    }

    pub(super) fn view_with(&self, confirmation: &Confirmation) -> View {
        let cluster = &self.config.cluster;
        let members = self.seen_as_members();
        let mut confirmed_unreachable = 0;
        let mut node = |index: usize, node: &Node| {
            let admin = self.intent(node).map_or(Admin::Auto, |intent| intent.admin);
            if !node.is_probed() {
                let visible = members.contains(node.name.as_str());
                return NodeState { serving: Some(true), visible, admin, seconds_left: None, held: false };
            }
            let judged = self.judged(&Subject::Node(node.name.clone()), self.node(node), confirmation);
            let visible = judged.visible || members.contains(node.name.as_str());
            confirmed_unreachable += usize::from(judged.confirmed_unreachable && !visible && node.is_voter);
            NodeState {
                serving: judged.serving.or_else(|| self.is_out(index, node).then_some(false)),
                visible,
                admin,
                seconds_left: judged.seconds_left,
                held: self.held.contains(&node.name),
            }
        };
        let nodes: Vec<NodeState> =
            cluster.nodes.iter().enumerate().map(|(index, known)| node(index, known)).collect();
        let apart = cluster.services.iter().filter(|service| service.health.is_some());
        let witnesses =
            self.health_by_subject.iter().filter(|(subject, _)| matches!(subject, Subject::Witness(_)));
        let witnesses: Vec<Judged> = witnesses
            .map(|(subject, subject_health)| self.judged(subject, subject_health, confirmation))
            .collect();
        let silent = witnesses.iter().filter(|witness| witness.confirmed_unreachable).count();
        let members =
            apart.map(|service| (service.name.clone(), self.members(service, confirmation))).collect();
        View {
            families: self.family_views(&nodes, &members, confirmation),
            nodes,
            members,
            visible_witnesses: witnesses.iter().filter(|witness| witness.visible).count(),
            confirmed_unreachable: confirmed_unreachable + silent,
        }
    }

    /// The nodes whose hosts answer as members of services with their own probes.
    pub(super) fn seen_as_members(&self) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        for (subject, subject_health) in &self.health_by_subject {
            if let Subject::Member { node, .. } = subject
                && self.judged(subject, subject_health, &self.confirmation).visible
            {
                seen.insert(node.as_str());
            }
        }
        seen
    }

    /// Returns the health that counts for a subject: the servers' agreement, or this server's finding. If servers
    /// agree, no suspect has a lowered TTL, because the servers would not give the same answers.
    ///
    /// A server whose mode becomes alone begins to probe nodes that other servers probed for it. Until it has its own
    /// result, the last agreed health counts, but not the visibility. The change of mode therefore changes no answer by
    /// itself. A server that is cut off does not count nodes that it has never seen.
    pub(super) fn judged(
        &self,
        subject: &Subject,
        subject_health: &SubjectHealth,
        confirmation: &Confirmation,
    ) -> Judged {
        match self.told_apart(subject) {
            None => self.judged_in(None, subject, subject_health, confirmation),
            Some(both) => {
                let [ipv4, ipv6] = Family::ALL
                    .map(|family| self.judged_over(family, subject, both.of(family), confirmation));
                Judged::either(&ipv4, &ipv6)
            }
        }
    }

    /// Returns the health that counts for a subject in one of its families. A node that was out over the family stays
    /// out until there is a verdict.
    pub(super) fn judged_over(
        &self,
        family: Family,
        subject: &Subject,
        subject_health: &SubjectHealth,
        confirmation: &Confirmation,
    ) -> Judged {
        let judged = self.judged_in(Some(family), subject, subject_health, confirmation);
        let was_out = judged.serving.is_none() && self.is_out_over(family, subject);
        Judged { serving: judged.serving.or_else(|| was_out.then_some(false)), ..judged }
    }

    fn judged_in(
        &self,
        family: Option<Family>,
        subject: &Subject,
        subject_health: &SubjectHealth,
        confirmation: &Confirmation,
    ) -> Judged {
        // A node that was added a moment ago has not been silent yet. A witness counts only after an answer, and so
        // does a node that cannot be probed.
        let is_witness = matches!(subject, Subject::Witness(_));
        let unknown = subject_health.health == Health::Unknown && !subject_health.inconclusive && !is_witness;
        let is_waiting = !self.is_joined() && confirmation.holds(subject, family);
        let own = Judged {
            serving: if is_waiting { Some(true) } else { subject_health.serving() },
            visible: unknown || subject_health.visible,
            confirmed_unreachable: false,
            seconds_left: if is_waiting { Some(1) } else { subject_health.seconds_left() },
        };
        let Some(shared) = &self.shared else { return own };
        let alone = shared.is_alone();
        if alone && own.serving.is_some() {
            return own;
        }
        let agreed = shared.agree(subject, family, self.config.failover.observers);
        let Some(serving) = agreed.serving else {
            return Judged { seconds_left: own.seconds_left.filter(|_| alone), ..own };
        };
        let confirmed_unreachable = agreed.confirmed_unreachable && !alone;
        let visible = if alone { subject_health.visible } else { agreed.visible };
        Judged { serving: Some(serving), visible, confirmed_unreachable, seconds_left: None }
    }

    /// Whether the node at this place was out of the answers. This counts if no server reports on the node any more.
    pub(super) fn is_out(&self, index: usize, node: &Node) -> bool {
        let Some((decision, _)) = self.decision.as_ref().zip(self.shared.as_ref()) else { return false };
        decision.is_out(index, &node.name)
    }

    /// Whether a node was out of the answers over one of its families.
    fn is_out_over(&self, family: Family, subject: &Subject) -> bool {
        let Some((decision, _)) = self.decision.as_ref().zip(self.shared.as_ref()) else { return false };
        let Subject::Node(node) = subject else { return false };
        let place = self.config.cluster.members().place(node);
        place.is_some_and(|place| decision.is_out_in(family, place, node))
    }

    pub(super) fn members(&self, service: &Service, confirmation: &Confirmation) -> Vec<MemberState> {
        let state = |node: &String| {
            let subject = Subject::Member { service: service.name.clone(), node: node.clone() };
            let subject_health = self.health_by_subject.get(&subject).expect("every member has a health");
            let judged = self.judged(&subject, subject_health, confirmation);
            MemberState { serving: judged.serving, seconds_left: judged.seconds_left }
        };
        service.candidates().map(state).collect()
    }
}
