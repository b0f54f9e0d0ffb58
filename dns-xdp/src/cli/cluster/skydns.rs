//! `cluster import --skydns`: imports nodes and services once from the SkyDNS keys of the zone, without a daemon.
use std::path::Path;

use anyhow::{Context as _, bail};

use super::super::briefly;
use super::{of_file, replaced};
use crate::config::Config;
use crate::config::edit::NodeRole;
use crate::log;
use crate::store::documents::Documents;
use crate::store::load;
use crate::store::skydns::import::{Followed, follow};
use crate::store::skydns::path;

/// Writes the nodes and services of the keys below `below` to the documents. With `dry` it prints the documents
/// instead.
pub(super) fn import(file: &Path, below: &str, dry: bool) -> anyhow::Result<()> {
    let (local, store) = of_file(file)?;
    let documents = briefly(load::fetch(&store))?;
    let zone = Config::parse_with(&local, file, &documents)?.zone.apex;
    let place = path(below, &zone);
    let members = load::members(&store)?.below(&place);
    let (_, listing) = briefly(async { Ok(members.list().await?) })?;
    let Followed { ignored, texts } = follow(&listing, &documents, NodeRole::Server);
    if !ignored.is_empty() {
        log::tell(format_args!("left out of the keys below {place}: {ignored}"));
    }
    let texts = match texts {
        Err(reason) => {
            bail!("nothing was written: of the {} keys below {place}, {reason}", listing.entries.len())
        }
        Ok(texts) => texts.unwrap_or_else(|| documents.texts.clone()),
    };
    let next = Documents { texts, ..documents.clone() };
    Config::parse_with(&local, file, &next)
        .with_context(|| format!("nothing was written: the keys below {place} are no valid configuration"))?;
    replaced(&store, &documents, next.texts, dry)
}
