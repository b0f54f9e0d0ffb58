//! The RRsets that an update changes (RFC 2136, section 3).
use std::collections::BTreeMap;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::{Name, RData, RecordType};

use super::{Change, Failure, Grant, Prerequisite, Update};
use crate::records::{RecordSet, Records, canonical, refusal, type_text};

/// The new content of an RRset.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SetChange {
    /// The name.
    pub owner: Name,
    /// The type.
    pub rtype: RecordType,
    /// The new RRset; `None`: it is deleted.
    pub set: Option<RecordSet>,
}

/// Returns the RRsets that an update changes, each once; none if everything is so already. `made` returns the RRsets
/// that the zone makes itself at a name: SOA and NS of the apex, and the addresses of nodes, name servers and services.
///
/// # Errors
/// A prerequisite is not met, or the grants do not allow a change. Nothing is changed then.
pub fn apply(
    update: &Update,
    records: &Records,
    made: impl Fn(&Name) -> Vec<RecordSet>,
    grants: &[Grant],
) -> Result<Vec<SetChange>, Failure> {
    prerequisites(&update.prerequisites, records, &made)?;
    let mut draft = Draft { records, made, grants, touched: BTreeMap::new() };
    for change in &update.changes {
        draft.change(change)?;
    }
    draft.check_limits()?;
    Ok(draft.changes())
}

/// Checks the prerequisites (RFC 2136, section 3.2.5).
fn prerequisites(
    wanted: &[Prerequisite],
    records: &Records,
    made: impl Fn(&Name) -> Vec<RecordSet>,
) -> Result<(), Failure> {
    let at = |owner: &Name| [made(owner), records.at(owner).to_vec()].concat();
    let data = |owner: &Name, rtype: RecordType| -> Vec<Vec<u8>> {
        let sets = at(owner).into_iter().filter(|set| set.rtype == rtype);
        sets.flat_map(|set| set.data).map(|data| canonical(&data)).collect()
    };
    let fails = |rcode, owner: &Name, what: String| Err(Failure::new(rcode, format!("{owner} {what}")));
    let mut whole: BTreeMap<(&Name, u16), Vec<Vec<u8>>> = BTreeMap::new();
    for prerequisite in wanted {
        match prerequisite {
            Prerequisite::SetExists(owner, rtype) if data(owner, *rtype).is_empty() => {
                return fails(ResponseCode::NXRRSet, owner, format!("has no {} records", type_text(*rtype)));
            }
            Prerequisite::SetAbsent(owner, rtype) if !data(owner, *rtype).is_empty() => {
                return fails(ResponseCode::YXRRSet, owner, format!("has {} records", type_text(*rtype)));
            }
            Prerequisite::NameInUse(owner) if at(owner).is_empty() => {
                return fails(ResponseCode::NXDomain, owner, "has no records".to_owned());
            }
            Prerequisite::NameNotInUse(owner) if !at(owner).is_empty() => {
                return fails(ResponseCode::YXDomain, owner, "has records".to_owned());
            }
            Prerequisite::SetHas(owner, data) => {
                whole.entry((owner, data.record_type().into())).or_default().push(canonical(data));
            }
            _ => {}
        }
    }
    for ((owner, rtype), mut wanted) in whole {
        let rtype = RecordType::from(rtype);
        let mut found = data(owner, rtype);
        wanted.sort_unstable();
        // The same record twice is one record (RFC 2136, section 3.2.3).
        wanted.dedup();
        found.sort_unstable();
        if wanted != found {
            return fails(ResponseCode::NXRRSet, owner, format!("has other {} records", type_text(rtype)));
        }
    }
    Ok(())
}

/// The names that an update touches, as they are to be.
struct Draft<'a, M> {
    records: &'a Records,
    made: M,
    grants: &'a [Grant],
    touched: BTreeMap<Name, Vec<RecordSet>>,
}

impl<M: Fn(&Name) -> Vec<RecordSet>> Draft<'_, M> {
    fn change(&mut self, change: &Change) -> Result<(), Failure> {
        match change {
            Change::Add { owner, ttl_seconds, data } => self.add(owner, *ttl_seconds, data),
            Change::RemoveSet { owner, rtype } => {
                self.permit(owner, *rtype)?;
                self.at(owner).retain(|set| set.rtype != *rtype);
                Ok(())
            }
            Change::RemoveName { owner } => self.remove_name(owner),
            Change::Remove { owner, data } => {
                let (rtype, gone) = (data.record_type(), canonical(data));
                self.permit(owner, rtype)?;
                let sets = self.at(owner);
                for set in sets.iter_mut().filter(|set| set.rtype == rtype) {
                    set.data.retain(|data| canonical(data) != gone);
                }
                sets.retain(|set| !set.data.is_empty());
                Ok(())
            }
        }
    }

    /// Adds a record (RFC 2136, section 3.4.2.2). An alias and other records at one name exclude each other: the record
    /// that comes later is ignored.
    fn add(&mut self, owner: &Name, ttl_seconds: u32, data: &RData) -> Result<(), Failure> {
        let rtype = data.record_type();
        self.permit_ttl(owner, rtype, ttl_seconds)?;
        let is_alias = rtype == RecordType::CNAME;
        let sets = self.at(owner);
        if sets.iter().any(|set| (set.rtype == RecordType::CNAME) != is_alias) {
            return Ok(());
        }
        let known = canonical(data);
        match sets.iter_mut().find(|set| set.rtype == rtype) {
            Some(set) => {
                if is_alias {
                    set.data.clear();
                }
                // The record replaces its equal: names in the data may be spelt another way.
                match set.data.iter_mut().find(|data| canonical(data) == known) {
                    Some(place) => *place = data.clone(),
                    None => set.data.push(data.clone()),
                }
            }
            None => {
                let data = vec![data.clone()];
                sets.push(RecordSet { owner: owner.clone(), rtype, ttl_seconds, data });
            }
        }
        // An RRset has one TTL (RFC 2181, section 5.2), and the program has one for the addresses of both families.
        let is_address = |rtype| matches!(rtype, RecordType::A | RecordType::AAAA);
        let is_same = |set: &RecordSet| set.rtype == rtype || is_address(set.rtype) && is_address(rtype);
        let is_another =
            |set: &&RecordSet| is_same(set) && set.rtype != rtype && set.ttl_seconds != ttl_seconds;
        let others: Vec<RecordType> = sets.iter().filter(is_another).map(|set| set.rtype).collect();
        sets.iter_mut().filter(|set| is_same(set)).for_each(|set| set.ttl_seconds = ttl_seconds);
        others.into_iter().try_for_each(|other| self.permit_ttl(owner, other, ttl_seconds))
    }

    /// Refuses records of this TTL that no grant of the key has.
    fn permit_ttl(&self, owner: &Name, rtype: RecordType, ttl_seconds: u32) -> Result<(), Failure> {
        let grants = self.permit(owner, rtype)?;
        match grants.iter().map(|grant| grant.ttl_max_seconds).max().filter(|most| ttl_seconds > *most) {
            Some(most) => Err(Failure::refused(format!(
                "the TTL {ttl_seconds}s of {owner} {} is longer than `ttl-max` of the key's grant, {most}s",
                type_text(rtype)
            ))),
            None => Ok(()),
        }
    }

    /// Deletes all records of a name (RFC 2136, section 3.4.2.3). The key needs a grant for each type.
    fn remove_name(&mut self, owner: &Name) -> Result<(), Failure> {
        self.permit_name(owner)?;
        if !(self.made)(owner).is_empty() {
            return Err(Failure::refused(format!(
                "{owner} has records that the zone makes itself, which no update deletes; delete the types one by one"
            )));
        }
        let types: Vec<RecordType> = self.at(owner).iter().map(|set| set.rtype).collect();
        for rtype in types {
            self.permit(owner, rtype)?;
        }
        self.at(owner).clear();
        Ok(())
    }

    /// Returns the grants for a name and type.
    fn permit(&self, owner: &Name, rtype: RecordType) -> Result<Vec<&Grant>, Failure> {
        let text = type_text(rtype);
        if let Some(reason) = refusal(rtype) {
            return Err(Failure::refused(format!("no update changes {text} records: {reason}")));
        }
        let grants: Vec<&Grant> = self.grants.iter().filter(|grant| grant.covers(owner, rtype)).collect();
        if grants.is_empty() {
            return Err(Failure::refused(format!("the key has no [[key.grant]] for {owner} {text}")));
        }
        let is_of_addresses = matches!(rtype, RecordType::A | RecordType::AAAA | RecordType::CNAME);
        if is_of_addresses && !(self.made)(owner).is_empty() {
            return Err(Failure::refused(format!(
                "{owner} is a name of the cluster, whose {text} records no update changes"
            )));
        }
        Ok(grants)
    }

    fn permit_name(&self, owner: &Name) -> Result<(), Failure> {
        if self.grants.iter().any(|grant| grant.covers_name(owner)) {
            return Ok(());
        }
        Err(Failure::refused(format!("the key has no [[key.grant]] for {owner}")))
    }

    /// The RRsets of a name, which are taken from the zone at first.
    fn at(&mut self, owner: &Name) -> &mut Vec<RecordSet> {
        let records = self.records;
        self.touched.entry(owner.clone()).or_insert_with(|| records.at(owner).to_vec())
    }

    /// Refuses an update that makes more records than a grant allows.
    fn check_limits(&self) -> Result<(), Failure> {
        let count = |grant: &Grant, sets: &[RecordSet]| -> usize {
            let covered = sets.iter().filter(|set| grant.covers(&set.owner, set.rtype));
            covered.map(|set| set.data.len()).sum()
        };
        for grant in self.grants {
            let now: usize = self.touched.values().map(|sets| count(grant, sets)).sum();
            let before: usize = self.touched.keys().map(|owner| count(grant, self.records.at(owner))).sum();
            if now <= before {
                continue;
            }
            let all: usize = self.records.iter().map(|set| count(grant, std::slice::from_ref(set))).sum();
            let all = all - before + now;
            if all > grant.records_max {
                let names: Vec<&str> = grant.names.iter().map(super::Pattern::text).collect();
                return Err(Failure::refused(format!(
                    "there would be {all} records of the key's grant for {}, more than its `records` = {}",
                    names.join(", "),
                    grant.records_max
                )));
            }
        }
        Ok(())
    }

    /// Returns the RRsets that differ from those of the zone.
    fn changes(self) -> Vec<SetChange> {
        let mut changes = Vec::new();
        for (owner, now) in self.touched {
            let before = self.records.at(&owner);
            let gone = before.iter().filter(|set| !now.iter().any(|other| other.rtype == set.rtype));
            changes.extend(gone.map(|set| SetChange { owner: owner.clone(), rtype: set.rtype, set: None }));
            let other = now.into_iter().filter(|set| !before.contains(set));
            changes.extend(other.map(|set| SetChange {
                owner: owner.clone(),
                rtype: set.rtype,
                set: Some(set),
            }));
        }
        changes
    }
}

#[cfg(test)]
mod tests;
