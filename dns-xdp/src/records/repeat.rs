//! Repeats the static records of a zone under its suffixes.
use std::collections::BTreeSet;

use hickory_proto::rr::{Name, RData, RecordType};

use super::{RecordSet, Records, data, layout};

/// The types whose data name a host or another name of the service. Under a suffix, a target in the zone is the same
/// name under the suffix. Mailboxes (RP, MINFO) stay as they are.
const WITH_TARGETS: [RecordType; 7] = [
    RecordType::CNAME,
    RecordType::PTR,
    RecordType::MX,
    RecordType::SRV,
    RecordType::NAPTR,
    RecordType::SVCB,
    RecordType::HTTPS,
];

/// Returns the name that `name` has under a suffix: its end `apex` is replaced. `None`: `name` is not at or below the
/// apex, or the new name is too long.
pub fn under(name: &Name, apex: &Name, suffix: &Name) -> Option<Name> {
    if !apex.zone_of(name) {
        return None;
    }
    let own = name.iter().len() - apex.iter().len();
    Name::from_labels(name.iter().take(own).chain(suffix.iter())).ok()
}

/// Returns the suffix that a name is at or below.
pub fn suffix_of<'s>(name: &Name, suffixes: impl IntoIterator<Item = &'s Name>) -> Option<&'s Name> {
    suffixes.into_iter().find(|suffix| suffix.zone_of(name))
}

impl Records {
    /// Returns these records, and their copies under each suffix. Records at or below a suffix are not repeated. They
    /// take the place of the copies with the same owner.
    #[must_use]
    pub fn repeated(&self, apex: &Name, suffixes: &[Name]) -> Records {
        let mut sets: Vec<RecordSet> = self.iter().cloned().collect();
        let is_under_a_suffix = |name: &Name| suffix_of(name, suffixes).is_some();
        let own: BTreeSet<&Name> = self.owners().filter(|owner| is_under_a_suffix(owner)).collect();
        for suffix in suffixes {
            let target = |name: &Name| match is_under_a_suffix(name) {
                true => None,
                false => under(name, apex, suffix),
            };
            for set in self.iter().filter(|set| !own.contains(&set.owner)) {
                let Some(owner) = under(&set.owner, apex, suffix) else { continue };
                if own.contains(&owner) {
                    continue;
                }
                let data = set.data.iter().map(|rdata| with_targets(rdata, &target)).collect();
                sets.push(RecordSet { owner, data, ..*set });
            }
        }
        Records::new(sets)
    }
}

/// Returns the data with other targets; `target` returns `None` for a target that stays.
fn with_targets(rdata: &RData, target: &impl Fn(&Name) -> Option<Name>) -> RData {
    let rtype = rdata.record_type();
    if !WITH_TARGETS.contains(&rtype) {
        return rdata.clone();
    }
    let octets = layout::with_names(rtype, &data::octets_of_data(rdata), |name| {
        target(&name.to_lowercase()).unwrap_or(name)
    });
    octets.and_then(|octets| data::from_octets(rtype, octets).ok()).unwrap_or_else(|| rdata.clone())
}

#[cfg(test)]
mod tests {
    use super::super::{data, full_name, presentation, record_type, relative, type_text};
    use super::*;

    fn name(text: &str) -> Name {
        full_name(text, &apex()).unwrap()
    }

    fn apex() -> Name {
        Name::from_ascii("demo.example.com.").unwrap()
    }

    /// Returns the copies of these records, each as owner, type and data.
    fn copies(records: &[(&str, &str, &str)], suffixes: &[&str]) -> Vec<String> {
        let sets = records.iter().map(|(owner, rtype, text)| {
            let rtype = record_type(rtype).unwrap();
            let data = vec![data(rtype, text, &apex()).unwrap()];
            RecordSet { owner: name(owner), rtype, ttl_seconds: 60, data }
        });
        let records = Records::new(sets);
        let suffixes: Vec<Name> = suffixes.iter().map(|suffix| name(suffix)).collect();
        let text = |set: &RecordSet| {
            let owner = relative(&set.owner, &apex());
            format!("{owner} {} {}", type_text(set.rtype), presentation(&set.data[0]))
        };
        let all = records.repeated(&apex(), &suffixes);
        all.iter().filter(|set| suffix_of(&set.owner, &suffixes).is_some()).map(text).collect()
    }

    #[test]
    fn targets_in_the_zone_follow_their_records_under_the_suffix() {
        let records = [
            ("@", "MX", "10 Mail"),
            ("www", "CNAME", "node1"),
            ("_redis._tcp", "SRV", "0 0 6379 node1"),
            ("web", "HTTPS", "1 node1 port=8443"),
            ("self", "SVCB", "1 . alpn=h2"),
            ("away", "CNAME", "www.example.org."),
            ("t", "TXT", "node1.demo.example.com."),
            ("n", "NAPTR", "100 10 s SIP+D2U \\\"\\\" _sip._udp"),
        ];
        let expected = [
            "internal MX 10 mail.internal.demo.example.com.",
            "_redis._tcp.internal SRV 0 0 6379 node1.internal.demo.example.com.",
            "away.internal CNAME www.example.org.",
            "n.internal NAPTR 100 10 \"s\" \"SIP+D2U\" \"\\\"\\\"\" _sip._udp.internal.demo.example.com.",
            "self.internal SVCB 1 . alpn=\"h2\"",
            "t.internal TXT \"node1.demo.example.com.\"",
            "web.internal HTTPS 1 node1.internal.demo.example.com. port=8443",
            "www.internal CNAME node1.internal.demo.example.com.",
        ];
        let mut found = copies(&records, &["internal"]);
        found.sort();
        let mut expected: Vec<String> = expected.iter().map(|text| (*text).to_owned()).collect();
        expected.sort();
        assert_eq!(found, expected);
    }

    #[test]
    fn records_below_a_suffix_replace_the_copies_and_are_not_repeated() {
        let records = [
            ("_acme-challenge", "TXT", "of the zone"),
            ("_acme-challenge.internal", "TXT", "of the suffix"),
            ("www", "CNAME", "node1"),
            ("www.internal", "TXT", "no alias here"),
            ("to", "CNAME", "node1.external"),
        ];
        let expected = [
            "_acme-challenge.external TXT \"of the zone\"",
            "to.external CNAME node1.external.demo.example.com.",
            "www.external CNAME node1.external.demo.example.com.",
            "_acme-challenge.internal TXT \"of the suffix\"",
            "to.internal CNAME node1.external.demo.example.com.",
            "www.internal TXT \"no alias here\"",
        ];
        assert_eq!(copies(&records, &["internal", "external"]), expected);
    }

    #[test]
    fn a_zone_of_its_own_takes_the_targets_too() {
        let records = [("www", "CNAME", "node1"), ("@", "TXT", "x")];
        let expected = ["corp.example. TXT \"x\"", "www.corp.example. CNAME node1.corp.example."];
        assert_eq!(copies(&records, &["corp.example."]), expected);
    }
}
