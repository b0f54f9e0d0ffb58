//! Notifications to the service manager (sd_notify(3)); without one, nothing happens.
use std::time::Duration;

use sd_notify::NotifyState;

/// Reports that the first zone is published.
pub(super) fn ready() {
    notify(&[NotifyState::Ready]);
}

/// Reports that the configuration is being read again; [`ready`] ends this state.
pub(super) fn reloading() {
    match NotifyState::monotonic_usec_now() {
        Ok(now) => notify(&[NotifyState::Reloading, now]),
        Err(_) => notify(&[NotifyState::Reloading]),
    }
}

pub(super) fn stopping() {
    notify(&[NotifyState::Stopping]);
}

/// Reports that core and publisher run.
pub(super) fn alive() {
    if sd_notify::watchdog_enabled().is_some() {
        notify(&[NotifyState::Watchdog]);
    }
}

/// The longest time between two calls of [`alive`]: half of the watchdog's period.
pub(super) fn watchdog_interval() -> Option<Duration> {
    sd_notify::watchdog_enabled().map(|period| period / 2)
}

fn notify(state: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(state) {
        tracing::warn!(%error, "cannot reach the service manager on $NOTIFY_SOCKET");
    }
}
