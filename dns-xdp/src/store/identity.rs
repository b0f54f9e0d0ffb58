//! Tells servers of the same name apart: a cloned machine has the name of the original.
//!
//! The identifier is made once in each boot of a machine. A file passes it on to the next daemon, so that a restarted
//! daemon and a successor are the same server. A clone has the file too, but it was booted separately.
use std::fs;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use super::{Listing, SERVERS, Server};
use crate::atomic_file;

/// The kernel's file with a new random identifier for each reader.
const UUID: &str = "/proc/sys/kernel/random/uuid";
const BOOT_ID: &str = "/proc/sys/kernel/random/boot_id";

/// Identifies one of several servers with the same name.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Instance {
    /// A random identifier; empty: an earlier version, which writes none.
    pub id: String,
    /// The host and address where it runs, for operators.
    pub place: String,
}

impl std::fmt::Display for Instance {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let Instance { id, place } = self;
        if place.is_empty() { f.write_str(id) } else { write!(f, "{id} on {place}") }
    }
}

/// The contents of the file.
#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    instance: String,
    boot: String,
}

/// The server that has the name in a listing, if it is not `own`.
pub(crate) fn namesake(listing: &Listing, name: &str, own: &Instance) -> Option<Instance> {
    let entry = listing.entries.get(&format!("{SERVERS}{name}"))?;
    let Server { instance: id, place, .. } = serde_json::from_slice(&entry.value).ok()?;
    (!id.is_empty() && id != own.id).then_some(Instance { id, place })
}

/// Returns the identifier of this machine's server until the next boot. The file at `path` keeps it.
///
/// # Errors
/// The kernel's identifier cannot be read. A file that cannot be written is not an error: the next daemon then waits
/// for the end of this daemon's lease.
pub fn identifier(path: &Path) -> io::Result<String> {
    let [boot, new] = [BOOT_ID, UUID].map(fs::read_to_string);
    Ok(kept(path, boot?.trim(), new?.trim()))
}

/// Returns the file's identifier if it is of this boot. Otherwise writes and returns the new one.
fn kept(path: &Path, boot: &str, new: &str) -> String {
    let kept = fs::read(path).ok().and_then(|text| serde_json::from_slice::<Kept>(&text).ok());
    if let Some(kept) = kept.filter(|kept| kept.boot == boot && !kept.instance.is_empty()) {
        return kept.instance;
    }
    let kept = Kept { instance: new.to_owned(), boot: boot.to_owned() };
    let text = serde_json::to_vec(&kept).unwrap_or_default();
    if let Err(error) = atomic_file::replace(path, &text) {
        tracing::warn!("cannot keep this server's identifier in {}: {error}", path.display());
    }
    kept.instance
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::Entry;

    #[test]
    fn the_next_daemon_of_a_boot_is_the_same_server_and_a_clone_is_another() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("state.instance.json");
        assert_eq!(kept(&path, "boot1", "a"), "a");
        assert_eq!(kept(&path, "boot1", "b"), "a");
        let clone = directory.path().join("clone.instance.json");
        fs::copy(&path, &clone).unwrap();
        assert_eq!(kept(&clone, "boot2", "c"), "c");
        assert_eq!(kept(&clone, "boot2", "d"), "c");
        fs::write(&path, "{").unwrap();
        assert_eq!(kept(&path, "boot1", "e"), "e");
        assert_eq!(kept(Path::new("/proc/nothing"), "boot1", "f"), "f");
        let unknown_fields = format!("{{\"instance\": \"g\", \"boot\": \"boot1\", \"more\": {}}}", 1);
        fs::write(&path, unknown_fields).unwrap();
        assert_eq!(kept(&path, "boot1", "h"), "g");
    }

    #[test]
    fn a_server_of_the_same_name_is_told_by_its_identifier() {
        let listing = |value: &str| {
            let entry = Entry { value: value.as_bytes().to_vec(), revision: 1 };
            Listing {
                revision: 1,
                entries: [("servers/node1".to_owned(), entry)].into(),
                ..Listing::default()
            }
        };
        let own = Instance { id: "a".to_owned(), place: String::new() };
        let other = listing("{\"instance\": \"b\", \"place\": \"web2 (192.0.2.12)\"}");
        assert_eq!(namesake(&other, "node1", &own).unwrap().to_string(), "b on web2 (192.0.2.12)");
        assert_eq!(namesake(&other, "node2", &own), None);
        for own_or_older in ["{\"instance\": \"a\"}", "{\"version\": \"0.9.0\"}", "{"] {
            assert_eq!(namesake(&listing(own_or_older), "node1", &own), None);
        }
    }
}
