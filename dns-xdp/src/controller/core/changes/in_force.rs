//! The configuration, intents and holds that a change brings into force: made from its proposal, and brought up to date
//! before they count.
use std::sync::Arc;

use super::super::cluster_change::{ClusterChange, NodeChange};
use super::super::input::WorkId;
use super::super::source::{Proposal, Source};
use super::super::state::LostVerdicts;
use super::super::{Core, occurrences};
use super::What;
use crate::config::Config;
use crate::event::Occurrence;
use crate::intent::{self, Holds, Intents};

/// A configuration with intents and holds, in force or proposed.
#[derive(Debug)]
pub(super) struct InForce {
    pub(super) config: Arc<Config>,
    pub(super) source: Arc<Source>,
    pub(super) intents: Intents,
    /// For documents of the store: their holds. For the state before a change: the hold that the change has dropped.
    pub(super) holds: Option<Holds>,
    /// For the state before a change: the verdicts that the change has dropped. Else empty.
    pub(super) lost: LostVerdicts,
    /// Whether a node's intent is dropped, so that the state file has to change too.
    pub(super) forgets: bool,
    /// The event that reports it.
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

/// The state that was put into force, and the state before it.
pub(super) struct Replaced {
    pub(super) before: InForce,
    pub(super) next: InForce,
}

impl Core {
    /// Returns the state that a proposal would bring into force.
    pub(super) fn proposed(&self, what: &What, proposal: Proposal, work: WorkId) -> InForce {
        let Proposal { config, source, write, notes, warnings, differences } = proposal;
        let mut intents = self.health.intents().clone();
        let mut forgets = false;
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
                    ClusterChange::Record(_) => occurrences::record(&name, &differences),
                    ClusterChange::Suffix(_) => occurrences::suffix(&name, &differences),
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
        InForce {
            config,
            source,
            intents,
            holds: None,
            lost: LostVerdicts::new(),
            forgets,
            event,
            notes,
            warnings,
            staged,
        }
    }

    /// Whether a change drops the node's intent: a node that is removed, or added for good, begins anew.
    pub(in crate::controller::core) fn is_forgotten(&self, change: &ClusterChange, ephemeral: bool) -> bool {
        let name = change.name();
        match change {
            ClusterChange::Node(NodeChange::Add { .. }) => {
                !self.health.config().cluster.nodes.iter().any(|known| known.name == name)
            }
            ClusterChange::Node(NodeChange::Remove { .. }) => !ephemeral,
            ClusterChange::Node(NodeChange::Set { .. })
            | ClusterChange::Service(_)
            | ClusterChange::Record(_)
            | ClusterChange::Suffix(_) => false,
        }
    }

    /// Applies everything that has come into force since the change was prepared: documents of the store, intents, and
    /// ends of intents.
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
