//! Checks the parent zone: finds its servers, and compares its referral with the configured delegation.
use std::collections::BTreeSet;
use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::{Name, RData, RecordType};

use super::super::ask::{Asker, NoAnswer, Recursion};
use super::super::{Check, CheckResult, Delegation, NameServer};
use super::{Places, difference};
use crate::config::Config;

/// The most servers of the parent zone that are tried until one answers.
const SERVERS_MAX: usize = 4;

const SHOW: &str = "`dns-xdp delegation show` prints what it has to hold";

pub(super) async fn verify(
    config: &Config,
    delegation: &Delegation,
    places: Places,
    asker: &Asker,
) -> Vec<CheckResult> {
    let servers = match (places.parent, places.resolver) {
        (Some(server), _) => vec![server],
        (None, Some(resolver)) => match servers(&delegation.parent, resolver, asker).await {
            Ok(servers) => servers,
            Err(why) => {
                return vec![unknown(&format!("the resolver {resolver} does not find its servers: {why}"))];
            }
        },
        (None, None) => return vec![unknown("no resolver is known that could find its servers")],
    };
    let mut silent = Vec::new();
    for server in servers {
        match asker.ask(server, &delegation.apex, RecordType::NS, Recursion::No).await {
            Ok(response) => return judge(config, delegation, server, &response),
            Err(why) => silent.push(format!("{server}: {why}")),
        }
    }
    let remedy = "start a server of the parent zone, or name another with --parent-ns";
    vec![CheckResult::fail(Check::ParentServer, &delegation.parent, silent.join("; "), remedy)]
}

fn unknown(why: &str) -> CheckResult {
    CheckResult::warn(Check::ParentServer, "the parent zone", why, "name one of its servers with --parent-ns")
}

/// Returns the servers of the zone that holds the delegation: `parent`, or the nearest name above it with an NS set.
async fn servers(parent: &Name, resolver: IpAddr, asker: &Asker) -> Result<Vec<IpAddr>, String> {
    let text = |why: NoAnswer| why.to_string();
    let mut zone = parent.clone();
    let names = loop {
        let response = asker.ask(resolver, &zone, RecordType::NS, Recursion::Desired).await.map_err(text)?;
        match response.metadata.response_code {
            ResponseCode::NoError | ResponseCode::NXDomain => {}
            code => return Err(code.to_str().to_lowercase()),
        }
        let names = name_servers(&response, &zone).into_iter().cloned().collect::<Vec<Name>>();
        if !names.is_empty() {
            break names;
        }
        if zone.is_root() {
            return Err(format!("it knows no name servers of {parent} or of any zone above"));
        }
        zone = zone.base_name();
    };
    let mut addresses = Vec::new();
    for name in names.iter().take(SERVERS_MAX) {
        for rtype in [RecordType::A, RecordType::AAAA] {
            let response = asker.ask(resolver, name, rtype, Recursion::Desired).await.map_err(text)?;
            // One address of each server is enough, because the servers are asked in turn.
            if let Some(address) = response.answers.iter().find_map(|record| record.data.ip_addr()) {
                addresses.push(address);
                break;
            }
        }
    }
    if addresses.is_empty() { Err(format!("{} has no address", names[0])) } else { Ok(addresses) }
}

/// Checks the delegation in a response to a query for the apex's NS set.
fn judge(config: &Config, delegation: &Delegation, server: IpAddr, response: &Message) -> Vec<CheckResult> {
    let apex = &delegation.apex;
    let metadata = &response.metadata;
    let refused = |what: String, remedy: &str| vec![CheckResult::fail(Check::ParentNs, server, what, remedy)];
    match metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => {
            return refused(format!("says that {apex} does not exist"), &format!("delegate it: {SHOW}"));
        }
        code => {
            let remedy = "name a server of the parent zone with --parent-ns";
            return refused(format!("answers {}", code.to_str().to_lowercase()), remedy);
        }
    }
    let seen = name_servers(response, apex);
    if metadata.authoritative && !seen.is_empty() {
        let what = format!("serves {apex} itself, and does not refer to others");
        return refused(what, "name a server of the parent zone with --parent-ns");
    }
    if let Some(other) = response.authorities.iter().find(|record| {
        record.record_type() == RecordType::NS && record.name != *apex && record.name.zone_of(apex)
    }) {
        let what = format!("refers to the servers of {}, a zone nearer to {apex}", other.name);
        return refused(what, "name one of those servers with --parent-ns");
    }
    if seen.is_empty() {
        return refused(format!("does not delegate {apex}"), &format!("delegate it: {SHOW}"));
    }
    let wanted: Vec<&Name> = delegation.name_servers.iter().map(|server| &server.name).collect();
    let mut findings = vec![match difference(&wanted, &seen) {
        None => {
            CheckResult::ok(Check::ParentNs, server, format!("refers to the {} name servers", wanted.len()))
        }
        Some(what) => {
            refused(what, &format!("change the NS set of {apex} in the parent zone: {SHOW}")).remove(0)
        }
    }];
    // The referral cannot have glue of a server that it does not name. That defect is already reported.
    let named = delegation.name_servers.iter().filter(|server| seen.contains(&&server.name));
    findings.extend(named.map(|server| glue(server, response)));
    findings.push(ttl(config, delegation, server, response));
    findings
}

fn name_servers<'a>(response: &'a Message, zone: &Name) -> Vec<&'a Name> {
    let records = response.answers.iter().chain(&response.authorities).filter(|record| record.name == *zone);
    let name = |data: &'a RData| if let RData::NS(ns) = data { Some(&ns.0) } else { None };
    records.filter_map(|record| name(&record.data)).collect()
}

fn glue(server: &NameServer, response: &Message) -> CheckResult {
    let records = response.additionals.iter().filter(|record| record.name == server.name);
    let seen: BTreeSet<IpAddr> = records.filter_map(|record| record.data.ip_addr()).collect();
    let wanted: BTreeSet<IpAddr> = server.addresses().collect();
    if seen == wanted {
        return CheckResult::ok(Check::ParentGlue, &server.name, "has the configured addresses as glue");
    }
    let list = |addresses: &BTreeSet<IpAddr>| {
        let addresses: Vec<String> = addresses.iter().map(ToString::to_string).collect();
        if addresses.is_empty() { "none".to_owned() } else { addresses.join(", ") }
    };
    let detail = format!("glue is {}, configured is {}", list(&seen), list(&wanted));
    let remedy = format!("change the addresses of {} in the parent zone: {SHOW}", server.name);
    CheckResult::fail(Check::ParentGlue, &server.name, detail, remedy)
}

/// Compares the TTL. After a change, a resolver that uses the parent's TTL keeps the old servers for that time.
fn ttl(config: &Config, delegation: &Delegation, server: IpAddr, response: &Message) -> CheckResult {
    let ours = config.zone.ns_ttl_seconds;
    let of_referral = response.authorities.iter().chain(&response.answers).chain(&response.additionals);
    let of_referral = of_referral.filter(|record| delegation.apex.zone_of(&record.name));
    let longest = of_referral.map(|record| record.ttl).max().unwrap_or_default();
    if longest <= ours {
        return CheckResult::ok(
            Check::ParentTtl,
            server,
            format!("TTL {longest} s, the zone's own is {ours} s"),
        );
    }
    CheckResult::warn(
        Check::ParentTtl,
        server,
        format!("TTL {longest} s, the zone's own is {ours} s: resolvers keep old servers for that long"),
        format!(
            "lower the TTL of the NS set and the glue in the parent zone to {ours} s, or raise [zone] ns-ttl"
        ),
    )
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::Record;
    use hickory_proto::rr::rdata::{A, AAAA, NS};

    use super::super::super::{example, example_config};
    use super::*;
    use crate::severity::Severity;

    const SERVER: IpAddr = IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 53));

    /// Returns the right referral for the example.
    fn referral(ttl: u32) -> Message {
        let delegation = example();
        let mut response = Message::query().into_response();
        for server in &delegation.name_servers {
            let ns = RData::NS(NS(server.name.clone()));
            response.authorities.push(Record::from_rdata(delegation.apex.clone(), ttl, ns));
            for address in server.addresses() {
                let data = match address {
                    IpAddr::V4(ipv4) => RData::A(A(ipv4)),
                    IpAddr::V6(ipv6) => RData::AAAA(AAAA(ipv6)),
                };
                response.additionals.push(Record::from_rdata(server.name.clone(), ttl, data));
            }
        }
        response
    }

    /// Returns the findings that are not ok, as `check: detail`.
    fn told(response: &Message) -> Vec<String> {
        let findings = judge(&example_config(), &example(), SERVER, response);
        let bad = findings.iter().filter(|finding| finding.verdict != Severity::Ok);
        bad.map(|finding| {
            assert!(finding.remedy.is_some(), "{finding:?}");
            format!("{} {}: {}", finding.verdict.text(), finding.check.text(), finding.detail)
        })
        .collect()
    }

    #[test]
    fn the_configured_referral_is_in_order() {
        assert_eq!(told(&referral(60)), [""; 0]);
        let findings = judge(&example_config(), &example(), SERVER, &referral(60));
        assert_eq!(findings.len(), 4, "{findings:?}");
    }

    #[test]
    fn a_missing_server_is_one_defect() {
        let mut response = referral(60);
        response.authorities.pop();
        response.additionals.retain(|record| record.name == example().name_servers[0].name);
        assert_eq!(told(&response), ["fail parent-ns: does not name ns2.demo.example.com."]);
    }

    #[test]
    fn wrong_glue_is_told_with_both_addresses() {
        let mut response = referral(60);
        response.additionals.pop();
        let expected = "fail parent-glue: glue is 192.0.2.12, configured is 192.0.2.12, 2001:db8::12";
        assert_eq!(told(&response), [expected]);
        response.additionals.clear();
        assert_eq!(told(&response)[0], "fail parent-glue: glue is none, configured is 192.0.2.11");
    }

    #[test]
    fn a_long_ttl_is_a_warning() {
        let told = told(&referral(3600));
        assert_eq!(told.len(), 1);
        assert!(told[0].starts_with("warn parent-ttl: TTL 3600 s, the zone's own is 60 s"), "{told:?}");
    }

    #[test]
    fn who_does_not_refer_is_no_parent() {
        let mut missing = Message::query().into_response();
        assert_eq!(told(&missing), ["fail parent-ns: does not delegate demo.example.com."]);
        missing.metadata.response_code = ResponseCode::NXDomain;
        assert_eq!(told(&missing), ["fail parent-ns: says that demo.example.com. does not exist"]);
        missing.metadata.response_code = ResponseCode::Refused;
        assert_eq!(told(&missing), ["fail parent-ns: answers query refused"]);
        let mut above = referral(60);
        above.authorities.iter_mut().for_each(|record| record.name = example().parent);
        let expected =
            "fail parent-ns: refers to the servers of example.com., a zone nearer to demo.example.com.";
        assert_eq!(told(&above), [expected]);
        let mut own = referral(60);
        own.answers = std::mem::take(&mut own.authorities);
        own.metadata.authoritative = true;
        assert_eq!(
            told(&own),
            ["fail parent-ns: serves demo.example.com. itself, and does not refer to others"]
        );
    }
}
