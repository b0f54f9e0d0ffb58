//! Checks one name server at one address: its answers over UDP and TCP, and what it must refuse.
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, Record, RecordType};
use tokio::task::JoinSet;

use super::super::ask::{Asker, NoAnswer, Recursion};
use super::super::{Check, CheckResult, Delegation};
use super::{difference, foreign, node};
use crate::config::Config;
use crate::failover;
use crate::zone::Zone;

const SAME_FILE: &str = "give this server the file that was verified, then run `dns-xdp reload` there";
const WHO_LISTENS: &str =
    "find the process that listens there on the node: `ss -lnp 'sport = :53'`, and `dns-xdp status`";

/// A name server at one of its addresses.
#[derive(Debug, Clone)]
struct Place {
    name: Name,
    address: IpAddr,
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.name, self.address)
    }
}

/// The expected answers, the same for every server.
#[derive(Debug)]
struct Expected {
    soa: Record,
    name_servers: Vec<Name>,
    /// The first node's name, and a type that it has.
    node: (Name, RecordType),
    foreign: Name,
    ttl_seconds: u32,
    ns_ttl_seconds: u32,
}

impl Expected {
    fn of(config: &Config, delegation: &Delegation) -> Self {
        Expected {
            soa: soa_of(&failover::healthy_zone(config), &delegation.apex),
            name_servers: delegation.name_servers.iter().map(|server| server.name.clone()).collect(),
            node: node(delegation),
            foreign: foreign(&delegation.apex),
            ttl_seconds: config.zone.ttl_seconds,
            ns_ttl_seconds: config.zone.ns_ttl_seconds,
        }
    }
}

/// Returns the SOA record of an apex.
fn soa_of(zone: &Zone, apex: &Name) -> Record {
    zone.authority(apex).map_or_else(|| zone.soa(), |authority| zone.soa_of(authority))
}

/// Verifies every server at every address, all at the same time.
pub(super) async fn verify(config: &Config, delegation: &Delegation, asker: &Arc<Asker>) -> Vec<CheckResult> {
    let expected = Arc::new(Expected::of(config, delegation));
    let servers = delegation.name_servers.iter();
    let places = servers.flat_map(|server| server.addresses().map(|address| (server.name.clone(), address)));
    let mut looks = JoinSet::new();
    for (index, (name, address)) in places.enumerate() {
        let (expected, asker) = (Arc::clone(&expected), Arc::clone(asker));
        looks.spawn(async move { (index, look(&Place { name, address }, &expected, &asker).await) });
    }
    let mut findings = looks.join_all().await;
    findings.sort_by_key(|(index, _)| *index);
    findings.into_iter().flat_map(|(_, findings)| findings).collect()
}

async fn look(place: &Place, expected: &Expected, asker: &Asker) -> Vec<CheckResult> {
    let (apex, address) = (&expected.soa.name, place.address);
    let (udp, tcp) = tokio::join!(
        asker.udp(address, apex, RecordType::SOA, Recursion::No),
        asker.tcp(address, apex, RecordType::SOA, Recursion::No),
    );
    let mut findings =
        vec![soa(Check::ServerUdp, place, expected, &udp), soa(Check::ServerTcp, place, expected, &tcp)];
    // A silent server is one defect, so no other check is made of it.
    if udp.is_ok() {
        let (servers, addresses, foreign) = tokio::join!(
            asker.ask(address, apex, RecordType::NS, Recursion::No),
            asker.ask(address, &expected.node.0, expected.node.1, Recursion::No),
            asker.ask(address, &expected.foreign, RecordType::NS, Recursion::Desired),
        );
        findings.push(name_servers(place, expected, &servers));
        findings.push(ttl(place, expected, &servers, &addresses));
        findings.push(recursion(place, &foreign));
    }
    if tcp.is_ok() {
        findings.push(axfr(place, &asker.tcp(address, apex, RecordType::AXFR, Recursion::No).await));
    }
    findings
}

type Answered = Result<Message, NoAnswer>;

fn soa(check: Check, place: &Place, expected: &Expected, answered: &Answered) -> CheckResult {
    let fail = |detail: String, remedy: &str| CheckResult::fail(check, place, detail, remedy);
    let response = match answered {
        Ok(response) => response,
        Err(why @ NoAnswer::NoRoute) => {
            let remedy = "verify from a machine that has a route, like the resolvers of clients";
            return CheckResult::warn(check, place, why.to_string(), remedy);
        }
        Err(why) => {
            let remedy = "is the node up, and dns-xdp running there? does every firewall on the way let port 53 \
                          through, UDP and TCP?";
            return fail(why.to_string(), remedy);
        }
    };
    let code = response.metadata.response_code;
    if code != ResponseCode::NoError {
        return fail(format!("answers {}", code.to_str().to_lowercase()), WHO_LISTENS);
    }
    if !response.metadata.authoritative {
        return fail("answers without authority".to_owned(), WHO_LISTENS);
    }
    let seen = response.answers.iter().find(|record| record.name == expected.soa.name);
    match (seen.map(|record| &record.data), &expected.soa.data) {
        (Some(RData::SOA(seen)), RData::SOA(wanted)) if seen.serial != wanted.serial => {
            let (seen, wanted) = (seen.serial, wanted.serial);
            fail(format!("has another configuration: serial {seen}, not {wanted}"), SAME_FILE)
        }
        (Some(seen), wanted) if seen == wanted => {
            let serial = if let RData::SOA(soa) = wanted { soa.serial } else { 0 };
            CheckResult::ok(check, place, format!("answers with authority, serial {serial}"))
        }
        (Some(seen), _) => fail(format!("has another SOA: {seen}"), SAME_FILE),
        (None, _) => fail("has no SOA".to_owned(), WHO_LISTENS),
    }
}

fn name_servers(place: &Place, expected: &Expected, answered: &Answered) -> CheckResult {
    let response = match answered {
        Ok(response) => response,
        Err(why) => return CheckResult::fail(Check::ServerNs, place, why.to_string(), "try again"),
    };
    let name = |record: &Record| if let RData::NS(ns) = &record.data { Some(ns.0.clone()) } else { None };
    let seen: Vec<Name> = response.answers.iter().filter_map(name).collect();
    let wanted: Vec<&Name> = expected.name_servers.iter().collect();
    match difference(&wanted, &seen.iter().collect::<Vec<_>>()) {
        None => CheckResult::ok(Check::ServerNs, place, format!("names the {} name servers", wanted.len())),
        Some(what) => CheckResult::fail(Check::ServerNs, place, what, SAME_FILE),
    }
}

fn ttl(place: &Place, expected: &Expected, servers: &Answered, addresses: &Answered) -> CheckResult {
    let longest = |answered: &Answered| {
        let answers = answered.as_ref().map(|response| response.answers.as_slice()).unwrap_or_default();
        answers.iter().map(|record| record.ttl).max()
    };
    let (ns, address) = (longest(servers), longest(addresses));
    let (name, Expected { ttl_seconds, ns_ttl_seconds, .. }) = (&expected.node.0, expected);
    if let Some(ns) = ns.filter(|ns| ns > ns_ttl_seconds) {
        let detail = format!("TTL of the NS set is {ns} s, configured is {ns_ttl_seconds} s");
        return CheckResult::warn(Check::ServerTtl, place, detail, SAME_FILE);
    }
    match address {
        Some(address) if address > *ttl_seconds => {
            let detail = format!("TTL of {name} is {address} s, configured is {ttl_seconds} s");
            CheckResult::warn(Check::ServerTtl, place, detail, SAME_FILE)
        }
        Some(_) => CheckResult::ok(
            Check::ServerTtl,
            place,
            format!("TTLs are at most the configured {ttl_seconds} s of addresses, {ns_ttl_seconds} s of NS"),
        ),
        None => {
            let remedy = format!("see `dns-xdp query {name}` there");
            CheckResult::warn(Check::ServerTtl, place, format!("has no address of {name}"), remedy)
        }
    }
}

fn axfr(place: &Place, answered: &Answered) -> CheckResult {
    match answered {
        Ok(response) if !response.answers.is_empty() => {
            CheckResult::fail(Check::ServerAxfr, place, "transfers the whole zone to any client", WHO_LISTENS)
        }
        Ok(_) | Err(NoAnswer::Closed) => CheckResult::ok(Check::ServerAxfr, place, "refuses zone transfers"),
        Err(why) => {
            let detail = format!("asked for a zone transfer: {why}");
            CheckResult::warn(
                Check::ServerAxfr,
                place,
                detail,
                "see whether a firewall cuts long connections",
            )
        }
    }
}

fn recursion(place: &Place, answered: &Answered) -> CheckResult {
    match answered {
        Ok(response) if response.metadata.recursion_available || !response.answers.is_empty() => {
            CheckResult::fail(
                Check::ServerRecursion,
                place,
                "resolves for any client, so that it can be abused in attacks on others",
                WHO_LISTENS,
            )
        }
        Ok(_) => {
            CheckResult::ok(Check::ServerRecursion, place, "offers no recursion, answers for no other zone")
        }
        Err(why) => {
            let detail = format!("asked for another zone's name: {why}");
            CheckResult::warn(
                Check::ServerRecursion,
                place,
                detail,
                "see whether a firewall drops queries by name",
            )
        }
    }
}

#[cfg(test)]
mod tests {
    use hickory_proto::op::Query;

    use super::super::super::{example, example_config};
    use super::*;
    use crate::responder::{Arrival, Transport, respond};
    use crate::severity::Severity;

    fn place() -> Place {
        Place { name: example().name_servers[0].name.clone(), address: [192, 0, 2, 11].into() }
    }

    fn expected() -> Expected {
        Expected::of(&example_config(), &example())
    }

    /// Returns the answer of this crate's responder for the example's zone.
    fn ours(name: &Name, rtype: RecordType) -> Message {
        let mut query = Message::query();
        query.add_query(Query::query(name.clone(), rtype));
        let zone = failover::healthy_zone(&example_config());
        let client = std::net::Ipv4Addr::LOCALHOST.into();
        let arrival = Arrival { transport: Transport::Tcp, client, port: 0, seconds: 0 };
        let response = respond(&query.to_vec().unwrap(), arrival, Some(&zone), b"node1").unwrap();
        Message::from_vec(&response.encode()).unwrap()
    }

    fn apex() -> Name {
        example().apex
    }

    #[test]
    fn our_own_answers_are_in_order() {
        let (place, expected) = (place(), expected());
        let answer = |name: &Name, rtype| Ok(ours(name, rtype));
        let findings = [
            soa(Check::ServerUdp, &place, &expected, &answer(&apex(), RecordType::SOA)),
            name_servers(&place, &expected, &answer(&apex(), RecordType::NS)),
            ttl(
                &place,
                &expected,
                &answer(&apex(), RecordType::NS),
                &answer(&expected.node.0, expected.node.1),
            ),
            recursion(&place, &answer(&expected.foreign, RecordType::NS)),
            axfr(&place, &answer(&apex(), RecordType::AXFR)),
        ];
        for finding in findings {
            assert_eq!(finding.verdict, Severity::Ok, "{finding:?}");
        }
    }

    #[test]
    fn another_configuration_is_told_by_its_serial() {
        let mut response = ours(&apex(), RecordType::SOA);
        if let RData::SOA(soa) = &mut response.answers[0].data {
            soa.serial = 7;
        }
        let finding = soa(Check::ServerTcp, &place(), &expected(), &Ok(response));
        assert!(finding.detail.starts_with("has another configuration: serial 7, not "), "{finding:?}");
        assert_eq!(finding.remedy.as_deref(), Some(SAME_FILE));
    }

    #[test]
    fn silence_refusal_and_missing_authority_are_failures() {
        let mut lame = ours(&apex(), RecordType::SOA);
        lame.metadata.authoritative = false;
        let mut refusing = ours(&apex(), RecordType::SOA);
        refusing.metadata.response_code = ResponseCode::Refused;
        let cases = [
            (Err(NoAnswer::Silence), "no answer within 2 s, asked twice"),
            (Ok(lame), "answers without authority"),
            (Ok(refusing), "answers query refused"),
            (Ok(Message::query().into_response()), "answers without authority"),
        ];
        for (answered, detail) in cases {
            let finding = soa(Check::ServerUdp, &place(), &expected(), &answered);
            assert_eq!((finding.verdict, finding.detail.as_str()), (Severity::Fail, detail));
        }
    }

    #[test]
    fn what_this_machine_cannot_reach_is_no_failure_of_the_server() {
        let finding = soa(Check::ServerUdp, &place(), &expected(), &Err(NoAnswer::NoRoute));
        assert_eq!(finding.verdict, Severity::Warn);
    }

    #[test]
    fn what_must_not_be_answered_is_a_failure_where_it_is() {
        let mut open = Message::query().into_response();
        open.metadata.recursion_available = true;
        assert_eq!(recursion(&place(), &Ok(open)).verdict, Severity::Fail);
        let transfer = ours(&apex(), RecordType::SOA);
        assert_eq!(axfr(&place(), &Ok(transfer)).verdict, Severity::Fail);
        assert_eq!(axfr(&place(), &Err(NoAnswer::Closed)).verdict, Severity::Ok);
        assert_eq!(axfr(&place(), &Err(NoAnswer::Silence)).verdict, Severity::Warn);
    }

    #[test]
    fn longer_ttls_than_configured_are_a_warning() {
        let expected = expected();
        let longer = |name: &Name, rtype, ttl| {
            let mut response = ours(name, rtype);
            response.answers.iter_mut().for_each(|record| record.ttl = ttl);
            Ok(response)
        };
        let (node, rtype) = (&expected.node.0, expected.node.1);
        let told = |ns: u32, address: u32| {
            let servers = longer(&apex(), RecordType::NS, ns);
            ttl(&place(), &expected, &servers, &longer(node, rtype, address))
        };
        assert_eq!(told(60, 5).verdict, Severity::Ok);
        assert_eq!(told(61, 5).detail, "TTL of the NS set is 61 s, configured is 60 s");
        assert_eq!(told(60, 6).detail, "TTL of node1.demo.example.com. is 6 s, configured is 5 s");
    }
}
