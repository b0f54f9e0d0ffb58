//! The running daemon: one loop that judges, publishes, answers commands and keeps the lease alive.
use std::io;

use anyhow::Context as _;
use serde_json::Value;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::change::Source;
use super::events::Events;
use super::file::FileWatch;
use super::names::AskedNames;
use super::network::ServedNetwork;
use super::publication::Publication;
use super::rates::Rates;
use super::servers::Servers;
use super::sharing::Sharing;
use super::signals::{Signal, Signals};
use super::sky::Sky;
use super::state::State;
use super::told::Told;
use super::watch::Watch;
use super::{Unloaded, event, service, sharing, sky, start};
use crate::control::api::Done;
use crate::control::{Call, Command, Refusal, RefusalKind};
use crate::event::{Kind, Occurrence};
use crate::metrics::Recorder;
use crate::responder::Responder;

pub(super) type Reply = oneshot::Sender<Result<Value, Refusal>>;

/// Everything that a published daemon has.
#[derive(Debug)]
pub(super) struct Daemon {
    pub(super) watch: Watch,
    pub(super) publication: Publication,
    pub(super) source: Source,
    pub(super) responder: Responder,
    pub(super) network: ServedNetwork,
    pub(super) events: Events,
    pub(super) recorder: Recorder,
    /// What was told last of decision and answers.
    told: Option<Told>,
    /// Why the last reload that nobody waited for was refused.
    pub(super) refused: Option<String>,
    file: Option<FileWatch>,
    pub(super) rates: Rates,
    pub(super) asked_names: AskedNames,
    /// The other servers of the store; `None`: there is no store.
    pub(super) sharing: Option<Sharing>,
    /// The SkyDNS keys that are followed and written.
    pub(super) sky: Sky,
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
        (responder, network): (Responder, ServedNetwork),
        (events, told): (Events, Option<Told>),
        recorder: Recorder,
        sharing: Option<Sharing>,
    ) -> Self {
        let mut daemon = Daemon {
            watch,
            publication,
            source,
            responder,
            network,
            events,
            recorder,
            told,
            refused: None,
            file: None,
            rates: Rates::default(),
            asked_names: AskedNames::default(),
            sharing,
            sky: Sky::default(),
        };
        // Who was down at the start is in no answer from the start.
        daemon.watch.answered(false);
        daemon.recorder.go_live();
        daemon.network.bind(&mut daemon.responder);
        daemon.watch_file();
        daemon.speak();
        daemon
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
                news = sharing::next(&mut self.sharing) => self.news(news),
                () = self.network.changed() => self.follow_network(),
                text = settled(&mut self.file) => self.file_changed(text),
                signal = signals.next() => match signal {
                    Signal::Hangup => self.reload_unasked(self.read_file()),
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
        let Daemon { publication, responder, watch, events, sharing, sky, .. } = self;
        drop((watch, sky));
        if let (Some(sharing), Stop::Leave | Stop::Detach(_)) = (sharing, &stop) {
            sharing.leave().await;
        }
        let is_unloaded = matches!(stop, Stop::Detach(Some(_)));
        let (done, reply) = match stop {
            Stop::Leave => (publication.leave(), None),
            Stop::HandOver(reply) => (publication.hand_over(), Some(reply)),
            Stop::Detach(None) => (publication.detach().context("as root, try `dns-xdp unload`"), None),
            // The `unload` command that asked tries the rest itself.
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
        match done {
            // Whether everything could be removed or not: it is not to be started again.
            Ok(()) if is_unloaded => Err(Unloaded.into()),
            Err(error) if is_unloaded => Err(anyhow::Error::new(Unloaded).context(format!("{error:#}"))),
            done => done,
        }
    }

    fn obey(&mut self, Call { command, reply }: Call) -> Option<Stop> {
        match command {
            Command::Handover => Some(Stop::HandOver(reply)),
            Command::Unload => Some(Stop::Detach(Some(reply))),
            command => {
                if let Some(refusal) = sky::refuses(self.watch.state.config(), &command) {
                    reply.send(Err(refusal)).ok();
                } else if let Some((command, reply)) = self.share(command, reply) {
                    reply.send(self.answer(command)).ok();
                }
                None
            }
        }
    }

    fn beat(&mut self) {
        if self.publication.pending() {
            self.settle();
        }
        self.expire();
        self.answer_waiting();
        self.speak();
        self.publication.renew();
        // Programs come and go without a message of the kernel's.
        self.follow_network();
        self.recorder.beat();
        self.read_rates();
        self.asked_names.end_unless_looked_at(Instant::now());
        service::alive();
    }

    /// Serves what of the network is to be served now. What could not be bound is tried again.
    fn follow_network(&mut self) {
        if self.network.refresh() || self.network.is_pending() {
            self.network.bind(&mut self.responder);
        }
        self.publication.follow(self.network.serving(), self.network.network());
    }

    /// Watches the configuration file if that is wanted.
    fn watch_file(&mut self) {
        if !self.watch.state.config().control.watch {
            self.file = None;
        } else if self.file.is_none() {
            match FileWatch::start(self.source.path()) {
                Ok(file) => self.file = Some(file),
                Err(error) => tracing::error!("cannot watch {}: {error}", self.source.path().display()),
            }
        }
    }

    fn file_changed(&mut self, text: io::Result<String>) {
        let text = self.readable(text);
        if text.as_ref().is_ok_and(|text| self.source.is_filed(text)) {
            self.refused = None;
        } else {
            self.reload_unasked(text);
        }
    }

    /// A reload that nobody waits for: that it is refused has to be seen in the log and in the status.
    fn reload_unasked(&mut self, text: Result<String, Refusal>) {
        service::reloading();
        if let Err(refusal) = self.reload(text) {
            tracing::error!("nothing was reloaded: {refusal}");
            self.refused = Some(alarm(&refusal));
        }
        service::ready();
    }

    /// Decides anew and publishes what follows. What cannot be published is tried again with the next beat.
    fn settle(&mut self) {
        self.settle_on(self.watch.state.clone());
    }

    /// As [`Daemon::settle`], from a state that has changed.
    pub(super) fn settle_on(&mut self, mut next: State) {
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
        let mut moved = false;
        if let (Some(before), Some(now)) = (&self.told, &now) {
            let told = now.since(before, &next, change);
            moved = told.iter().any(|what| what.kind == Kind::Failover);
            told.into_iter().for_each(|what| self.events.tell(what));
        }
        let follows = next.decision().is_some_and(|decision| decision.frozen.is_none());
        if follows && !self.publication.pending() {
            self.watch.answered(moved);
        }
        self.told = now;
        self.events.configure(&next.config().events);
        self.watch.replace(next);
        self.watch_file();
        self.speak();
    }
}

/// Waits for ever where no file is watched. Cancel safe.
async fn settled(file: &mut Option<FileWatch>) -> io::Result<String> {
    match file {
        Some(file) => file.next().await,
        None => std::future::pending().await,
    }
}

/// In one line, however much is wrong.
fn alarm(refusal: &Refusal) -> String {
    const MOST: usize = 3;
    let mut problems: Vec<&str> = refusal.message.lines().collect();
    let more = problems.len().saturating_sub(MOST);
    problems.truncate(MOST);
    let more = if more == 0 { String::new() } else { format!("; and {more} more") };
    format!("the last reload was refused, what was in force stays: {}{more}", problems.join("; "))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refused_reload_is_an_alarm_of_one_line() {
        let refused = |message: &str| alarm(&Refusal::new(RefusalKind::Invalid, message));
        assert_eq!(refused("f:1: a"), "the last reload was refused, what was in force stays: f:1: a");
        let many = refused("f:1: a\nf:2: b\nf:3: c\nf:4: d\nf:5: e");
        assert!(many.ends_with("stays: f:1: a; f:2: b; f:3: c; and 2 more"), "{many}");
    }
}
