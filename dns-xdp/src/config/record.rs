//! Reads `[[record]]`, and checks the records against each other and against the other names of the zone.
mod warnings;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use hickory_proto::rr::{Name, RData, RecordType};
use toml::de::DeValue;

use super::diagnostic::{At, Diagnostics};
use super::field::{self, Read};
use super::spec::ClusterSpec;
use super::table_reader::TableReader;
use super::{nearest, suffix};
use crate::cluster::APEX;
use crate::records::{
    RecordSet, Records, canonical, data, full_name, octets_of_data, presentation, record_type, refusal,
    relative, source_of_synthesis, type_text, with_names_above,
};
pub(super) use warnings::warnings;

/// The most octets of an RRset in a message. The rest of a message's 65,535 octets is for the question, an OPT record and
/// a chain of aliases.
const SET_MAX: usize = 62_000;
/// Octets of a record besides its data: a pointer to the owner, type, class, TTL and length.
const RECORD_REST: usize = 12;
/// The types that the message about an unknown type suggests.
const USUAL: [&str; 13] =
    ["A", "AAAA", "CAA", "CNAME", "HTTPS", "MX", "NAPTR", "PTR", "SRV", "SSHFP", "SVCB", "TLSA", "TXT"];

/// One `[[record]]`, with the places of the values that are checked against the rest of the file.
pub(super) struct RecordSpec {
    name: At<Name>,
    /// The name as other sections write it.
    relative: String,
    rtype: At<RecordType>,
    ttl_seconds: u32,
    data: Vec<At<RData>>,
}

impl RecordSpec {
    /// Returns the name relative to the zone.
    pub(super) fn relative(&self) -> &str {
        &self.relative
    }

    fn is_address(&self) -> bool {
        matches!(self.rtype.value, RecordType::A | RecordType::AAAA)
    }

    fn is_alias(&self) -> bool {
        self.rtype.value == RecordType::CNAME
    }
}

/// Reads a section. A record without a TTL has the zone's. Without an apex only the keys are checked.
pub(super) fn record(
    mut section: TableReader<'_>,
    apex: Option<&Name>,
    ttl_seconds: u32,
) -> Option<RecordSpec> {
    let name = section.required("name", "\"_acme-challenge\"", name_text);
    let rtype = section.required("type", "\"TXT\"", own_type);
    let value = section.located("value", value_text);
    let values = section.filled_list("values", "[\"first\", \"second\"]", value_text);
    let ttl_seconds = section.value("ttl", field::ttl_seconds).unwrap_or(ttl_seconds);
    match (section.place("value"), section.place("values")) {
        (Some(_), Some(at)) => {
            section.problem(at, "`values` is beside `value`; write all values in `values`");
        }
        (None, None) => {
            section.problem(
                section.at(),
                "[[record]] has no `value`; write value = \"…\", or a list of `values`",
            );
        }
        _ => {}
    }
    section.close();
    let (At { at, value: text }, rtype, apex) = (name?, rtype?, apex?);
    let name = match full_name(&text, apex) {
        Ok(name) if !apex.zone_of(&name) => {
            section.problem(
                at,
                format!(
                    "`name` is `{text}`, which is outside the zone {apex}; write it relative to the zone"
                ),
            );
            return None;
        }
        Ok(name) => At { at, value: name.to_lowercase() },
        Err(problem) => {
            section.problem(at, format!("`name` is `{text}`, which {problem}"));
            return None;
        }
    };
    let key = if value.is_some() { "value" } else { "values" };
    let read = |At { at, value }: At<String>| match data(rtype.value, &value, apex) {
        Ok(data) => Some(At { at, value: data }),
        Err(problem) => {
            section.problem(at, format!("`{key}` {problem}"));
            None
        }
    };
    let data: Vec<At<RData>> = value.into_iter().chain(values).filter_map(read).collect();
    let relative = relative(&name.value, apex);
    Some(RecordSpec { name, relative, rtype, ttl_seconds, data })
}

fn name_text(value: &DeValue<'_>) -> Read<String> {
    field::text(value, "a name such as \"_acme-challenge\"").map(str::to_owned)
}

fn value_text(value: &DeValue<'_>) -> Read<String> {
    field::text(value, "the data of a record, such as \"10 mail\" for MX").map(str::to_owned)
}

fn own_type(value: &DeValue<'_>) -> Read<RecordType> {
    type_of(value, "remove the record")
}

/// Reads a type. Refuses types that the zone makes itself, and types that no zone has, with `remedy`.
pub(super) fn type_of(value: &DeValue<'_>, remedy: &str) -> Read<RecordType> {
    let text = field::text(value, "a type such as \"TXT\"")?;
    let Some(rtype) = record_type(text) else {
        let other = match nearest(&text.to_ascii_uppercase(), USUAL) {
            Some(known) => format!("did you mean \"{known}\"?"),
            None => "write a type such as \"TXT\", or its number such as \"TYPE1234\"".to_owned(),
        };
        return Err(format!("is `{text}`, which is no type; {other}"));
    };
    match refusal(rtype) {
        Some(reason) => Err(format!("is `{text}`: {reason}; {remedy}")),
        None => Ok(rtype),
    }
}

/// Notes every problem of the records as a whole.
pub(super) fn check(records: &[RecordSpec], spec: &ClusterSpec, problems: &Diagnostics) {
    let mut sets: BTreeMap<(&Name, u16), &RecordSpec> = BTreeMap::new();
    let mut holders: BTreeMap<&Name, Vec<&RecordSpec>> = BTreeMap::new();
    let holder = Holders::of(spec);
    for record in records {
        let (name, rtype) = (&record.relative, type_text(record.rtype.value));
        if sets.insert((&record.name.value, record.rtype.value.into()), record).is_some() {
            let text = format!(
                "`{name}` has {rtype} records already; write all of them as `values` of one [[record]]"
            );
            problems.add(record.name.at, text);
            continue;
        }
        holders.entry(&record.name.value).or_default().push(record);
        alone(record, problems);
        if let Some(holder) = holder.get(name).map(str::to_owned).or_else(|| holder.under_suffix(spec, name))
            && (record.is_address() || record.is_alias())
        {
            let text = if record.is_alias() {
                format!(
                    "`{name}` is {holder}, and no name has other data beside a CNAME record (RFC 1034, section 3.6.2); rename the record"
                )
            } else {
                format!("`{name}` is {holder}, which answers addresses already; rename the record")
            };
            problems.add(record.name.at, text);
        }
    }
    for at_name in holders.values() {
        together(at_name, problems);
    }
    loops(records, spec, problems);
}

/// Checks the values of one RRset.
fn alone(record: &RecordSpec, problems: &Diagnostics) {
    let (name, rtype) = (&record.relative, type_text(record.rtype.value));
    let mut seen = HashSet::new();
    for At { at, value } in &record.data {
        if !seen.insert(canonical(value)) {
            let value = presentation(value);
            problems.add(*at, format!("`values` has {value} twice; remove one"));
        }
    }
    if let (true, Some(second)) = (record.is_alias(), record.data.get(1)) {
        problems.add(
            second.at,
            format!("`{name}` has several CNAME records, and a name has one target; remove the others"),
        );
    }
    let octets: usize = record.data.iter().map(|data| RECORD_REST + octets_of_data(&data.value).len()).sum();
    if octets > SET_MAX {
        let text = format!(
            "the {rtype} records of `{name}` have {octets} octets, more than the {SET_MAX} of a message; remove some"
        );
        problems.add(record.name.at, text);
    }
}

/// Checks the RRsets of one name against each other.
fn together(at_name: &[&RecordSpec], problems: &Diagnostics) {
    let alias = at_name.iter().find(|record| record.is_alias());
    if let Some(other) = alias.and_then(|_| at_name.iter().find(|record| !record.is_alias())) {
        let text = format!(
            "`{}` has a CNAME record and {} records; no name has other data beside a CNAME record (RFC 1034, section 3.6.2): remove one of them",
            other.relative,
            type_text(other.rtype.value)
        );
        problems.add(other.name.at, text);
    }
    let mut addresses = at_name.iter().filter(|record| record.is_address());
    if let (Some(first), Some(second)) = (addresses.next(), addresses.next())
        && first.ttl_seconds != second.ttl_seconds
    {
        let text = format!(
            "the A and AAAA records of `{}` have the TTLs {}s and {}s; write one `ttl` for both",
            second.relative, first.ttl_seconds, second.ttl_seconds
        );
        problems.add(second.name.at, text);
    }
}

/// The names of nodes, name servers and services, and what they are.
struct Holders<'s>(BTreeMap<&'s str, String>);

impl<'s> Holders<'s> {
    fn of(spec: &'s ClusterSpec) -> Self {
        let mut holders = BTreeMap::from([(APEX, "the zone's own name".to_owned())]);
        for node in &spec.nodes {
            holders.insert(&node.name.value, "a node".to_owned());
            if let Some(ns) = &node.ns {
                holders
                    .entry(&ns.value)
                    .or_insert_with(|| format!("the name server of `{}`", node.name.value));
            }
        }
        for service in &spec.services {
            holders.entry(&service.name.value).or_insert_with(|| "a service".to_owned());
        }
        Holders(holders)
    }

    fn get(&self, relative: &str) -> Option<&str> {
        self.0.get(relative).map(String::as_str)
    }

    /// Returns what a suffix repeats at this name.
    fn under_suffix(&self, spec: &ClusterSpec, relative: &str) -> Option<String> {
        let (name, suffix) = suffix::repeated(spec, relative)?;
        Some(format!("{} under the suffix `{suffix}`", self.get(name)?))
    }
}

/// Notes each CNAME record that leads back to itself, also by way of wildcards.
fn loops(records: &[RecordSpec], spec: &ClusterSpec, problems: &Diagnostics) {
    let target = |record: &RecordSpec| match record.data.first().map(|data| &data.value) {
        Some(RData::CNAME(target)) => Some(target.0.to_lowercase()),
        _ => None,
    };
    let aliases: BTreeMap<&Name, (&RecordSpec, Name)> = records
        .iter()
        .filter(|record| record.is_alias())
        .filter_map(|record| Some((&record.name.value, (record, target(record)?))))
        .collect();
    let Some(apex) = spec.apex.as_ref().filter(|_| !aliases.is_empty()) else { return };
    let existing = existing(records, spec, apex);
    let source = |name: Name| {
        if existing.contains(&name) || !apex.zone_of(&name) {
            return Some(name);
        }
        source_of_synthesis(&name, apex, |above| existing.contains(above))
    };
    let mut done: HashSet<&Name> = HashSet::new();
    for start in aliases.keys() {
        let mut path: HashSet<&Name> = HashSet::new();
        let mut at = *start;
        while let Some((owner, (record, target))) = aliases.get_key_value(at)
            && !done.contains(*owner)
        {
            if !path.insert(owner) {
                let text = format!(
                    "the CNAME record of `{}` leads back to itself; give it another target",
                    record.relative
                );
                problems.add(record.name.at, text);
                break;
            }
            let Some(next) = source(target.clone()) else { break };
            let Some((next, _)) = aliases.get_key_value(&next) else { break };
            at = next;
        }
        done.extend(path);
    }
}

/// Returns every name of the zone.
fn existing(records: &[RecordSpec], spec: &ClusterSpec, apex: &Name) -> BTreeSet<Name> {
    let of_nodes = spec.nodes.iter().flat_map(|node| [Some(&node.name), node.ns.as_ref()]).flatten();
    let others = of_nodes.chain(spec.services.iter().map(|service| &service.name));
    let others = others.filter_map(|name| full_name(&name.value, apex).ok());
    let suffixes = suffix::names(&spec.suffixes);
    let names = with_names_above(records.iter().map(|record| record.name.value.clone()).chain(others), apex);
    let copies = suffix::copies(&names, apex, &suffixes);
    with_names_above(names.into_iter().chain(copies).chain(suffixes), apex)
}

/// Returns the checked records.
pub(super) fn into_records(specs: Vec<RecordSpec>) -> Records {
    let set = |spec: RecordSpec| RecordSet {
        owner: spec.name.value,
        rtype: spec.rtype.value,
        ttl_seconds: spec.ttl_seconds,
        data: spec.data.into_iter().map(|data| data.value).collect(),
    };
    Records::new(specs.into_iter().map(set))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::super::Config;

    const FILE: &str = r#"[zone]
name = "demo.example.com"
ttl = "7s"
[listen]
interfaces = ["eth0"]
[[node]]
name = "node1"
ipv4 = "192.0.2.11"
[[service]]
name = "db"
nodes = ["node1"]
"#;

    fn parse(records: &str) -> Result<Config, String> {
        Config::parse(&format!("{FILE}{records}"), Path::new("f")).map_err(|error| error.to_string())
    }

    fn record(name: &str, rtype: &str, value: &str) -> String {
        format!("[[record]]\nname = {name:?}\ntype = {rtype:?}\nvalue = {value:?}\n")
    }

    #[test]
    fn records_have_the_ttl_of_the_zone_or_their_own() {
        let text = record("_x", "txt", "a b")
            + &record("WWW.demo.example.com.", "A", "192.0.2.80")
            + "ttl = \"1h\"\n";
        let config = parse(&text).unwrap();
        let sets: Vec<_> =
            config.records.iter().map(|set| (set.owner.to_string(), set.ttl_seconds)).collect();
        assert_eq!(
            sets,
            [("_x.demo.example.com.".to_owned(), 7), ("www.demo.example.com.".to_owned(), 3600)]
        );
    }

    #[test]
    fn several_values_are_one_rrset() {
        let text = "[[record]]\nname = \"@\"\ntype = \"MX\"\nvalues = [\"10 a\", \"20 node1\"]\n";
        let config = parse(text).unwrap();
        assert_eq!(config.records.iter().next().unwrap().data.len(), 2);
    }

    #[test]
    fn what_no_record_can_be_is_refused_with_its_line() {
        // The first line of the records is line 12.
        let cases = [
            (record("x", "SOA", "a b 1 2 3 4 5"), "f:14: `type` is `SOA`: the zone makes"),
            (record("sub", "NS", "ns1"), "f:14: `type` is `NS`"),
            (record("x", "ANY", "x"), "f:14: "),
            (record("x", "TYPE41", "\\# 0"), "f:14: "),
            (record("x", "RRSIG", "x"), "the zone is not signed"),
            (record("x", "ZONEMD", "\\# 1 00"), "the zone is not signed"),
            (record("x", "TYPE30", "\\# 1 00"), "the zone is not signed"),
            (record("x", "DNAME", "a"), "CNAME record for each"),
            (record("x", "TXTT", "a"), "did you mean \"TXT\"?"),
            (record("x", "MX", "mail"), "f:15: `value` is not the data of an MX record"),
            (record("www.example.org.", "TXT", "a"), "f:13: `name` is `www.example.org.`, which is outside"),
            (record("a..b", "TXT", "a"), "f:13: "),
            (record(&format!("{}.x", "y".repeat(64)), "TXT", "a"), "63"),
            (record(&vec!["y".repeat(60); 4].join("."), "TXT", "a"), "255"),
            (record("x", "TXT", "a") + "ttl = \"8d\"\n", "f:16: `ttl`"),
            (record("x", "TXT", "a") + "values = [\"b\"]\n", "f:16: `values` is beside `value`"),
            ("[[record]]\nname = \"x\"\ntype = \"TXT\"\n".to_owned(), "f:12: [[record]] has no `value`"),
            ("[[record]]\nname = \"x\"\ntype = \"TXT\"\nvalues = []\n".to_owned(), "f:15: "),
            (
                "[[record]]\nname = \"x\"\ntype = \"TXT\"\nvalues = [\"a\", \"a\"]\n".to_owned(),
                "f:15: `values` has \"a\" twice",
            ),
            (
                "[[record]]\nname = \"x\"\ntype = \"MX\"\nvalues = [\"10 Mail\", \"10 mail\"]\n".to_owned(),
                "f:15: `values` has 10 mail",
            ),
            (record("x", "TXT", "a") + "vlaue = \"b\"\n", "did you mean `value`?"),
        ];
        for (text, part) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
    }

    #[test]
    fn what_collides_is_refused() {
        let cases = [
            (record("node1", "A", "192.0.2.80"), "f:13: `node1` is a node, which answers addresses already"),
            (record("NODE1", "CNAME", "db"), "`node1` is a node, and no name has other data beside a CNAME"),
            (record("ns1", "AAAA", "2001:db8::1"), "the name server of `node1`"),
            (record("db", "A", "192.0.2.80"), "`db` is a service"),
            (record("@", "CNAME", "db"), "the zone's own name"),
            (record("x", "TXT", "a") + &record("x", "CNAME", "db"), "`x` has a CNAME record and TXT records"),
            (record("x", "TXT", "a") + &record("X", "TYPE16", "b"), "f:17: `x` has TXT records already"),
            (record("a", "CNAME", "b") + &record("b", "CNAME", "a"), "leads back to itself"),
            (record("a", "CNAME", "a"), "`a` leads back to itself"),
            (record("*.w", "CNAME", "x.w"), "`*.w` leads back to itself"),
            (
                record("x", "A", "192.0.2.80") + &record("x", "AAAA", "2001:db8::80") + "ttl = \"9s\"\n",
                "the TTLs 7s and 9s",
            ),
        ];
        for (text, part) in cases {
            let error = parse(&text).unwrap_err();
            assert!(error.contains(part), "{text}: {error}");
        }
        let both = "[[record]]\nname = \"x\"\ntype = \"CNAME\"\nvalues = [\"db\", \"node1\"]\n";
        assert!(parse(both).unwrap_err().contains("several CNAME records"));
        let many: Vec<String> = (0..300).map(|nth| format!("\"{nth}{}\"", "x".repeat(240))).collect();
        let many = format!("[[record]]\nname = \"x\"\ntype = \"TXT\"\nvalues = [{}]\n", many.join(", "));
        assert!(parse(&many).unwrap_err().contains("more than the 62000"));
    }

    #[test]
    fn what_only_looks_like_a_collision_is_accepted() {
        let texts = [
            record("node1", "TXT", "a")
                + &record("node1", "SSHFP", "1 1 dd465c09cfa51fb45020cc83316fff21b9ec74ac"),
            record("db", "MX", "10 node1"),
            record("@", "CAA", "0 issue letsencrypt.org"),
            record("_redis._tcp.node1", "SRV", "0 0 6379 node1"),
            record("a", "CNAME", "b") + &record("c", "CNAME", "b") + &record("b", "CNAME", "node1"),
            record("*", "CNAME", "node1") + &record("*.x", "TXT", "a"),
            record("x", "A", "192.0.2.80") + &record("x", "AAAA", "2001:db8::80"),
        ];
        for text in texts {
            parse(&text).unwrap_or_else(|error| panic!("{text}: {error}"));
        }
    }

    #[test]
    fn a_service_may_be_a_wildcard() {
        let service = |name: &str| format!("[[service]]\nname = {name:?}\nnodes = [\"node1\"]\n");
        for name in ["*", "*.prod"] {
            let config = parse(&service(name)).unwrap();
            assert_eq!(config.cluster.services[1].name, name);
        }
        for name in ["*x", "a.*", "**", "*.", "*.prod."] {
            assert!(parse(&service(name)).is_err(), "{name}");
        }
        let both = service("*") + &record("*", "A", "192.0.2.80");
        assert!(parse(&both).unwrap_err().contains("`*` is a service"));
    }

    #[test]
    fn the_epoch_follows_the_records() {
        let epoch = |records: &str| parse(records).unwrap().epoch();
        let one = epoch(&record("x", "TXT", "a"));
        assert_ne!(epoch(""), one);
        assert_ne!(epoch(&record("x", "TXT", "b")), one);
        assert_ne!(epoch(&(record("x", "TXT", "a") + "ttl = \"9s\"\n")), one);
        assert_eq!(epoch(&record("X", "TYPE16", "\"a\"")), one, "another way to write the same");
    }
}
