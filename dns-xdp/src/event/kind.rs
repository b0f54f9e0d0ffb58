//! The kinds of event and their texts: a plus begins something that lasts, a minus ends it.
use std::fmt;

use serde::{Deserialize, Serialize};

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(into = "&'static str", try_from = "String")]
pub enum Kind {
    /// The first answers of this daemon are given; those that differ from the configured ones are told.
    Start,
    /// The daemon ends in good order.
    Stop,
    /// Another configuration is in force, by `reload` or SIGHUP.
    Reload,
    /// A changed file is not put in force, for it lacks more than half of the nodes or this server's own.
    HeldBack,
    /// The file no longer lacks them, or an operator has taken it.
    HeldBackOver,
    /// A node was added, changed or removed by command.
    Node,
    /// A service was added, changed or removed by command.
    Service,
    /// Something else is wanted of a node.
    Admin,
    /// A node of which nothing was known is up.
    Up,
    /// A node's failures are being counted.
    Suspect,
    /// They are not any more: it is up.
    Trusted,
    /// It has failed too often.
    Down,
    /// It is up again.
    Risen,
    /// A node that is down has begun to succeed.
    Recovering,
    /// It has failed before it was up.
    Relapsed,
    /// A node that has failed stays out of the answers after its recovery.
    Held,
    /// It may come back.
    Released,
    /// Names answer something else, for a node is out.
    Failover,
    /// Names answer what is configured again, or more of it.
    Failback,
    /// The answers stay as they are, for too few nodes are visible.
    Frozen,
    /// They follow the probes again.
    Thawed,
    /// This server does not trust its own probes.
    Blind,
    /// It does again.
    Seeing,
    /// No node is up, and dead addresses are answered.
    FailOpen,
    /// Some node is up again.
    FailOpenOver,
    /// None of a service's members is healthy, and no backup.
    ServiceDown,
    /// One is again.
    ServiceUp,
    /// What was decided cannot be published.
    Unpublished,
    /// It is published.
    Published,
    /// This server has lost the store that it shares, and judges by itself.
    Alone,
    /// It decides together with the others.
    Joined,
}

impl Kind {
    /// Every kind.
    pub const ALL: [Kind; 31] = [
        Kind::Start,
        Kind::Stop,
        Kind::Reload,
        Kind::HeldBack,
        Kind::HeldBackOver,
        Kind::Node,
        Kind::Service,
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

    /// As everybody sees it.
    pub const fn text(self) -> &'static str {
        match self {
            Kind::Start => "start",
            Kind::Stop => "stop",
            Kind::Reload => "reload",
            Kind::HeldBack => "+held-back",
            Kind::HeldBackOver => "-held-back",
            Kind::Node => "node",
            Kind::Service => "service",
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

    /// Whether it should wake somebody.
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
