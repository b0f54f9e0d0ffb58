//! Listings that take long for a large zone. The core gives their parts, and the shell makes their text.
use std::sync::Arc;

use hickory_proto::rr::Name;
use serde_json::Value;

use super::source::Source;
use crate::config::Config;
use crate::control::api::{RecordEntry, ZoneFile};
use crate::records::{self, RecordSet, Records};
use crate::zone::{Zone, zone_file_of};

/// The parts of a listing.
#[derive(Debug)]
pub(in crate::controller) enum Listing {
    /// The answer to `zone export`: the zone file of the zone with this apex.
    ZoneFile(Arc<Zone>, Name),
    /// The answer to `record list`.
    Records {
        /// The configuration in force, which has the records.
        config: Arc<Config>,
        /// The records of the file.
        filed: Arc<Records>,
        /// Whether the records are in the store.
        is_shared: bool,
    },
}

impl Listing {
    pub(super) fn records(config: Arc<Config>, source: &Source) -> Listing {
        let is_shared = source.documents().is_some();
        Listing::Records { config, filed: Arc::clone(source.filed_records()), is_shared }
    }

    /// Makes the listing. The time grows with the zone.
    ///
    /// # Errors
    /// A value cannot be written as JSON.
    pub(in crate::controller) fn to_json(&self) -> serde_json::Result<Value> {
        match self {
            Listing::ZoneFile(zone, apex) => {
                serde_json::to_value(ZoneFile { text: zone_file_of(zone, apex) })
            }
            Listing::Records { config, filed, is_shared } => {
                let entry = |set: &RecordSet| RecordEntry {
                    name: records::relative(&set.owner, &config.zone.apex),
                    r#type: records::type_text(set.rtype),
                    ttl_seconds: set.ttl_seconds,
                    values: set.data.iter().map(records::presentation).collect(),
                    ephemeral: !filed.at(&set.owner).contains(set),
                    shared: *is_shared,
                };
                serde_json::to_value(config.records.iter().map(entry).collect::<Vec<_>>())
            }
        }
    }
}
