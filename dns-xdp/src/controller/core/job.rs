//! The preparation of a change outside the core: reading files, looking up names, parsing.
use std::path::Path;
use std::sync::Arc;

use super::cluster_change::ClusterChange;
use super::source::{Proposal, Push, Source};
use crate::config::Config;
use crate::control::{Refusal, RefusalKind};
use crate::store::Documents;

/// A change to prepare, with the configuration that it changes.
#[derive(Debug)]
pub(in crate::controller) struct Job {
    /// The text in force.
    pub(super) source: Arc<Source>,
    /// The configuration in force.
    pub(super) in_force: Arc<Config>,
    /// The change that is wanted.
    pub(super) what: Wanted,
}

/// A change that needs preparation.
#[derive(Debug)]
pub(super) enum Wanted {
    /// The whole file, or this text of it if the file was already read.
    Reload(Option<String>),
    /// The whole file of a server that shares a store: the server's own part, and the documents to write to the store.
    ReloadShared,
    /// A change of a node or service, also in the file unless it is ephemeral.
    Edit { change: ClusterChange, ephemeral: bool },
    /// All documents of the store.
    Join(Arc<Documents>),
    /// The documents to write to the store for a change of a node or service.
    Share(ClusterChange),
}

/// A prepared change.
#[derive(Debug)]
pub(in crate::controller) enum Prepared {
    /// For this server.
    Proposal(Box<Proposal>),
    /// For the store.
    Push(Push),
    /// A change of the store, and then of this server's own part. `text` is the text of the file.
    Reload { push: Push, own: Box<Proposal>, text: String },
}

impl Job {
    /// Returns the text that the change applies to.
    pub(in crate::controller) fn source(&self) -> Arc<Source> {
        Arc::clone(&self.source)
    }

    /// Prepares the change; `read` reads a file.
    ///
    /// # Errors
    /// The file cannot be read, or the result is not a valid configuration.
    pub(in crate::controller) fn run(
        self,
        read: impl FnOnce(&Path) -> Result<String, String>,
    ) -> Result<Prepared, Refusal> {
        let Job { source, in_force, what } = self;
        let readable = |text: Result<String, String>| {
            let refusal =
                |error| format!("cannot read {}: {error}; nothing was changed", source.path().display());
            text.map_err(|error| Refusal::new(RefusalKind::Failed, refusal(error)))
        };
        let proposal = |proposal| Prepared::Proposal(Box::new(proposal));
        match what {
            Wanted::Reload(text) => {
                let text = text.map_or_else(|| readable(read(source.path())), Ok)?;
                Ok(proposal(source.reload(&in_force, text)?))
            }
            Wanted::ReloadShared => {
                let text = readable(read(source.path()))?;
                let own = Box::new(source.reload(&in_force, text.clone())?);
                let push = own.source.push(&in_force, &text)?;
                Ok(Prepared::Reload { push, own, text })
            }
            Wanted::Edit { change, ephemeral } => {
                let text = if ephemeral { None } else { Some(readable(read(source.path()))?) };
                Ok(proposal(source.change(&in_force, &change, text.as_deref())?))
            }
            Wanted::Join(documents) => Ok(proposal(source.join(&in_force, Documents::clone(&documents))?)),
            Wanted::Share(change) => source.share(&in_force, &change).map(Prepared::Push),
        }
    }
}
