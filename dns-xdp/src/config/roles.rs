//! Tests of the roles of a node: name server, voter, part of the apex, and probed.
use std::path::Path;

use super::Config;
use super::limits::{refusal, warnings};

/// 3 nodes with all roles, from line 5 on in 3 lines each.
const FILE: &str = r#"[zone]
name = "demo.example.com"
[listen]
interfaces = ["eth0"]
[[node]]
name = "node1"
ipv4 = "192.0.2.11"
[[node]]
name = "node2"
ipv4 = "192.0.2.12"
[[node]]
name = "node3"
ipv4 = "192.0.2.13"
"#;

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("f")).unwrap_or_else(|error| panic!("{error}"))
}

/// The file with another node, which has these lines.
fn with(lines: &str) -> String {
    format!("{FILE}[[node]]\nname = \"lb\"\nipv4 = \"192.0.2.14\"\n{lines}\n")
}

#[test]
fn a_node_may_lack_each_role() {
    let config = parse(&with("ns = false\nquorum = false\napex = false"));
    let lb = &config.cluster.nodes[3];
    assert_eq!((lb.ns.as_deref(), lb.is_voter, lb.is_in_apex, lb.is_probed()), (None, false, false, true));
    assert_eq!(config.voters(), 3);
    let unprobed = parse(&with("[node.health]\nprobe = \"none\""));
    let lb = &unprobed.cluster.nodes[3];
    assert_eq!((lb.ns.as_deref(), lb.is_voter, lb.is_probed()), (Some("ns4"), false, false));
    let epochs = ["", "ns = false", "quorum = false", "apex = false", "[node.health]\nprobe = \"none\""]
        .map(|lines| parse(&with(lines)).epoch());
    let distinct: std::collections::BTreeSet<u32> = epochs.into_iter().collect();
    assert_eq!(distinct.len(), epochs.len(), "the servers of a cluster have to agree about roles");
}

#[test]
fn a_role_that_no_node_has_or_that_has_no_effect_is_refused_with_its_line() {
    let everywhere = |line: &str| FILE.replace("\n[[node]]", &format!("\n{line}\n[[node]]")) + line;
    let of_all = |line: &str| {
        everywhere(line).replace(&format!("interfaces = [\"eth0\"]\n{line}"), "interfaces = [\"eth0\"]")
    };
    let service = "[[service]]\nname = \"@\"\nnodes = [\"node1\"]\n";
    for (text, expected) in [
        (
            of_all("ns = false"),
            "f:6: every node has `ns = false`; a zone needs a name server: remove it from one node at least",
        ),
        (
            of_all("quorum = false"),
            "f:6: no node counts for the quorum; remove `quorum = false` from one node at least, or add a `witness` to [failover]",
        ),
        (
            of_all("health.probe = \"none\""),
            "f:6: every node has probe = \"none\"; a node can take over for another only if some node is probed: remove it from one node at least",
        ),
        (
            with(&format!("apex = false\n{service}")),
            "f:17: `apex` has no effect beside the [[service]] \"@\", whose `nodes` the apex answers; remove it",
        ),
        (
            with("ns = true"),
            "f:17: `ns` is true; leave it out for the usual name, or write a name such as \"ns1\"",
        ),
        (
            with("quorum = true\n[node.health]\nprobe = \"none\""),
            "f:17: `quorum = true` needs a node that is probed, and this one has probe = \"none\"; remove one of them",
        ),
        (
            with("[node.health]\nprobe = \"none\"\nport = 7000"),
            "f:19: `port` has no effect with probe = \"none\"; remove it",
        ),
        (
            format!("{FILE}[health]\nprobe = \"none\"\n"),
            "f:15: `probe` is `none`, which is allowed only in a node's [node.health], without other keys",
        ),
        (
            format!("{FILE}[failover]\nquorum = 3\n")
                .replace("name = \"node2\"", "quorum = false\nname = \"node2\""),
            "f:16: `quorum` is 3 with 2 nodes and witnesses; write at most 2",
        ),
    ] {
        assert_eq!(refusal(&text), expected, "{text}");
    }
}

#[test]
fn an_ns_set_that_is_hard_to_reach_is_warned_of() {
    assert_eq!(warnings(FILE), "");
    let alone = FILE.replace("ipv4 = \"192.0.2.12\"", "ipv4 = \"192.0.2.12\"\nns = false") + "ns = false\n";
    assert!(warnings(&alone).starts_with("node1 is the only name server"), "{}", warnings(&alone));
    let private = warnings(&FILE.replace("192.0.2.12", "10.0.0.12"));
    assert!(private.contains("private ipv4 addresses (node2)"), "{private}");
    let all_private = FILE.replace("192.0.2.", "10.0.0.");
    assert_eq!(warnings(&all_private), "", "a cluster inside has clients inside");
    let unlisted = FILE.replace("ipv4 = \"192.0.2.12\"", "ipv4 = \"10.0.0.12\"\nns = false");
    assert_eq!(warnings(&unlisted), "");
    let node = |number: usize, ns: &str| {
        format!("[[node]]\nname = \"m{number}\"\nipv4 = \"192.0.2.{}\"\n{ns}", 100 + number)
    };
    let many = |count: usize, ns: &str| (1..=count).map(|number| node(number, ns)).collect::<String>();
    assert_eq!(warnings(&format!("{FILE}{}", many(10, ""))), "");
    let text = warnings(&format!("{FILE}{}", many(11, "")));
    assert!(text.contains("14 name servers, more than 13"), "{text}");
    assert_eq!(warnings(&format!("{FILE}{}", many(11, "ns = false\n"))), "");
    let long = |number: usize| node(number, &format!("ns = \"{}{number}\"\n", "n".repeat(60)));
    let text = warnings(&format!("{FILE}{}", (1..=7).map(long).collect::<String>()));
    assert!(text.contains("has 620 octets, more than the 512"), "{text}");
}

#[test]
fn a_change_of_the_glue_is_told_with_what_keeps_it() {
    let changed = |before: &str, after: &str| parse(after).warnings_beyond(&parse(before)).join("\n");
    let without_first = FILE.replacen("[[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n", "", 1);
    let text = changed(FILE, &without_first);
    assert!(
        text.contains(
            "the name servers change: ns1 moves from 192.0.2.11 to 192.0.2.12, ns2 moves from 192.0.2.12 to \
             192.0.2.13, ns3 is gone; `dns-xdp delegation show` prints the records for the parent zone"
        ),
        "{text}"
    );
    let keep = "to keep the names, write ns = \"ns2\" in [[node]] node2, ns = \"ns3\" in [[node]] node3";
    assert!(text.ends_with(keep), "{text}");
    let kept = without_first.replace("ipv4 = \"192.0.2.12\"", "ipv4 = \"192.0.2.12\"\nns = \"ns2\"")
        + "ns = \"ns3\"\n";
    let text = changed(FILE, &kept);
    assert!(
        text.contains("the name servers change: ns1 is gone; `dns") && !text.contains("to keep"),
        "{text}"
    );
    assert_eq!(changed(FILE, &format!("{FILE}weight = 2\n")), "");
    let more = with("");
    assert!(changed(FILE, &more).contains("ns4 is new (192.0.2.14)"), "{}", changed(FILE, &more));
    assert_eq!(changed(FILE, &with("ns = false")), "");
}
