//! The zone that both servers serve, as the differences look at it.
use std::collections::BTreeSet;
use std::fmt;

use dns_xdp::zone::{Lookup, Zone};
use hickory_proto::rr::{Record, RecordType};

/// A zone, its NS set, and the addresses of the name servers. Records are texts in lower case.
pub struct Served {
    /// The zone.
    pub zone: Zone,
    /// The NS set of the apex.
    pub servers: BTreeSet<String>,
    /// The addresses of the name servers.
    pub glue: BTreeSet<String>,
}

impl Served {
    /// Takes the records out of a zone.
    ///
    /// # Panics
    /// When the zone has no name servers.
    pub fn new(zone: Zone) -> Served {
        let texts =
            |records: &[Record]| records.iter().map(|record| record.to_string().to_lowercase()).collect();
        let (servers, glue) = match zone.lookup(zone.apex(), RecordType::NS, 0) {
            Lookup::Found { answers, additionals } => (texts(&answers), texts(&additionals)),
            other => panic!("the zone has no name servers: {other:?}"),
        };
        Served { zone, servers, glue }
    }
}

impl fmt::Debug for Served {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "the zone {}", self.zone.apex())
    }
}
