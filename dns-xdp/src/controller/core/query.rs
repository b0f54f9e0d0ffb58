//! The `query` command: the answer, whether program or responder gives it, and the rule behind it.
use hickory_proto::rr::{Name, RecordType};

use super::state::State;
use crate::answered_by::{AnsweredBy, answered_by};
use crate::cluster::{APEX, Family, Node};
use crate::config::NsAddresses;
use crate::control::api::QueryAnswer;
use crate::control::{Refusal, RefusalKind};
use crate::failover::{Decision, Effective};
use crate::records::{presentation, record_type};
use crate::responder::{self, Rcode};
use crate::zone::Zone;

/// Asks the published zone; `attached`: whether a program answers on some interface.
pub(super) fn query(
    state: &State,
    decision: &Decision,
    zone: &Zone,
    attached: bool,
    (name, qtype): (&str, &str),
) -> Result<QueryAnswer, Refusal> {
    let qname = full_name(name, zone.apex())?;
    let qtype = record_type(qtype).ok_or_else(|| {
        Refusal::new(RefusalKind::Invalid, format!("there is no type {qtype}; try A or AAAA"))
    })?;
    let (rcode, answers, ttl) = responder::answer(zone, qname.clone(), qtype);
    let path = if attached {
        answered_by(zone, &qname, qtype)
    } else {
        AnsweredBy::Responder("no program is attached")
    };
    let mut why = rule(state, decision, zone, &qname, qtype);
    if rcode == Rcode::NoError && answers.is_empty() {
        why.push_str(&format!("; it has no {qtype} record"));
    }
    if let AnsweredBy::Responder(reason) = path {
        why.push_str(&format!("; {reason}"));
    }
    Ok(QueryAnswer {
        name: qname.to_string(),
        r#type: qtype.to_string(),
        rcode: rcode.text().to_owned(),
        answers: answers.iter().map(|record| presentation(&record.data)).collect(),
        ttl,
        path: path.text().to_owned(),
        why,
    })
}

/// Returns the full name. A name that ends in a dot or in the zone's own name is full; any other is relative to the
/// zone.
fn full_name(text: &str, apex: &Name) -> Result<Name, Refusal> {
    if text == APEX {
        return Ok(apex.clone());
    }
    let given = Name::from_ascii(text).and_then(|name| {
        let mut full = name.clone();
        full.set_fqdn(true);
        if name.is_fqdn() || apex.zone_of(&full) { Ok(full) } else { name.append_domain(apex) }
    });
    let name =
        given.map_err(|error| Refusal::new(RefusalKind::Invalid, format!("{text} is no name: {error}")))?;
    Ok(name.to_lowercase())
}

fn rule(state: &State, decision: &Decision, zone: &Zone, qname: &Name, qtype: RecordType) -> String {
    let apex = zone.apex();
    if !apex.zone_of(qname) {
        return format!("it is not in the zone {apex}");
    }
    let Some(source) = zone.source_name(qname) else {
        return "there is no such name in the zone".to_owned();
    };
    let by_wildcard =
        if source == qname { String::new() } else { format!("the wildcard {source} answers for it: ") };
    by_wildcard + &rule_of_name(state, decision, zone, source, qtype)
}

fn rule_of_name(state: &State, decision: &Decision, zone: &Zone, qname: &Name, qtype: RecordType) -> String {
    let apex = zone.apex();
    if let Some((_, target)) = zone.records().alias(qname) {
        return format!("it is an alias of {target}");
    }
    if zone.records().set(qname, qtype).is_some() {
        return "it is a static record, whatever the nodes' health".to_owned();
    }
    if !matches!(qtype, RecordType::A | RecordType::AAAA) {
        return "it is the zone's own data, whatever the nodes' health".to_owned();
    }
    let nodes = &state.config().cluster.nodes;
    let relative = relative(qname, apex);
    let general = general_rule(decision);
    let family = if qtype == RecordType::AAAA { Family::Ipv6 } else { Family::Ipv4 };
    let special = if let Some(index) = nodes.iter().position(|node| node.name == relative) {
        node_rule(decision, nodes, index, family)
    } else if let Some(index) = nodes.iter().position(|node| node.ns.as_ref() == Some(&relative)) {
        name_server_rule(state, decision, index, family)
    } else if decision.answers.service(&relative).is_some() {
        let members = decision.answers.service_in(family, &relative);
        let names: Vec<&str> = members.iter().map(|&member| nodes[member].name.as_str()).collect();
        match names.as_slice() {
            [] => "withheld, because none of its members is healthy (all-down)".to_owned(),
            [one] => format!("{one} answers alone"),
            names => format!("{} answer in rotation", names.join(", ")),
        }
    } else {
        "it has nothing but names below it".to_owned()
    };
    format!("{general}{special}")
}

fn relative(qname: &Name, apex: &Name) -> String {
    if qname == apex {
        return APEX.to_owned();
    }
    let labels = qname.iter().len() - apex.iter().len();
    let labels = qname.iter().take(labels).map(String::from_utf8_lossy);
    labels.collect::<Vec<_>>().join(".")
}

fn general_rule(decision: &Decision) -> String {
    if let Some(reason) = &decision.frozen {
        return format!("the answers are frozen ({reason}): ");
    }
    if decision.fail_open { "no node is up: ".to_owned() } else { String::new() }
}

fn name_server_rule(state: &State, decision: &Decision, index: usize, family: Family) -> String {
    let nodes = &state.config().cluster.nodes;
    let node = &nodes[index].name;
    match state.config().zone.ns_addresses {
        NsAddresses::Fixed => format!("the glue of {node}'s name server"),
        NsAddresses::Live => {
            let rule = node_rule(decision, nodes, index, family);
            let answering = decision.answers.node_in(family, index);
            let other = match answering.is_some_and(|answering| nodes[answering].ns.is_none()) {
                true => "; for its name server, a name server answers",
                false => "",
            };
            format!("the name server of {node}, and {rule}{other}")
        }
    }
}

fn node_rule(decision: &Decision, nodes: &[Node], index: usize, family: Family) -> String {
    let node = &nodes[index].name;
    let treated = decision.effective[index];
    let shown = match treated {
        Effective::Up => "up",
        Effective::Down => "down",
        Effective::Drain => "drained",
        Effective::Held => "held until it is failed back",
    };
    let (whole, own) = (decision.answers.by_node[index], decision.answers.node_in(family, index));
    if let Some(answering) = own.filter(|_| own != whole && treated == Effective::Up) {
        return format!("{node} is down over {family}, {} answers for it", nodes[answering].name);
    }
    match own {
        None => format!("{node} is withheld, because every node is down ([failover] all-down)"),
        Some(answering) if answering == index && treated == Effective::Up => format!("{node} is up"),
        Some(answering) if answering == index => format!("{node} is {shown} and keeps its own address"),
        Some(answering) => format!("{node} is {shown}, {} answers for it", nodes[answering].name),
    }
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{TEXT, healthy, kill};
    use super::*;

    fn ask(state: &State, name: &str, qtype: &str) -> QueryAnswer {
        let zone = state.zone().unwrap();
        query(state, state.decision().unwrap(), &zone, true, (name, qtype)).unwrap()
    }

    fn told(state: &State, name: &str, qtype: &str) -> (String, String, String) {
        let QueryAnswer { rcode, path, why, .. } = ask(state, name, qtype);
        (rcode, path, why)
    }

    #[test]
    fn the_rule_behind_an_answer_is_told() {
        let mut state = healthy(TEXT);
        kill(&mut state, "node2");
        let cases = [
            ("node1", "A", "NOERROR", "xdp", "node1 is up"),
            ("NODE2.demo.example.com", "A", "NOERROR", "xdp", "node2 is down, node3 answers for it"),
            (
                "ns2",
                "A",
                "NOERROR",
                "xdp",
                "the name server of node2, and node2 is down, node3 answers for it",
            ),
            ("@", "A", "NOERROR", "xdp", "node1, node3 answer in rotation"),
            ("db", "A", "NOERROR", "xdp", "node1 answers alone"),
            ("node1", "AAAA", "NOERROR", "xdp", "node1 is up; it has no AAAA record"),
            ("nobody", "A", "NXDOMAIN", "xdp", "there is no such name in the zone"),
        ];
        for (name, qtype, rcode, path, why) in cases {
            let expected = (rcode.to_owned(), path.to_owned(), why.to_owned());
            assert_eq!(told(&state, name, qtype), expected, "{name} {qtype}");
        }
        assert_eq!(ask(&state, "node2", "A").answers, ["192.0.2.13"]);
        assert_eq!(ask(&state, "nobody", "A").ttl, Some(30));
    }

    #[test]
    fn what_the_program_leaves_is_told_with_the_reason() {
        let state = healthy(TEXT);
        let (rcode, path, why) = told(&state, "@", "NS");
        assert_eq!((&*rcode, &*path), ("NOERROR", "responder"));
        assert!(why.ends_with("; the program does not answer this type"), "{why}");
        let (rcode, path, why) = told(&state, "www.example.org.", "A");
        assert_eq!((&*rcode, &*path), ("REFUSED", "responder"));
        assert!(why.starts_with("it is not in the zone demo.example.com."), "{why}");
    }

    #[test]
    fn failing_open_is_told() {
        let mut state = healthy(TEXT);
        for node in ["node1", "node2", "node3"] {
            kill(&mut state, node);
        }
        assert_eq!(told(&state, "node2", "A").2, "no node is up: node2 is down and keeps its own address");
    }

    #[test]
    fn nonsense_is_refused() {
        let state = healthy(TEXT);
        let zone = state.zone().unwrap();
        for question in [("a..b", "A"), ("node1", "NONSENSE")] {
            let refusal = query(&state, state.decision().unwrap(), &zone, true, question).unwrap_err();
            assert_eq!(refusal.kind, RefusalKind::Invalid);
        }
    }
}
