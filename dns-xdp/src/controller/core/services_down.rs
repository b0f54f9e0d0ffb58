//! Services that are down, because none of their members and backups is healthy: their events and their alarm. This
//! module is pure.
use std::collections::BTreeSet;
use std::sync::Arc;

use super::state::State;
use crate::cluster::{AllDown, Cluster};
use crate::config::Config;
use crate::event::{Kind, Occurrence};
use crate::failover::{Answers, Decision};

/// The most names in one sentence; further names are only counted.
const MOST: usize = 8;

/// The services that are down in one decision. Their names are not copied, because there may be as many as the table
/// holds.
#[derive(Debug, Clone)]
pub(super) struct ServicesDown {
    config: Arc<Config>,
    answers: Arc<Answers>,
    /// Their places in [`Answers::services`], in order.
    places: Vec<usize>,
}

impl ServicesDown {
    pub(super) fn new(state: &State, decision: &Decision) -> Self {
        let places = decision.services_down(&state.config().cluster).collect();
        ServicesDown { config: Arc::clone(state.config()), answers: Arc::clone(&decision.answers), places }
    }

    /// Returns the changes since `before`: one event for the services that went down, and one for the services that
    /// came back.
    pub(super) fn since(&self, before: &ServicesDown) -> Vec<Occurrence> {
        let is_same_cluster = Arc::ptr_eq(self.cluster().members(), before.cluster().members());
        if self.places.is_empty() && before.places.is_empty()
            || is_same_cluster && self.places == before.places
        {
            return Vec::new();
        }
        let [before, now] = [before, self].map(|down| down.names().collect::<BTreeSet<&str>>());
        let went: Vec<&str> = now.difference(&before).copied().collect();
        let back: Vec<&str> = before.difference(&now).copied().collect();
        let up = |names: &[&str]| match names {
            [name] => Occurrence::new(Kind::ServiceUp).about(name),
            names => Occurrence::new(Kind::ServiceUp).because(list(names)),
        };
        let mut told = Vec::new();
        told.extend((!went.is_empty()).then(|| self.went(&went)));
        told.extend((!back.is_empty()).then(|| up(&back)));
        told
    }

    /// Returns the event about these services when a daemon gives its first answers.
    pub(super) fn at_the_start(&self) -> Option<Occurrence> {
        let names: Vec<&str> = self.names().collect();
        (!names.is_empty()).then(|| self.went(&names))
    }

    fn went(&self, names: &[&str]) -> Occurrence {
        match names {
            [name] => Occurrence::new(Kind::ServiceDown).about(name).because(self.why(name)),
            names => Occurrence::new(Kind::ServiceDown)
                .because(format!("{}: none of their members is healthy", list(names))),
        }
    }

    /// One line for `status`; `None`: every service has a healthy member or backup.
    pub(super) fn alarm(&self) -> Option<String> {
        let names: Vec<&str> = self.names().collect();
        match &*names {
            [] => None,
            [name] => Some(format!("service {name} is down: {}", self.why(name))),
            names => Some(format!("services are down, none of their members is healthy: {}", list(names))),
        }
    }

    /// Whether the service at this place of [`Answers::services`] is down.
    pub(super) fn has(&self, place: usize) -> bool {
        self.places.binary_search(&place).is_ok()
    }

    fn cluster(&self) -> &Cluster {
        &self.config.cluster
    }

    fn names(&self) -> impl Iterator<Item = &str> {
        let services = self.cluster().members().services();
        self.places.iter().filter_map(|&place| services.get(place)).map(String::as_str)
    }

    fn why(&self, name: &str) -> String {
        let nodes = self.answers.service(name).unwrap_or_default();
        let nodes: Vec<&str> = nodes.iter().map(|&node| self.cluster().nodes[node].name.as_str()).collect();
        let answer = if nodes.is_empty() { self.without_addresses(name).to_owned() } else { list(&nodes) };
        let service = self.cluster().service(name);
        let nor_backup =
            if service.is_some_and(|service| !service.backup.is_empty()) { ", nor a backup" } else { "" };
        format!("none of its members is healthy{nor_backup}; it answers {answer}")
    }

    /// The response of a service that has no address to answer.
    fn without_addresses(&self, name: &str) -> &'static str {
        let own = self.cluster().service(name);
        let rule = own.and_then(|service| service.all_down).unwrap_or(self.config.failover.all_down);
        if rule == AllDown::Nodata { "NODATA" } else { "REFUSED" }
    }
}

fn list(names: &[&str]) -> String {
    let shown = names[..names.len().min(MOST)].join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::super::state::tests::{TEXT, healthy, kill, observe};
    use super::*;
    use crate::health::{Failure, Observation, ProbeId, Subject};

    fn down(state: &State) -> ServicesDown {
        ServicesDown::new(state, state.decision().unwrap())
    }

    fn told(before: &State, now: &State) -> Vec<String> {
        down(now).since(&down(before)).iter().map(ToString::to_string).collect()
    }

    #[test]
    fn a_service_without_a_healthy_member_is_an_event_and_an_alarm() {
        let good = healthy(TEXT);
        assert_eq!(down(&good).alarm(), None);
        let mut half = good.clone();
        kill(&mut half, "node1");
        assert!(told(&good, &half).is_empty(), "node2 answers");
        let mut bad = half.clone();
        kill(&mut bad, "node2");
        let event = "+service-down db: none of its members is healthy; it answers node3";
        assert_eq!(told(&half, &bad), [event]);
        assert_eq!(told(&bad, &half), ["-service-down db"]);
        let alarm = "service db is down: none of its members is healthy; it answers node3";
        assert_eq!(down(&bad).alarm().as_deref(), Some(alarm));
        assert!(told(&bad, &bad.clone()).is_empty(), "once");
    }

    /// The probes of the service `db` fail for these nodes. Their own probes succeed.
    fn fail_as_members(state: &mut State, nodes: &[&str]) {
        let failure = Failure { reason: "refused".to_owned(), visible: true };
        for node in nodes {
            let member = Subject::Member { service: "db".to_owned(), node: (*node).to_owned() };
            let observation = Observation::Failure(failure.clone());
            for _ in 0..3 {
                state.observe(&ProbeId::first(member.clone()), Duration::from_secs(7), &observation).unwrap();
            }
        }
        state.decide();
    }

    #[test]
    fn the_alarm_of_a_service_whose_members_all_fail_says_what_it_answers() {
        let cases = [
            ("", "; it answers node1, node2"),
            ("all-down = \"nodata\"\n", "; it answers NODATA"),
            ("all-down = \"refused\"\n", "; it answers REFUSED"),
            ("backup = [\"node3\"]\n", ", nor a backup; it answers node1, node2"),
            ("all-down = \"nodata\"\nbackup = [\"node3\"]\n", ", nor a backup; it answers NODATA"),
        ];
        for (keys, answer) in cases {
            let mut state = healthy(&format!("{TEXT}{keys}[service.health]\nport = 5432\n"));
            let good = state.clone();
            fail_as_members(&mut state, &["node1"]);
            assert_eq!(down(&state).alarm(), None, "{keys}: node2 answers");
            fail_as_members(&mut state, &["node2"]);
            if keys.contains("backup") {
                assert_eq!(down(&state).alarm(), None, "{keys}: node3 answers");
                fail_as_members(&mut state, &["node3"]);
            }
            let why = format!("none of its members is healthy{answer}");
            assert_eq!(down(&state).alarm(), Some(format!("service db is down: {why}")), "{keys}");
            assert_eq!(told(&good, &state), [format!("+service-down db: {why}")], "{keys}");
        }
        let mut state =
            healthy(&format!("{TEXT}[service.health]\nport = 5432\n[failover]\nall-down = \"nodata\"\n"));
        fail_as_members(&mut state, &["node1", "node2"]);
        let alarm = "service db is down: none of its members is healthy; it answers NODATA";
        assert_eq!(down(&state).alarm().as_deref(), Some(alarm), "by the rule of [failover]");
    }

    #[test]
    fn many_services_are_one_event() {
        let more: String = (1..=20)
            .map(|number| format!("[[service]]\nname = \"s{number:02}\"\nnodes = [\"node1\"]\n"))
            .collect();
        let good = healthy(&format!("{TEXT}{more}"));
        let mut bad = good.clone();
        kill(&mut bad, "node1");
        let names = "s01, s02, s03, s04, s05, s06, s07, s08 and 12 more";
        let event = format!("+service-down: {names}: none of their members is healthy");
        assert_eq!(told(&good, &bad), [event]);
        let alarm = format!("services are down, none of their members is healthy: {names}");
        assert_eq!(down(&bad).alarm(), Some(alarm));
    }

    #[test]
    fn where_no_node_is_up_that_is_said_of_the_nodes_and_not_of_each_service() {
        let mut state = healthy(TEXT);
        let good = state.clone();
        for node in ["node3", "node2", "node1"] {
            kill(&mut state, node);
        }
        assert!(state.decision().unwrap().fail_open && told(&good, &state).is_empty());
        for _ in 0..2 {
            observe(&mut state, "node3", true);
        }
        state.decide();
        assert_eq!(told(&good, &state).len(), 1, "now node3 is up, and no member of db");
    }
}
