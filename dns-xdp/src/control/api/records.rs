//! The answer to `record list`.
use serde::{Deserialize, Serialize};

/// The records of a name with one type.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecordEntry {
    /// The name, relative to the zone, or `@`.
    pub name: String,
    /// The type's mnemonic, or `TYPE1234`.
    pub r#type: String,
    /// The TTL of each record.
    pub ttl_seconds: u32,
    /// The data of the records in presentation form.
    pub values: Vec<String>,
    /// Whether the records are not in the file, or differ from those in the file.
    pub ephemeral: bool,
    /// Whether they are in the store that the servers share.
    pub shared: bool,
}
