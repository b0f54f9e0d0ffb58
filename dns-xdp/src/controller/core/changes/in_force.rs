//! What a change brings into force: worked out from its proposal, and brought up to date before it counts.
use std::sync::Arc;

use super::super::cluster_change::{ClusterChange, NodeChange};
use super::super::input::WorkId;
use super::super::source::{Proposal, Source};
use super::super::{Core, occurrences};
use super::What;
use crate::config::Config;
use crate::event::Occurrence;
use crate::intent::{self, Holds, Intents};

/// What is in force, or is to be.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) config: Arc<Config>,
    pub(super) source: Arc<Source>,
    pub(super) intents: Intents,
    /// With documents of the store: the holds. Of what was in force before: the hold that a change has dropped.
    pub(super) holds: Option<Holds>,
    /// A node's intent is dropped, and the state file has to follow.
    pub(super) forgets: bool,
    /// The event that tells of it.
    pub(super) event: Option<Occurrence>,
    pub(super) notes: Vec<String>,
    /// Warnings about the new configuration that the old one does not have.
    pub(super) warnings: Vec<String>,
    /// The work whose file lies beside the configuration file.
    pub(super) staged: Option<WorkId>,
}

impl InForce {
    /// The node whose intent and hold are dropped.
    pub(super) fn forgotten(&self, what: &What) -> Option<String> {
        match what {
            What::Edit { change, .. } if self.forgets => Some(change.name()),
            _ => None,
        }
    }
}

/// What was put into force, and what was before.
pub(super) struct Replaced {
    pub(super) before: InForce,
    pub(super) next: InForce,
}

impl Core {
    /// What is to be in force.
    pub(super) fn proposed(&self, what: &What, proposal: Proposal, work: WorkId) -> InForce {
        let Proposal { config, source, write, notes, warnings } = proposal;
        let mut intents = self.health.intents().clone();
        let mut forgets = false;
        let differences = self.source.differences(&source);
        let event = match what {
            What::Edit { change, ephemeral } => {
                let name = change.name();
                if self.is_forgotten(change, *ephemeral) {
                    let is_held = self.health.held().holds().contains_key(&name);
                    forgets = intents.remove(&name).is_some() || is_held;
                }
                Some(match change {
                    ClusterChange::Node(_) => occurrences::node(&name, &differences),
                    ClusterChange::Service(_) => occurrences::service(&name, &differences),
                })
            }
            What::Join(view) => {
                let texts = &view.documents.texts;
                let is_other = self.source.documents().is_none_or(|before| before.texts != *texts);
                is_other.then(|| occurrences::reload(&notes))
            }
            What::Reload { .. } | What::Intent { .. } | What::Failback { .. } => {
                Some(occurrences::reload(&differences))
            }
        };
        let staged = write.map(|_| work);
        let (config, source) = (Arc::new(config), Arc::new(source));
        InForce { config, source, intents, holds: None, forgets, event, notes, warnings, staged }
    }

    /// Whether a change drops the node's intent: a node that is removed, or added for good, begins anew.
    pub(in crate::controller::core) fn is_forgotten(&self, change: &ClusterChange, ephemeral: bool) -> bool {
        let name = change.name();
        match change {
            ClusterChange::Node(NodeChange::Add { .. }) => {
                !self.health.config().cluster.nodes.iter().any(|known| known.name == name)
            }
            ClusterChange::Node(NodeChange::Remove { .. }) => !ephemeral,
            ClusterChange::Node(NodeChange::Set { .. }) | ClusterChange::Service(_) => false,
        }
    }

    /// Applies what has come into force since a change was worked out: documents of the store, intents, and intents that
    /// have ended.
    pub(super) fn rebase(&self, what: &What, next: &mut InForce) {
        if let What::Join(view) = what {
            let stored = intent::counting(&view.documents.intents, self.now.wall);
            next.intents = self.local.intents_over(&stored);
            next.holds = Some(self.local.holds_over(&stored));
        } else if self.shared.is_some() {
            next.intents.clone_from(self.health.intents());
            if let Some(documents) =
                self.source.documents().filter(|now| next.source.documents() != Some(now))
            {
                next.source = Arc::new(next.source.with_documents(documents.clone()));
                next.config = Arc::new(next.config.at_revision(documents.epoch()));
            }
        }
        next.intents = intent::counting(&next.intents, self.now.wall);
    }
}
