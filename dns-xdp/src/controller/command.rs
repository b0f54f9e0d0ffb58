//! The commands of the control socket. Each answers when its effect is published, or when nothing has changed.
use std::collections::BTreeSet;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use dns_xdp_ebpf::outcome::Outcome;
use jiff::Timestamp;
use serde_json::Value;
use tokio::time::Instant;

use super::change::Proposal;
use super::daemon::Daemon;
use super::edit::{ClusterChange, NodeChange};
use super::event;
use super::privileges;
use super::query::query;
use super::rates::Answered;
use super::sharing::Sharing;
use super::status::{Surroundings, milliseconds, node_entries, service_entries, status};
use crate::config::Replacement;
use crate::control::api::{Done, ServiceEntry, Stats, StoreStatus};
use crate::control::{Command, Refusal, RefusalKind};
use crate::datapath::Attached;
use crate::event::Occurrence;
use crate::failover::Decision;
use crate::intent::{Intents, Wish};
use crate::responder::RATE_LIMITED;
use crate::zone::Zone;

impl Daemon {
    /// Answers a command that the daemon outlives.
    pub(super) fn answer(&mut self, command: Command) -> Result<Value, Refusal> {
        match command {
            Command::Status => self.status(),
            Command::Stats => self.stats(),
            Command::Names => self.names(),
            Command::Cluster => self.cluster_status(),
            Command::AcceptStore => self.accept_store(),
            Command::Query { name, qtype } => {
                let (decision, zone) = self.published()?;
                let interfaces = self.publication.interfaces();
                let attached = interfaces.iter().any(|interface| interface.mode != Attached::Off);
                json(query(&self.watch.state, decision, &zone, attached, (&name, &qtype))?)
            }
            Command::Reload => {
                let text = self.read_file();
                json(self.reload(text)?)
            }
            Command::NodeList => json(node_entries(&self.watch.state, &self.source)),
            Command::ServiceList => json(self.services()?),
            Command::Admin { node, admin, reason, by, for_ms, force } => {
                let wish = Wish { admin, reason, by, lasting: for_ms.map(Duration::from_millis) };
                json(self.admin(&node.to_ascii_lowercase(), wish, force)?)
            }
            Command::Handover | Command::Unload => unreachable!("they end the loop"),
            Command::Events { .. } => unreachable!("the control socket answers them from the journal"),
            command => match ClusterChange::asked(command) {
                Ok((change, ephemeral)) => self.change(&change, ephemeral),
                Err(command) => unreachable!("{command:?} has been answered"),
            },
        }
    }

    fn published(&self) -> Result<(&Decision, Arc<Zone>), Refusal> {
        let published = self.watch.state.decision().zip(self.publication.zone());
        published.ok_or_else(|| Refusal::new(RefusalKind::Failed, "nothing is published yet; ask again"))
    }

    fn status(&self) -> Result<Value, Refusal> {
        let (decision, zone) = self.published()?;
        let around = Surroundings {
            published: &zone,
            published_at: self.publication.at,
            publishing: self.publication.took,
            caches: (&self.publication.caches, Instant::now()),
            now: Timestamp::now(),
            uptime: self.watch.uptime(),
            interfaces: self.publication.interfaces(),
            addresses: &self.network.serving().addresses,
            lease_left: self.publication.lease_left(),
            up_to_date: !self.publication.pending(),
            rate: self.answered().ok().and_then(|answered| self.rates.rate(Instant::now(), answered)),
            held_back: self.held_back(),
            store: self.store_status(),
            alarms: self.alarms(),
        };
        json(status(&self.watch.state, decision, around))
    }

    fn store_status(&self) -> StoreStatus {
        let epoch = self.watch.state.config().epoch();
        let of_file = || StoreStatus { epoch, ..StoreStatus::default() };
        self.sharing.as_ref().map_or_else(of_file, |sharing| sharing.status(epoch))
    }

    fn alarms(&self) -> Vec<String> {
        let of_store = self.sharing.iter().flat_map(Sharing::alarms);
        let of_keys = self.sky.alarms();
        self.publication
            .alarms()
            .into_iter()
            .chain(self.refused.clone())
            .chain(of_store)
            .chain(of_keys)
            .chain(self.network.alarms())
            .chain(self.fallback_alarm())
            .collect()
    }

    /// The limit on what the responder is given is felt.
    fn fallback_alarm(&self) -> Option<String> {
        let kept = self.answered().ok().map_or(0, |answered| self.rates.kept(answered));
        let most = self.watch.state.config().guard.fallback_per_second;
        (kept != 0).then(|| {
            format!(
                "{kept} queries were kept from the responder in the last seconds, above [fallback] queries-per-second = {most}; \
                 dns-xdp top shows what is asked"
            )
        })
    }

    /// See [`Surroundings::held_back`]; nothing where the counters cannot be read.
    fn held_back(&self) -> [u64; 3] {
        let xdp = self.publication.counters().unwrap_or_default();
        let count = |outcome: Outcome| xdp.get(outcome.text()).copied().unwrap_or(0);
        let responder = self.responder.counters().total().get(RATE_LIMITED).copied().unwrap_or(0);
        [count(Outcome::RateLimited) + responder, count(Outcome::Slipped), count(Outcome::FallbackLimited)]
    }

    fn stats(&self) -> Result<Value, Refusal> {
        let owned = |(text, count): (&'static str, u64)| (text.to_owned(), count);
        let xdp = self.publication.counters().map_err(failed)?;
        let controller = [
            ("probes", self.watch.probes),
            ("transitions", self.watch.transitions),
            ("publications", self.publication.count),
            ("publication-failures", self.publication.failures),
            ("events", self.events.count()),
            ("on-event-failures", self.events.notified().failures),
            ("on-event-overflows", self.events.notified().overflows),
        ];
        json(Stats {
            xdp: xdp.into_iter().map(owned).collect(),
            responder: self.responder.counters().total().into_iter().map(owned).collect(),
            controller: controller.into_iter().map(owned).collect(),
            transmit_errors: self.publication.transmit_errors(),
        })
    }

    /// Whoever asks looks: the program goes on sampling for a while, and ends by itself.
    fn names(&mut self) -> Result<Value, Refusal> {
        let now = Instant::now();
        let names = self.publication.asked_names();
        self.asked_names.count(names, now);
        let rate = self.answered().ok().and_then(|answered| self.rates.rate(now, answered));
        let one_of = self.asked_names.one_of(rate.map_or(0.0, |rate| rate.queries_per_second));
        let interfaces = self.publication.interfaces();
        let attached = interfaces.iter().any(|interface| interface.mode != Attached::Off);
        if attached {
            self.publication.sample(one_of).map_err(failed)?;
        }
        json(self.asked_names.answer(attached))
    }

    fn answered(&self) -> anyhow::Result<Answered> {
        Ok(Answered::new(&self.publication.counters()?, &self.responder.counters().total()))
    }

    pub(super) fn read_rates(&mut self) {
        let now = Instant::now();
        if self.rates.due(now)
            && let Ok(answered) = self.answered()
        {
            self.rates.read(now, answered);
        }
    }

    /// All of the file's text or nothing.
    pub(super) fn reload(&mut self, text: Result<String, Refusal>) -> Result<Done, Refusal> {
        let done = text.and_then(|text| self.take_over(text));
        self.recorder.reloaded(done.is_ok());
        done
    }

    fn take_over(&mut self, text: String) -> Result<Done, Refusal> {
        let proposal = self.source.reload(self.watch.state.config(), text)?;
        if let Some(reason) = privileges::beyond(&proposal.config) {
            return Err(Refusal::new(RefusalKind::Conflict, format!("nothing was reloaded: {reason}")));
        }
        let intents = self.watch.state.intents().clone();
        let done = self.adopt(proposal, intents, event::reload)?;
        self.refused = None;
        Ok(done)
    }

    fn change(&mut self, change: &ClusterChange, ephemeral: bool) -> Result<Value, Refusal> {
        let file = if ephemeral { None } else { Some(self.read_file()?) };
        let proposal = self.source.change(change, file.as_deref())?;
        let name = change.name();
        let node = change.node().unwrap_or_default();
        let known = self.watch.state.config().cluster.nodes.iter().any(|known| known.name == node);
        // What is wanted of a node goes with it; one that comes back for good begins anew.
        let forgotten = match change {
            ClusterChange::Node(NodeChange::Add { .. }) => !known,
            ClusterChange::Node(NodeChange::Remove { .. }) => !ephemeral,
            ClusterChange::Node(NodeChange::Set { .. }) | ClusterChange::Service(_) => false,
        };
        let before: BTreeSet<IpAddr> = self.addresses(&node).collect();
        let mut intents = self.watch.state.intents().clone();
        let forgotten = forgotten && intents.remove(&node).is_some();
        let event = match change {
            ClusterChange::Node(_) => event::node,
            ClusterChange::Service(_) => event::service,
        };
        let mut done = self.adopt(proposal, intents, |notes| event(&name, notes))?;
        if forgotten && let Err(error) = self.store(self.watch.state.intents()) {
            done.notes.push(format!("what was wanted of `{name}` is not forgotten on disk: {error}"));
        }
        let left: Vec<IpAddr> = before.difference(&self.addresses(&node).collect()).copied().collect();
        if !left.is_empty() {
            done.cached_ms = Some(milliseconds(self.publication.caches.left(left, Instant::now())));
        }
        json(done)
    }

    fn services(&self) -> Result<Vec<ServiceEntry>, Refusal> {
        let (_, zone) = self.published()?;
        Ok(service_entries(&self.watch.state, &self.source, &zone))
    }

    /// None when there is no such node.
    pub(super) fn addresses(&self, name: &str) -> impl Iterator<Item = IpAddr> + use<> {
        let mut nodes = self.watch.state.config().cluster.nodes.iter();
        let node = nodes.find(|node| node.name == name).cloned();
        node.into_iter().flat_map(|node| node.addresses())
    }

    /// Writes the file's new text beside it, publishes what is proposed, and puts the text in the file's place; if one of
    /// these fails, everything is as it was. What cannot be written is answered at no time.
    fn adopt(
        &mut self,
        proposal: Proposal,
        intents: Intents,
        event: impl FnOnce(&[String]) -> Occurrence,
    ) -> Result<Done, Refusal> {
        let Proposal { config, source, write, notes } = proposal;
        let unwritten = |error: io::Error| {
            let message = format!(
                "cannot write {}: {error}; nothing was changed: make it writable, or use --ephemeral",
                source.path().display()
            );
            Refusal::new(RefusalKind::Failed, message)
        };
        let write =
            write.map(|text| Replacement::write(source.path(), &text)).transpose().map_err(unwritten)?;
        let event = event(&self.source.differences(&source));
        let mut next = self.watch.state.clone();
        next.adopt(config);
        next.want(intents);
        next.decide();
        let before = self.publication.zone();
        self.publish(next.zone()).map_err(|refusal| self.take_back(before.as_deref(), refusal))?;
        if let Some(replacement) = write
            && let Err(error) = replacement.take_effect()
        {
            return Err(self.take_back(before.as_deref(), unwritten(error)));
        }
        self.source = source;
        self.commit(next, Some(event));
        Ok(Done { notes, cached_ms: None })
    }

    pub(super) fn publish(&mut self, zone: Option<Zone>) -> Result<(), Refusal> {
        zone.map_or(Ok(()), |zone| self.publication.publish(zone)).map_err(failed)
    }

    /// Puts the zone before a refused change back. Where that fails, the next beat tries again.
    fn take_back(&mut self, before: Option<&Zone>, refusal: Refusal) -> Refusal {
        match self.publish(before.cloned()) {
            Ok(()) => refusal,
            Err(error) => {
                let message = format!("{refusal}; the answers could not be put back yet: {error}");
                Refusal::new(RefusalKind::Failed, message)
            }
        }
    }

    pub(super) fn read_file(&self) -> Result<String, Refusal> {
        self.readable(std::fs::read_to_string(self.source.path()))
    }

    pub(super) fn readable(&self, text: io::Result<String>) -> Result<String, Refusal> {
        let path = self.source.path().display();
        let refusal = |error| format!("cannot read {path}: {error}; nothing was changed");
        text.map_err(|error| Refusal::new(RefusalKind::Failed, refusal(error)))
    }
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
pub(super) fn failed(error: anyhow::Error) -> Refusal {
    Refusal::new(RefusalKind::Failed, format!("{error:#}"))
}

fn json(answer: impl serde::Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer).map_err(|error| failed(error.into()))
}
