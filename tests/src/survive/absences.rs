//! The times when each node was out, and the answers that servers may and must not give then.
use std::collections::VecDeque;
use std::time::Instant;

use super::tally::Change;

/// A period while a node is dead or drained, as one server has to see it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Absence {
    /// The number of the server, from 0. The servers are asked in the order of their numbers.
    pub server: usize,
    /// The number of the node, from 0.
    pub node: usize,
    /// The beginning of the absence. Before it, the node is in every answer that it belongs to.
    pub from: Instant,
    /// From then on the node is in no answer. `None`: it may stay in the answers, because the server could not detect
    /// the absence in time.
    pub gone_by: Option<Instant>,
    /// Until then the node is in no answer; then it may come back.
    pub to: Instant,
    /// From then on the node is in every answer that it belongs to, as before.
    pub back: Option<Instant>,
}

/// The subject of an inquiry, and the nodes of each of its answers, as bits.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subject {
    /// The server, as in [`Absence::server`].
    pub server: usize,
    /// The nodes, as bits, that are answered while no node is absent.
    pub own: usize,
    /// The nodes of each permitted answer, as bits.
    pub answers: Vec<usize>,
}

/// The results of the comparison.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Findings {
    /// The number of times that a node had to leave the answers, and did.
    pub left: usize,
    /// The answers that were not permitted.
    pub wrong: Vec<String>,
}

/// Compares all changes of the answers, in their order, until `end` with all absences.
pub fn compare(
    subjects: &[Subject],
    changes: &VecDeque<Change>,
    absences: &[Absence],
    end: Instant,
) -> Findings {
    let mut findings = Findings::default();
    for (nth, subject) in subjects.iter().enumerate() {
        let mut of_subject = changes.iter().filter(|change| change.inquiry == nth).peekable();
        while let Some(change) = of_subject.next() {
            // An answer lasts until the next change.
            let span = (change.at, of_subject.peek().map_or(end, |next| next.at));
            let nodes = subject.answers.get(change.answer).copied().unwrap_or_default();
            findings
                .wrong
                .extend(judge(subject, nodes, span, absences).map(|what| format!("inquiry {nth}: {what}")));
        }
    }
    findings.left =
        absences.iter().filter(|absence| absence.gone_by.is_some_and(|by| by < absence.to)).count();
    findings
}

/// The fault of an answer with these nodes that was given during this time.
fn judge(
    subject: &Subject,
    nodes: usize,
    (from, to): (Instant, Instant),
    absences: &[Absence],
) -> Option<String> {
    let of_server = || absences.iter().filter(|absence| absence.server == subject.server);
    for absence in of_server().filter(|absence| nodes & 1 << absence.node != 0) {
        if absence.gone_by.is_some_and(|by| from.max(by) < to.min(absence.to)) {
            let late = to.min(absence.to) - absence.gone_by.unwrap_or(absence.from);
            return Some(format!("node {} is answered {late:?} after it had to be gone", absence.node + 1));
        }
    }
    // A node may be missing from the answer only while it is absent.
    let missing = subject.own & !nodes;
    let is_excused = |node: usize| {
        let of_node = of_server().filter(|absence| absence.node == node);
        of_node.clone().any(|absence| absence.from <= from && absence.back.is_none_or(|back| to <= back))
    };
    let unexcused = (0..usize::BITS as usize).find(|node| missing & 1 << node != 0 && !is_excused(*node));
    unexcused.map(|node| {
        let of_node = of_server().filter(|absence| absence.node == node && absence.to <= from);
        let last = of_node.max_by_key(|absence| absence.to);
        let since = last.map_or_else(String::new, |absence| {
            let (began, ended) = (from - absence.to, to - absence.to);
            format!(
                ", from {began:.2?} to {ended:.2?} after its last absence, which took {:.2?}",
                absence.to - absence.from
            )
        });
        format!("node {} is not answered although nothing is wrong with it{since}", node + 1)
    })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    /// One server is asked for node 3 (from 0: 2). The answers are nodes 0 to 3, each alone.
    fn subjects() -> Vec<Subject> {
        vec![Subject { server: 0, own: 0b100, answers: vec![0b1, 0b10, 0b100, 0b1000] }]
    }

    /// The node is out from 10 s to 30 s. It has to be gone by 17 s and back by 40 s.
    fn wrong(changes: &[(u64, usize)], gone_by: Option<u64>) -> Vec<String> {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let change =
            |(seconds, answer): &(u64, usize)| Change { at: at(*seconds), inquiry: 0, answer: *answer };
        let out = Absence {
            server: 0,
            node: 2,
            from: at(10),
            gone_by: gone_by.map(at),
            to: at(30),
            back: Some(at(40)),
        };
        compare(&subjects(), &changes.iter().map(change).collect(), &[out], at(50)).wrong
    }

    #[test]
    fn an_answer_that_changes_in_time_and_back_is_right() {
        assert_eq!(wrong(&[(0, 2), (16, 0), (35, 2)], Some(17)), [""; 0]);
        assert_eq!(wrong(&[(0, 2), (11, 0), (12, 2), (13, 0), (40, 2)], Some(17)), [""; 0]);
        assert_eq!(wrong(&[(0, 2)], None), [""; 0], "it could not be found out");
    }

    #[test]
    fn a_dead_nodes_address_for_too_long_or_again_is_wrong() {
        assert_eq!(wrong(&[(0, 2)], Some(17)).len(), 1, "no server has noticed");
        assert_eq!(wrong(&[(0, 2), (18, 0), (35, 2)], Some(17)).len(), 1, "too late");
        assert_eq!(wrong(&[(0, 2), (12, 0), (20, 2)], Some(17)).len(), 1, "while it is dead");
    }

    #[test]
    fn another_address_for_a_node_that_is_well_is_wrong() {
        assert_eq!(wrong(&[(0, 0), (5, 2), (12, 0), (35, 2)], Some(17)).len(), 1, "before it was dead");
        assert_eq!(wrong(&[(0, 2), (12, 0), (45, 2)], Some(17)).len(), 1, "long after it was back");
        assert_eq!(wrong(&[(0, 2), (12, 0), (35, 2), (45, 3)], Some(17)).len(), 1, "for nothing");
    }

    #[test]
    fn of_a_set_every_node_counts() {
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let subjects = vec![Subject { server: 1, own: 0b11, answers: vec![0b1, 0b10, 0b11] }];
        let out =
            Absence { server: 1, node: 1, from: at(1), gone_by: Some(at(2)), to: at(4), back: Some(at(5)) };
        let changes =
            |answer| [Change { at: at(0), inquiry: 0, answer: 2 }, Change { at: at(2), inquiry: 0, answer }];
        let wrong = |answer, absences: &[Absence]| {
            compare(&subjects, &changes(answer).into(), absences, at(3)).wrong.len()
        };
        assert_eq!(wrong(0, &[out]), 0);
        assert_eq!(wrong(2, &[out]), 1, "the dead one is in it");
        assert_eq!(wrong(1, &[out]), 1, "the dead one for the other, which is well");
        assert_eq!(wrong(0, &[Absence { server: 0, ..out }]), 1, "another server's absence");
    }
}
