//! The daemon beside SkyDNS keys: whether it follows some and mirrors its answers to others, and what an operator cannot change
//! by hand meanwhile.
use std::sync::Arc;

use super::sharing::Sharing;
use crate::config::{Config, SharedStore};
use crate::control::{Command, Refusal, RefusalKind};
use crate::responder::Published;
use crate::store::etcd::Members;
use crate::store::skydns::follower::{Follower, Settings};
use crate::store::skydns::reflector::Reflector;
use crate::store::skydns::{path, place};

/// The tasks that the configuration asks for; dropping them ends them.
#[derive(Debug, Default)]
pub(super) struct Sky {
    follower: Option<Follower>,
    reflector: Option<Reflector>,
}

impl Sky {
    /// Starts what is asked for. Before privileges are given up: the files that `[cluster]` names are read here.
    pub(super) fn start(
        config: &Config,
        text: &str,
        sharing: Option<&Sharing>,
        published: Published,
    ) -> anyhow::Result<Sky> {
        let (Some(store), Some(sharing)) = (&config.store, sharing) else { return Ok(Sky::default()) };
        if store.skydns_follow.is_none() && store.skydns_mirror.is_none() {
            return Ok(Sky::default());
        }
        let members = Arc::new(Members::new(store, store.lease / 5)?);
        let connect = move |path: String, number| {
            let members = members.below(&path);
            async move { members.connect(number).await }
        };
        let (seen, swaps, server) = sharing.ends();
        let follower = store.skydns_follow.clone().map(|below| {
            let settings = Settings { below, file: config.path.clone(), text: text.to_owned() };
            Follower::start(settings, seen.clone(), swaps, connect.clone())
        });
        let reflector = store
            .skydns_mirror
            .clone()
            .map(|below| Reflector::start(below, server, seen, published, connect));
        Ok(Sky { follower, reflector })
    }

    pub(super) fn alarms(&self) -> Vec<String> {
        let follower = self.follower.iter().map(|follower| &follower.trouble);
        let reflector = self.reflector.iter().map(|reflector| &reflector.trouble);
        follower.chain(reflector).filter_map(|trouble| trouble.borrow().clone()).collect()
    }
}

/// Why a command is refused: nodes that are followed are changed where they come from.
pub(super) fn refuses(config: &Config, command: &Command) -> Option<Refusal> {
    let SharedStore { skydns_follow, .. } = config.store.as_ref()?;
    let below = skydns_follow.as_ref()?;
    let name = match command {
        Command::NodeAdd { name, .. }
        | Command::NodeSet { name, .. }
        | Command::NodeRemove { name, .. }
        | Command::ServiceAdd { name, .. }
        | Command::ServiceRemove { name, .. } => name,
        Command::ServiceSet { name, nodes, .. } if !nodes.is_empty() => name,
        _ => return None,
    };
    let key = format!("{}/{}", path(below, &config.zone.apex), place(&name.to_ascii_lowercase()));
    let message = format!(
        "nodes and services follow the SkyDNS keys below {below} ([cluster] skydns-follow): change {key} there, or what \
         writes it, such as ExternalDNS; `node up`, `down`, `drain` and `auto` are as ever"
    );
    Some(Refusal::new(RefusalKind::Conflict, message))
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{TEXT, config};
    use super::*;
    use crate::cluster::Admin;

    #[test]
    fn nodes_that_are_followed_are_changed_where_they_come_from() {
        let alone = config(TEXT);
        let store = "[cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\nskydns-follow = \"/skydns/\"\n";
        let following = config(&format!("{TEXT}{store}"));
        let name = "Node1".to_owned();
        let remove = Command::NodeRemove { name: name.clone(), ephemeral: false };
        let message = refuses(&following, &remove).unwrap().message;
        assert!(message.contains(" /skydns/com/example/demo/node1 "), "{message}");
        assert_eq!(refuses(&alone, &remove), None);
        let members = |nodes: &[&str]| Command::ServiceSet {
            name: "@".to_owned(),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            min_healthy: Some(1),
            ephemeral: false,
        };
        let message = refuses(&following, &members(&["node1"])).unwrap().message;
        assert!(message.contains(" /skydns/com/example/demo/dns/apex "), "{message}");
        assert_eq!(refuses(&following, &members(&[])), None, "what the keys do not say");
        let down = Command::Admin {
            node: name,
            admin: Admin::Down,
            reason: None,
            by: None,
            for_ms: None,
            force: false,
        };
        assert_eq!(refuses(&following, &down), None);
    }
}
