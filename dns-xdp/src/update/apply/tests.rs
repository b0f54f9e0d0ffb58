//! Tests of each paragraph of RFC 2136 about prerequisites and changes.
use std::net::IpAddr;

use hickory_proto::op::ResponseCode;
use hickory_proto::rr::rdata::{A, AAAA};

use super::super::{Pattern, TTL_MAX_SECONDS};
use super::*;
use crate::records::{data, full_name, presentation, record_type};

fn apex() -> Name {
    full_name("demo.example.com.", &Name::root()).unwrap()
}

fn name(text: &str) -> Name {
    full_name(text, &apex()).unwrap()
}

fn rdata(rtype: &str, text: &str) -> RData {
    data(record_type(rtype).unwrap(), text, &apex()).unwrap()
}

fn set(owner: &str, rtype: &str, ttl_seconds: u32, values: &[&str]) -> RecordSet {
    let data = values.iter().map(|text| rdata(rtype, text)).collect();
    RecordSet { owner: name(owner), rtype: record_type(rtype).unwrap(), ttl_seconds, data }
}

/// The records of the tests' zone.
fn records() -> Records {
    Records::new([
        set("_acme-challenge", "TXT", 60, &["one"]),
        set("_acme-challenge.db1", "TXT", 60, &["one", "two"]),
        set("www", "CNAME", 60, &["node1"]),
        set("both", "A", 60, &["192.0.2.80"]),
        set("both", "AAAA", 60, &["2001:db8::80"]),
        set("both", "MX", 60, &["10 Mail"]),
        set("node1", "TXT", 60, &["of a node"]),
    ])
}

/// The records that the zone makes itself.
fn made(owner: &Name) -> Vec<RecordSet> {
    match owner {
        apex if *apex == self::apex() => vec![
            set("@", "NS", 60, &["ns1"]),
            RecordSet { rtype: RecordType::SOA, ..set("@", "TXT", 60, &["stands for the SOA"]) },
        ],
        node if *node == name("node1") => vec![set("node1", "A", 5, &["192.0.2.11"])],
        _ => Vec::new(),
    }
}

fn grant(names: &[&str], types: &[&str]) -> Grant {
    Grant {
        names: names.iter().map(|text| Pattern::new(text, &apex()).unwrap()).collect(),
        types: types.iter().map(|text| record_type(text).unwrap()).collect(),
        records_max: 100,
        ttl_max_seconds: TTL_MAX_SECONDS,
    }
}

fn everything() -> Vec<Grant> {
    vec![grant(&["*"], &["A", "AAAA", "CNAME", "TXT", "MX", "SRV", "TYPE1234"])]
}

fn outcome(update: &Update, grants: &[Grant]) -> Result<Vec<SetChange>, Failure> {
    apply(update, &records(), made, grants)
}

/// The RRsets that the changes leave, as text: name, type, TTL and data. A deleted RRset has no TTL.
fn changed(changes: &[Change]) -> Vec<String> {
    told(&outcome(&Update { changes: changes.to_vec(), ..Update::default() }, &everything()).unwrap())
}

fn told(changes: &[SetChange]) -> Vec<String> {
    let text = |change: &SetChange| {
        let owner = crate::records::relative(&change.owner, &apex());
        let rest = change.set.as_ref().map_or_else(
            || " deleted".to_owned(),
            |set| {
                assert_eq!((&set.owner, set.rtype), (&change.owner, change.rtype));
                let data: Vec<String> = set.data.iter().map(presentation).collect();
                format!(" {} {}", set.ttl_seconds, data.join(", "))
            },
        );
        format!("{owner} {}{rest}", type_text(change.rtype))
    };
    changes.iter().map(text).collect()
}

fn failure(changes: &[Change], grants: &[Grant]) -> Failure {
    outcome(&Update { changes: changes.to_vec(), ..Update::default() }, grants).unwrap_err()
}

fn add(owner: &str, rtype: &str, ttl_seconds: u32, text: &str) -> Change {
    Change::Add { owner: name(owner), ttl_seconds, data: rdata(rtype, text) }
}

fn remove(owner: &str, rtype: &str, text: &str) -> Change {
    Change::Remove { owner: name(owner), data: rdata(rtype, text) }
}

fn remove_set(owner: &str, rtype: &str) -> Change {
    Change::RemoveSet { owner: name(owner), rtype: record_type(rtype).unwrap() }
}

fn remove_name(owner: &str) -> Change {
    Change::RemoveName { owner: name(owner) }
}

fn prerequisite(wanted: &[Prerequisite]) -> Result<(), ResponseCode> {
    let update = Update { prerequisites: wanted.to_vec(), changes: Vec::new() };
    // Prerequisites need no grant: the names of a zone are public (RFC 2136, section 3.3).
    outcome(&update, &[]).map(|changes| assert!(changes.is_empty())).map_err(|failure| failure.rcode)
}

#[test]
fn section_2_4_1_an_rrset_exists_whatever_its_data() {
    let exists = |owner: &str, rtype: &str| {
        prerequisite(&[Prerequisite::SetExists(name(owner), record_type(rtype).unwrap())])
    };
    assert_eq!(exists("_acme-challenge", "TXT"), Ok(()));
    assert_eq!(exists("node1", "A"), Ok(()), "the addresses of a node");
    assert_eq!(exists("@", "SOA"), Ok(()));
    assert_eq!(exists("@", "NS"), Ok(()));
    assert_eq!(exists("_acme-challenge", "A"), Err(ResponseCode::NXRRSet));
    assert_eq!(exists("nothing", "TXT"), Err(ResponseCode::NXRRSet));
}

#[test]
fn section_2_4_2_an_rrset_exists_with_exactly_these_data() {
    let has = |records: &[(&str, &str, &str)]| {
        let of =
            |(owner, rtype, text): &(&str, &str, &str)| Prerequisite::SetHas(name(owner), rdata(rtype, text));
        prerequisite(&records.iter().map(of).collect::<Vec<_>>())
    };
    let db1 = "_acme-challenge.db1";
    assert_eq!(has(&[(db1, "TXT", "two"), (db1, "TXT", "one")]), Ok(()), "in any order");
    assert_eq!(
        has(&[(db1, "TXT", "two"), (db1, "TXT", "one"), (db1, "TXT", "one")]),
        Ok(()),
        "twice the same"
    );
    assert_eq!(has(&[(db1, "TXT", "one")]), Err(ResponseCode::NXRRSet), "a part");
    let more = [(db1, "TXT", "one"), (db1, "TXT", "two"), (db1, "TXT", "three")];
    assert_eq!(has(&more), Err(ResponseCode::NXRRSet));
    assert_eq!(has(&[("both", "MX", "10 mAIL")]), Ok(()), "names have no case");
    assert_eq!(
        has(&[("both", "MX", "10 mail"), (db1, "TXT", "one")]),
        Err(ResponseCode::NXRRSet),
        "all of them"
    );
    assert_eq!(has(&[("node1", "A", "192.0.2.11")]), Ok(()));
    assert_eq!(has(&[("node1", "A", "192.0.2.12")]), Err(ResponseCode::NXRRSet));
}

#[test]
fn section_2_4_3_an_rrset_does_not_exist() {
    let absent = |owner: &str, rtype: &str| {
        prerequisite(&[Prerequisite::SetAbsent(name(owner), record_type(rtype).unwrap())])
    };
    assert_eq!(absent("_acme-challenge", "A"), Ok(()));
    assert_eq!(absent("nothing", "TXT"), Ok(()));
    assert_eq!(absent("_acme-challenge", "TXT"), Err(ResponseCode::YXRRSet));
    assert_eq!(absent("node1", "A"), Err(ResponseCode::YXRRSet));
}

#[test]
fn sections_2_4_4_and_2_4_5_a_name_is_in_use_or_not() {
    let in_use = |owner: &str| prerequisite(&[Prerequisite::NameInUse(name(owner))]);
    let not_in_use = |owner: &str| prerequisite(&[Prerequisite::NameNotInUse(name(owner))]);
    for used in ["_acme-challenge", "node1", "@", "www"] {
        assert_eq!((in_use(used), not_in_use(used)), (Ok(()), Err(ResponseCode::YXDomain)), "{used}");
    }
    let unused = "nothing";
    assert_eq!((in_use(unused), not_in_use(unused)), (Err(ResponseCode::NXDomain), Ok(())), "{unused}");
}

#[test]
fn section_3_2_a_failed_prerequisite_prevents_all_changes() {
    let update = Update {
        prerequisites: vec![Prerequisite::NameInUse(name("nothing"))],
        changes: vec![add("_acme-challenge", "TXT", 60, "new")],
    };
    let failure = outcome(&update, &everything()).unwrap_err();
    assert_eq!(failure, Failure::new(ResponseCode::NXDomain, "nothing.demo.example.com. has no records"));
}

#[test]
fn section_3_3_a_change_without_a_grant_prevents_all_changes() {
    let acme = [grant(&["_acme-challenge.*"], &["TXT"])];
    let allowed = add("_acme-challenge.new", "TXT", 60, "x");
    for refused in [
        add("x", "TXT", 60, "x"),
        add("_acme-challenge", "A", 60, "192.0.2.1"),
        remove("www", "CNAME", "node1"),
        remove_set("both", "A"),
        remove_name("both"),
        remove_name("nothing"),
    ] {
        let failure = failure(&[allowed.clone(), refused.clone()], &acme);
        assert_eq!(failure.rcode, ResponseCode::Refused, "{refused:?}");
        assert!(failure.reason.starts_with("the key has no [[key.grant]] for "), "{}", failure.reason);
    }
    let both = [acme[0].clone(), grant(&["x"], &["A"])];
    let update = Update { changes: vec![allowed, add("x", "A", 60, "192.0.2.1")], ..Update::default() };
    assert_eq!(outcome(&update, &both).unwrap().len(), 2, "each change has a grant of its own");
}

#[test]
fn section_3_4_2_2_a_record_is_added_to_its_rrset() {
    assert_eq!(
        changed(&[add("_acme-challenge", "TXT", 60, "two")]),
        ["_acme-challenge TXT 60 \"one\", \"two\""]
    );
    assert_eq!(changed(&[add("new", "TXT", 5, "x")]), ["new TXT 5 \"x\""]);
    assert_eq!(changed(&[add("new", "TYPE1234", 5, "\\# 1 00")]), ["new TYPE1234 5 \\# 1 00"]);
    assert!(changed(&[add("_acme-challenge", "TXT", 60, "one")]).is_empty(), "it is there already");
    assert_eq!(
        changed(&[add("_acme-challenge", "TXT", 9, "one")]),
        ["_acme-challenge TXT 9 \"one\""],
        "another TTL"
    );
    assert_eq!(changed(&[add("node1", "TXT", 60, "two")]), ["node1 TXT 60 \"of a node\", \"two\""]);
    assert!(changed(&[add("both", "MX", 60, "10 Mail")]).is_empty());
}

#[test]
fn section_3_4_2_2_an_alias_and_other_records_exclude_each_other() {
    assert!(changed(&[add("www", "TXT", 60, "x")]).is_empty(), "beside an alias");
    assert!(changed(&[add("_acme-challenge", "CNAME", 60, "x")]).is_empty(), "beside other records");
    assert_eq!(changed(&[add("www", "CNAME", 60, "node2")]), ["www CNAME 60 node2.demo.example.com."]);
    let replaced = [remove_set("www", "CNAME"), add("www", "TXT", 60, "x")];
    assert_eq!(
        changed(&replaced),
        ["www CNAME deleted", "www TXT 60 \"x\""],
        "changes are made in their order"
    );
}

#[test]
fn both_families_of_a_name_keep_one_ttl() {
    let changed = changed(&[add("both", "A", 9, "192.0.2.81")]);
    assert_eq!(changed, ["both A 9 192.0.2.80, 192.0.2.81", "both AAAA 9 2001:db8::80"]);
}

#[test]
fn section_3_4_2_3_an_rrset_or_a_name_is_deleted() {
    assert_eq!(changed(&[remove_set("both", "A")]), ["both A deleted"]);
    assert!(changed(&[remove_set("nothing", "A"), remove_set("both", "TXT")]).is_empty());
    assert_eq!(changed(&[remove_name("both")]), ["both A deleted", "both AAAA deleted", "both MX deleted"]);
    assert!(changed(&[remove_name("nothing")]).is_empty());
    let some = [grant(&["both"], &["A", "AAAA"])];
    assert!(failure(&[remove_name("both")], &some).reason.ends_with("for both.demo.example.com. MX"));
}

#[test]
fn section_3_4_2_4_a_record_is_deleted() {
    assert_eq!(
        changed(&[remove("_acme-challenge.db1", "TXT", "one")]),
        ["_acme-challenge.db1 TXT 60 \"two\""]
    );
    assert_eq!(
        changed(&[remove("both", "MX", "10 MAIL")]),
        ["both MX deleted"],
        "the last one, in another case"
    );
    assert!(changed(&[remove("both", "MX", "20 mail"), remove("nothing", "TXT", "x")]).is_empty());
    let back = [remove("_acme-challenge", "TXT", "one"), add("_acme-challenge", "TXT", 60, "one")];
    assert!(changed(&back).is_empty(), "it comes back in the same update");
}

#[test]
fn no_update_changes_what_the_zone_makes_itself() {
    let soa = RData::Unknown { code: RecordType::SOA, rdata: hickory_proto::rr::rdata::NULL::new() };
    for (refused, part) in [
        (
            add("node1", "A", 60, "192.0.2.1"),
            "node1.demo.example.com. is a name of the cluster, whose A records",
        ),
        (add("node1", "CNAME", 60, "x"), "whose CNAME records"),
        (remove("node1", "A", "192.0.2.11"), "whose A records"),
        (remove_set("node1", "AAAA"), "whose AAAA records"),
        (remove_name("node1"), "records that the zone makes itself"),
        (remove_name("@"), "records that the zone makes itself"),
        (add("@", "A", 60, "192.0.2.1"), "whose A records"),
        (add("@", "NS", 60, "x"), "no update changes NS records: the zone makes"),
        (remove("@", "NS", "ns1"), "no update changes NS"),
        (remove_set("@", "NS"), "no update changes NS"),
        (remove_set("@", "SOA"), "no update changes SOA records: the zone makes"),
        (Change::Add { owner: apex(), ttl_seconds: 1, data: soa }, "no update changes SOA"),
        (remove_set("x", "RRSIG"), "the zone is not signed"),
    ] {
        let failure = failure(&[add("new", "TXT", 60, "x"), refused.clone()], &everything());
        assert_eq!(failure.rcode, ResponseCode::Refused, "{refused:?}");
        assert!(failure.reason.contains(part), "{refused:?}: {}", failure.reason);
    }
    assert_eq!(changed(&[remove_set("node1", "TXT")]), ["node1 TXT deleted"]);
}

#[test]
fn a_grant_limits_the_records_and_their_ttl() {
    let tight =
        |records_max| [Grant { records_max, ttl_max_seconds: 60, ..grant(&["_acme-challenge.*"], &["TXT"]) }];
    let more = [add("_acme-challenge.x", "TXT", 60, "x")];
    let told = failure(&more, &tight(3)).reason;
    assert!(
        told.contains("4 records") && told.contains("_acme-challenge.*") && told.contains("= 3"),
        "{told}"
    );
    let update = Update { changes: more.to_vec(), ..Update::default() };
    assert_eq!(outcome(&update, &tight(4)).unwrap().len(), 1);
    let fewer = [remove("_acme-challenge.db1", "TXT", "one")];
    let update = Update { changes: fewer.to_vec(), ..Update::default() };
    assert_eq!(outcome(&update, &tight(1)).unwrap().len(), 1, "fewer than before are never too many");
    let exchanged = [remove("_acme-challenge", "TXT", "one"), add("_acme-challenge", "TXT", 60, "two")];
    let update = Update { changes: exchanged.to_vec(), ..Update::default() };
    assert_eq!(outcome(&update, &tight(1)).unwrap().len(), 1);
    assert!(failure(&[add("_acme-challenge", "TXT", 61, "x")], &tight(9)).reason.contains("61s"));
}

#[test]
fn addresses_are_data_as_in_the_configuration() {
    let data = |address: &str| match address.parse().unwrap() {
        IpAddr::V4(address) => RData::A(A(address)),
        IpAddr::V6(address) => RData::AAAA(AAAA(address)),
    };
    let changes = [Change::Add { owner: name("new"), ttl_seconds: 5, data: data("192.0.2.9") }];
    assert_eq!(changed(&changes), ["new A 5 192.0.2.9"]);
}
