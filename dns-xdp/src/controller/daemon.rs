//! The running daemon: one loop that judges, publishes, answers commands and keeps the lease alive.
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};

use super::change::Source;
use super::events::Events;
use super::publication::Publication;
use super::servers::Servers;
use super::signals::{Signal, Signals};
use super::state::State;
use super::told::Told;
use super::watch::Watch;
use super::{event, service, start};
use crate::control::api::Done;
use crate::control::{Call, Command, Refusal, RefusalKind};
use crate::event::Occurrence;
use crate::responder::Responder;

type Reply = oneshot::Sender<Result<Value, Refusal>>;

/// Everything that a published daemon has.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) watch: Watch,
    pub(super) publication: Publication,
    pub(super) source: Source,
    pub(super) responder: Responder,
    pub(super) events: Events,
    /// What was told last of decision and answers.
    told: Option<Told>,
}

/// How to end.
#[derive(Debug)]
pub(super) enum Stop {
    /// The program answers for the grace: SIGTERM.
    Leave,
    /// The program answers for a lease, the successor is told.
    HandOver(Reply),
    /// Nothing is left: SIGINT, or `unload`, which is told.
    Detach(Option<Reply>),
}

impl Stop {
    fn text(&self) -> &'static str {
        match self {
            Stop::Leave => "the program answers on for [xdp] stop-grace",
            Stop::HandOver(_) => "another daemon takes over",
            Stop::Detach(_) => "the program is detached",
        }
    }
}

impl Daemon {
    pub(super) fn new(
        watch: Watch,
        publication: Publication,
        source: Source,
        responder: Responder,
        (events, told): (Events, Option<Told>),
    ) -> Self {
        Daemon { watch, publication, source, responder, events, told }
    }

    /// Runs until somebody asks for an end. Lease and watchdog are kept alive from here and nowhere else: a loop
    /// that hangs lets both run out.
    pub(super) async fn serve(&mut self, mut inbox: mpsc::Receiver<Call>, signals: &mut Signals) -> Stop {
        let mut beat = start::beat(&self.publication);
        loop {
            tokio::select! {
                report = self.watch.next() => if self.watch.observe(&report) {
                    self.settle();
                },
                Some(call) = inbox.recv() => if let Some(stop) = self.obey(call) {
                    return stop;
                },
                _ = beat.tick() => self.beat(),
                signal = signals.next() => match signal {
                    Signal::Hangup => self.reload_by_signal(),
                    Signal::Interrupt => return Stop::Detach(None),
                    Signal::Terminate => return Stop::Leave,
                },
            }
        }
    }

    /// Ends in good order: the program first, for it is what others wait for or rely on.
    pub(super) async fn stop(self, stop: Stop, servers: Servers) -> anyhow::Result<()> {
        service::stopping();
        self.events.tell(event::stop(stop.text()));
        let Daemon { publication, responder, watch, events, .. } = self;
        drop(watch);
        let (done, reply) = match stop {
            Stop::Leave => (publication.leave(), None),
            Stop::HandOver(reply) => (publication.hand_over(), Some(reply)),
            Stop::Detach(reply) => (publication.detach(), reply),
        };
        if let Some(reply) = reply {
            let answer = match &done {
                Ok(()) => Ok(serde_json::json!(Done::default())),
                Err(error) => Err(Refusal::new(RefusalKind::Failed, format!("{error:#}"))),
            };
            // Whoever asked may have gone meanwhile.
            reply.send(answer).ok();
        }
        servers.stop().await;
        tokio::join!(responder.shutdown(), events.finish());
        tracing::info!("stopped");
        done
    }

    fn obey(&mut self, Call { command, reply }: Call) -> Option<Stop> {
        match command {
            Command::Handover => Some(Stop::HandOver(reply)),
            Command::Unload => Some(Stop::Detach(Some(reply))),
            command => {
                reply.send(self.answer(command)).ok();
                None
            }
        }
    }

    fn beat(&mut self) {
        if self.publication.pending() {
            self.settle();
        }
        self.publication.renew();
        service::alive();
    }

    fn reload_by_signal(&mut self) {
        service::reloading();
        if let Err(refusal) = self.reload() {
            tracing::error!("nothing was reloaded: {refusal}");
        }
        service::ready();
    }

    /// Decides anew and publishes what follows. What cannot be published is tried again with the next beat.
    fn settle(&mut self) {
        let mut next = self.watch.state.clone();
        next.decide();
        if let Some(zone) = next.zone() {
            // The publication tells of its own trouble.
            self.publication.publish(zone).ok();
        }
        self.commit(next, None);
    }

    /// Puts a decided state into force, once it is published or sure to be; `change`: another configuration comes
    /// with it.
    pub(super) fn commit(&mut self, next: State, change: Option<Occurrence>) {
        let now = self.publication.zone().and_then(|zone| Told::new(&next, zone));
        if let (Some(before), Some(now)) = (&self.told, &now) {
            now.since(before, &next, change).into_iter().for_each(|what| self.events.tell(what));
        }
        self.told = now;
        self.events.configure(&next.config().events);
        self.watch.replace(next);
    }
}
