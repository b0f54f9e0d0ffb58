//! `cluster`: reads and writes the shared documents in the store, without a daemon. Only `accept` needs a daemon: it
//! makes the servers accept an older store.
mod skydns;

use std::borrow::Cow;
use std::fmt::Write as _;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use clap::Subcommand;
use serde_json::json;

use super::{ConfigFile, Format, briefly, change, print, print_json};
use crate::config::{Config, SharedStore, differences};
use crate::control::api::Done;
use crate::control::{Client, Command};
use crate::intent;
use crate::log;
use crate::store::documents::{Documents, INTENT, Shared, join, split};
use crate::store::{Error, Store as _, Swap, load};

pub(super) const EXAMPLE: &str = "Example: dns-xdp cluster init --config /etc/dns-xdp/dns-xdp.toml\n\n\
    The store is the one of [cluster] in the file. The file's shared sections ([zone], [health], [failover], [[node]], [[service]], [[record]]) \
    are written by `init` and `import`. The contents of the store are in force.";

#[derive(Debug, Subcommand)]
pub(super) enum Cluster {
    /// Write the file's shared sections to a store that has no cluster yet
    #[command(after_help = "Example: dns-xdp cluster init --config /etc/dns-xdp/dns-xdp.toml")]
    Init(ConfigFile),
    /// Show the documents that the servers share, and when they were changed
    #[command(after_help = "Example: dns-xdp cluster show")]
    Show(Show),
    /// Show what `import` would change: how the file's shared sections differ from the store's
    #[command(after_help = "Example: dns-xdp cluster diff --config /etc/dns-xdp/dns-xdp.toml")]
    Diff(ConfigFile),
    /// Print the shared sections as one file
    #[command(after_help = "Example: dns-xdp cluster export > cluster.toml")]
    Export(ConfigFile),
    /// Write the shared sections of the file, or of another file, to the store
    #[command(after_help = "Example: dns-xdp cluster import cluster.toml")]
    Import(Import),
    /// Have all servers believe a store that was restored from an older copy, is another one, or has lost documents
    #[command(after_help = "Example: dns-xdp cluster accept --dry-run")]
    Accept(Accept),
}

#[derive(Debug, clap::Args)]
pub(super) struct Accept {
    /// Print what it would change on this server, and accept nothing
    #[arg(long)]
    dry_run: bool,
}

#[derive(Debug, clap::Args)]
pub(super) struct Show {
    #[command(flatten)]
    file: ConfigFile,
    #[command(flatten)]
    format: Format,
}

#[derive(Debug, clap::Args)]
pub(super) struct Import {
    /// The file with the shared sections; `-`: standard input [default: the file of --config]
    #[arg(conflicts_with = "skydns")]
    from: Option<PathBuf>,
    /// Read nodes and services from the zone's SkyDNS keys below this path instead, such as /skydns
    #[arg(long, value_name = "PATH")]
    skydns: Option<String>,
    /// Print what the store would hold, and write nothing
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    file: ConfigFile,
}

impl Cluster {
    pub(super) fn run(&self, client: &Client) -> anyhow::Result<()> {
        match self {
            Cluster::Init(file) => init(&file.config),
            Cluster::Show(show) => show.run(),
            Cluster::Diff(file) => diff(&file.config),
            Cluster::Export(file) => print(&stored(&file.config)?.1.text()),
            Cluster::Import(import) => import.run(),
            Cluster::Accept(Accept { dry_run: false }) => {
                briefly(change(client, &Command::AcceptStore)).map(drop)
            }
            Cluster::Accept(Accept { dry_run: true }) => {
                let done: Done = briefly(async { Ok(client.ask(&Command::CompareStore).await?) })?;
                print(&format!("{}\n", done.notes.join("\n")))
            }
        }
    }
}

/// Returns the file's text and its store.
fn of_file(path: &Path) -> anyhow::Result<(String, SharedStore)> {
    let text = Config::text(path)?;
    let store = Config::store_of(&text, path)?;
    let store = store.with_context(|| {
        format!("{} names no store: write [cluster] with store = \"etcd\" and endpoints", path.display())
    })?;
    Ok((text, store))
}

fn stored(path: &Path) -> anyhow::Result<(SharedStore, Documents)> {
    let (_, store) = of_file(path)?;
    let documents = briefly(load::fetch(&store))?;
    Ok((store, documents))
}

/// Returns the shared sections of a text, checked together with the file's own sections.
fn shared(local: &str, text: &str, path: &Path) -> anyhow::Result<Shared> {
    let (_, shared) = split(text).map_err(|problem| anyhow::anyhow!("{}: {problem}", path.display()))?;
    let documents = Documents { texts: shared, ..Documents::default() };
    Config::parse_with(&of_a_server(local), path, &documents)?;
    Ok(documents.texts)
}

/// Adds the sections that a server needs to a file that has only shared sections, so that it can be checked.
fn of_a_server(local: &str) -> Cow<'_, str> {
    match local.parse::<toml_edit::DocumentMut>() {
        Ok(file) if !file.contains_key("listen") => {
            Cow::Owned(format!("{local}\n[listen]\ninterfaces = [\"lo\"]\n"))
        }
        Ok(_) | Err(_) => Cow::Borrowed(local),
    }
}

fn swapped(store: &SharedStore, swap: &Swap) -> anyhow::Result<()> {
    let swapping = async {
        let (etcd, _) = load::members(store)?.list().await?;
        anyhow::Ok(etcd.swap(swap.clone()).await)
    };
    match briefly(swapping)? {
        Ok(_revision) => Ok(()),
        Err(Error::Conflict) => bail!(
            "nothing was written: the cluster has changed meanwhile; look with `dns-xdp cluster diff`, then repeat"
        ),
        Err(error) => Err(error.into()),
    }
}

fn init(path: &Path) -> anyhow::Result<()> {
    let (text, store) = of_file(path)?;
    let shared = shared(&text, &text, path)?;
    let documents = Documents { texts: shared.clone(), ..Documents::default() };
    let state = Config::parse_with(&of_a_server(&text), path, &documents)?.control.state;
    let intents = intent::load(&state)?;
    let documents = Documents::default();
    let mut writes = documents.writes(&shared);
    let mut expected = documents.expected();
    if !intents.is_empty() {
        writes.insert(INTENT.to_owned(), serde_json::to_vec_pretty(&intents)?);
        expected.insert(INTENT.to_owned(), 0);
    }
    let listing = briefly(async { Ok(load::members(&store)?.list().await?.1) })?;
    if listing.entries.keys().any(|key| key.starts_with("config/")) {
        bail!(
            "there is a cluster at {} already, and nothing was written: see it with `dns-xdp cluster show`, change it with \
             `dns-xdp cluster import`",
            store.prefix
        );
    }
    let written: Vec<String> = writes.keys().cloned().collect();
    swapped(&store, &Swap { expected, writes })?;
    print(&format!("wrote {} to {}\n", written.join(", "), store.prefix))
}

impl Show {
    fn run(&self) -> anyhow::Result<()> {
        let (store, documents) = stored(&self.file.config)?;
        if self.format.json {
            return print_json(&json!({
                "prefix": store.prefix,
                "epoch": documents.epoch(),
                "documents": documents.texts,
                "intent": documents.intents,
                "revisions": documents.revisions,
            }));
        }
        let mut text = format!("# {}, epoch {}\n", store.prefix, documents.epoch());
        for (key, document) in &documents.texts {
            let revision = documents.revisions.get(key).copied().unwrap_or(0);
            writeln!(text, "\n# {key}, revision {revision}\n{}", document.trim_end())?;
        }
        if !documents.intents.is_empty() {
            let revision = documents.revisions.get(INTENT).copied().unwrap_or(0);
            writeln!(text, "\n# {INTENT}, revision {revision}")?;
            for (node, intent) in &documents.intents {
                writeln!(text, "# {node} is to be {intent}")?;
            }
        }
        print(&text)
    }
}

fn diff(path: &Path) -> anyhow::Result<()> {
    let (text, _) = of_file(path)?;
    let shared = shared(&text, &text, path)?;
    let (_, documents) = stored(path)?;
    let lines = differences(&documents.text(), &join(&shared));
    let lines = if lines.is_empty() { vec!["no difference".to_owned()] } else { lines };
    print(&format!("{}\n", lines.join("\n")))
}

impl Import {
    fn run(&self) -> anyhow::Result<()> {
        let path = &self.file.config;
        if let Some(below) = &self.skydns {
            return skydns::import(path, below, self.dry_run);
        }
        let (local, store) = of_file(path)?;
        let (text, from) = match &self.from {
            None => (local.clone(), path.clone()),
            Some(from) if from.as_os_str() == "-" => {
                let mut text = String::new();
                std::io::stdin().read_to_string(&mut text).context("cannot read standard input")?;
                (text, from.clone())
            }
            Some(from) => (Config::text(from)?, from.clone()),
        };
        let shared = shared(&local, &text, &from)?;
        let documents = briefly(load::fetch(&store))?;
        replaced(&store, &documents, shared, self.dry_run)
    }
}

/// Prints what the new documents change, and writes them. With `dry` it prints the documents instead.
fn replaced(store: &SharedStore, documents: &Documents, texts: Shared, dry: bool) -> anyhow::Result<()> {
    let writes = documents.writes(&texts);
    let next = Documents { texts, ..documents.clone() };
    for line in differences(&documents.text(), &next.text()) {
        log::tell(line);
    }
    if dry {
        return print(&next.text());
    }
    if writes.is_empty() {
        log::tell("nothing has changed");
        return Ok(());
    }
    swapped(store, &Swap { expected: documents.expected(), writes })
}
