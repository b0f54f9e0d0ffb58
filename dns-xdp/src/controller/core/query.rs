//! The `query` command: the answer, whether program or responder gives it, and the rule behind it.
use hickory_proto::rr::{Name, RecordType};

use super::state::State;
use crate::answered_by::{AnsweredBy, answered_by};
use crate::cluster::{APEX, Family, Node, SetPart};
use crate::config::NsAddresses;
use crate::control::api::QueryAnswer;
use crate::control::{Refusal, RefusalKind};
use crate::failover::{Answers, Decision, Effective};
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
    let qname = full_name(name, zone)?;
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

/// Returns the full name. A name that ends in a dot or in the name of a served zone is full. Any other name is relative
/// to the zone.
fn full_name(text: &str, zone: &Zone) -> Result<Name, Refusal> {
    let apex = zone.apex();
    if text == APEX {
        return Ok(apex.clone());
    }
    let given = Name::from_ascii(text).and_then(|name| {
        let mut full = name.clone();
        full.set_fqdn(true);
        if name.is_fqdn() || zone.authority(&full.to_lowercase()).is_some() {
            Ok(full)
        } else {
            name.append_domain(apex)
        }
    });
    let name =
        given.map_err(|error| Refusal::new(RefusalKind::Invalid, format!("{text} is no name: {error}")))?;
    Ok(name.to_lowercase())
}

fn rule(state: &State, decision: &Decision, zone: &Zone, qname: &Name, qtype: RecordType) -> String {
    if zone.authority(qname).is_none() {
        return format!("it is not in the zone {}", zone.apex());
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
    let suffix = state.config().cluster.suffixes.iter().find(|suffix| suffix.name.zone_of(qname));
    let part = suffix.and_then(|suffix| state.config().cluster.address_set(suffix.set.as_ref()?));
    let answering = Answering {
        decision,
        nodes: part.map_or(&state.config().cluster, SetPart::cluster).nodes.as_slice(),
        answers: part.and_then(|part| decision.answers.set(part.name())).unwrap_or(&decision.answers),
        set: part.map(SetPart::name),
        family: if qtype == RecordType::AAAA { Family::Ipv6 } else { Family::Ipv4 },
    };
    let relative = relative(qname, suffix.map_or(apex, |suffix| &suffix.name));
    let nodes = answering.nodes;
    let special = if let Some(index) = nodes.iter().position(|node| node.name == relative) {
        answering.of_node(index)
    } else if let Some(index) = nodes.iter().position(|node| node.ns.as_ref() == Some(&relative)) {
        answering.of_name_server(state, index)
    } else if answering.answers.service(&relative).is_some() {
        let members = answering.answers.service_in(answering.family, &relative);
        let names: Vec<&str> = members.iter().map(|&member| nodes[member].name.as_str()).collect();
        match names.as_slice() {
            [] => "withheld, because none of its members is healthy (all-down)".to_owned(),
            [one] => format!("{one} answers alone"),
            names => format!("{} answer in rotation", names.join(", ")),
        }
    } else {
        "it has nothing but names below it".to_owned()
    };
    let general = general_rule(decision);
    let of_set = answering.set.map(|set| format!("with the addresses `{set}`: ")).unwrap_or_default();
    format!("{general}{of_set}{special}")
}

fn relative(qname: &Name, apex: &Name) -> String {
    if qname == apex {
        return APEX.to_owned();
    }
    // A zone that was just removed is answered until the next publication.
    let labels = qname.iter().len().saturating_sub(apex.iter().len());
    let labels = qname.iter().take(labels).map(String::from_utf8_lossy);
    labels.collect::<Vec<_>>().join(".")
}

fn general_rule(decision: &Decision) -> String {
    if let Some(reason) = &decision.frozen {
        return format!("the answers are frozen ({reason}): ");
    }
    if decision.fail_open { "no node is up: ".to_owned() } else { String::new() }
}

/// The answers that a name has, in the zone or under a suffix.
struct Answering<'a> {
    decision: &'a Decision,
    /// The nodes with the addresses of the set, or with their own.
    nodes: &'a [Node],
    answers: &'a Answers,
    /// The suffix's address set; `None`: the nodes' own addresses.
    set: Option<&'a str>,
    family: Family,
}

impl Answering<'_> {
    fn of_name_server(&self, state: &State, index: usize) -> String {
        let nodes = self.nodes;
        let node = &nodes[index].name;
        match state.config().zone.ns_addresses {
            NsAddresses::Fixed if nodes[index].has_address() => format!("the glue of {node}'s name server"),
            NsAddresses::Fixed | NsAddresses::Live => {
                let rule = self.of_node(index);
                let answering = self.answers.node_in(self.family, index);
                let other = match answering.is_some_and(|answering| nodes[answering].ns.is_none()) {
                    true => "; for its name server, a name server answers",
                    false => "",
                };
                format!("the name server of {node}, and {rule}{other}")
            }
        }
    }

    fn of_node(&self, index: usize) -> String {
        let Answering { decision, nodes, answers, family, .. } = *self;
        let node = &nodes[index].name;
        let treated = decision.effective[index];
        let shown = match treated {
            Effective::Up => "up",
            Effective::Down => "down",
            Effective::Drain => "drained",
            Effective::Held => "held until it is failed back",
        };
        let (whole, own) = (answers.by_node[index], answers.node_in(family, index));
        if !nodes[index].has_address() {
            return match own {
                Some(answering) => format!("{node} has none, {} answers for it", nodes[answering].name),
                None => format!("{node} has none, and every node is down ([failover] all-down)"),
            };
        }
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
    fn the_rule_under_a_suffix_names_the_set() {
        let mut state = healthy(&super::super::state::tests::with_suffixes());
        kill(&mut state, "node2");
        let cases = [
            ("node1.internal", "A", "xdp", "with the addresses `internal`: node1 is up"),
            (
                "node2.internal",
                "A",
                "xdp",
                "with the addresses `internal`: node2 is down, node1 answers for it",
            ),
            (
                "node3.internal",
                "A",
                "xdp",
                "with the addresses `internal`: node3 has none, node1 answers for it",
            ),
            ("internal", "A", "xdp", "with the addresses `internal`: node1 answers alone"),
            ("node1.demo.corp.test", "A", "xdp", "node1 is up"),
            (
                "nobody.demo.corp.test.",
                "A",
                "responder",
                "there is no such name in the zone; the program has",
            ),
        ];
        for (name, qtype, path, why) in cases {
            let (_, by, told) = told(&state, name, qtype);
            assert!(by == path && told.starts_with(why), "{name}: {by} {told}");
        }
        assert_eq!(ask(&state, "node2.internal", "A").answers, ["10.0.0.11"]);
        assert_eq!(ask(&state, "node2.demo.corp.test.", "A").answers, ["192.0.2.13"]);
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
