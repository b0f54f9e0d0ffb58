//! The places of a listener's connections. Decides which connection makes room for the next one.
use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::task::{Context, Poll};

use bytes::Bytes;
use hyper::body::{Body, Frame, Incoming, SizeHint};
use tokio::task::AbortHandle;

/// The value of [`Activity::since`] while an answer is computed.
const BUSY: u64 = u64::MAX;

/// The connections of a listener, by group.
#[derive(Debug)]
pub(super) struct Places {
    /// The most connections of a group.
    limit: usize,
    groups: BTreeMap<usize, Vec<(Activity, AbortHandle)>>,
    clock: Arc<AtomicU64>,
}

/// A free place.
pub(super) struct Place<'a>(&'a mut Vec<(Activity, AbortHandle)>);

/// Whether a connection waits for its client, and since when. Cheap to clone.
#[derive(Debug, Clone)]
pub(super) struct Activity {
    /// The reading of the clock when the wait began, or [`BUSY`].
    since: Arc<AtomicU64>,
    /// Counts the waits that have begun on all connections of the listener.
    clock: Arc<AtomicU64>,
}

impl Places {
    pub(super) fn new(limit: usize) -> Self {
        Places { limit, groups: BTreeMap::new(), clock: Arc::default() }
    }

    /// Returns the activity of a new connection, which waits for its client.
    pub(super) fn activity(&self) -> Activity {
        let activity = Activity { since: Arc::default(), clock: Arc::clone(&self.clock) };
        activity.wait();
        activity
    }

    /// Finds a place in a group. In a full group, closes the connection that has waited longest for its client. `None`:
    /// all connections of the group are being answered.
    pub(super) fn free(&mut self, group: usize) -> Option<Place<'_>> {
        let connections = self.groups.entry(group).or_default();
        connections.retain(|(_, task)| !task.is_finished());
        if connections.len() >= self.limit {
            let waiting = connections.iter().enumerate().filter_map(|(index, (activity, _))| {
                let since = activity.since.load(Ordering::Relaxed);
                (since != BUSY).then_some((since, index))
            });
            let (_, longest) = waiting.min()?;
            connections.swap_remove(longest).1.abort();
        }
        Some(Place(connections))
    }
}

impl Place<'_> {
    /// Gives the place to a connection and its task.
    pub(super) fn take(self, activity: Activity, task: AbortHandle) {
        self.0.push((activity, task));
    }
}

impl Activity {
    /// Marks that the connection waits for its client: for a request, or until an answer is read.
    pub(super) fn wait(&self) {
        self.since.store(self.clock.fetch_add(1, Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Marks that the connection has a whole request, which is being answered.
    fn answer(&self) {
        self.since.store(BUSY, Ordering::Relaxed);
    }
}

/// The body of a request. The connection no longer waits for its client when the whole body has arrived.
#[derive(Debug)]
pub(super) struct Arriving {
    body: Incoming,
    activity: Activity,
}

impl Arriving {
    pub(super) fn new(body: Incoming, activity: Activity) -> Self {
        if body.is_end_stream() {
            activity.answer();
        }
        Arriving { body, activity }
    }
}

impl Body for Arriving {
    type Data = Bytes;
    type Error = hyper::Error;

    fn poll_frame(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, hyper::Error>>> {
        let arriving = self.get_mut();
        let frame = Pin::new(&mut arriving.body).poll_frame(context);
        if arriving.body.is_end_stream() || matches!(frame, Poll::Ready(None)) {
            arriving.activity.answer();
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Takes a place for a connection that never ends.
    fn take(places: &mut Places, group: usize) -> Option<(Activity, AbortHandle)> {
        let activity = places.activity();
        let task = tokio::spawn(std::future::pending::<()>()).abort_handle();
        places.free(group)?.take(activity.clone(), task.clone());
        Some((activity, task))
    }

    #[tokio::test]
    async fn the_connection_that_waits_longest_makes_room_and_no_other_group_does() {
        let mut places = Places::new(2);
        let (_, other) = take(&mut places, 1).unwrap();
        let (first, first_task) = take(&mut places, 0).unwrap();
        let (second, second_task) = take(&mut places, 0).unwrap();
        // The first client has asked, was answered, and waits again.
        first.answer();
        first.wait();
        let (third, third_task) = take(&mut places, 0).unwrap();
        tokio::task::yield_now().await;
        let ended = [&other, &first_task, &second_task, &third_task].map(AbortHandle::is_finished);
        assert_eq!(ended, [false, false, true, false]);
        drop(second);
        first.answer();
        third.answer();
        assert!(take(&mut places, 0).is_none(), "both are being answered");
        assert!(take(&mut places, 1).is_some());
    }
}
