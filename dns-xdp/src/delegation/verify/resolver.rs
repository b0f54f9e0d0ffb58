//! Checks that a client's resolver finds a node, either from the root or in its cache.
use std::net::IpAddr;

use hickory_proto::op::{Message, ResponseCode};
use hickory_proto::rr::Name;

use super::super::ask::{Asker, Recursion};
use super::super::{Check, CheckResult, Delegation};
use super::node;
use crate::config::Config;

pub(super) async fn verify(
    config: &Config,
    delegation: &Delegation,
    resolver: Option<IpAddr>,
    asker: &Asker,
) -> Vec<CheckResult> {
    let Some(resolver) = resolver else {
        let remedy = "name a resolver with --resolver, one that clients use";
        return vec![CheckResult::warn(
            Check::Resolver,
            "the system",
            "/etc/resolv.conf names no resolver",
            remedy,
        )];
    };
    let (name, rtype) = node(delegation);
    match asker.ask(resolver, &name, rtype, Recursion::Desired).await {
        Ok(response) => judge(config, delegation, resolver, &name, &response),
        Err(why) => {
            let remedy =
                "if the lines above are ok, check the resolver itself, or name another with --resolver";
            vec![CheckResult::fail(Check::Resolver, resolver, format!("{name}: {why}"), remedy)]
        }
    }
}

fn judge(
    config: &Config,
    delegation: &Delegation,
    resolver: IpAddr,
    name: &Name,
    response: &Message,
) -> Vec<CheckResult> {
    let fail =
        |detail: String, remedy: &str| vec![CheckResult::fail(Check::Resolver, resolver, detail, remedy)];
    match response.metadata.response_code {
        ResponseCode::NoError => {}
        ResponseCode::NXDomain => {
            let remedy = "correct the delegation first (lines above); resolvers keep such an answer for the negative TTL";
            return fail(format!("says that {name} does not exist"), remedy);
        }
        code => {
            let remedy =
                "correct the problems in the lines above; if there are none, see the resolver's own log";
            return fail(format!("does not resolve {name}: {}", code.to_str().to_lowercase()), remedy);
        }
    }
    let seen: Vec<IpAddr> = response.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
    let ours: Vec<IpAddr> = delegation.nodes.iter().flat_map(crate::cluster::Node::addresses).collect();
    if seen.is_empty() {
        return fail(format!("finds no address of {name}"), "see `dns-xdp query` on a node, and try again");
    }
    if let Some(foreign) = seen.iter().find(|address| !ours.contains(address)) {
        let remedy = "find the server that answers this with `dig +trace`; a cache may hold an old address for its TTL";
        return fail(format!("says that {name} is {foreign}, which is no node's address"), remedy);
    }
    let addresses: Vec<String> = seen.iter().map(ToString::to_string).collect();
    let mut findings =
        vec![CheckResult::ok(Check::Resolver, resolver, format!("finds {name} at {}", addresses.join(", ")))];
    let (ttl, ours) = (response.answers.iter().map(|record| record.ttl).max(), config.zone.ttl_seconds);
    let ttl = ttl.unwrap_or_default();
    findings.push(if ttl <= ours {
        CheckResult::ok(
            Check::ResolverTtl,
            resolver,
            format!("keeps answers for at most the configured {ours} s"),
        )
    } else {
        CheckResult::warn(
            Check::ResolverTtl,
            resolver,
            format!(
                "keeps answers for {ttl} s, configured is {ours} s: a dead node is answered for that long"
            ),
            "lower the resolver's least TTL (unbound: cache-min-ttl, BIND: min-cache-ttl)",
        )
    });
    findings
}

#[cfg(test)]
mod tests {
    use hickory_proto::rr::rdata::A;
    use hickory_proto::rr::{RData, Record};

    use super::super::super::{example, example_config};
    use super::*;
    use crate::severity::Severity;

    fn told(code: ResponseCode, address: Option<[u8; 4]>, ttl: u32) -> Vec<(Severity, String)> {
        let config = example_config();
        let (name, _) = node(&example());
        let mut response = Message::query().into_response();
        response.metadata.response_code = code;
        if let Some(address) = address {
            response.answers.push(Record::from_rdata(name.clone(), ttl, RData::A(A(address.into()))));
        }
        let findings = judge(&config, &example(), IpAddr::from([192, 0, 2, 1]), &name, &response);
        findings.into_iter().map(|finding| (finding.verdict, finding.detail)).collect()
    }

    #[test]
    fn any_node_is_an_answer_and_nobody_else() {
        // node2 may answer for node1.
        let found = told(ResponseCode::NoError, Some([192, 0, 2, 12]), 5);
        assert_eq!(found[0], (Severity::Ok, "finds node1.demo.example.com. at 192.0.2.12".to_owned()));
        assert_eq!(found[1].0, Severity::Ok);
        let foreign = told(ResponseCode::NoError, Some([192, 0, 2, 99]), 5);
        assert_eq!((foreign.len(), foreign[0].0), (1, Severity::Fail));
        for code in [ResponseCode::NoError, ResponseCode::NXDomain, ResponseCode::ServFail] {
            assert_eq!(told(code, None, 5)[0].0, Severity::Fail);
        }
    }

    #[test]
    fn a_resolver_that_keeps_answers_longer_is_warned_of() {
        let found = told(ResponseCode::NoError, Some([192, 0, 2, 11]), 30);
        assert_eq!((found[0].0, found[1].0), (Severity::Ok, Severity::Warn));
        assert!(found[1].1.starts_with("keeps answers for 30 s, configured is 5 s"), "{found:?}");
    }
}
