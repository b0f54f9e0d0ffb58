//! The kinds of event and their texts. A plus begins a lasting condition, a minus ends it.
use std::fmt;

use serde::{Deserialize, Serialize};

/// The kind of an event.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Kind {
    /// The daemon gives its first answers. The event has the answers that differ from the configured answers.
    Start,
    /// The daemon stops in an orderly way.
    Stop,
    /// A new configuration is in force, after `reload` or SIGHUP.
    Reload,
    /// A changed file is held back, because it lacks more than half of the nodes or this server's own.
    HeldBack,
    /// A file is no longer held back: it has the nodes again, or an operator has applied it.
    HeldBackOver,
    /// A node was added, changed or removed by command.
    Node,
    /// A service was added, changed or removed by command.
    Service,
    /// Static records were added, changed or removed by command.
    Record,
    /// A suffix was added or removed by command.
    Suffix,
    /// An operator has changed a node's intent.
    Admin,
    /// A node with unknown health is up.
    Up,
    /// A node has begun to fail.
    Suspect,
    /// A suspect node is up again.
    Trusted,
    /// A node has failed too often, and is down.
    Down,
    /// A node that was down is up again.
    Risen,
    /// A node that is down has begun to succeed.
    Recovering,
    /// A recovering node has failed again.
    Relapsed,
    /// A node that has failed stays out of the answers after its recovery.
    Held,
    /// The hold of a node has ended.
    Released,
    /// The answers of some names have changed, because a node is out.
    Failover,
    /// Names answer their configured addresses again, or more of them.
    Failback,
    /// The answers are frozen, because too few nodes are visible.
    Frozen,
    /// The answers follow the probes again.
    Thawed,
    /// This server does not trust its own probes.
    Blind,
    /// This server trusts its own probes again.
    Seeing,
    /// No node is up, and dead addresses are answered.
    FailOpen,
    /// A node is up again, so dead addresses are no longer answered.
    FailOpenOver,
    /// Neither a member nor a backup of a service is healthy.
    ServiceDown,
    /// A member or a backup of the service is healthy again.
    ServiceUp,
    /// The decided answers cannot be published.
    Unpublished,
    /// The decided answers are published.
    Published,
    /// This server has lost the shared store, and decides alone.
    Alone,
    /// This server decides with the other servers.
    Joined,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 33] = [
        Kind::Start,
        Kind::Stop,
        Kind::Reload,
        Kind::HeldBack,
        Kind::HeldBackOver,
        Kind::Node,
        Kind::Service,
        Kind::Record,
        Kind::Suffix,
        Kind::Admin,
        Kind::Up,
        Kind::Suspect,
        Kind::Trusted,
        Kind::Down,
        Kind::Risen,
        Kind::Recovering,
        Kind::Relapsed,
        Kind::Held,
        Kind::Released,
        Kind::Failover,
        Kind::Failback,
        Kind::Frozen,
        Kind::Thawed,
        Kind::Blind,
        Kind::Seeing,
        Kind::FailOpen,
        Kind::FailOpenOver,
        Kind::ServiceDown,
        Kind::ServiceUp,
        Kind::Unpublished,
        Kind::Published,
        Kind::Alone,
        Kind::Joined,
    ];

    /// Returns the text in logs, JSON and metrics.
    pub const fn text(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Stop => "stop",
            Kind::Reload => "reload",
            Kind::HeldBack => "+held-back",
            Kind::HeldBackOver => "-held-back",
            Kind::Node => "node",
            Kind::Service => "service",
            Kind::Record => "record",
            Kind::Suffix => "suffix",
            Kind::Admin => "admin",
            Kind::Up => "up",
            Kind::Suspect => "+suspect",
            Kind::Trusted => "-suspect",
            Kind::Down => "+down",
            Kind::Risen => "-down",
            Kind::Recovering => "+recovering",
            Kind::Relapsed => "-recovering",
            Kind::Held => "+held",
            Kind::Released => "-held",
            Kind::Failover => "+failover",
            Kind::Failback => "-failback",
            Kind::Frozen => "+freeze",
            Kind::Thawed => "-freeze",
            Kind::Blind => "+blind",
            Kind::Seeing => "-blind",
            Kind::FailOpen => "+fail-open",
            Kind::FailOpenOver => "-fail-open",
            Kind::ServiceDown => "+service-down",
            Kind::ServiceUp => "-service-down",
            Kind::Unpublished => "+unpublished",
            Kind::Published => "-unpublished",
            Kind::Alone => "+alone",
            Kind::Joined => "-alone",
        }
    }

    /// Whether it needs an operator at once.
    pub const fn is_grave(self) -> bool {
        matches!(
            self,
            Kind::Down
                | Kind::HeldBack
                | Kind::Frozen
                | Kind::Blind
                | Kind::FailOpen
                | Kind::ServiceDown
                | Kind::Unpublished
                | Kind::Alone
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.text())
    }
}

impl From<Kind> for &'static str {
    fn from(kind: Kind) -> Self {
        kind.text()
    }
}

impl TryFrom<String> for Kind {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        let named = Kind::ALL.into_iter().find(|kind| kind.text() == text);
        named.ok_or_else(|| format!("there is no event of the kind `{text}`"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_is_read_back_from_its_text_and_strangers_are_refused() {
        for kind in Kind::ALL {
            let json = serde_json::to_string(&kind).unwrap();
            assert_eq!(serde_json::from_str::<Kind>(&json).unwrap(), kind, "{json}");
        }
        assert!(serde_json::from_str::<Kind>("\"+explosion\"").is_err());
    }

    #[test]
    fn what_lasts_has_an_end() {
        let texts: Vec<&str> = Kind::ALL.iter().map(|kind| kind.text()).collect();
        let begun = texts.iter().filter_map(|text| text.strip_prefix('+')).filter(|text| *text != "failover");
        for text in begun {
            assert!(texts.contains(&&*format!("-{text}")), "{text}");
        }
    }
}
