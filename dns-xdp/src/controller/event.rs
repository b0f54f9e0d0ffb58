//! What an operator reads in the log: one line for each transition and each change of what is answered.
use crate::failover::Decision;
use crate::health::{Health, Standing, Subject, Transition};
use crate::intent::{Intent, Intents, in_words};
use crate::zone::{Addresses, Zone};

/// Something that happened, and whether it should wake somebody.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) grave: bool,
    pub(super) text: String,
}

impl Event {
    fn new(grave: bool, text: String) -> Self {
        Event { grave, text }
    }

    pub(super) fn log(&self) {
        if self.grave {
            tracing::warn!("{}", self.text);
        } else {
            tracing::info!("{}", self.text);
        }
    }
}

/// A change of health.
pub(super) fn transition(
    subject: &Subject,
    Transition { from, to }: Transition,
    standing: &Standing,
) -> Event {
    let reason = standing.reason.as_ref().filter(|_| matches!(to, Health::Suspect | Health::Down));
    let reason = reason.map(|reason| format!(": {reason}")).unwrap_or_default();
    Event::new(to == Health::Down, format!("{subject} is {to}, was {from}{reason}"))
}

/// What is different about a decision, besides the answers.
pub(super) fn decision(before: Option<&Decision>, now: &Decision) -> Vec<Event> {
    let mut events = Vec::new();
    match (before.is_some_and(|before| before.frozen.is_some()), &now.frozen) {
        (false, Some(reason)) => {
            events.push(Event::new(true, format!("frozen, the answers stay as they are: {reason}")));
        }
        (true, None) => events.push(Event::new(false, "no longer frozen: the probes count again".to_owned())),
        _ => {}
    }
    match (before.is_some_and(|before| before.fail_open), now.fail_open) {
        (false, true) => {
            events.push(Event::new(true, "fail open: no node is up, dead addresses are answered".to_owned()));
        }
        (true, false) => events.push(Event::new(false, "no longer failing open".to_owned())),
        _ => {}
    }
    events
}

/// What an operator wants of a node, from now on.
pub(super) fn wanted(node: &str, intent: &Intent) -> Event {
    let Intent { admin, reason, by, until, .. } = intent;
    let why = in_words(reason.as_deref(), by.as_deref(), *until);
    let comma = if why.is_empty() { "" } else { ", " };
    Event::new(false, format!("{node} is to be {admin}{comma}{why}"))
}

/// What was wanted of nodes until its time was over.
pub(super) fn expired(over: &Intents) -> Vec<Event> {
    let text = |(node, intent): (&String, &Intent)| {
        let Intent { admin, reason, by, until, .. } = intent;
        let why = in_words(reason.as_deref(), by.as_deref(), *until);
        format!("{node} is to be auto again: its time to be {admin} is over ({why})")
    };
    over.iter().map(|entry| Event::new(false, text(entry))).collect()
}

/// Every name that answers something else than before.
pub(super) fn answers(before: &Zone, now: &Zone) -> Vec<Event> {
    let text = |addresses: Option<&Addresses>| match addresses {
        None => "no such name".to_owned(),
        Some(addresses) if addresses.refused => "refused".to_owned(),
        Some(addresses) => {
            let all: Vec<String> = addresses.iter().map(|address| address.to_string()).collect();
            if all.is_empty() { "nothing".to_owned() } else { all.join(" ") }
        }
    };
    let gone = before.names().filter(|(name, _)| now.addresses(name).is_none()).map(|(name, _)| name);
    let names = now.names().map(|(name, _)| name).chain(gone);
    let changed = names.filter_map(|name| {
        let [old, new] = [before, now].map(|zone| text(zone.addresses(name)));
        (old != new).then(|| Event::new(false, format!("{name}: {old} -> {new}")))
    });
    changed.collect()
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{TEXT, config, healthy, kill};
    use super::*;

    fn texts(events: &[Event]) -> Vec<&str> {
        events.iter().map(|event| event.text.as_str()).collect()
    }

    #[test]
    fn a_failover_is_told_name_by_name() {
        let mut state = healthy(TEXT);
        let before = state.zone().unwrap();
        kill(&mut state, "node2");
        let expected = [
            "demo.example.com.: 192.0.2.11 192.0.2.12 192.0.2.13 -> 192.0.2.11 192.0.2.13",
            "db.demo.example.com.: 192.0.2.11 192.0.2.12 -> 192.0.2.11",
            "node2.demo.example.com.: 192.0.2.12 -> 192.0.2.13",
            "ns2.demo.example.com.: 192.0.2.12 -> 192.0.2.13",
        ];
        assert_eq!(texts(&answers(&before, &state.zone().unwrap())), expected);
    }

    #[test]
    fn names_that_come_and_go_are_told() {
        let mut state = healthy(TEXT);
        let before = state.zone().unwrap();
        state.adopt(config(&TEXT.replace("name = \"db\"", "name = \"cache\"")));
        state.decide();
        let expected = [
            "cache.demo.example.com.: no such name -> 192.0.2.11 192.0.2.12",
            "db.demo.example.com.: 192.0.2.11 192.0.2.12 -> no such name",
        ];
        assert_eq!(texts(&answers(&before, &state.zone().unwrap())), expected);
    }

    #[test]
    fn freezing_and_failing_open_are_told_once_and_so_is_their_end() {
        let mut state = healthy(TEXT);
        let good = state.decision().unwrap().clone();
        for node in ["node1", "node2", "node3"] {
            kill(&mut state, node);
        }
        let open = state.decision().unwrap().clone();
        assert_eq!(
            texts(&decision(Some(&good), &open)),
            ["fail open: no node is up, dead addresses are answered"]
        );
        assert!(decision(Some(&open), &open).is_empty());
        assert_eq!(texts(&decision(Some(&open), &good)), ["no longer failing open"]);
        let frozen = Decision { frozen: Some("1 of 3 visible".to_owned()), ..good.clone() };
        assert_eq!(
            texts(&decision(Some(&good), &frozen)),
            ["frozen, the answers stay as they are: 1 of 3 visible"]
        );
        assert_eq!(texts(&decision(Some(&frozen), &good)), ["no longer frozen: the probes count again"]);
    }
}
