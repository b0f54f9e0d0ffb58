//! Names and addresses in the form of CoreDNS' etcd plugin and ExternalDNS: one SkyDNS message for each address. The
//! key is the reversed name.
//!
//! ```text
//!  /skydns/com/example/demo/node1/3f2a = {"host":"192.0.2.11","targetstrip":1} ──► import ──► config/{nodes,services}
//!  Zone ──► export ──► /skydns-live/com/example/demo/node1/dns-xdp-1 = {"host":"192.0.2.11","ttl":5,"group":"node1"}
//! ```
pub mod export;
pub mod export_task;
pub mod import;
pub mod import_task;
mod task;

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::net::IpAddr;

use hickory_proto::rr::Name;
use serde::Deserialize;

pub use self::task::Task;
use super::Listing;
use crate::cluster::{APEX, SpecialAddress};

/// The prefix of the last label of the mirror's keys; a number follows. CoreDNS answers for a name with the keys below
/// it.
pub const MARKER: &str = "dns-xdp-";
/// The labels below which CoreDNS looks for the addresses of the zone's own name.
const OF_APEX: [&str; 2] = ["dns", "apex"];
/// The labels below which CoreDNS looks for the zone's name servers.
const OF_NAME_SERVERS: [&str; 2] = ["dns", "ns"];
/// The longest label, in octets (RFC 1035, section 2.3.4).
const LONGEST_LABEL: usize = 63;

/// The path of a zone's keys below `below`: the reversed name.
pub fn path(below: &str, apex: &Name) -> String {
    let labels = apex.iter().rev().map(|label| String::from_utf8_lossy(label).to_ascii_lowercase());
    labels.fold(below.trim_end_matches('/').to_owned(), |path, label| format!("{path}/{label}"))
}

/// The key of a name, relative to the zone's path. The keys of its addresses have one more label.
pub fn place(name: &str) -> String {
    if name == APEX {
        return OF_APEX.join("/");
    }
    name.rsplit('.').collect::<Vec<_>>().join("/")
}

/// The fields of a message that matter here; CoreDNS reads more fields.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Message {
    host: String,
    port: i64,
    mail: bool,
    targetstrip: i64,
}

/// Why a key is not followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Cause {
    /// The value is not a message.
    Unreadable,
    /// The host is a name: a CNAME.
    Alias,
    /// There is no host: for example, a TXT record that names the owner.
    Text,
    /// The message has a port, or is for mail: an SRV or an MX record.
    Service,
    /// The host is an address that no node can have.
    Address,
    /// The key is not a host name below the zone.
    Name,
    /// There are keys below this key for the same name. CoreDNS answers only the keys below.
    Shadowed,
    /// The name is a name server's, and dns-xdp makes those names itself.
    NameServer,
    /// The name is a server's, and has several addresses of a family or the address of another node.
    Server,
}

impl Cause {
    fn text(self) -> &'static str {
        match self {
            Cause::Unreadable => "whose value cannot be read",
            Cause::Alias => "whose host is a name",
            Cause::Text => "without a host",
            Cause::Service => "that are SRV or MX records (a port, or mail)",
            Cause::Address => "whose host no node can have",
            Cause::Name => "that are no host name of the zone",
            Cause::Shadowed => "with keys below them for the same name",
            Cause::NameServer => "of name servers, which are dns-xdp's",
            Cause::Server => "of servers, which have one address of a family, and their own",
        }
    }
}

/// The keys that are not followed: for each cause their number, and one example.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Ignored(BTreeMap<Cause, (usize, String)>);

impl Ignored {
    fn add(&mut self, cause: Cause, key: &str) {
        self.0.entry(cause).or_insert_with(|| (0, key.to_owned())).0 += 1;
    }

    /// Whether every key is followed.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Display for Ignored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, (cause, (count, key))) in self.0.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(f, "{separator}{count} {} ({key})", cause.text())?;
        }
        Ok(())
    }
}

/// The addresses of each name, relative to the zone, in a listing of the zone's path.
fn names(listing: &Listing, ignored: &mut Ignored) -> BTreeMap<String, BTreeSet<IpAddr>> {
    /// An address with its key, and whether the key is the name itself.
    type Said<'a> = (&'a str, bool, IpAddr);
    let mut said: BTreeMap<String, Vec<Said<'_>>> = BTreeMap::new();
    for (key, entry) in &listing.entries {
        match message(key, &entry.value) {
            Ok((name, exact, address)) => said.entry(name).or_default().push((key, exact, address)),
            Err(cause) => ignored.add(cause, key),
        }
    }
    let mut names: BTreeMap<String, BTreeSet<IpAddr>> = BTreeMap::new();
    for (name, said) in said {
        let is_shadowed = said.iter().any(|(_, exact, _)| !exact);
        for (key, exact, address) in said {
            if exact && is_shadowed {
                ignored.add(Cause::Shadowed, key);
            } else {
                names.entry(name.clone()).or_default().insert(address);
            }
        }
    }
    names
}

/// The name that a key is about, whether the key is the name itself, and the address.
fn message(key: &str, value: &[u8]) -> Result<(String, bool, IpAddr), Cause> {
    let message: Message = serde_json::from_slice(value).map_err(|_| Cause::Unreadable)?;
    let (name, exact) = owner(key, message.targetstrip)?;
    if message.host.is_empty() {
        return Err(Cause::Text);
    }
    if message.port != 0 || message.mail {
        return Err(Cause::Service);
    }
    let address: IpAddr = message.host.parse().map_err(|_| Cause::Alias)?;
    match SpecialAddress::of(address) {
        None => Ok((name, exact, address)),
        Some(_) => Err(Cause::Address),
    }
}

/// The name that a key below the zone's path is about, and whether the key is the name itself. Three kinds of label
/// only distinguish keys of one name: labels such as `x1`, the marks of this mirror, and the labels that `targetstrip`
/// counts.
fn owner(key: &str, targetstrip: i64) -> Result<(String, bool), Cause> {
    let mut labels: Vec<&str> = key.split('/').collect();
    let all = labels.len();
    match usize::try_from(targetstrip) {
        Ok(strip) if strip > 0 => labels.truncate(all.checked_sub(strip).ok_or(Cause::Name)?),
        _ if labels.last() == Some(&"") => labels.truncate(all - 1),
        _ if all > 1 && labels.last().is_some_and(|label| is_mark(label)) => labels.truncate(all - 1),
        _ => {}
    }
    if labels.is_empty() || labels.starts_with(&OF_APEX) {
        return Ok((APEX.to_owned(), false));
    }
    if labels.starts_with(&OF_NAME_SERVERS) {
        return Err(Cause::NameServer);
    }
    if labels.iter().any(|label| label.starts_with('_')) {
        return Err(Cause::Service);
    }
    if !labels.iter().all(|label| is_host_name(label)) {
        return Err(Cause::Name);
    }
    let exact = labels.len() == all;
    labels.reverse();
    Ok((labels.join(".").to_ascii_lowercase(), exact))
}

/// Whether a label is a mark: `x1`, as in CoreDNS' documentation, or `dns-xdp-1`.
fn is_mark(label: &str) -> bool {
    let number = label.strip_prefix('x').or_else(|| label.strip_prefix(MARKER));
    number.is_some_and(|number| !number.is_empty() && number.bytes().all(|digit| digit.is_ascii_digit()))
}

/// Whether a label is one of a host name (RFC 1123, section 2.1).
fn is_host_name(label: &str) -> bool {
    let letters = label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let hyphens = label.starts_with('-') || label.ends_with('-');
    letters && !hyphens && (1..=LONGEST_LABEL).contains(&label.len())
}

#[cfg(test)]
pub(in crate::store) mod tests {
    use super::super::Entry;
    use super::*;

    /// A listing of these keys and values, all at one revision.
    pub(in crate::store) fn listing(entries: &[(&str, &str)]) -> Listing {
        let entry = |value: &str| Entry { value: value.as_bytes().to_vec(), revision: 1 };
        let entries = entries.iter().map(|(key, value)| ((*key).to_owned(), entry(value))).collect();
        Listing { revision: 1, entries, ..Listing::default() }
    }

    #[test]
    fn a_zones_keys_are_below_its_name_turned_round() {
        let apex = Name::from_ascii("Demo.Example.com.").unwrap();
        assert_eq!(path("/skydns", &apex), "/skydns/com/example/demo");
        assert_eq!(["node1", "db.prod", "@"].map(place), ["node1", "prod/db", "dns/apex"]);
    }

    #[test]
    fn a_key_is_about_the_name_without_what_tells_keys_of_one_name_apart() {
        for (key, targetstrip, name) in [
            ("node1", 0, Ok(("node1", true))),
            ("Node1", 0, Ok(("node1", true))),
            ("node1/3f2a", 1, Ok(("node1", false))),
            ("node1/a/b", 2, Ok(("node1", false))),
            ("node1/x1", 0, Ok(("node1", false))),
            ("node1/x12", 0, Ok(("node1", false))),
            ("node1/", 0, Ok(("node1", false))),
            ("node1/dns-xdp-3", 0, Ok(("node1", false))),
            ("prod/db", 0, Ok(("db.prod", true))),
            ("prod/db/3f2a", 1, Ok(("db.prod", false))),
            ("prod/xa", 0, Ok(("xa.prod", true))),
            ("x1", 0, Ok(("x1", true))),
            ("3f2a", 1, Ok(("@", false))),
            ("", 0, Ok(("@", false))),
            ("dns/apex", 0, Ok(("@", false))),
            ("dns/apex/x1", 0, Ok(("@", false))),
            ("dns/apex/a", 0, Ok(("@", false))),
            ("dns/ns/a", 0, Err(Cause::NameServer)),
            ("node1", 2, Err(Cause::Name)),
            ("node 1", 0, Err(Cause::Name)),
            ("-node1", 0, Err(Cause::Name)),
            ("*", 0, Err(Cause::Name)),
            ("a//b", 0, Err(Cause::Name)),
            ("_tcp/_redis", 0, Err(Cause::Service)),
            ("node1", -1, Ok(("node1", true))),
        ] {
            let name = name.map(|(name, exact)| (name.to_owned(), exact));
            assert_eq!(owner(key, targetstrip), name, "{key} {targetstrip}");
        }
    }

    #[test]
    fn what_is_no_address_of_a_name_is_counted_by_its_cause() {
        let mut ignored = Ignored::default();
        let listing = listing(&[
            ("a", r#"{"host":"192.0.2.1","ttl":"60","text":"heritage=external-dns","unknown":[1]}"#),
            ("b", r#"{"host":"elsewhere.example.com"}"#),
            ("c", r#"{"text":"heritage=external-dns"}"#),
            ("d", r#"{"host":"192.0.2.4","port":6379}"#),
            ("e", r#"{"host":"192.0.2.5","mail":true}"#),
            ("f", "192.0.2.6"),
            ("g", "{"),
            ("h", r#"{"host":"0.0.0.0"}"#),
            ("i", r#"{"host":"2001:db8::9"}"#),
            ("i/x1", r#"{"host":"2001:db8::a"}"#),
            ("j", r#"{"host":["192.0.2.1"]}"#),
        ]);
        let names = names(&listing, &mut ignored);
        let said: Vec<String> = names.iter().map(|(name, said)| format!("{name} {said:?}")).collect();
        assert_eq!(said, ["a {192.0.2.1}", "i {2001:db8::a}"]);
        assert_eq!(
            ignored.to_string(),
            "3 whose value cannot be read (f), 1 whose host is a name (b), 1 without a host (c), \
             2 that are SRV or MX records (a port, or mail) (d), 1 whose host no node can have (h), \
             1 with keys below them for the same name (i)"
        );
    }

    #[test]
    fn an_address_that_a_node_cannot_have_is_counted_and_the_others_are_followed() {
        let value = |address: &str| format!("{{\"host\":\"{address}\"}}");
        let names_and_values: Vec<(String, String)> = crate::cluster::NO_NODES
            .iter()
            .enumerate()
            .map(|(index, (address, _))| (format!("n{index}"), value(address)))
            .chain([("good".to_owned(), value("192.0.2.1"))])
            .collect();
        let entries: Vec<(&str, &str)> =
            names_and_values.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let mut ignored = Ignored::default();
        let names = names(&listing(&entries), &mut ignored);
        assert_eq!(names.keys().collect::<Vec<_>>(), ["good"]);
        assert_eq!(ignored.to_string(), "14 whose host no node can have (n0)");
    }
}
