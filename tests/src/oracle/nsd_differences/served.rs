//! The zone that both servers serve, for the differences.
use std::collections::BTreeSet;
use std::fmt;
use std::net::IpAddr;

use dns_xdp::records::{RecordSet, target};
use dns_xdp::zone::{Authority, Lookup, Zone};
use hickory_proto::rr::{Name, RData, Record, RecordType};

/// A zone, its NS set, and the addresses of the name servers. Records are texts in lower case.
pub struct Served {
    /// The zone.
    pub zone: Zone,
    /// The NS sets of all apexes.
    pub servers: BTreeSet<String>,
    /// All addresses of the name servers, including those beyond the responder's limit for an answer.
    pub glue: BTreeSet<String>,
    /// All addresses of the targets of records, and of the name servers.
    pub targets: BTreeSet<String>,
}

impl Served {
    /// Takes the records out of a zone.
    ///
    /// # Panics
    /// When the zone has no name servers.
    pub fn new(zone: Zone) -> Served {
        let of_apex = |authority: &Authority| match zone.lookup(authority.apex(), RecordType::NS, 0) {
            Lookup::Found { answers, .. } => answers,
            other => panic!("the zone has no name servers: {other:?}"),
        };
        let answers: Vec<Record> = zone.authorities().iter().flat_map(of_apex).collect();
        let servers = answers.iter().map(|record| record.to_string().to_lowercase()).collect();
        let glue: BTreeSet<String> = answers.iter().flat_map(|record| addresses(&zone, record)).collect();
        let of_set =
            |set: &RecordSet| set.data.iter().filter_map(|data| target(&set.owner, data)).collect::<Vec<_>>();
        let targets = zone.records().iter().flat_map(of_set);
        let targets = targets.flat_map(|target| addresses_of(&zone, &target)).chain(glue.clone()).collect();
        Served { targets, zone, servers, glue }
    }
}

/// The addresses of the name server in an NS record.
fn addresses(zone: &Zone, record: &Record) -> Vec<String> {
    let RData::NS(server) = &record.data else { return Vec::new() };
    addresses_of(zone, &server.0)
}

/// The addresses of a name, or of the wildcard that answers for it.
fn addresses_of(zone: &Zone, name: &Name) -> Vec<String> {
    let addresses = zone.source_name(name).and_then(|source| zone.addresses(source));
    let Some(addresses) = addresses else { return Vec::new() };
    let text = |address: IpAddr| {
        let rtype = if address.is_ipv4() { "a" } else { "aaaa" };
        format!("{name} {} in {rtype} {address}", addresses.ttl_seconds)
    };
    addresses.iter().map(text).collect()
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the zone {}", self.zone.apex())
    }
}
