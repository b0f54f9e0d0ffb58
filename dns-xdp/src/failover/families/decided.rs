//! Computes where the answers of a family differ from the decision about nodes.
use std::cell::LazyCell;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::rendezvous::substitute;
use super::super::{Answers, Decision, Effective, NodeState, Situation, View, decide};
use super::{Apart, Families, FamilyView, LastResort, Lists, part_view};
use crate::cluster::{Admin, AllDown, Cluster, Family, FamilyPart};
use crate::config::{Failover, Quorum};

/// Returns where each family's answers differ from `answers`, the decision about nodes.
pub(in super::super) fn families(situation: &Situation<'_>, answers: &Answers) -> Families {
    let Situation { cluster, rules, view, previous, .. } = *situation;
    let mut families = Families::default();
    if view.families.is_empty() {
        return families;
    }
    let doubted = Doubted::new(cluster, view, &situation.healthy);
    if doubted.are_none() {
        return families;
    }
    // A name whose substitute is dead over one family gets another substitute over both.
    for family_view in &view.families {
        let part = cluster.in_family(family_view.family);
        let one = OneFamily { cluster, part, rules, view, family_view, doubted: &doubted, previous };
        families.set(family_view.family, one.apart(answers));
    }
    families
}

/// The nodes that may be answered, and are dead in one family.
struct Doubted {
    /// Whether each node is dead, by family and node.
    nodes: BTreeMap<Family, Vec<bool>>,
    /// The dead members of services with their own probes, by family and group.
    members: BTreeMap<Family, BTreeMap<usize, Vec<usize>>>,
    /// For each node, whether it is dead in one family.
    half_dead: Vec<bool>,
    /// The nodes that may answer for others and are dead in no family.
    whole: Vec<usize>,
}

impl Doubted {
    fn new(cluster: &Cluster, view: &View, healthy: &BTreeSet<usize>) -> Self {
        let (mut nodes, mut members) = (BTreeMap::new(), BTreeMap::new());
        let mut half_dead = vec![false; cluster.nodes.len()];
        for FamilyView { family, nodes: serving, members: apart } in &view.families {
            let is_dead = |place: usize, state: &NodeState, serving: Option<bool>| {
                let is_answered = state.effective() == Effective::Up || healthy.contains(&place);
                let is_dead_here_alone = serving == Some(false) && state.serving != Some(false);
                cluster.nodes[place].address(*family).is_some()
                    && is_answered
                    && is_dead_here_alone
                    && state.admin != Admin::Up
            };
            let each = view.nodes.iter().zip(serving).enumerate();
            let dead: Vec<bool> =
                each.map(|(place, (state, &serving))| is_dead(place, state, serving)).collect();
            half_dead.iter_mut().zip(&dead).for_each(|(half, dead)| *half |= dead);
            nodes.insert(*family, dead);
            let of_services = apart.iter().filter_map(|(name, serving)| {
                let (place, group) = cluster.members().service(name)?;
                let candidates = group.members.iter().chain(&*group.backup);
                let each = candidates.zip(view.members.get(name)?).zip(serving);
                let dead = each.filter(|((node, member), serving)| {
                    is_dead(**node, &view.nodes[**node].as_member(member), **serving)
                });
                let dead: Vec<usize> = dead.map(|((node, _), _)| *node).collect();
                (!dead.is_empty()).then(|| (cluster.members().groups_of()[place], dead))
            });
            members.insert(*family, of_services.collect::<BTreeMap<_, _>>());
        }
        let may_answer_others = |index: &usize| !half_dead[*index] && cluster.nodes[*index].is_probed();
        let whole = healthy.iter().copied().filter(may_answer_others).collect();
        Doubted { nodes, members, half_dead, whole }
    }

    fn are_none(&self) -> bool {
        !self.half_dead.contains(&true) && self.members.values().all(BTreeMap::is_empty)
    }

    fn has(&self, family: Family) -> bool {
        self.nodes[&family].contains(&true) || !self.members[&family].is_empty()
    }
}

/// The inputs of the decision about one family.
struct OneFamily<'a> {
    cluster: &'a Cluster,
    part: &'a FamilyPart,
    rules: &'a Failover,
    view: &'a View,
    family_view: &'a FamilyView,
    doubted: &'a Doubted,
    previous: Option<&'a Decision>,
}

impl OneFamily<'_> {
    fn apart(&self, answers: &Answers) -> Apart {
        let OneFamily { cluster, part, doubted, .. } = self;
        let family = self.family_view.family;
        let dead = &doubted.nodes[&family];
        let decided = LazyCell::new(|| self.decided());
        let own = |node: usize| {
            let answering = decided.by_node[part.place(node)?];
            answering.map(|answering| part.places()[answering])
        };
        let mut apart = Apart { last_resort: self.last_resort(), ..Apart::default() };
        for (index, answering) in answers.by_node.iter().enumerate() {
            let Some(answering) = *answering else { continue };
            let other = if doubted.half_dead[answering] && answering != index && !doubted.whole.is_empty() {
                // A client that asks for both families has to reach one machine.
                substitute(cluster, index, &doubted.whole)
            } else if dead[answering] {
                own(if cluster.nodes[index].address(family).is_some() { index } else { answering })
            } else {
                Some(answering)
            };
            if other != Some(answering) {
                apart.nodes.insert(index, other);
            }
        }
        if doubted.has(family) {
            apart.services = self.services(answers, &decided);
        }
        apart
    }

    /// Returns the services that answer a member that is dead in the family, with their answers. Computes each list
    /// once.
    fn services(&self, answers: &Answers, decided: &Answers) -> BTreeMap<usize, Arc<[usize]>> {
        let OneFamily { cluster, part, doubted, family_view, .. } = self;
        let dead = &doubted.nodes[&family_view.family];
        let members = &doubted.members[&family_view.family];
        let other = |group: usize, answering: &[usize], in_family: &[usize]| {
            // While no member passes the service's own probes, the service uses its nodes' health.
            let members = members.get(&group);
            let is_dead = |node: &usize| dead[*node] || members.is_some_and(|members| members.contains(node));
            let other: Arc<[usize]> = in_family.iter().map(|&place| part.places()[place]).collect();
            (answering.iter().any(is_dead) && *other != *answering).then_some(other)
        };
        let mut lists = Lists::new();
        let both = answers.services.iter().zip(&decided.services);
        let each = cluster.members().groups_of().iter().zip(both).enumerate();
        let services = each.filter_map(|(place, (&group, (answering, in_family)))| {
            let list = lists.entry((group, [answering, in_family].map(|list| list.as_ptr())));
            let list = list.or_insert_with(|| other(group, answering, in_family));
            Some((place, Arc::clone(list.as_ref()?)))
        });
        services.collect()
    }

    /// Returns the kind of nodes that answer while no node is up in this family.
    fn last_resort(&self) -> Option<LastResort> {
        let probed = self.part.places().iter().filter(|&&place| self.cluster.nodes[place].is_probed());
        let mut states = probed.map(|&place| {
            let serving = self.family_view.nodes[place];
            NodeState { serving, ..self.view.nodes[place] }
        });
        let mut last_resort = LastResort::AllDown;
        let is_one_up = states.any(|state| {
            match state.effective() {
                Effective::Held => last_resort = LastResort::Held,
                Effective::Drain if state.serving != Some(false) && last_resort == LastResort::AllDown => {
                    last_resort = LastResort::Drained;
                }
                Effective::Up | Effective::Down | Effective::Drain => {}
            }
            state.effective() == Effective::Up
        });
        (!is_one_up).then_some(last_resort)
    }

    /// Decides about the nodes that have the family. The quorum was judged in the decision about all nodes.
    fn decided(&self) -> Arc<Answers> {
        let OneFamily { cluster, part, view, family_view, .. } = self;
        let view = part_view(cluster, part, view, Some(family_view));
        let rules = Failover { quorum: Quorum::Count(0), witness: Vec::new(), ..self.rules.clone() };
        let of_services = cluster.members().groups().iter().filter_map(|group| group.all_down);
        let looks_back = of_services.chain([rules.all_down]).any(|rule| rule == AllDown::LastGood);
        let previous = self.previous.filter(|_| looks_back);
        let previous = previous.map(|previous| previous.in_family(cluster, family_view.family));
        decide(part.cluster(), &rules, &view, previous.as_ref()).answers
    }
}

impl Decision {
    /// Returns this decision with the answers of one family. If the answers are frozen, it has the answers from before
    /// any intent.
    fn in_family(&self, cluster: &Cluster, family: Family) -> Decision {
        let kept = super::super::kept(cluster, Some(self));
        let mut answers = Answers::clone(&kept);
        let apart = kept.families.of(family);
        for (&node, &answering) in &apart.nodes {
            if let (Some(of_node), Some(answering)) = (answers.by_node.get_mut(node), answering) {
                *of_node = Some(answering);
            }
        }
        for (&service, answering) in &apart.services {
            answers.services[service] = Arc::clone(answering);
        }
        answers.families = Families::default();
        Decision { answers: Arc::new(answers), kept: None, ..self.clone() }
    }
}
