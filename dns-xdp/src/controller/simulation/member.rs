//! One simulated server with its link to the store.
use std::sync::Arc;
use std::time::Duration;

use fastrand::Rng;

use super::Configured;
use super::server::Server;
use super::store_link::{StoreLink, Way};
use super::store_model::StoreModel;
use crate::controller::core::Input;
use crate::store::client::{Mode, Own, View};
use crate::store::documents::{Documents, Revision};
use crate::store::identity::Instance;
use crate::store::{Known, Server as StoreServer};

/// A server and its link to the store.
#[derive(Debug)]
pub(super) struct Member {
    pub(super) name: String,
    pub(super) server: Server,
    pub(super) link: Option<StoreLink>,
    pub(super) way: Way,
    /// When the server, its link or the store last had a fault.
    pub(super) shaken: Duration,
    /// Whether it started without a decision, and joined at once.
    pub(super) cold: bool,
    /// The view and mode that the core was last given.
    pub(super) heard: Option<(Arc<View>, Mode)>,
    pub(super) was_live: bool,
    /// Whether its status entry is written. Such writes are counted.
    pub(super) tells: bool,
    /// The store's documents at the beginning.
    pub(super) documents: Documents,
    pub(super) instance: Instance,
    /// The newest documents that it has had in force, by the acceptance and the epoch.
    pub(super) newest: (u64, Revision),
}

impl Member {
    pub(super) fn new(index: usize, config: &'static Configured) -> Self {
        Member {
            name: format!("node{}", index + 1),
            server: Server::new(index, config),
            link: None,
            way: Way::default(),
            shaken: Duration::ZERO,
            cold: true,
            heard: None,
            was_live: false,
            tells: false,
            documents: config.source.documents().cloned().unwrap_or_default(),
            instance: Instance { id: format!("instance{}", index + 1), place: String::new() },
            newest: (0, 0),
        }
    }

    pub(super) fn start(&mut self, lease: Duration, now: Duration, random: &mut Rng) {
        let known = self.heard.take().map(|(view, _)| view.as_known());
        let known = known.unwrap_or_else(|| Known { documents: self.documents.clone(), ..Known::default() });
        self.server.disk.clone_from(&known.documents.intents);
        let link = StoreLink::new((self.name.clone(), self.instance.clone()), lease, known, now);
        self.server.start(Some((self.name.clone(), link.seen(now))), now, random);
        self.link = Some(link);
        (self.shaken, self.cold, self.was_live) = (self.shaken.max(now), true, false);
    }

    /// Whether it runs and does not stand still.
    pub(super) fn acts(&self) -> bool {
        self.server.listens()
    }

    pub(super) fn mode(&self) -> Option<Mode> {
        self.heard.as_ref().map(|(_, mode)| *mode).filter(|_| self.server.live)
    }

    pub(super) fn next(&self, store: &StoreModel, now: Duration) -> Option<Duration> {
        let link = self.link.as_ref().filter(|_| self.acts());
        self.server.next().into_iter().chain(link.and_then(|link| link.next(store, now))).min()
    }

    /// Whether the store's view has changed since the core was last given one.
    pub(super) fn has_news(&self, now: Duration) -> bool {
        let Some(link) = &self.link else { return false };
        let mode = link.mode(now);
        let same = |(view, known): &(Arc<View>, Mode)| {
            *known == mode && (Arc::ptr_eq(view, link.view()) || view.decides_as(link.view()))
        };
        !self.heard.as_ref().is_some_and(same)
    }

    pub(super) fn receive_view(&mut self, now: Duration, random: &mut Rng) {
        let Some(link) = &mut self.link else { return };
        let mode = link.mode(now);
        self.heard = Some((Arc::clone(link.view()), mode));
        self.server.tell(Input::StoreSeen(Box::new(link.seen(now))), now, random);
        self.server.disk.clone_from(self.server.core.health.intents());
        if mode != Mode::Joined && self.was_live {
            self.cold = false;
        }
    }

    /// Checks that older documents do not replace newer ones, unless an operator has accepted that.
    pub(super) fn goes_on(&mut self) -> Result<(), String> {
        let Some((view, _)) = &self.heard else { return Ok(()) };
        let now = (view.origin.generation, view.documents.epoch());
        if now < self.newest {
            return Err(format!(
                "the documents of {:?} were in force, and now those of {now:?}",
                self.newest
            ));
        }
        self.newest = now;
        Ok(())
    }

    /// Performs the core's effects at the store.
    pub(super) fn obey(&mut self, now: Duration, random: &mut Rng) {
        let Some(link) = &mut self.link else { return };
        self.was_live = self.server.live;
        if std::mem::take(&mut self.server.at_store.decides) {
            link.decide();
        }
        if let Some(own) = &self.server.at_store.own {
            let server = if self.tells { own.server.clone() } else { StoreServer::default() };
            link.set_own(Own { verdicts: own.verdicts.clone(), server });
        }
        for (work, swap) in std::mem::take(&mut self.server.at_store.swaps) {
            link.swap(work, swap, now, random);
        }
    }
}
