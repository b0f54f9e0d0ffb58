//! The published answers, the publication under way, and the addresses that resolvers may still cache. This module is
//! pure.
//!
//! The zone follows from configuration and answers. Deriving, laying out and writing it is an effect, because this
//! takes time in proportion to the zone. At most one publication is under way; decisions made meanwhile are published
//! after it.
use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::answer_diff::{Changes, Reported};
use super::input::{Now, Publication, Published};
use super::occurrences;
use super::resolver_caches::{self, Caches};
use super::state::State;
use crate::event::Occurrence;
use crate::failover;
use crate::zone::Zone;

impl Published {
    /// The answers of a state's decision; `None` before the first decision.
    pub(in crate::controller) fn of(state: &State) -> Option<Published> {
        let reported = Arc::new(Reported::new(state)?);
        let answers = Arc::clone(&state.decision()?.answers);
        Some(Published { config: Arc::clone(state.config()), answers, reported })
    }

    /// The zone that follows from configuration and answers.
    pub(in crate::controller) fn zone(&self) -> Zone {
        failover::answering(&self.config, &self.answers)
    }

    fn is(&self, other: &Published) -> bool {
        // `Arc` compares equal pointers first.
        Arc::ptr_eq(&self.config, &other.config) && self.answers == other.answers
    }
}

impl Publication {
    /// Compares `zone` with `before`. Without `before`, compares it with the configured answers, which a predecessor
    /// may have given. `took`: the duration of the publication; `None`: the two zones are equal.
    pub(in crate::controller) fn new(
        published: &Published,
        before: Option<&Zone>,
        zone: Arc<Zone>,
        took: Option<Duration>,
    ) -> Publication {
        let config = &published.config;
        let answered = resolver_caches::answered(&zone, config);
        let is_same = before.is_some_and(|before| *before == *zone);
        if is_same {
            return Publication { zone, changes: Changes::default(), left: [].into(), answered, took: None };
        }
        let configured = failover::healthy_zone(config);
        let before = before.unwrap_or(&configured);
        let changes = Changes::between(before, &zone, &configured, &published.reported);
        let left = resolver_caches::left(before, &zone);
        Publication { zone, changes, left, answered, took }
    }
}

/// The published zone, and the one on its way.
#[derive(Debug)]
pub(in crate::controller) struct Answering {
    pub(super) zone: Option<Arc<Zone>>,
    /// Every address that is answered.
    pub(super) answered: BTreeSet<IpAddr>,
    /// When the zone was last replaced.
    pub(super) at: Timestamp,
    /// How long that publication took.
    pub(super) took: Duration,
    /// The addresses of earlier zones that resolvers may still cache.
    pub(super) caches: Caches,
    /// The number of published zones.
    pub(super) count: u64,
    /// The number of failed publications.
    pub(super) failures: u64,
    /// Why the decided answers are not published.
    pub(super) trouble: Option<String>,
    /// The answers that were last published.
    published: Option<Published>,
    under_way: Option<UnderWay>,
    /// Whether the decision differs from the publication under way.
    is_stale: bool,
}

/// A publication under way.
#[derive(Debug)]
pub(super) struct UnderWay {
    pub(super) published: Published,
    /// Whether it publishes a change of the configuration, which comes into force with it.
    pub(super) is_change: bool,
}

/// The next step for answers that have to be published.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    /// They are published already.
    Same,
    /// They have to be published now.
    Publish,
    /// They are published after the publication under way.
    Later,
}

impl Answering {
    pub(super) fn new(now: Timestamp) -> Self {
        Answering {
            zone: None,
            answered: BTreeSet::new(),
            at: now,
            took: Duration::ZERO,
            caches: Caches::default(),
            count: 0,
            failures: 0,
            trouble: None,
            published: None,
            under_way: None,
            is_stale: false,
        }
    }

    /// Whether a publication is under way.
    pub(super) fn is_busy(&self) -> bool {
        self.under_way.is_some()
    }

    /// Whether the decision is published, or its publication has failed.
    pub(super) fn is_settled(&self) -> bool {
        !self.is_busy() && !self.is_stale
    }

    /// Whether a publication failed and has to be tried again.
    pub(super) fn is_pending(&self) -> bool {
        self.trouble.is_some()
    }

    /// Begins to publish, if the answers have changed and no publication is under way.
    pub(super) fn begin(&mut self, published: Published, is_change: bool) -> Step {
        if self.is_busy() {
            self.is_stale = true;
            return Step::Later;
        }
        self.is_stale = false;
        if !is_change && !self.is_pending() && self.published.as_ref().is_some_and(|now| now.is(&published)) {
            return Step::Same;
        }
        self.under_way = Some(UnderWay { published, is_change });
        Step::Publish
    }

    /// Takes the success of a publication. Returns the publication, and an event if the publication before it failed.
    pub(super) fn succeeded(
        &mut self,
        publication: &Publication,
        now: Now,
    ) -> Option<(UnderWay, Option<Occurrence>)> {
        let under_way = self.under_way.take()?;
        self.published = Some(under_way.published.clone());
        self.zone = Some(Arc::clone(&publication.zone));
        self.answered.clone_from(&publication.answered);
        if let Some(took) = publication.took {
            self.caches.replaced(&publication.left, now.elapsed);
            (self.took, self.at) = (took, now.wall);
            self.count += 1;
        }
        let over = self.trouble.take().map(|_| occurrences::published());
        Some((under_way, over))
    }

    /// Takes the failure of a publication: the old zone stays published. Returns the publication, and an event if this
    /// is the first failure.
    pub(super) fn failed(&mut self, error: &str) -> Option<(UnderWay, Option<Occurrence>)> {
        let under_way = self.under_way.take()?;
        self.failures += 1;
        if under_way.is_change {
            // The client that asked for the change gets the refusal. The old answers are right.
            return Some((under_way, None));
        }
        let trouble = format!("the answers are not up to date: {error}");
        let is_new = self.trouble.replace(trouble).is_none();
        let reason = format!("{error}; the old zone is answered");
        Some((under_way, is_new.then(|| occurrences::unpublished(&reason))))
    }
}
