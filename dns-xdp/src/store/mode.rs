//! The mode that a server is in, and what it follows from: how it stands to the store, and whether it believes it.
use std::time::Duration;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until};

use super::footing::{Footing, Stand};
use super::mirror::Seen;

/// How this server stands to the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Its lease is confirmed, its view is kept up to date: it decides with the others.
    Joined,
    /// It has lost the store, or found it again a moment ago, and judges by itself.
    Alone,
    /// The store is older than what was seen of it, and is not believed until an operator accepts it.
    Frozen,
}

/// What the mode follows from.
#[derive(Debug, Clone)]
pub(super) struct Ground {
    origin: Instant,
    pub(super) footing: Footing,
    /// Why the store is not believed.
    pub(super) frozen: Option<String>,
    /// Why the last session with the store ended, or there has not been any.
    pub(super) lost: String,
    /// There is a session.
    pub(super) is_up: bool,
}

impl Ground {
    pub(super) fn new(lease: Duration) -> Self {
        let lost = "the store has not been reached yet".to_owned();
        Ground { origin: Instant::now(), footing: Footing::new(lease), frozen: None, lost, is_up: false }
    }

    /// The lease has been confirmed just now.
    pub(super) fn confirm(&mut self, asked: Instant) {
        self.footing.confirm(asked - self.origin, self.origin.elapsed());
    }

    fn mode(&self) -> (Mode, Option<String>) {
        if let Some(reason) = &self.frozen {
            return (Mode::Frozen, Some(reason.clone()));
        }
        match self.footing.stand(self.origin.elapsed()) {
            Stand::Joined => (Mode::Joined, None),
            Stand::Probation(left) if self.is_up => {
                let seconds = left.as_millis().div_ceil(1000);
                (Mode::Alone, Some(format!("the store is back; joining in {seconds} s")))
            }
            Stand::Alone if self.is_up => {
                (Mode::Alone, Some("the store has not confirmed the lease in time".to_owned()))
            }
            Stand::Probation(_) | Stand::Alone => (Mode::Alone, Some(self.lost.clone())),
        }
    }

    /// When mode or trouble are others, unless something happens.
    fn turns(&self) -> Option<Instant> {
        let now = self.origin.elapsed();
        let mut turns = self.footing.turns(now)?;
        if let Stand::Probation(left) = self.footing.stand(now) {
            let second = Duration::from_nanos(u64::from(left.subsec_nanos()));
            turns = turns.min(now + if second.is_zero() { Duration::from_secs(1) } else { second });
        }
        Some(self.origin + turns)
    }

    /// Puts mode and trouble into what is seen; whether they were others.
    pub(super) fn turn(&self, seen: &mut Seen) -> bool {
        let (mode, trouble) = self.mode();
        if (seen.mode, &seen.trouble, seen.is_up) == (mode, &trouble, self.is_up) {
            return false;
        }
        if seen.mode != mode {
            seen.since = Timestamp::now();
        }
        (seen.mode, seen.trouble, seen.is_up) = (mode, trouble, self.is_up);
        true
    }
}

/// Turns the mode whenever the ground or the time has it so; does not end.
pub(super) async fn mind(mut ground: watch::Receiver<Ground>, seen: watch::Sender<Seen>) {
    loop {
        let turns = {
            let ground = ground.borrow_and_update();
            seen.send_if_modified(|seen| ground.turn(seen));
            ground.turns()
        };
        let turning = async {
            match turns {
                Some(turns) => sleep_until(turns).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            changed = ground.changed() => if changed.is_err() {
                return std::future::pending().await;
            },
            () = turning => {}
        }
    }
}
