//! What a server starts from: its file alone, or with the documents of the store; where that is away, with the last good
//! copy of them.
use std::path::Path;
use std::time::Duration;

use super::documents::Documents;
use super::etcd::Members;
use super::{Revision, last_good};
use crate::config::{Config, ConfigError, SharedStore};

/// Of each call. A daemon that is started again without the store has to answer before `[xdp] stop-grace` is over.
const PATIENCE: Duration = Duration::from_secs(1);

/// A configuration, and where its shared part comes from.
#[derive(Debug, Clone)]
pub struct Loaded {
    /// The whole of it.
    pub config: Config,
    /// The file's text.
    pub text: String,
    /// The documents and how far the store had come; `None`: the file is all there is.
    pub shared: Option<(Documents, Revision)>,
    /// Why the documents are the last good copy.
    pub trouble: Option<String>,
}

/// Reads the file at `path` and, where it names a store, the documents there.
///
/// # Errors
/// The file or a document is wrong, or there is neither a store nor a copy of it.
pub async fn load(path: &Path) -> Result<Loaded, ConfigError> {
    let text = Config::text(path)?;
    let Some(store) = Config::store_of(&text, path)? else {
        let config = Config::parse(&text, path)?;
        return Ok(Loaded { config, text, shared: None, trouble: None });
    };
    let from_store = match fetch(&store).await {
        Ok((documents, revision)) => match Config::parse_with(&text, path, &documents) {
            Ok(config) => {
                let shared = Some((documents, revision));
                return Ok(Loaded { config, text, shared, trouble: None });
            }
            Err(wrong) => wrong,
        },
        Err(error) => ConfigError::Store { path: path.to_owned(), reason: format!("{error:#}") },
    };
    // What a server has in force, it has from its copy at the next start too.
    let copied = last_good::load(&store.copy);
    let place = store.copy.display();
    match copied {
        Ok(Some((documents, revision))) => {
            let config = Config::parse_with(&text, path, &documents)?;
            let trouble = Some(from_store.to_string());
            Ok(Loaded { config, text, shared: Some((documents, revision)), trouble })
        }
        Ok(None) => Err(and(from_store, &format!("there is no copy in {place} to start from"))),
        Err(unread) => Err(and(from_store, &format!("the copy in {place} cannot be read: {unread}"))),
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

/// The documents of a store that has been given a cluster.
///
/// # Errors
/// It cannot be reached, does not let us in, or has none.
pub async fn fetch(store: &SharedStore) -> anyhow::Result<(Documents, Revision)> {
    let (_, listing) = members(store)?.list().await?;
    let documents = Documents::read(&listing).map_err(anyhow::Error::msg)?;
    anyhow::ensure!(
        !documents.texts.is_empty(),
        "the store has no cluster at {}: write it there with `dns-xdp cluster init --config FILE`",
        store.prefix
    );
    Ok((documents, listing.revision))
}

/// Members with the patience of a terminal.
///
/// # Errors
/// A file that is named cannot be read.
pub fn members(store: &SharedStore) -> anyhow::Result<Members> {
    Ok(Members::new(store, PATIENCE)?)
}
