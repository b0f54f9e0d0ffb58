//! The part of a configuration that servers may share, as documents. A file is split into them, and they are joined
//! again. This module handles only texts; the module `store` reads and writes the documents.
use std::collections::{BTreeMap, BTreeSet};

use toml_edit::DocumentMut;

use super::Diagnostic;
use crate::intent::Intents;

/// The number of a change in the store's history. Later changes have greater numbers.
pub type Revision = u64;

/// The keys of the documents, and the section that each document holds. The documents are joined in this order.
pub const CONCERNS: [(&str, &str); 7] = [
    ("config/zone", "zone"),
    ("config/health", "health"),
    ("config/failover", "failover"),
    ("config/nodes", "node"),
    ("config/services", "service"),
    ("config/records", "record"),
    ("config/suffixes", "suffix"),
];
/// The key of the operators' intents.
pub const INTENT: &str = "intent";

/// The most octets that [`Documents::differences`] parses. Its callers are in the controller's loop.
const PARSED_AT_ONCE: usize = 64 << 10;

/// The text of each document, by its key.
pub type Shared = BTreeMap<String, String>;

/// The documents that the servers share, at one moment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Documents {
    /// The shared part of the configuration; empty: the store has none yet.
    pub texts: Shared,
    /// The operators' intents.
    pub intents: Intents,
    /// The revision of the last change of each key.
    pub revisions: BTreeMap<String, Revision>,
    /// Keys that were deleted from the store. Their last values stay in force.
    pub deleted: BTreeSet<String>,
}

impl Documents {
    /// Returns the revision of the last change of any document. It is equal on all servers with the same documents.
    pub fn epoch(&self) -> Revision {
        self.revisions.values().copied().max().unwrap_or(0)
    }

    /// Returns the revision of a key in the store, for a compare-and-swap; 0: the store does not have the key.
    pub fn stored(&self, key: &str) -> Revision {
        let revision = self.revisions.get(key).filter(|_| !self.deleted.contains(key));
        revision.copied().unwrap_or(0)
    }

    /// Returns a problem if a document has a section that is not its own. Local sections may not be in a document.
    pub fn stray(&self) -> Option<Diagnostic> {
        let stray = |(key, name): &(&str, &str)| {
            let tables = self.texts.get(*key)?.parse::<DocumentMut>().ok()?;
            let (other, _) = tables.iter().find(|(section, _)| section != name)?;
            let text = format!("`{other}` does not belong here: this document has the section {name} alone");
            Some(Diagnostic { line: 1, document: Some((*key).to_owned()), text })
        };
        CONCERNS.iter().find_map(stray)
    }

    /// Returns the differences of the shared part, one line for each key of the configuration. If the documents that
    /// differ are long, it returns only their names.
    pub fn differences(&self, next: &Documents) -> Vec<String> {
        let other = |(key, _): &(&str, &str)| self.texts.get(*key) != next.texts.get(*key);
        let keys: Vec<&str> = CONCERNS.iter().filter(|concern| other(concern)).map(|(key, _)| *key).collect();
        let [before, after] = [self, next].map(|documents| {
            let texts = keys.iter().filter_map(|key| documents.texts.get_key_value(*key));
            join(&texts.map(|(key, text)| (key.clone(), text.clone())).collect())
        });
        if before.len() + after.len() > PARSED_AT_ONCE {
            return keys.iter().map(|key| format!("{key} differs")).collect();
        }
        super::differences(&before, &after)
    }

    /// Returns the shared part as one text.
    pub fn text(&self) -> String {
        join(&self.texts)
    }
}

/// Returns the documents one after the other, as one TOML text.
pub fn join(shared: &Shared) -> String {
    let texts = CONCERNS.iter().filter_map(|(key, _)| shared.get(*key));
    texts.map(|text| format!("{}\n", text.trim_end())).collect()
}

/// Splits a file into its local part and the shared documents. The local part has an empty line for each line that was
/// taken out.
///
/// # Errors
/// The sections cannot be separated line by line.
pub fn split(text: &str) -> Result<(String, Shared), String> {
    let mut local = String::new();
    let mut shared = Shared::new();
    let mut pending = Vec::new();
    let mut concern: Option<&str> = None;
    for line in text.lines() {
        if let Some(section) = section(line) {
            concern = CONCERNS.iter().find(|(_, name)| *name == section).map(|(key, _)| *key);
        } else if line.trim_start().starts_with('#') {
            // A comment belongs to the line below it.
            pending.push(line);
            continue;
        }
        for line in pending.drain(..).chain([line]) {
            give(line, concern, &mut local, &mut shared);
        }
    }
    for line in pending {
        give(line, concern, &mut local, &mut shared);
    }
    let tables = |text: &str| text.parse::<DocumentMut>().map_err(|error| error.message().to_owned());
    let (whole, apart) = (tables(text)?, tables(&local)?);
    if let Some((_, name)) = CONCERNS.iter().find(|(_, name)| apart.contains_key(name)) {
        return Err(format!(
            "`{name}` cannot be separated from the local sections: begin it with a line [{name}]"
        ));
    }
    let joined = tables(&join(&shared))?;
    if whole.len() != apart.len() + joined.len() {
        return Err("the shared sections cannot be separated: begin each with a line [section]".to_owned());
    }
    Ok((local, shared))
}

fn give(line: &str, concern: Option<&str>, local: &mut String, shared: &mut Shared) {
    if let Some(key) = concern {
        let text = shared.entry(key.to_owned()).or_default();
        text.push_str(line);
        text.push('\n');
    } else {
        local.push_str(line);
    }
    local.push('\n');
}

/// Returns the first key of a table header, if the line is a header.
fn section(line: &str) -> Option<&str> {
    let header = line.trim_start();
    if !header.starts_with('[') {
        return None;
    }
    let table: DocumentMut = line.parse().ok()?;
    let name = table.iter().next()?.0.to_owned();
    let word = header.trim_start_matches('[').trim_start().trim_start_matches(['"', '\'']);
    word.get(..name.len()).filter(|word| *word == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "\
# of this server
[listen]
interfaces = [
  \"eth0\",
]

# what clients ask for
[zone]
name = \"demo.example.com\"
[xdp]
mode = \"off\"
[[node]] # first
name = \"node1\"
ipv4 = \"192.0.2.11\"
[node.health]
port = 7000
[[service]]
name = \"db\"
nodes = [\"node1\"]
";

    #[test]
    fn a_file_comes_apart_into_what_is_local_and_a_document_for_each_concern() {
        let (local, shared) = split(TEXT).unwrap();
        assert_eq!(local.lines().count(), TEXT.lines().count(), "places stay what they were");
        assert_eq!(local.lines().nth(9), Some("[xdp]"));
        assert!(!local.contains("demo.example.com") && !local.contains("node1"), "{local}");
        let keys: Vec<&str> = shared.keys().map(String::as_str).collect();
        assert_eq!(keys, ["config/nodes", "config/services", "config/zone"]);
        assert_eq!(shared["config/zone"], "# what clients ask for\n[zone]\nname = \"demo.example.com\"\n");
        assert!(shared["config/nodes"].ends_with("[node.health]\nport = 7000\n"));
    }

    #[test]
    fn what_came_apart_joins_to_the_same_configuration() {
        let (local, shared) = split(TEXT).unwrap();
        let joined: toml::Table = toml::from_str(&(local + &join(&shared))).unwrap();
        assert_eq!(joined, toml::from_str::<toml::Table>(TEXT).unwrap());
    }

    #[test]
    fn sections_that_cannot_be_told_apart_are_refused() {
        let refused = split("zone.name = \"demo.example.com\"\n").unwrap_err();
        assert!(refused.contains("[zone]"), "{refused}");
        assert!(split("zone = [\n").is_err());
    }

    #[test]
    fn what_is_no_part_of_its_section_is_stray_in_a_document() {
        let stray = |text: &str| {
            let texts = Shared::from([("config/nodes".to_owned(), text.to_owned())]);
            Documents { texts, ..Documents::default() }.stray().map(|problem| problem.text)
        };
        assert_eq!(stray("[[node]]\nname = \"node1\"\n[node.health]\nport = 1\n"), None);
        assert!(stray("[[node]]\n[xdp]\nmode = \"off\"\n").unwrap().starts_with("`xdp` "));
        assert!(stray("[zone]\n").unwrap().starts_with("`zone` "));
    }

    #[test]
    fn differences_name_keys_of_short_documents_and_only_the_long_documents() {
        let documents = |records: usize| {
            let record =
                |number| format!("[[record]]\nname = \"r{number}\"\ntype = \"A\"\nvalue = \"192.0.2.1\"\n");
            let texts = [
                ("config/zone".to_owned(), "[zone]\nname = \"demo.example.com\"\n".to_owned()),
                ("config/records".to_owned(), (0..records).map(record).collect()),
            ];
            Documents { texts: texts.into(), ..Documents::default() }
        };
        let before = documents(1);
        assert_eq!(before.differences(&before), [""; 0]);
        assert_eq!(before.differences(&documents(2)), ["record r1 A added: value = \"192.0.2.1\""]);
        assert_eq!(before.differences(&documents(2_000)), ["config/records differs"]);
        assert_eq!(documents(2_000).differences(&documents(2_000)), [""; 0]);
    }
}
