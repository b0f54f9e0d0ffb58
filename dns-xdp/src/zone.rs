//! The zone's names and their answers, which are published to the kernel and to the responder.
//!
//! A [`Zone`] is a value that never changes. [`crate::failover`] derives it, and each change makes a new value.
//! [`Zone::lookup`] defines the zone's meaning. The responder encodes its result, and the kernel's table gives the same
//! answers.
mod file;
#[cfg(test)]
pub(crate) mod further;
mod lookup;

use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::{Arc, OnceLock};

use dns_xdp_ebpf::table::FloodPolicy;
use hickory_proto::rr::rdata::{NS, SOA};
use hickory_proto::rr::{Name, RData, Record};

pub use file::{zone_file, zone_file_of};
pub use lookup::{CHAIN_MAX, Lookup};

use crate::records::{RecordSet, Records, is_wildcard};

/// SOA timers in seconds, as Zonemaster recommends. No secondary uses them, because there is no zone transfer.
const REFRESH_SECONDS: i32 = 14_400;
const RETRY_SECONDS: i32 = 3_600;
const EXPIRE_SECONDS: i32 = 604_800;

/// The finished zone: every owner name with its addresses. Suffixes that are zones of their own are part of it: they
/// have further apexes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Zone {
    /// The zone's own apex, then those of the suffixes. None is at or below another.
    authorities: Vec<Authority>,
    negative_ttl_seconds: u32,
    ns_ttl_seconds: u32,
    /// Every name that exists.
    names: BTreeMap<Name, Addresses>,
    /// The static records. Successive zones share them.
    records: Arc<Records>,
    has_wildcard: bool,
    flood_policy: FloodPolicy,
}

/// One apex with its SOA and its name servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Authority {
    apex: Name,
    soa: SOA,
    name_servers: Vec<Name>,
    encoded_name_servers: Derived,
}

impl Authority {
    /// Returns the apex, in lower case.
    pub fn apex(&self) -> &Name {
        &self.apex
    }

    /// Returns how many name servers the apex has.
    pub fn name_server_count(&self) -> usize {
        self.name_servers.len()
    }
}

/// The NS records of the apex and their glue in wire form, as they follow the question of a message.
#[derive(Debug)]
pub struct EncodedNameServers {
    /// All records: the NS records, then the glue.
    pub octets: Vec<u8>,
    /// How many octets the NS records have.
    pub answers_length: usize,
    /// How many NS records there are.
    pub answers: u16,
    /// How many records of glue there are.
    pub additionals: u16,
}

/// The encoded name servers, made at the first query. They follow from the zone, so a comparison of zones ignores them.
#[derive(Debug, Clone, Default)]
struct Derived(OnceLock<Arc<EncodedNameServers>>);

impl PartialEq for Derived {
    fn eq(&self, _: &Derived) -> bool {
        true
    }
}

impl Eq for Derived {}

/// The parts of a zone besides its address names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Origin {
    /// The apex, fully qualified and in lower case.
    pub apex: Name,
    /// The mailbox of the SOA's RNAME, as a domain name (RFC 1035, section 3.3.13).
    pub contact: Name,
    /// The configuration's epoch, equal on servers with the same configuration.
    pub serial: u32,
    /// TTL of the NS set.
    pub ns_ttl_seconds: u32,
    /// TTL of the SOA and its MINIMUM, which are equal (RFC 2308, section 5).
    pub negative_ttl_seconds: u32,
    /// The name servers' names in the order of the nodes; the first is the SOA's MNAME. Not empty.
    pub name_servers: Vec<Name>,
}

/// A further apex of a zone: a suffix that is a zone of its own. The zone's contact, serial and TTLs are its too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct FurtherApex {
    /// The apex, fully qualified and in lower case. It is neither at nor below the zone's apex, nor above it.
    pub apex: Name,
    /// As [`Origin::name_servers`]; their names are below this apex.
    pub name_servers: Vec<Name>,
}

/// The address RRsets of one name (RFC 2181, section 5: one TTL in an RRset; here one for both).
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Addresses {
    /// TTL of each record.
    pub ttl_seconds: u32,
    /// The A RRset.
    pub ipv4: Vec<Ipv4Addr>,
    /// The AAAA RRset.
    pub ipv6: Vec<Ipv6Addr>,
    /// Whether the first address differs from query to query, see [`dns_xdp_ebpf::table::turn`].
    pub rotate: bool,
    /// The most addresses of a family in an answer.
    pub answers_max: usize,
    /// Whether the name exists but is answered REFUSED (`all-down = "refused"`).
    pub refused: bool,
    /// TTL of NODATA answers about the name while it lacks a family that it otherwise has; `None`: the zone's negative
    /// TTL.
    pub nodata_ttl_seconds: Option<u32>,
}

impl Addresses {
    /// Collects addresses of both families in the order given.
    pub fn new(ttl_seconds: u32, addresses: impl IntoIterator<Item = IpAddr>) -> Self {
        let mut collected = Addresses { ttl_seconds, answers_max: usize::MAX, ..Addresses::default() };
        for address in addresses {
            match address {
                IpAddr::V4(ipv4) => collected.ipv4.push(ipv4),
                IpAddr::V6(ipv6) => collected.ipv6.push(ipv6),
            }
        }
        collected
    }

    /// Takes the addresses of a static RRset. All of them are answered, because an RRset is a whole (RFC 2181, section
    /// 5).
    fn add_static(&mut self, set: &RecordSet) {
        let addresses = set.data.iter().filter_map(RData::ip_addr);
        let found = Addresses::new(set.ttl_seconds, addresses);
        if found.iter().next().is_none() {
            return;
        }
        let (ipv4, ipv6) = (std::mem::take(&mut self.ipv4), std::mem::take(&mut self.ipv6));
        *self = Addresses {
            ipv4: if found.ipv4.is_empty() { ipv4 } else { found.ipv4 },
            ipv6: if found.ipv6.is_empty() { ipv6 } else { found.ipv6 },
            rotate: true,
            ..Addresses::new(set.ttl_seconds, [])
        };
    }

    /// Returns all addresses, IPv4 first.
    pub fn iter(&self) -> impl Iterator<Item = IpAddr> + '_ {
        let ipv4 = self.ipv4.iter().copied().map(IpAddr::V4);
        ipv4.chain(self.ipv6.iter().copied().map(IpAddr::V6))
    }
}

/// Returns the octets of an SOA record in a negative answer. Its owner is a pointer and its names are not compressed
/// (RFC 1035, section 3.3.13).
pub fn soa_octets(soa: &SOA) -> usize {
    const OWNER_TO_LENGTH: usize = 12;
    const SERIAL_TO_MINIMUM: usize = 20;
    // hickory does not count the octet of the root, unless there is no other.
    let octets = |name: &Name| if name.is_root() { 1 } else { name.len() + 1 };
    OWNER_TO_LENGTH + octets(&soa.mname) + octets(&soa.rname) + SERIAL_TO_MINIMUM
}

impl Zone {
    /// Makes the zone. Adds the empty non-terminals: the names between a given name and the apex (RFC 8020).
    pub fn new(origin: Origin, names: impl IntoIterator<Item = (Name, Addresses)>) -> Self {
        Zone::with_further(origin, [], names)
    }

    /// Like [`Zone::new`], with further apexes.
    pub fn with_further(
        origin: Origin,
        further: impl IntoIterator<Item = FurtherApex>,
        names: impl IntoIterator<Item = (Name, Addresses)>,
    ) -> Self {
        let Origin { apex, contact, serial, ns_ttl_seconds, negative_ttl_seconds, name_servers } = origin;
        let minimum = negative_ttl_seconds;
        let authority = |FurtherApex { apex, name_servers }: FurtherApex| {
            let mname = name_servers.first().cloned().expect("a zone has a name server");
            let soa = SOA::new(
                mname,
                contact.clone(),
                serial,
                REFRESH_SECONDS,
                RETRY_SECONDS,
                EXPIRE_SECONDS,
                minimum,
            );
            Authority { apex, soa, name_servers, encoded_name_servers: Derived::default() }
        };
        let apexes = std::iter::once(FurtherApex { apex, name_servers }).chain(further);
        let authorities: Vec<Authority> = apexes.map(authority).collect();
        let mut zone = Zone {
            names: authorities.iter().map(|of| (of.apex.clone(), Addresses::default())).collect(),
            authorities,
            negative_ttl_seconds,
            ns_ttl_seconds,
            records: Arc::default(),
            has_wildcard: false,
            flood_policy: FloodPolicy::NONE,
        };
        for (name, addresses) in names {
            zone.add_above(&name);
            zone.has_wildcard |= is_wildcard(&name);
            zone.names.insert(name, addresses);
        }
        zone
    }

    /// Adds the empty non-terminals above a name.
    fn add_above(&mut self, name: &Name) {
        let Some(apex) = self.authority(name).map(|authority| authority.apex.clone()) else { return };
        let mut above = name.base_name();
        while apex.zone_of(&above) && above != apex {
            self.has_wildcard |= is_wildcard(&above);
            self.names.entry(above.clone()).or_default();
            above = above.base_name();
        }
    }

    /// Returns the zone with these static records. Their addresses replace those of the same names.
    #[must_use]
    pub fn with_records(mut self, records: Arc<Records>) -> Self {
        for owner in records.owners() {
            self.add_above(owner);
            self.has_wildcard |= is_wildcard(owner);
            let addresses = self.names.entry(owner.clone()).or_default();
            for set in records.at(owner) {
                addresses.add_static(set);
            }
        }
        self.records = records;
        self
    }

    /// Returns the zone with this protection against floods.
    #[must_use]
    pub fn guarded(self, flood_policy: FloodPolicy) -> Self {
        Zone { flood_policy, ..self }
    }

    /// Returns the protection against floods.
    pub fn flood_policy(&self) -> &FloodPolicy {
        &self.flood_policy
    }

    /// Returns the apex, in lower case.
    pub fn apex(&self) -> &Name {
        &self.main().apex
    }

    /// Returns the zone's own apex, then those of the suffixes that are zones of their own.
    pub fn authorities(&self) -> &[Authority] {
        &self.authorities
    }

    /// Returns the apex that a name (in lower case) is at or below.
    pub fn authority(&self, name: &Name) -> Option<&Authority> {
        self.authorities.iter().find(|authority| authority.apex.zone_of(name))
    }

    fn main(&self) -> &Authority {
        self.authorities.first().expect("a zone has an apex")
    }

    /// Returns how many name servers the zone has.
    pub fn name_server_count(&self) -> usize {
        self.main().name_server_count()
    }

    /// Returns the records that answer a query for the NS RRset of an apex. The first call encodes them with `encode`,
    /// from the NS records and their glue. Each later query copies them, whatever the spelling of its name.
    pub fn encoded_name_servers(
        &self,
        authority: &Authority,
        encode: impl FnOnce(&[Record], &[Record]) -> EncodedNameServers,
    ) -> Arc<EncodedNameServers> {
        let make = || Arc::new(encode(&self.ns_records(authority), &self.glue(authority, 0)));
        Arc::clone(authority.encoded_name_servers.0.get_or_init(make))
    }

    /// Returns the configuration's epoch, which is the SOA's serial.
    pub fn epoch(&self) -> u32 {
        self.main().soa.serial
    }

    /// Returns every name that exists, with its addresses (none for an empty non-terminal).
    pub fn names(&self) -> impl ExactSizeIterator<Item = (&Name, &Addresses)> {
        self.names.iter()
    }

    /// Returns the addresses of a name; `None` if it does not exist.
    pub fn addresses(&self, name: &Name) -> Option<&Addresses> {
        self.names.get(name)
    }

    /// Returns the static records.
    pub fn records(&self) -> &Records {
        &self.records
    }

    /// Whether a name of the zone is a wildcard (RFC 4592). A name that does not exist may then have an answer.
    pub fn has_wildcard(&self) -> bool {
        self.has_wildcard
    }

    /// Returns the SOA record, for queries of type SOA.
    pub fn soa(&self) -> Record {
        self.soa_of(self.main())
    }

    /// Returns the SOA record of an apex.
    pub fn soa_of(&self, authority: &Authority) -> Record {
        let soa = RData::SOA(authority.soa.clone());
        Record::from_rdata(authority.apex.clone(), self.negative_ttl_seconds, soa)
    }

    /// Returns the SOA record of a negative answer about `qname` (in lower case). Its TTL and its MINIMUM say how long
    /// caches may keep the answer (RFC 2308, section 5).
    pub fn negative_soa(&self, qname: &Name) -> Record {
        let own = self.source(qname).and_then(|source| source.addresses.nodata_ttl_seconds);
        let ttl = own.map_or(self.negative_ttl_seconds, |own| own.min(self.negative_ttl_seconds));
        let authority = self.authority(qname).unwrap_or_else(|| self.main());
        let mut soa = authority.soa.clone();
        soa.minimum = ttl;
        Record::from_rdata(authority.apex.clone(), ttl, RData::SOA(soa))
    }

    /// Returns the octets of the SOA record in a negative answer; see [`soa_octets`].
    pub fn soa_octets(&self) -> usize {
        soa_octets(&self.main().soa)
    }

    fn ns_records(&self, authority: &Authority) -> Vec<Record> {
        let record = |target: &Name| {
            Record::from_rdata(authority.apex.clone(), self.ns_ttl_seconds, RData::NS(NS(target.clone())))
        };
        authority.name_servers.iter().map(record).collect()
    }

    fn glue(&self, authority: &Authority, turn: u32) -> Vec<Record> {
        let mut records = Vec::new();
        for server in &authority.name_servers {
            if let Some(addresses) = self.names.get(server)
                && !addresses.refused
            {
                records.extend(lookup::all_addresses(server, addresses, turn));
            }
        }
        records
    }
}
