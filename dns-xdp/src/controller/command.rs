//! The commands of the control socket. Each answers when its effect is published, or when nothing has changed.
use std::sync::Arc;

use jiff::Timestamp;
use serde_json::Value;

use super::change::{NodeChange, Proposal, differences};
use super::daemon::Daemon;
use super::event;
use super::query::query;
use super::status::{Surroundings, node_entries, status};
use crate::cluster::Admin;
use crate::config::replace_file;
use crate::control::api::{Done, Stats};
use crate::control::{Command, Refusal, RefusalKind};
use crate::datapath::Attached;
use crate::event::Occurrence;
use crate::failover::Decision;
use crate::intent::{self, Intent, Intents};
use crate::zone::Zone;

impl Daemon {
    /// Answers a command that the daemon outlives.
    pub(super) fn answer(&mut self, command: Command) -> Result<Value, Refusal> {
        match command {
            Command::Status => self.status(),
            Command::Stats => self.stats(),
            Command::Query { name, qtype } => {
                let (decision, zone) = self.published()?;
                let interfaces = self.publication.interfaces();
                let attached = interfaces.iter().any(|(_, attached)| *attached != Attached::Off);
                json(query(&self.watch.state, decision, &zone, attached, (&name, &qtype))?)
            }
            Command::Reload => json(self.reload()?),
            Command::NodeList => json(node_entries(&self.watch.state, &self.source)),
            Command::NodeAdd { name, ipv4, ipv6, ephemeral } => {
                self.change(&NodeChange::Add { name, ipv4, ipv6 }, ephemeral)
            }
            Command::NodeSet { name, ipv4, ipv6, ephemeral } => {
                self.change(&NodeChange::Set { name, ipv4, ipv6 }, ephemeral)
            }
            Command::NodeRemove { name, ephemeral } => self.change(&NodeChange::Remove { name }, ephemeral),
            Command::Admin { node, admin, reason } => self.admin(&node.to_ascii_lowercase(), admin, reason),
            Command::Handover | Command::Unload => unreachable!("they end the loop"),
            Command::Events { .. } => unreachable!("the control socket answers them from the journal"),
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
            started: self.watch.started,
            now: Timestamp::now(),
            interfaces: self.publication.interfaces(),
            lease_left: self.publication.lease_left(),
            up_to_date: !self.publication.pending(),
            alarms: self.publication.alarms(),
        };
        json(status(&self.watch.state, decision, around))
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
        })
    }

    /// All of the file or nothing.
    pub(super) fn reload(&mut self) -> Result<Done, Refusal> {
        let proposal = self.source.reload(self.watch.state.config(), self.read_file()?)?;
        let intents = self.watch.state.intents().clone();
        self.adopt(proposal, intents, event::reload)
    }

    fn change(&mut self, change: &NodeChange, ephemeral: bool) -> Result<Value, Refusal> {
        let file = if ephemeral { None } else { Some(self.read_file()?) };
        let proposal = self.source.change(change, file.as_deref())?;
        let name = change.name();
        let known = self.watch.state.config().cluster.nodes.iter().any(|node| node.name == name);
        // What is wanted of a node goes with it; one that comes back for good begins anew.
        let forgotten = match change {
            NodeChange::Add { .. } => !known,
            NodeChange::Set { .. } => false,
            NodeChange::Remove { .. } => !ephemeral,
        };
        let mut intents = self.watch.state.intents().clone();
        let forgotten = forgotten && intents.remove(&name).is_some();
        let mut done = self.adopt(proposal, intents, |notes| event::node(&name, notes))?;
        if forgotten && let Err(error) = self.store(self.watch.state.intents()) {
            done.notes.push(format!("what was wanted of `{name}` is not forgotten on disk: {error}"));
        }
        json(done)
    }

    /// Publishes what is proposed, then writes the file; if either fails, everything is as it was.
    fn adopt(
        &mut self,
        proposal: Proposal,
        intents: Intents,
        event: impl FnOnce(&[String]) -> Occurrence,
    ) -> Result<Done, Refusal> {
        let Proposal { config, source, write, notes } = proposal;
        let event = event(&differences(self.watch.state.config(), &config));
        let mut next = self.watch.state.clone();
        next.adopt(config);
        next.want(intents);
        next.decide();
        let before = self.publication.zone();
        self.publish(next.zone()).map_err(|refusal| self.take_back(before.as_deref(), refusal))?;
        if let Some(text) = write
            && let Err(error) = replace_file(source.path(), &text)
        {
            let message = format!(
                "cannot write {}: {error}; nothing was changed: make it writable, or use --ephemeral",
                source.path().display()
            );
            return Err(self.take_back(before.as_deref(), Refusal::new(RefusalKind::Failed, message)));
        }
        self.source = source;
        self.commit(next, Some(event));
        Ok(Done { notes })
    }

    fn publish(&mut self, zone: Option<Zone>) -> Result<(), Refusal> {
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

    fn admin(&mut self, name: &str, admin: Admin, reason: Option<String>) -> Result<Value, Refusal> {
        let names = || self.watch.state.config().cluster.nodes.iter().map(|node| node.name.as_str());
        if !names().any(|known| known == name) {
            return Err(Refusal::unknown_node(name, names()));
        }
        let intents = wanted(self.watch.state.intents(), name, admin, reason, Timestamp::now());
        if intents != *self.watch.state.intents() {
            self.store(&intents).map_err(|error| failed(anyhow::Error::msg(error)))?;
        }
        let mut next = self.watch.state.clone();
        if intents != *next.intents() {
            let reason = intents.get(name).and_then(|intent| intent.reason.as_deref());
            self.events.tell(event::admin(name, admin, reason));
        }
        next.want(intents);
        next.decide();
        let published = self.publish(next.zone());
        self.commit(next, None);
        let kept = |why: &str| {
            format!("`{name}` is to be {admin}, which is kept, but not in the answers yet: {why}")
        };
        published.map_err(|refusal| Refusal::new(refusal.kind, kept(&refusal.message)))?;
        let decision = self.watch.state.decision();
        if let Some(reason) = decision.and_then(|decision| decision.frozen.as_ref()) {
            return Err(Refusal::new(RefusalKind::Conflict, kept(&format!("they are frozen, {reason}"))));
        }
        let fail_open = decision.is_some_and(|decision| decision.fail_open);
        let note = || "no node is up: the answers are those of `[failover] all-down`".to_owned();
        json(Done { notes: fail_open.then(note).into_iter().collect() })
    }

    fn store(&self, intents: &Intents) -> Result<(), intent::Error> {
        intent::store(&self.watch.state.config().control.state, intents)
    }

    fn read_file(&self) -> Result<String, Refusal> {
        let path = self.source.path();
        let refusal = |error| format!("cannot read {}: {error}; nothing was changed", path.display());
        std::fs::read_to_string(path).map_err(|error| Refusal::new(RefusalKind::Failed, refusal(error)))
    }
}

/// The intents with one set. Setting the same again keeps its time, and its reason if none is given.
fn wanted(intents: &Intents, name: &str, admin: Admin, reason: Option<String>, now: Timestamp) -> Intents {
    let mut intents = intents.clone();
    match intents.get_mut(name) {
        Some(intent) if intent.admin == admin => intent.reason = reason.or(intent.reason.take()),
        None if admin == Admin::Auto => {}
        _ => {
            intents.insert(name.to_owned(), Intent { admin, reason, since: now });
        }
    }
    intents
}

#[expect(clippy::needless_pass_by_value, reason = "it is passed to map_err")]
fn failed(error: anyhow::Error) -> Refusal {
    Refusal::new(RefusalKind::Failed, format!("{error:#}"))
}

fn json(answer: impl serde::Serialize) -> Result<Value, Refusal> {
    serde_json::to_value(answer).map_err(|error| failed(error.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wanting_the_same_again_keeps_the_time_and_the_reason() {
        let [then, now] = [0, 60].map(|second| Timestamp::from_second(second).unwrap());
        let disk = || Some("disk".to_owned());
        let down = wanted(&Intents::new(), "node1", Admin::Down, disk(), then);
        assert_eq!(wanted(&down, "node1", Admin::Down, None, now), down);
        let fan = wanted(&down, "node1", Admin::Down, Some("fan".to_owned()), now);
        assert_eq!((fan["node1"].reason.as_deref(), fan["node1"].since), (Some("fan"), then));
        let auto = wanted(&down, "node1", Admin::Auto, None, now);
        assert_eq!(auto["node1"], Intent { admin: Admin::Auto, reason: None, since: now });
        assert!(wanted(&Intents::new(), "node1", Admin::Auto, None, now).is_empty());
    }
}
