//! The task that keeps this server's session with the store, and that is started again if a defect ends it.
use std::sync::Arc;

use anyhow::Context as _;
use tokio::sync::{mpsc, oneshot, watch};

use crate::config::Config;
use crate::controller::core::{Input, STORE_WRITE_TIMEOUT, WorkId};
use crate::store::client::{Client, Own, Request, Seen, Settings};
use crate::store::etcd::Members;
use crate::store::identity::{self, Instance};
use crate::store::{Error, Known, Swap};

use super::Done;

/// This server's session with its store.
#[derive(Debug)]
pub(super) struct StoreSession {
    client: Client,
    members: Arc<Members>,
    settings: Settings,
    is_ended: bool,
}

impl StoreSession {
    /// Starts the session that a configuration asks for, with the known state of the store; `None`: no store is
    /// configured.
    pub(super) fn start(
        config: &Config,
        shared: Option<Known>,
        identity: &str,
        place: String,
    ) -> anyhow::Result<Option<StoreSession>> {
        let (Some(store), Some(known)) = (&config.store, shared) else { return Ok(None) };
        let server = store.server.clone().unwrap_or_else(|| identity.to_owned());
        let id = identity::identifier(&config.control.instance())
            .context("cannot tell this server from others")?;
        let settings = Settings { server, instance: Instance { id, place }, lease: store.lease };
        let members = Arc::new(Members::new(store, store.lease / 5)?);
        let client = client(&settings, &members, known);
        Ok(Some(StoreSession { client, members, settings, is_ended: false }))
    }

    /// This server's name, and the last view of the store.
    pub(super) fn seen(&self) -> (String, Seen) {
        (self.settings.server.clone(), self.client.seen.borrow().clone())
    }

    /// Returns the values that SkyDNS tasks need: the view, the channel for changes to documents, and this server's
    /// name.
    pub(super) fn ends(&self) -> (watch::Receiver<Seen>, mpsc::Sender<Request>, String) {
        (self.client.seen.clone(), self.client.swaps.clone(), self.settings.server.clone())
    }

    /// The next state of the store; `None`: the task has ended, and has to be [restarted](StoreSession::restart).
    /// Cancel safe.
    pub(super) async fn next(&mut self) -> Option<Seen> {
        if self.client.seen.changed().await.is_err() {
            self.is_ended = true;
            return None;
        }
        Some(self.client.seen.borrow_and_update().clone())
    }

    /// Whether the task has ended and this was reported.
    pub(super) fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// Starts the task again, with the last view.
    pub(super) fn restart(&mut self) {
        let view = Arc::clone(&self.client.seen.borrow().view);
        let known = view.as_known();
        let own = self.client.own.borrow().clone();
        self.client = client(&self.settings, &self.members, known);
        // This server has decided before, and its verdicts still count.
        self.client.own.send_replace(own);
        self.client.decide();
        self.is_ended = false;
    }

    /// Notes that the core decides from now on: [`Client::decide`].
    pub(super) fn begin_deciding(&self) {
        self.client.decide();
    }

    /// Orders the session to write this server's entry into the store.
    pub(super) fn write(&self, own: Own) {
        self.client.own.send_replace(own);
    }

    /// Accepts the store's documents.
    pub(super) fn accept(&self) {
        self.client.accept();
    }

    /// Changes documents, and reports the result.
    pub(super) fn swap(&self, work: WorkId, swap: Swap, done: mpsc::UnboundedSender<Done>) {
        let swaps = self.client.swaps.clone();
        tokio::spawn(async move {
            let (reply, told) = oneshot::channel();
            let result = async {
                let gone = || Error::Unreachable("the session with the store has ended".to_owned());
                swaps.send(Request { swap, reply }).await.map_err(|_| gone())?;
                told.await.unwrap_or_else(|_| Err(gone()))
            };
            let result = tokio::time::timeout(STORE_WRITE_TIMEOUT, result).await;
            let slow =
                || Err(Error::Unreachable(format!("no answer within {} s", STORE_WRITE_TIMEOUT.as_secs())));
            let result = result.unwrap_or_else(|_| slow());
            done.send(Done::Input(Input::Swapped { work, result })).ok();
        });
    }

    /// Ends the lease, so that the other servers need not wait for its end.
    pub(super) async fn leave(self) {
        self.client.leave().await;
    }
}

fn client(settings: &Settings, members: &Arc<Members>, known: Known) -> Client {
    let members = Arc::clone(members);
    Client::start(settings.clone(), known, move |number| {
        let members = Arc::clone(&members);
        async move { members.connect(number).await }
    })
}
