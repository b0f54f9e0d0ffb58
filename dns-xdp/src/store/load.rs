//! What a server starts from: its file alone, or with the documents of the store; where that is away, with the last good
//! copy of them.
use std::path::Path;
use std::time::Duration;

use super::documents::Documents;
use super::etcd::Members;
use super::{Revision, Store as _, copy};
use crate::config::{Config, ConfigError, SharedStore};

/// Of each call; whoever waits at a terminal waits for as many as there are members.
const PATIENCE: Duration = Duration::from_secs(2);

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
    let (documents, revision, trouble) = match fetch(&store).await {
        Ok((documents, revision)) => (documents, revision, None),
        Err(error) => {
            let copy = store.copy.display();
            let why = match copy::load(&store.copy) {
                Ok(Some((documents, revision))) => Ok((documents, revision, Some(format!("{error:#}")))),
                Ok(None) => Err(format!("{error:#}; and there is no copy in {copy} to start from")),
                Err(unread) => Err(format!("{error:#}; and the copy in {copy} cannot be read: {unread}")),
            };
            why.map_err(|reason| ConfigError::Store { path: path.to_owned(), reason })?
        }
    };
    let config = Config::parse_with(&text, path, &documents)?;
    Ok(Loaded { config, text, shared: Some((documents, revision)), trouble })
}

/// The documents of a store that has been given a cluster.
///
/// # Errors
/// It cannot be reached, does not let us in, or has none.
pub async fn fetch(store: &SharedStore) -> anyhow::Result<(Documents, Revision)> {
    let members = Members::new(store, PATIENCE)?;
    let listing = members.any(|etcd| async move { etcd.list().await }).await?;
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
