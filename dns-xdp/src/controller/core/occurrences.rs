//! The occurrences that do not come from comparing decisions: changes of health, and actions on the daemon.
use std::fmt;

use crate::cluster::Admin;
use crate::config::{Failback, Failover};
use crate::event::{Kind, Occurrence};
use crate::health::{Health, SubjectHealth, Transition};
use crate::intent::{Intent, Reconciled};

/// A change of health. It is two occurrences if a step was skipped, which happens if several probes are combined.
pub(in crate::controller) fn transition(
    subject: &impl fmt::Display,
    Transition { from, to }: Transition,
    subject_health: &SubjectHealth,
) -> Vec<Occurrence> {
    use Health::{Down, Recovering, Suspect, Unknown, Up};
    let kinds: &[Kind] = match (from, to) {
        (Unknown, Up) => &[Kind::Up],
        (Unknown | Up, Suspect) => &[Kind::Suspect],
        (Suspect, Unknown | Up) => &[Kind::Trusted],
        (Unknown | Up | Suspect, Down) => &[Kind::Down],
        (Unknown | Up | Suspect, Recovering) => &[Kind::Down, Kind::Recovering],
        (Down, Recovering) => &[Kind::Recovering],
        (Recovering, Down) => &[Kind::Relapsed],
        (Down | Recovering, Unknown | Up) => &[Kind::Risen],
        (Down | Recovering, Suspect) => &[Kind::Risen, Kind::Suspect],
        (Up, Unknown)
        | (Unknown, Unknown)
        | (Up, Up)
        | (Suspect, Suspect)
        | (Down, Down)
        | (Recovering, Recovering) => &[],
    };
    let reason = subject_health.reason.as_deref().filter(|_| matches!(to, Suspect | Down));
    let told = |&kind| Occurrence::new(kind).about(subject).because(reason.unwrap_or_default());
    kinds.iter().map(told).collect()
}

/// A node has a new intent.
pub(in crate::controller) fn admin(node: &str, wanted: &Intent) -> Occurrence {
    Occurrence::new(Kind::Admin).about(node).because(wanted.to_string())
}

/// The time of a node's intent is over.
pub(in crate::controller) fn expired(node: &str, wanted: &Intent) -> Occurrence {
    let reason = format!("{}: its time is over; it was {wanted}", Admin::Auto);
    Occurrence::new(Kind::Admin).about(node).because(reason)
}

/// A node fell, and is held.
pub(in crate::controller) fn held(node: &str, rules: &Failover) -> Occurrence {
    let ends = match rules.failback {
        Failback::Manual => format!("it stays out until dns-xdp node failback {node}"),
        Failback::Auto => {
            format!("it stays out until it was healthy for {}", humantime::format_duration(rules.hold_down))
        }
    };
    Occurrence::new(Kind::Held).about(node).because(ends)
}

/// The hold of a node has ended.
pub(in crate::controller) fn released(node: &str, reason: &str) -> Occurrence {
    Occurrence::new(Kind::Released).about(node).because(reason)
}

/// An intent of this server alone has ended, because the store is back.
pub(in crate::controller) fn reconciled(reconciled: &Reconciled) -> Occurrence {
    let (node, reason) = match reconciled {
        Reconciled::Shared(node, intent) => {
            (node, format!("{intent}; the store has it, and it counts on every server"))
        }
        Reconciled::Overruled(node, intent) => {
            (node, format!("the store's intent counts again; this server's alone was {intent}"))
        }
    };
    Occurrence::new(Kind::Admin).about(node).because(reason)
}

/// A new configuration is in force; `notes`: the differences.
pub(in crate::controller) fn reload(notes: &[String]) -> Occurrence {
    Occurrence::new(Kind::Reload).because(notes.join(", "))
}

/// A changed file is held back, because it lacks many nodes.
pub(in crate::controller) fn held_back(reason: &str) -> Occurrence {
    Occurrence::new(Kind::HeldBack).because(reason)
}

/// The file no longer lacks many nodes, or an operator has accepted it.
pub(in crate::controller) fn no_longer_held_back() -> Occurrence {
    Occurrence::new(Kind::HeldBackOver)
}

/// A node was added, changed or removed by command.
pub(in crate::controller) fn node(name: &str, notes: &[String]) -> Occurrence {
    Occurrence::new(Kind::Node).about(name).because(notes.join(", "))
}

/// A service was added, changed or removed by command.
pub(in crate::controller) fn service(name: &str, notes: &[String]) -> Occurrence {
    Occurrence::new(Kind::Service).about(name).because(notes.join(", "))
}

/// Static records were added, changed or removed by command.
pub(in crate::controller) fn record(name: &str, notes: &[String]) -> Occurrence {
    Occurrence::new(Kind::Record).about(name).because(notes.join(", "))
}

/// A suffix was added or removed by command.
pub(in crate::controller) fn suffix(name: &str, notes: &[String]) -> Occurrence {
    Occurrence::new(Kind::Suffix).about(name).because(notes.join(", "))
}

/// A publication failed: the answers are not the decided ones.
pub(in crate::controller) fn unpublished(reason: &str) -> Occurrence {
    Occurrence::new(Kind::Unpublished).because(reason)
}

/// The answers are the decided ones again.
pub(in crate::controller) fn published() -> Occurrence {
    Occurrence::new(Kind::Published)
}

/// This server has joined: it decides together with the store's other servers.
pub(in crate::controller) fn joined(circumstances: &str) -> Occurrence {
    Occurrence::new(Kind::Joined).because(circumstances)
}

/// This server has lost the store, or does not trust it.
pub(in crate::controller) fn alone(reason: &str) -> Occurrence {
    Occurrence::new(Kind::Alone).because(reason)
}

/// The daemon ends; the reason says what happens to the program.
pub(in crate::controller) fn stop(reason: &str) -> Occurrence {
    Occurrence::new(Kind::Stop).because(reason)
}

/// This server is blind: it stops judging.
pub(in crate::controller) fn blind(reason: &str) -> Occurrence {
    Occurrence::new(Kind::Blind).because(reason)
}

/// This server judges again.
pub(in crate::controller) fn seeing() -> Occurrence {
    Occurrence::new(Kind::Seeing)
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{TEXT, healthy};
    use super::*;

    #[test]
    fn every_change_of_health_has_its_sign() {
        use Health::{Down, Recovering, Suspect, Unknown, Up};
        let state = healthy(TEXT);
        let subject_health = state.node(&state.config().cluster.nodes[0]);
        let cases = [
            (Unknown, Up, "up node1"),
            (Unknown, Down, "+down node1"),
            (Up, Suspect, "+suspect node1"),
            (Suspect, Up, "-suspect node1"),
            (Suspect, Down, "+down node1"),
            (Up, Down, "+down node1"),
            (Down, Recovering, "+recovering node1"),
            (Recovering, Down, "-recovering node1"),
            (Recovering, Up, "-down node1"),
            (Down, Up, "-down node1"),
            (Recovering, Suspect, "-down node1, +suspect node1"),
            (Suspect, Recovering, "+down node1, +recovering node1"),
        ];
        for (from, to, expected) in cases {
            let told = transition(&"node1", Transition { from, to }, subject_health);
            let told: Vec<String> = told.iter().map(ToString::to_string).collect();
            assert_eq!(told.join(", "), expected);
        }
    }
}
