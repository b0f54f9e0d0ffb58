//! The daemon beside SkyDNS keys: the tasks that follow some, and that mirror its answers to others.
use std::sync::Arc;

use super::store_session::StoreSession;
use crate::config::Config;
use crate::responder::Published;
use crate::store::etcd::Members;
use crate::store::skydns::follower::{Follower, Settings};
use crate::store::skydns::reflector::Reflector;

/// The tasks that the configuration asks for; dropping them ends them.
#[derive(Debug, Default)]
pub(super) struct SkyDns {
    plan: Option<Plan>,
    follower: Option<Follower>,
    reflector: Option<Reflector>,
}

/// What the tasks are started with.
#[derive(Debug)]
struct Plan {
    members: Arc<Members>,
    follow: Option<Settings>,
    mirror: Option<String>,
    published: Published,
}

impl SkyDns {
    /// Starts what is asked for. Before privileges are given up: the files that `[cluster]` names are read here.
    pub(super) fn start(
        config: &Config,
        text: &str,
        session: Option<&StoreSession>,
        published: Published,
    ) -> anyhow::Result<SkyDns> {
        let (Some(store), Some(session)) = (&config.store, session) else { return Ok(SkyDns::default()) };
        if store.skydns_follow.is_none() && store.skydns_mirror.is_none() {
            return Ok(SkyDns::default());
        }
        let members = Arc::new(Members::new(store, store.lease / 5)?);
        let follow = |below| Settings { below, file: config.path.clone(), text: text.to_owned() };
        let follow = store.skydns_follow.clone().map(follow);
        let mirror = store.skydns_mirror.clone();
        let plan = Some(Plan { members, follow, mirror, published });
        let mut skydns = SkyDns { plan, ..SkyDns::default() };
        skydns.restart(session);
        Ok(skydns)
    }

    /// Starts the tasks anew beside a session that was started anew.
    pub(super) fn restart(&mut self, session: &StoreSession) {
        let Some(Plan { members, follow, mirror, published }) = &self.plan else { return };
        let members = Arc::clone(members);
        let connect = move |path: String, number| {
            let members = members.below(&path);
            async move { members.connect(number).await }
        };
        let (seen, swaps, server) = session.ends();
        let (settings, below) = (follow.clone(), mirror.clone());
        self.follower =
            settings.map(|settings| Follower::start(settings, seen.clone(), swaps, connect.clone()));
        self.reflector = below.map(|below| Reflector::start(below, server, seen, published.clone(), connect));
    }

    /// Whether a task has ended, which none does by itself. Told once.
    pub(super) fn has_ended(&mut self) -> bool {
        let follower = self.follower.take_if(|follower| follower.has_ended()).is_some();
        let reflector = self.reflector.take_if(|reflector| reflector.has_ended()).is_some();
        follower || reflector
    }

    pub(super) fn alarms(&self) -> Vec<String> {
        let follower = self.follower.iter().map(|follower| &follower.trouble);
        let reflector = self.reflector.iter().map(|reflector| &reflector.trouble);
        follower.chain(reflector).filter_map(|trouble| trouble.borrow().clone()).collect()
    }
}
