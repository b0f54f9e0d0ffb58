//! The daemon's SkyDNS tasks: one follows keys, one mirrors the answers to keys.
use std::sync::Arc;

use super::store_session::StoreSession;
use crate::config::Config;
use crate::responder::Published;
use crate::store::etcd::Members;
use crate::store::skydns::import_task::Settings;
use crate::store::skydns::{Task, export_task, import_task};

/// The tasks that the configuration asks for; dropping them ends them.
#[derive(Debug, Default)]
pub(super) struct SkyDns {
    plan: Option<Plan>,
    import: Option<Task>,
    export: Option<Task>,
}

/// The inputs that the tasks are started with.
#[derive(Debug)]
struct Plan {
    members: Arc<Members>,
    follow: Option<Settings>,
    mirror: Option<String>,
    published: Published,
}

impl SkyDns {
    /// Starts the tasks that are configured. Call it before privileges are given up, because it reads the files that
    /// `[cluster]` names.
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

    /// Starts the tasks again after the session was started again.
    pub(super) fn restart(&mut self, session: &StoreSession) {
        let Some(Plan { members, follow, mirror, published }) = &self.plan else { return };
        let members = Arc::clone(members);
        let connect = move |path: String, number| {
            let members = members.below(&path);
            async move { members.connect(number).await }
        };
        let (seen, swaps, server) = session.ends();
        let (settings, below) = (follow.clone(), mirror.clone());
        let start_import = |settings| import_task::start(settings, seen.clone(), swaps, connect.clone());
        self.import = settings.map(start_import);
        self.export = below.map(|below| export_task::start(below, server, seen, published.clone(), connect));
    }

    /// Whether a task has ended, which only a defect does. Reports each end once.
    pub(super) fn has_ended(&mut self) -> bool {
        let import = self.import.take_if(|task| task.has_ended()).is_some();
        let export = self.export.take_if(|task| task.has_ended()).is_some();
        import || export
    }

    pub(super) fn alarms(&self) -> Vec<String> {
        self.import.iter().chain(&self.export).filter_map(Task::alarm).collect()
    }
}
