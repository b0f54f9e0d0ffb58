//! Reads the configuration of a start: the file alone, or the file with the store's documents. If the store is away,
//! the last good copy of its documents is used.
use std::path::Path;
use std::time::Duration;

use super::etcd::{Etcd, Members};
use super::view::View;
use super::{Documents, Known, Listing, Store, continuity, last_good};
use crate::config::{Config, ConfigError, SharedStore};

/// The longest time of each call. A daemon that is restarted without the store has to answer before `[xdp] stop-grace`
/// is over.
const STORE_CALL_TIMEOUT: Duration = Duration::from_secs(1);

/// A configuration, and the source of its shared part.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The whole configuration.
    pub config: Config,
    /// The file's text.
    pub text: String,
    /// The known state of the store; `None`: the file names no store.
    pub shared: Option<Known>,
    /// Why `shared` is the last good copy; `None`: it is from the store.
    pub trouble: Option<String>,
    /// Why the store was not compared with the last good copy. `None`: it was compared, or there is no copy.
    pub unread: Option<String>,
}

/// Reads the file at `path` and, if it names a store, the documents there.
///
/// # Errors
/// The file or a document is wrong, or there is neither a store nor a copy of it.
pub async fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = Config::text(path)?;
    let Some(store) = Config::store_of(&text, path)? else {
        let config = Config::parse(&text, path)?;
        return Ok(Loaded { config, text, shared: None, trouble: None, unread: None });
    };
    let copy = last_good::load(&store.copy, &store.prefix);
    let copied = copy.as_ref().ok().and_then(Option::as_ref);
    let found = match list(&store).await {
        Ok((etcd, listing)) => verified(&etcd, &listing, copied).await,
        Err(error) => Err(format!("{error:#}")),
    };
    let place = store.copy.display();
    let from_store = match found {
        Ok(known) => match Config::parse_with(&text, path, &known.documents) {
            Ok(config) => {
                let unread =
                    copy.err().map(|error| format!("the last good copy in {place} cannot be read: {error}"));
                return Ok(Loaded { config, text, shared: Some(known), trouble: None, unread });
            }
            Err(wrong) => wrong,
        },
        Err(reason) => ConfigError::Store { path: path.to_owned(), reason },
    };
    // The copy has the documents that this server last had in force, so the start continues with the same documents.
    match copy {
        Ok(Some(known)) => {
            let config = Config::parse_with(&text, path, &known.documents)?;
            let trouble = Some(from_store.to_string());
            Ok(Loaded { config, text, shared: Some(known), trouble, unread: None })
        }
        Ok(None) => {
            let none = format!("there is no copy of {} in {place} to start from", store.prefix);
            Err(and(from_store, &none))
        }
        Err(unread) => Err(and(from_store, &format!("the copy in {place} cannot be read: {unread}"))),
    }
}

/// Like [`of_listing`], but asks the store's history if its documents have changed.
async fn verified<S: Store>(store: &S, listing: &Listing, copied: Option<&Known>) -> Result<Known, String> {
    if let Some((key, revision)) = copied.and_then(|copied| continuity::replaced(copied, listing)) {
        let had = store.had(&key, revision).await.map_err(|error| error.to_string())?;
        if had == Some(false) {
            return Err(continuity::never_had(&key, revision, listing));
        }
    }
    of_listing(listing, copied)
}

/// Returns the state that a server starts with: the store's documents, if the store continues the copy's state.
/// Otherwise the error says why not.
fn of_listing(listing: &Listing, copied: Option<&Known>) -> Result<Known, String> {
    let before = copied.cloned().unwrap_or_default();
    if let Some(reason) = continuity::doubt(&before, listing) {
        return Err(reason);
    }
    let view = View::anew(listing, &View::known(before));
    match view.malformed {
        Some(problem) => Err(problem),
        None => Ok(view.as_known()),
    }
}

fn and(error: ConfigError, more: &str) -> ConfigError {
    match error {
        ConfigError::Store { path, reason } => {
            ConfigError::Store { path, reason: format!("{reason}; and {more}") }
        }
        wrong => wrong,
    }
}

/// Fetches the documents of a store that has a cluster.
///
/// # Errors
/// The store cannot be reached, refuses the credentials, or has no cluster.
pub async fn fetch(store: &SharedStore) -> anyhow::Result<Documents> {
    Documents::read(&list(store).await?.1).map_err(anyhow::Error::msg)
}

async fn list(store: &SharedStore) -> anyhow::Result<(Etcd, Listing)> {
    let (etcd, listing) = members(store)?.list().await?;
    anyhow::ensure!(
        continuity::holds_cluster(&listing),
        "the store has no cluster at {}: write it there with `dns-xdp cluster init --config FILE`",
        store.prefix
    );
    Ok((etcd, listing))
}

/// Returns the members, with time limits for a command.
///
/// # Errors
/// A file that `[cluster]` names cannot be read.
pub fn members(store: &SharedStore) -> anyhow::Result<Members> {
    Ok(Members::new(store, STORE_CALL_TIMEOUT)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Entry;
    use crate::store::memory::Memory;

    fn listing(revision: u64, entries: &[(&str, u64)]) -> Listing {
        let entry = |(key, revision): &(&str, u64)| {
            let value = format!("# revision {revision}\n").into_bytes();
            ((*key).to_owned(), Entry { value, revision: *revision })
        };
        Listing { revision, cluster: Some(1), entries: entries.iter().map(entry).collect() }
    }

    #[test]
    fn a_start_takes_what_goes_on_from_the_copy_and_nothing_older() {
        let copied = of_listing(&listing(60, &[("config/zone", 3), ("config/nodes", 50)]), None).unwrap();
        let later =
            of_listing(&listing(70, &[("config/zone", 3), ("config/nodes", 66)]), Some(&copied)).unwrap();
        assert_eq!((later.documents.epoch(), later.revision), (66, 70));
        let restored = listing(80, &[("config/zone", 3), ("config/nodes", 30)]);
        assert!(of_listing(&restored, Some(&copied)).unwrap_err().contains("restored from an older copy"));
        let lost = of_listing(&listing(80, &[("config/zone", 3)]), Some(&copied)).unwrap();
        assert_eq!(lost.documents.texts, copied.documents.texts, "what is deleted stays in force");
        assert_eq!(lost.documents.deleted, ["config/nodes".to_owned()].into());
    }

    #[tokio::test]
    async fn a_start_asks_the_history_for_a_document_that_is_gone() {
        let store = Memory::new();
        store.write("config/zone", "[zone]\n");
        let older = store.copy();
        store.write("config/nodes", "[[node]]\n");
        let copied = of_listing(&store.list().await.unwrap(), None).unwrap();
        store.delete("config/nodes");
        let known = verified(&store, &store.list().await.unwrap(), Some(&copied)).await.unwrap();
        assert_eq!(known.documents.deleted, ["config/nodes".to_owned()].into());
        store.restore(&older);
        (0..9).for_each(|_| _ = store.write("verdicts/node1", "{}"));
        let reason = verified(&store, &store.list().await.unwrap(), Some(&copied)).await.unwrap_err();
        assert!(reason.contains("never had the config/nodes"), "{reason}");
    }
}
