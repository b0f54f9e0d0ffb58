//! Updates of the zone by DNS UPDATE (RFC 2136): each becomes a change of static records, as a command makes one.
use std::sync::Arc;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, RecordType};

use super::Core;
use super::changes::{Asker, What};
use super::cluster_change::{ClusterChange, RecordChange};
use super::input::{CallId, Effect};
use crate::config::Config;
use crate::control::api::Done;
use crate::control::{Refusal, RefusalKind};
use crate::failover::healthy_zone;
use crate::records::RecordSet;
use crate::update::{self, Access, Failure, SetChange, SignedUpdate};

impl Core {
    /// Begins an update. Its call is answered when the update is in the answers of this server.
    pub(super) fn update(&mut self, call: CallId, update: SignedUpdate) {
        if let Some(reason) = self.health.config().why_no_updates() {
            let refusal = Refusal::of_update(Failure::refused(reason));
            return self.reply::<Done>(call, Err(refusal));
        }
        if !self.is_live() {
            let refusal = Refusal::new(RefusalKind::Failed, "nothing is published yet: repeat it later");
            return self.reply::<Done>(call, Err(refusal));
        }
        let change = ClusterChange::Record(RecordChange::Update(Box::new(update)));
        if self.shared.is_some() {
            return self.share_change(call, change);
        }
        self.change(Asker::Call(call), What::Edit { change, ephemeral: false });
    }

    /// Passes the keys on to the responder.
    pub(super) fn configure_updates(&mut self) {
        let config = self.health.config();
        let access = Access { apex: config.zone.apex.clone(), keys: config.updates.keys.clone() };
        self.effects.push(Effect::ConfigureUpdates(access));
    }
}

/// Returns the RRsets that an update changes in this configuration.
///
/// # Errors
/// A prerequisite is not met, or the key may not make a change.
pub(super) fn sets_of(config: &Config, update: &SignedUpdate) -> Result<Vec<SetChange>, Refusal> {
    // The key may have been removed or changed since it signed the update.
    let key = config.updates.keys.iter().find(|key| key.name == update.key.name);
    let Some(key) = key.filter(|key| key.secret == update.key.secret) else {
        let reason = format!("the [[key]] `{}` is no longer there", update.key.name);
        return Err(Refusal::of_update(Failure::refused(reason)));
    };
    let made = Made::of(config);
    update::apply(&update.update, &config.records, |owner| made.at(owner), &key.grants)
        .map_err(Refusal::of_update)
}

/// The RRsets that the zone makes itself.
struct Made {
    zone: crate::zone::Zone,
    name_servers: Vec<RData>,
}

impl Made {
    fn of(config: &Config) -> Self {
        // The serial is that of the whole configuration, and the addresses are those without static records.
        let serial = u64::from(config.epoch());
        let alone = Config {
            records: Arc::default(),
            repeated_records: Arc::default(),
            revision: Some(serial),
            ..config.clone()
        };
        let apex = &config.zone.apex;
        let servers = config.cluster.nodes.iter().filter_map(|node| node.ns.as_deref());
        let target =
            |ns| crate::records::full_name(ns, apex).ok().map(hickory_proto::rr::rdata::NS).map(RData::NS);
        Made { zone: healthy_zone(&alone), name_servers: servers.filter_map(target).collect() }
    }

    fn at(&self, owner: &Name) -> Vec<RecordSet> {
        let addresses = self.zone.addresses(owner);
        let data = |rtype| {
            let all = addresses.into_iter().flat_map(|addresses| addresses.iter());
            let all = all.map(RData::from).filter(|data| data.record_type() == rtype);
            (rtype, all.collect::<Vec<_>>())
        };
        let mut sets = vec![data(RecordType::A), data(RecordType::AAAA)];
        if owner == self.zone.apex() {
            sets.push((RecordType::NS, self.name_servers.clone()));
            sets.push((RecordType::SOA, vec![self.zone.soa().data]));
        }
        let set = |(rtype, data)| RecordSet { owner: owner.clone(), rtype, ttl_seconds: 0, data };
        sets.into_iter().filter(|(_, data)| !data.is_empty()).map(set).collect()
    }
}

impl Refusal {
    /// Makes the refusal of an update, with the RCODE of its answer.
    pub(super) fn of_update(failure: Failure) -> Self {
        let kind =
            if failure.rcode == ResponseCode::ServFail { RefusalKind::Failed } else { RefusalKind::Conflict };
        Refusal { rcode: Some(failure.rcode.into()), ..Refusal::new(kind, failure.reason) }
    }

    /// Returns the result of an update as its client gets it. An update that would make the configuration invalid is
    /// REFUSED, and any other failure is a SERVFAIL, after which the client may try again.
    pub(in crate::controller) fn into_failure(self) -> Failure {
        let rcode = match (self.rcode, self.kind) {
            (Some(rcode), _) => rcode.into(),
            (None, RefusalKind::Invalid) => ResponseCode::Refused,
            (None, _) => ResponseCode::ServFail,
        };
        Failure::new(rcode, self.message)
    }
}
