//! The names and types that a key may write.
use hickory_proto::rr::{Name, RecordType};

use crate::records::full_name;

/// The limit on records of a grant that names none.
pub const RECORDS_MAX_USUAL: usize = 100;
/// The longest TTL of an update. RFC 8767, section 4, has caches reduce longer TTLs to a week.
pub const TTL_MAX_SECONDS: u32 = 7 * 24 * 60 * 60;

/// One grant of a key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// The names; not empty.
    pub names: Vec<Pattern>,
    /// The types; not empty.
    pub types: Vec<RecordType>,
    /// The most records that the zone may have of these names and types after an update.
    pub records_max: usize,
    /// The longest TTL of such a record.
    pub ttl_max_seconds: u32,
}

impl Grant {
    /// Whether it is about records of this name and type.
    pub fn covers(&self, owner: &Name, rtype: RecordType) -> bool {
        self.types.contains(&rtype) && self.covers_name(owner)
    }

    /// Whether it is about records of this name.
    pub fn covers_name(&self, owner: &Name) -> bool {
        self.names.iter().any(|pattern| pattern.matches(owner))
    }

    /// Whether it lets a key write addresses, or an alias that stands for addresses.
    pub fn gives_addresses(&self) -> bool {
        let is_of_addresses =
            |rtype: &RecordType| matches!(rtype, RecordType::A | RecordType::AAAA | RecordType::CNAME);
        self.types.iter().any(is_of_addresses)
    }
}

/// A pattern of names in the zone. The label `*` stands for any number of labels, or for none.
///
/// `_acme-challenge.*` therefore matches `_acme-challenge` of the zone itself, `_acme-challenge.db1`, and
/// `_acme-challenge.a.b`. `*.dyn` matches `dyn` and all names below it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Pattern {
    text: String,
    apex: Name,
    /// The labels before the star, or all labels; in lower case.
    before: Vec<Vec<u8>>,
    /// The labels of the zone behind the star; `None`: there is no star.
    behind: Option<Vec<Vec<u8>>>,
}

impl Pattern {
    /// Reads a pattern, relative to the zone or with a final dot in full.
    ///
    /// # Errors
    /// The text is no pattern of names in the zone. The message is the reason, without its subject.
    pub fn new(text: &str, apex: &Name) -> Result<Self, String> {
        let name = full_name(text, apex)?.to_lowercase();
        if !apex.zone_of(&name) {
            return Err(format!("is outside the zone {apex}; write it relative to the zone"));
        }
        let labels: Vec<Vec<u8>> = labels(&name, apex);
        let is_star = |label: &Vec<u8>| label == b"*";
        if labels.iter().any(|label| label.contains(&b'*') && !is_star(label)) {
            return Err(
                "has `*` within a label; `*` is a whole label, such as in \"_acme-challenge.*\"".to_owned()
            );
        }
        if labels.iter().filter(|label| is_star(label)).count() > 1 {
            return Err("has several `*`; one stands for any number of labels already".to_owned());
        }
        let mut parts = labels.split(is_star).map(<[Vec<u8>]>::to_vec);
        let before = parts.next().unwrap_or_default();
        Ok(Pattern { text: text.to_owned(), apex: apex.clone(), before, behind: parts.next() })
    }

    /// Returns the pattern as it was written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Whether it matches a name, which is in lower case.
    pub fn matches(&self, name: &Name) -> bool {
        if !self.apex.zone_of(name) {
            return false;
        }
        let labels = labels(name, &self.apex);
        match &self.behind {
            None => labels == self.before,
            Some(behind) => {
                labels.len() >= self.before.len() + behind.len()
                    && labels.starts_with(&self.before)
                    && labels.ends_with(behind)
            }
        }
    }
}

/// Returns the labels of a name before those of the apex.
fn labels(name: &Name, apex: &Name) -> Vec<Vec<u8>> {
    let own = name.iter().len().saturating_sub(apex.iter().len());
    name.iter().take(own).map(<[u8]>::to_vec).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(text: &str) -> Name {
        full_name(text, &apex()).unwrap()
    }

    fn apex() -> Name {
        full_name("demo.example.com.", &Name::root()).unwrap()
    }

    #[test]
    fn a_star_stands_for_any_number_of_labels() {
        let cases = [
            ("_acme-challenge.*", "_acme-challenge", true),
            ("_acme-challenge.*", "_acme-challenge.db1", true),
            ("_acme-challenge.*", "_acme-challenge.a.b", true),
            ("_ACME-challenge.*.demo.example.com.", "_acme-challenge.db1", true),
            ("_acme-challenge.*", "@", false),
            ("_acme-challenge.*", "db1", false),
            ("_acme-challenge.*", "x._acme-challenge", false),
            ("_acme-challenge.*", "_acme-challenge2", false),
            ("_acme-challenge.*", "_acme-challenge.example.org.", false),
            ("_acme-challenge", "_acme-challenge", true),
            ("_acme-challenge", "_acme-challenge.db1", false),
            ("*.dyn", "dyn", true),
            ("*.dyn", "a.dyn", true),
            ("*.dyn", "*.dyn", true),
            ("*.dyn", "a.b.dyn", true),
            ("*.dyn", "adyn", false),
            ("_acme-challenge.*.dyn", "_acme-challenge.dyn", true),
            ("_acme-challenge.*.dyn", "_acme-challenge.a.dyn", true),
            ("_acme-challenge.*.dyn", "_acme-challenge.a", false),
            ("a.*.a", "a", false),
            ("*", "@", true),
            ("*", "x.y", true),
            ("@", "@", true),
            ("@", "x", false),
        ];
        for (pattern, owner, expected) in cases {
            let found = Pattern::new(pattern, &apex()).unwrap().matches(&name(owner));
            assert_eq!(found, expected, "{pattern} {owner}");
        }
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_its_reason() {
        for (text, part) in [
            ("_acme*", "within a label"),
            ("*.*", "several `*`"),
            ("x.example.org.", "outside the zone"),
            ("a..b", "empty label"),
        ] {
            let error = Pattern::new(text, &apex()).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }
}
