//! What a session with the store keeps doing: it keeps the lease alive, writes what is ours, and compares the view.
use std::collections::BTreeMap;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until, timeout};

use super::abreast::Extent;
use super::mirror::Own;
use super::mode::Ground;
use super::{Error, SERVERS, Store, VERDICTS};

/// What servers say of themselves is written no more often, unless their verdicts change.
const LEISURE: Duration = Duration::from_millis(500);

/// What a server writes, by its keys.
pub(super) fn writes(own: &Own, server: &str) -> BTreeMap<String, Vec<u8>> {
    let json = |value: serde_json::Result<Vec<u8>>| value.unwrap_or_default();
    BTreeMap::from([
        (format!("{VERDICTS}{server}"), json(serde_json::to_vec(&own.verdicts))),
        (format!("{SERVERS}{server}"), json(serde_json::to_vec(&own.server))),
    ])
}

/// Keeps the lease alive; returns when that is over.
pub(super) async fn keep<S: Store>(store: &S, lease: i64, ground: &watch::Sender<Ground>) -> Error {
    let rhythm = ground.borrow().footing.rhythm();
    loop {
        sleep(rhythm).await;
        let asked = Instant::now();
        if let Err(error) = store.keep_alive(lease).await {
            return error;
        }
        ground.send_modify(|ground| ground.confirm(asked));
    }
}

/// Writes what is ours whenever it has changed; returns when it cannot, or not within `patience`: a session that goes on
/// would keep the lease alive, and with it what is not ours any more.
pub(super) async fn write<S: Store>(
    store: &S,
    lease: i64,
    mut own: watch::Receiver<Own>,
    mut written: Own,
    server: &str,
    patience: Duration,
) -> Error {
    let mut at = Instant::now();
    loop {
        let now = own.borrow_and_update().clone();
        if now == written {
            if own.changed().await.is_err() {
                // The loop is gone, and the mirror with it before long.
                std::future::pending::<()>().await;
            }
            continue;
        }
        if now.verdicts == written.verdicts && at.elapsed() < LEISURE {
            tokio::select! {
                () = sleep_until(at + LEISURE) => {}
                _ = own.changed() => continue,
            }
        }
        let mut changed = writes(&now, server);
        if now.verdicts == written.verdicts {
            changed.remove(&format!("{VERDICTS}{server}"));
        }
        match put(store, changed, lease, patience).await {
            Ok(()) => (written, at) = (now, Instant::now()),
            Err(error) => return error,
        }
    }
}

/// Writes what goes with the lease, if that takes no longer than this.
pub(super) async fn put<S: Store>(
    store: &S,
    writes: BTreeMap<String, Vec<u8>>,
    lease: i64,
    patience: Duration,
) -> Result<(), Error> {
    match timeout(patience, store.put(writes, lease)).await {
        Ok(put) => put.map(drop),
        Err(_elapsed) => {
            let text = format!("nothing could be written for {} ms", patience.as_millis());
            Err(Error::Unreachable(text))
        }
    }
}

/// Asks now and again how far the store has come; returns when it does not say.
pub(super) async fn compare<S: Store>(store: &S, every: Duration, found: mpsc::Sender<Extent>) -> Error {
    loop {
        sleep(every).await;
        match store.extent().await {
            Ok(extent) if found.send(extent).await.is_ok() => {}
            Ok(_) => return std::future::pending().await,
            Err(error) => return error,
        }
    }
}
