//! Scenes: connections to a member of etcd with default settings last while nothing is wrong.
use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use dns_xdp::config::{Config, SharedStore};
use dns_xdp::failover::healthy_zone;
use dns_xdp::store::client::{Client, Mode, Settings};
use dns_xdp::store::etcd::Members;
use dns_xdp::store::identity::Instance;
use dns_xdp::store::skydns::{export_task, import_task};
use dns_xdp::store::{self, Known, Store as _, Swap};
use dns_xdp_tests::bed::etcd::lone::LoneEtcd;
use tokio::sync::watch;
use tokio::time::{sleep, timeout};

const PREFIX: &str = "/dns-xdp/demo.example.com";
/// The longest time until a server has joined.
const JOINED_WITHIN: Duration = Duration::from_secs(10);

/// A configuration with the store at `endpoint`.
fn config(endpoint: &str, lease_seconds: u64) -> Result<Config> {
    let text = format!(
        "[listen]\ninterfaces = [\"lo\"]\n[zone]\nname = \"demo.example.com\"\n\
         [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n\
         [cluster]\nstore = \"etcd\"\nendpoints = [{endpoint:?}]\nprefix = {PREFIX:?}\nlease = \"{lease_seconds}s\"\n"
    );
    Ok(Config::parse(&text, Path::new("/etc/dns-xdp/dns-xdp.toml"))?)
}

/// The counted connections.
#[derive(Clone)]
struct Counted {
    members: Arc<Members>,
    count: Arc<AtomicUsize>,
}

impl Counted {
    fn new(store: &SharedStore) -> Result<Counted> {
        let members = Arc::new(Members::new(store, store.lease / 5)?);
        Ok(Counted { members, count: Arc::default() })
    }

    fn made(&self) -> usize {
        self.count.load(Ordering::Relaxed)
    }

    /// A connection for the keys below a path.
    async fn connect(self, path: String, number: usize) -> Result<store::etcd::Etcd, store::Error> {
        self.count.fetch_add(1, Ordering::Relaxed);
        self.members.below(&path).connect(number).await
    }
}

/// A session that has joined, and its connections.
async fn joined(store: &SharedStore) -> Result<(Client, Counted)> {
    let connections = Counted::new(store)?;
    let counted = connections.clone();
    let instance = Instance { id: "a".to_owned(), place: "a scene".to_owned() };
    let settings = Settings { server: "node1".to_owned(), instance, lease: store.lease };
    let mut client = Client::start(settings, Known::default(), move |number| {
        counted.clone().connect(PREFIX.to_owned(), number)
    });
    timeout(JOINED_WITHIN, client.seen.wait_for(|seen| seen.mode == Mode::Joined)).await??;
    Ok((client, connections))
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask test store"]
async fn idle_connections_last_with_a_long_lease_too() -> Result<()> {
    let etcd = LoneEtcd::start()?;
    etcd.put(format!("{PREFIX}/config/zone"), "[zone]\nname = \"demo.example.com\"\n")?;
    let config = config(&etcd.endpoint, 30)?;
    let store = config.store.as_ref().context("no store")?;
    let (client, session) = joined(store).await?;
    let [followed, mirrored] = [Counted::new(store)?, Counted::new(store)?];
    let settings = import_task::Settings {
        below: "/skydns".to_owned(),
        file: config.path.clone(),
        text: "[listen]\ninterfaces = [\"lo\"]\n".to_owned(),
    };
    let (import, export) = (followed.clone(), mirrored.clone());
    let (_zone, published) = watch::channel(Some(Arc::new(healthy_zone(&config))));
    let _tasks = [
        import_task::start(settings, client.seen.clone(), client.swaps.clone(), move |path, number| {
            import.clone().connect(path, number)
        }),
        export_task::start(
            "/skydns-live".to_owned(),
            "node1".to_owned(),
            client.seen.clone(),
            published,
            move |path, number| export.clone().connect(path, number),
        ),
    ];
    sleep(Duration::from_secs(20)).await;
    let made = [&session, &followed, &mirrored].map(Counted::made);
    ensure!(made == [1; 3], "connections of the session, the import and the export: {made:?}");
    ensure!(client.seen.borrow().mode == Mode::Joined);
    Ok(())
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask test store"]
async fn keys_that_are_no_text_end_no_session() -> Result<()> {
    let etcd = LoneEtcd::start()?;
    for octet in [b"\xfe", b"\xff"] {
        etcd.put(OsStr::from_bytes(&[PREFIX.as_bytes(), b"/", octet].concat()), "")?;
    }
    let config = config(&etcd.endpoint, 2)?;
    let (client, session) = joined(config.store.as_ref().context("no store")?).await?;
    sleep(Duration::from_secs(5)).await;
    ensure!(session.made() == 1, "{} sessions: {:?}", session.made(), client.seen.borrow().trouble);
    Ok(())
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask test store"]
async fn a_start_that_cannot_read_its_last_good_copy_says_so() -> Result<()> {
    let etcd = LoneEtcd::start()?;
    etcd.put(format!("{PREFIX}/config/zone"), "[zone]\nname = \"demo.example.com\"\n")?;
    etcd.put(format!("{PREFIX}/config/nodes"), "[[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n")?;
    let directory = tempfile::tempdir()?;
    let [file, state] = ["dns-xdp.toml", "state.json"].map(|name| directory.path().join(name));
    let text = format!(
        "[listen]\ninterfaces = [\"lo\"]\n[control]\nstate = {state:?}\n\
         [cluster]\nstore = \"etcd\"\nendpoints = [{:?}]\nprefix = {PREFIX:?}\n",
        etcd.endpoint
    );
    fs::write(&file, text)?;
    ensure!(store::load(&file).await?.unread.is_none(), "there is no copy");
    fs::write(state.with_extension("store.json"), "{\"revision\": 9, \"tex")?;
    let unread = store::load(&file).await?.unread.context("the copy is passed over")?;
    ensure!(unread.contains("state.store.json cannot be read"), "{unread}");
    Ok(())
}

#[tokio::test]
#[ignore = "needs etcd: cargo xtask test store"]
async fn the_history_says_what_the_store_has_had_until_it_is_compacted() -> Result<()> {
    const NODES: &str = "config/nodes";
    let etcd = LoneEtcd::start()?;
    let config = config(&etcd.endpoint, 5)?;
    let members = Members::new(config.store.as_ref().context("no store")?, JOINED_WITHIN)?;
    let store = members.connect(0).await?;
    let put = |value: &str| Swap { writes: [(NODES.to_owned(), value.into())].into(), ..Swap::default() };
    let first = store.swap(put("one")).await?;
    let second = store.swap(put("two")).await?;
    let gone = store.change(BTreeMap::new(), [(NODES.to_owned(), None)].into()).await?;
    for (key, revision, had) in [
        (NODES, first, true),
        (NODES, second, true),
        (NODES, gone, false),
        (NODES, first - 1, false),
        (NODES, gone + 100, false),
        ("config/zone", first, false),
    ] {
        ensure!(store.had(key, revision).await? == Some(had), "{key} at {revision} of {first} to {gone}");
    }
    etcd.compact(gone)?;
    ensure!(store.had(NODES, first).await?.is_none());
    Ok(())
}
