//! The commands of the control socket. A command that changes something is answered when the change is published, or
//! when nothing had to change.
use std::sync::Arc;
use std::time::Duration;

use dns_xdp_ebpf::outcome::Outcome;
use hickory_proto::rr::Name;
use serde::Serialize;

use super::Core;
use super::changes::{Asker, What};
use super::cluster_change::ClusterChange;
use super::input::{CallId, Effect, Purpose, Readings};
use super::listing::Listing;
use super::query::query;
use super::rates::Answered;
use super::shared::Shared;
use super::status::{Surroundings, node_entries, service_entries, status, suffix_entries};
use crate::cluster::Node;
use crate::config::Config;
use crate::control::api::{Names, QueryAnswer, Stats, Status, StoreStatus};
use crate::control::{Command, Refusal, RefusalKind};
use crate::datapath::Attached;
use crate::failover::Decision;
use crate::intent::IntentRequest;
use crate::responder::RATE_LIMITED;
use crate::store::skydns::{path, place};
use crate::zone::{Authority, Zone};

impl Core {
    /// Performs a command that does not end the daemon.
    pub(super) fn command(&mut self, call: CallId, command: Command) {
        if let Some(refusal) = followed_elsewhere(self.health.config(), &command) {
            return self.reply::<()>(call, Err(refusal));
        }
        let Some(command) = self.share(call, command) else { return };
        match command {
            Command::Status | Command::Stats | Command::Names | Command::Query { .. } => {
                self.effects.push(Effect::Read(Purpose::Command { call, command }));
            }
            Command::Cluster => {
                let status = self.cluster_status();
                self.reply(call, status);
            }
            Command::AcceptStore => self.accept_store(call, false),
            Command::CompareStore => self.accept_store(call, true),
            Command::ZoneExport => self.export_zone(call, None),
            Command::ZoneExportOf { zone } => self.export_zone(call, Some(&zone)),
            Command::NodeList => {
                let nodes = node_entries(&self.health, &self.source, &self.local);
                self.reply(call, Ok(nodes));
            }
            Command::ServiceList => {
                let services =
                    self.answered().map(|(_, zone)| service_entries(&self.health, &self.source, &zone));
                self.reply(call, services);
            }
            Command::SuffixList => {
                let suffixes = suffix_entries(&self.health, &self.source);
                self.reply(call, Ok(suffixes));
            }
            Command::RecordList => {
                let listing = Listing::records(Arc::clone(self.health.config()), &self.source);
                self.effects.push(Effect::ReplyListing { call, listing });
            }
            Command::Reload { force } => {
                self.change(Asker::Call(call), What::Reload { force, text: None });
            }
            Command::Admin { node, admin, reason, by, for_ms, force, local: _ } => {
                let request = IntentRequest { admin, reason, by, lasting: for_ms.map(Duration::from_millis) };
                let node = node.to_ascii_lowercase();
                self.change(Asker::Call(call), What::Intent { node, request, force });
            }
            Command::Failback { node, by } => {
                let node = node.to_ascii_lowercase();
                self.change(Asker::Call(call), What::Failback { node, by });
            }
            command => match ClusterChange::asked(command) {
                Ok((change, ephemeral)) => self.change(Asker::Call(call), What::Edit { change, ephemeral }),
                Err(command) => {
                    let text = format!("a defect of dns-xdp: no part of it answers {command:?}");
                    self.reply::<()>(call, Err(Refusal::new(RefusalKind::Failed, text)));
                }
            },
        }
    }

    pub(super) fn reply<T: Serialize>(&mut self, call: CallId, answer: Result<T, Refusal>) {
        let answer = answer.and_then(|answer| {
            serde_json::to_value(answer).map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string()))
        });
        self.effects.push(Effect::Reply { call, answer });
    }

    /// Takes counters and states that were read.
    pub(super) fn read(&mut self, what: Purpose, mut readings: Readings) {
        let now = self.now.elapsed;
        match what {
            Purpose::Rates => {
                if let Some(answered) = answered_by(&readings) {
                    self.rates.read(now, answered);
                }
            }
            Purpose::Command { call, command: Command::Names } => {
                let names = self.names(&mut readings);
                self.reply(call, Ok(names));
            }
            Purpose::Command { call, command: Command::Stats } => {
                let stats = self.stats(readings);
                self.reply(call, stats);
            }
            Purpose::Command { call, command: Command::Query { name, qtype } } => {
                let answer = self.query(&readings, &name, &qtype);
                self.reply(call, answer);
            }
            Purpose::Command { call, .. } => {
                let status = self.status(&readings);
                self.reply(call, status);
            }
        }
    }

    fn answered(&self) -> Result<(&Decision, Arc<Zone>), Refusal> {
        let answered = self.health.decision().zip(self.answering.zone.clone());
        answered.ok_or_else(|| Refusal::new(RefusalKind::Failed, "nothing is published yet; ask again"))
    }

    /// Answers with the zone file of one apex; `None`: the zone's own.
    fn export_zone(&mut self, call: CallId, name: Option<&str>) {
        let zone = self.answered().map(|(_, zone)| zone);
        match zone.and_then(|zone| Ok((apex_named(&zone, name)?, zone))) {
            Ok((apex, zone)) => {
                let listing = Listing::ZoneFile(zone, apex);
                self.effects.push(Effect::ReplyListing { call, listing });
            }
            Err(refusal) => self.reply::<()>(call, Err(refusal)),
        }
    }

    fn query(&self, readings: &Readings, name: &str, qtype: &str) -> Result<QueryAnswer, Refusal> {
        let (decision, zone) = self.answered()?;
        query(&self.health, decision, &zone, is_attached(readings), (name, qtype))
    }

    fn status(&self, readings: &Readings) -> Result<Status, Refusal> {
        let (decision, zone) = self.answered()?;
        let now = self.now.elapsed;
        let stale_after = self.health.config().xdp.stale_after;
        let around = Surroundings {
            answering: (&self.answering, &zone),
            now: self.now.wall,
            uptime: now,
            interfaces: &readings.interfaces,
            addresses: &readings.addresses,
            lease_left: stale_after.map(|lease| lease.saturating_sub(now.saturating_sub(self.lease.renewed))),
            rate: answered_by(readings).and_then(|answered| self.rates.rate(now, answered)),
            held_back: held_back(readings),
            store: self.store_status(),
            local: &self.local,
            alarms: self.alarms(readings),
        };
        Ok(status(&self.health, decision, around))
    }

    fn store_status(&self) -> StoreStatus {
        let epoch = self.health.config().epoch();
        let of_file = || StoreStatus { epoch, ..StoreStatus::default() };
        self.shared.as_ref().map_or_else(of_file, |shared| shared.status(epoch))
    }

    fn alarms(&self, readings: &Readings) -> Vec<String> {
        let own = [&self.answering.trouble, &self.lease.trouble, &self.refused];
        let own = own.into_iter().flatten().cloned().chain(self.unkept_alarm());
        own.chain(self.shared.iter().flat_map(Shared::alarms))
            .chain(self.local_alarms())
            .chain(readings.alarms.iter().cloned())
            .chain(self.ended.values().cloned())
            .chain(self.fallback_alarm(readings))
            .collect()
    }

    /// The alarm that `[fallback]` kept queries from the responder in the last seconds.
    fn fallback_alarm(&self, readings: &Readings) -> Option<String> {
        let kept = answered_by(readings).map_or(0, |answered| self.rates.kept(answered));
        let most = self.health.config().flood_limits.fallback_per_second;
        (kept != 0).then(|| {
            format!(
                "{kept} queries were kept from the responder in the last seconds, above [fallback] queries-per-second = {most}; \
                 dns-xdp top shows what is asked"
            )
        })
    }

    fn stats(&self, readings: Readings) -> Result<Stats, Refusal> {
        let owned = |(text, count): (&'static str, u64)| (text.to_owned(), count);
        let xdp = readings.xdp.map_err(|error| Refusal::new(RefusalKind::Failed, error))?;
        let [events, failures, overflows] = readings.events;
        let controller = [
            ("probes", self.probing.results),
            ("transitions", self.probing.transitions),
            ("publications", self.answering.count),
            ("publication-failures", self.answering.failures),
            ("events", events),
            ("on-event-failures", failures),
            ("on-event-overflows", overflows),
        ];
        Ok(Stats {
            xdp: xdp.into_iter().map(owned).collect(),
            responder: readings.responder.into_iter().map(owned).collect(),
            controller: controller.into_iter().map(owned).collect(),
            transmit_errors: readings.transmit_errors,
        })
    }

    /// The names most asked. Each call prolongs the program's sampling for a while; then sampling ends by itself.
    fn names(&mut self, readings: &mut Readings) -> Names {
        let now = self.now.elapsed;
        self.top_names.count(std::mem::take(&mut readings.sampled_names), now);
        let rate = answered_by(readings).and_then(|answered| self.rates.rate(now, answered));
        let one_of = self.top_names.one_of(rate.map_or(0.0, |rate| rate.queries_per_second));
        let attached = is_attached(readings);
        if attached {
            self.effects.push(Effect::Sample(one_of));
        }
        self.top_names.answer(attached)
    }
}

fn is_attached(readings: &Readings) -> bool {
    readings.interfaces.iter().any(|interface| interface.mode != Attached::Off)
}

/// The answers counted so far; `None`: the program's counters cannot be read.
fn answered_by(readings: &Readings) -> Option<Answered> {
    Some(Answered::new(readings.xdp.as_ref().ok()?, &readings.responder))
}

/// Returns the apex that a name means; `None` means the zone's own.
fn apex_named(zone: &Zone, name: Option<&str>) -> Result<Name, Refusal> {
    let Some(text) = name else { return Ok(zone.apex().clone()) };
    let wanted = format!("{}.", text.trim_end_matches('.').to_ascii_lowercase());
    let apexes = || zone.authorities().iter().map(Authority::apex);
    apexes().find(|apex| apex.to_string() == wanted).cloned().ok_or_else(|| {
        let shown = apexes().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        Refusal::new(RefusalKind::NotFound, format!("{text} is no zone of this server; there is {shown}"))
    })
}

/// The counters of [`Surroundings::held_back`]; zero if they cannot be read.
fn held_back(readings: &Readings) -> [u64; 3] {
    let count = |outcome: Outcome| {
        readings.xdp.as_ref().map_or(0, |counters| counters.get(outcome.text()).copied().unwrap_or(0))
    };
    let responder = readings.responder.get(RATE_LIMITED).copied().unwrap_or(0);
    [count(Outcome::RateLimited) + responder, count(Outcome::Slipped), count(Outcome::FallbackLimited)]
}

/// Why a command is refused: nodes and services that come from SkyDNS keys change only with those keys.
fn followed_elsewhere(config: &Config, command: &Command) -> Option<Refusal> {
    let below = config.store.as_ref()?.skydns_follow.as_ref()?;
    let is_server = |name: &str| {
        let node = config.cluster.nodes.iter().find(|node| node.name.eq_ignore_ascii_case(name));
        node.is_none_or(Node::is_server)
    };
    let name = match command {
        // The keys make names. Servers come and go by command.
        Command::NodeAdd { .. } => return None,
        Command::NodeRemove { name, .. } if is_server(name) => return None,
        Command::NodeSet { name, .. }
        | Command::NodeRemove { name, .. }
        | Command::ServiceAdd { name, .. }
        | Command::ServiceRemove { name, .. } => name,
        Command::ServiceSet { name, nodes, .. } if !nodes.is_empty() => name,
        _ => return None,
    };
    let key = format!("{}/{}", path(below, &config.zone.apex), place(&name.to_ascii_lowercase()));
    let message = format!(
        "nodes and services follow the SkyDNS keys below {below} ([cluster] skydns-follow): change {key} there, or what \
         writes it, such as ExternalDNS; `node up`, `down`, `drain` and `auto` are as ever"
    );
    Some(Refusal::new(RefusalKind::Conflict, message))
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{TEXT, config};
    use super::*;
    use crate::cluster::Admin;

    #[test]
    fn nodes_that_are_followed_are_changed_where_they_come_from() {
        let alone = config(TEXT);
        let store = "[cluster]\nstore = \"etcd\"\nendpoints = [\"http://192.0.2.61:2379\"]\nskydns-follow = \"/skydns/\"\n";
        let lb = "[[node]]\nname = \"lb\"\nipv4 = \"192.0.2.99\"\nns = false\nquorum = false\n";
        let following = config(&format!("{TEXT}{lb}{store}"));
        let name = "Node1".to_owned();
        let set = Command::NodeSet {
            name: name.clone(),
            ipv4: None,
            ipv6: None,
            keys: Box::default(),
            ephemeral: false,
        };
        let message = followed_elsewhere(&following, &set).unwrap().message;
        assert!(message.contains(" /skydns/com/example/demo/node1 "), "{message}");
        assert_eq!(followed_elsewhere(&alone, &set), None);
        let remove = |name: &str| Command::NodeRemove { name: name.to_owned(), ephemeral: false };
        assert_eq!(followed_elsewhere(&following, &remove("Node1")), None, "it is a server");
        assert!(followed_elsewhere(&following, &remove("lb")).is_some());
        let members = |nodes: &[&str]| Command::ServiceSet {
            name: "@".to_owned(),
            nodes: nodes.iter().map(|node| (*node).to_owned()).collect(),
            min_healthy: Some(1),
            order: None,
            backup: None,
            all_down: None,
            ephemeral: false,
        };
        let message = followed_elsewhere(&following, &members(&["node1"])).unwrap().message;
        assert!(message.contains(" /skydns/com/example/demo/dns/apex "), "{message}");
        assert_eq!(followed_elsewhere(&following, &members(&[])), None, "what the keys do not say");
        let down = Command::Admin {
            node: name,
            admin: Admin::Down,
            reason: None,
            by: None,
            for_ms: None,
            force: false,
            local: false,
        };
        assert_eq!(followed_elsewhere(&following, &down), None);
    }
}
