//! The updates that the responder has verified: on their way to the core, and their results on the way back.
use std::collections::HashMap;
use std::sync::Arc;

use serde_json::Value;
use tokio::sync::{mpsc, oneshot, watch};

use crate::control::Refusal;
use crate::controller::core::{CallId, Input};
use crate::responder::UpdateChannel;
use crate::responder::update::{Order, UPDATES_MAX};
use crate::update::{Access, Failure};

/// The channels to the responder, and the updates under way.
#[derive(Debug)]
pub(super) struct Updates {
    access: watch::Sender<Arc<Access>>,
    orders: mpsc::Sender<Order>,
    waiting: mpsc::Receiver<Order>,
    under_way: HashMap<CallId, oneshot::Sender<Result<(), Failure>>>,
}

impl Default for Updates {
    fn default() -> Self {
        let (orders, waiting) = mpsc::channel(UPDATES_MAX);
        Updates { access: watch::Sender::default(), orders, waiting, under_way: HashMap::new() }
    }
}

impl Updates {
    /// Returns the responder's ends of the channels.
    pub(super) fn channel(&self) -> UpdateChannel {
        UpdateChannel { access: self.access.subscribe(), orders: self.orders.clone() }
    }

    /// Lets these keys update the zone.
    pub(super) fn configure(&self, access: Access) {
        self.access.send_if_modified(|known| {
            let is_other = **known != access;
            if is_other {
                *known = Arc::new(access);
            }
            is_other
        });
    }

    /// Waits for the next update. Cancel safe.
    pub(super) async fn next(&mut self) -> Order {
        match self.waiting.recv().await {
            Some(order) => order,
            None => std::future::pending().await,
        }
    }

    /// Returns the input for the core that begins an update.
    pub(super) fn begin(&mut self, call: CallId, Order { update, reply }: Order) -> Input {
        self.under_way.insert(call, reply);
        Input::Update { call, update: Box::new(update) }
    }

    /// Answers an update. Other calls are not known here.
    pub(super) fn end(&mut self, call: CallId, answer: Result<Value, Refusal>) {
        if let Some(reply) = self.under_way.remove(&call) {
            // The responder may have given up meanwhile.
            reply.send(answer.map(drop).map_err(Refusal::into_failure)).ok();
        }
    }
}
