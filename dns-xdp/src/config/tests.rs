//! Tests of the meaning of the configuration file, and of the errors for wrong files.
use super::*;

use crate::cluster::{FamilyRule, HealthCheck, Order, Probe, ProbeKind, Require};

const MINIMAL: &str = r#"[zone]
name = "Demo.Example.com"
[listen]
interfaces = ["eth0"]
[[node]]
name = "Node1"
ipv4 = "192.0.2.11"
[[node]]
name = "node2"
ipv6 = "2001:db8::12"
"#;

/// The example of CONTRACT.md.
const CONTRACT: &str = r#"[zone]
name = "demo.example.com"      # the delegated cluster zone
ttl = "5s"                     # of every address answer
ns-ttl = "60s"
negative-ttl = "300s"
contact = "hostmaster.example.com"
ns-addresses = "live"

[listen]
interfaces = ["eth0"]
addresses = ["192.0.2.11"]     # default: every global address of the interfaces
port = 53

[xdp]
mode = "auto"                  # auto (native, else generic, else off) | native | generic | off
pin = "/sys/fs/bpf/dns-xdp"    # program, link-<interface> and the maps are pinned here
stale-after = "30s"            # the lease, below
stop-grace = "5s"

[health]                       # the probe of every node; [node.health] overrides
probe = "tcp"                  # tcp | http | https | icmp | dns | exec
port = 6379
interval = "1s"
fast-interval = "250ms"        # while a verdict is in doubt
timeout = "500ms"
fall = 3
rise = 2

[failover]
quorum = "majority"
witness = []                   # addresses that count as visible nodes, say the gateway
all-down = "configured"        # configured | last-good | refused

[[node]]
name = "node1"
ipv4 = "192.0.2.11"
ipv6 = "2001:db8::11"          # optional
ns = "ns1"                     # default: ns<position>
backup = ["node2"]             # optional, ordered

[[node]]
name = "node2"
ipv4 = "192.0.2.12"

[[service]]
name = "db1"                   # also "@" for the zone's apex, which by default answers every healthy node
nodes = ["node1", "node2"]

[control]
socket = "/run/dns-xdp/control.sock"

[metrics]
listen = "127.0.0.1:9153"      # "off" to disable
"#;

fn parse(text: &str) -> Config {
    Config::parse(text, Path::new("/etc/dns-xdp/dns-xdp.toml")).unwrap_or_else(|error| panic!("{error}"))
}

fn refusal(text: &str) -> String {
    Config::parse(text, Path::new("f")).expect_err(text).to_string()
}

#[test]
fn the_defaults_are_those_of_the_contract() {
    let mut expected = parse(CONTRACT);
    let config = parse(MINIMAL);
    expected.zone.contact = Name::from_ascii("hostmaster.demo.example.com.").unwrap();
    expected.zone.negative_ttl_seconds = 30;
    expected.listen.addresses = Vec::new();
    let shared = |config: &Config| (config.zone.clone(), config.failover.clone());
    assert_eq!(shared(&config), shared(&expected));
    assert!(config.needs_restart(&expected).is_empty());
    let [first, second] = config.cluster.nodes.as_slice() else { panic!("two nodes") };
    assert_eq!((first.name.as_str(), first.ns.as_deref()), ("node1", Some("ns1")));
    assert_eq!((second.name.as_str(), second.ns.as_deref()), ("node2", Some("ns2")));
    let roles = [first, second].map(|node| (node.is_voter, node.is_in_apex, node.is_probed()));
    assert_eq!(roles, [(true, true, true); 2]);
    assert_eq!(first.health, expected.cluster.nodes[0].health);
}

#[test]
fn the_additions_to_the_contract_have_their_defaults() {
    let config = parse(MINIMAL);
    assert_eq!((config.xdp.capacity, config.xdp.log), (Capacity::Auto, false));
    assert_eq!((config.zone.ttl_min_seconds, config.cluster.nodes[0].weight), (1, 1));
    assert_eq!(config.control.state, Path::new("/var/lib/dns-xdp/dns-xdp.state.json"));
    let beside = Config::parse(MINIMAL, Path::new("/srv/a.b.toml")).unwrap();
    assert_eq!(beside.control.state, Path::new("/srv/a.b.state.json"));
}

#[test]
fn every_key_of_the_contract_is_read() {
    let config = parse(CONTRACT);
    assert_eq!(config.zone.apex, Name::from_ascii("demo.example.com.").unwrap());
    assert!(config.zone.apex.is_fqdn());
    assert_eq!(config.zone.contact, Name::from_ascii("hostmaster.example.com.").unwrap());
    assert_eq!(config.xdp.stale_after, Some(Duration::from_secs(30)));
    assert_eq!(config.cluster.nodes[0].backup, ["node2"]);
    assert_eq!(config.cluster.services[0].nodes, ["node1", "node2"]);
    let probe = Probe {
        kind: ProbeKind::Tcp { port: 6379 },
        target: None,
        interval: Duration::from_secs(1),
        fast_interval: Duration::from_millis(250),
        timeout: Duration::from_millis(500),
        fall: 3,
        rise: 2,
        rise_max: 16,
        flap_decay: Duration::from_secs(60),
    };
    assert_eq!(
        config.cluster.nodes[1].health,
        HealthCheck { probes: vec![probe], require: Require::All, families: FamilyRule::Each }
    );
}

#[test]
fn values_have_their_other_forms() {
    let text = MINIMAL.replace("[listen]", "contact = \"Host.Master@Example.com\"\n[listen]");
    let more = "[node.health]\nport = 1\nfast-interval = \"1s\"\n[xdp]\nstale-after = \"off\"\n[metrics]\nlisten = \"off\"\n\
                [failover]\nquorum = 3\nwitness = [\"192.0.2.1\"]\n[[service]]\nname = \"@\"\nnodes = [\"NODE2\"]\n";
    let config = parse(&format!("{text}{more}"));
    assert_eq!(config.zone.contact.iter().next(), Some(b"host.master".as_slice()));
    assert_eq!((config.xdp.stale_after, config.metrics), (None, None));
    assert_eq!(config.failover.quorum.needed(3), 3);
    assert_eq!(config.cluster.services[0].nodes, ["node2"]);
    let kinds: Vec<&ProbeKind> =
        config.cluster.nodes.iter().map(|node| &node.health.probes[0].kind).collect();
    assert_eq!(kinds, [&ProbeKind::Tcp { port: 6379 }, &ProbeKind::Tcp { port: 1 }]);
}

#[test]
fn several_probes_are_listed_each_on_top_of_its_section() {
    let text = "[health]\nfall = 2\nrequire = \"any\"\n[[health.probes]]\nport = 1\n[[health.probes]]\nport = 2\nfall = 9\n\
                [[service]]\nname = \"db\"\nnodes = [\"node1\", \"node2\"]\nmin-healthy = 2\n[service.health]\nrise = 20\n\
                [[service.health.probes]]\nport = 3\n";
    let config = parse(&format!("{MINIMAL}weight = 7\n{text}"));
    let seen = |check: &HealthCheck| {
        let probe = |probe: &Probe| match probe.kind {
            ProbeKind::Tcp { port } => (port, probe.fall, probe.rise, probe.rise_max),
            ref other => panic!("{other}"),
        };
        check.probes.iter().map(probe).collect::<Vec<_>>()
    };
    let [first, second] = config.cluster.nodes.as_slice() else { panic!("two nodes") };
    assert_eq!(
        (seen(&first.health), first.health.require),
        (vec![(1, 2, 2, 16), (2, 9, 2, 16)], Require::Any)
    );
    assert_eq!((&second.health, first.weight, second.weight), (&first.health, 1, 7));
    let service = &config.cluster.services[0];
    assert_eq!(service.min_healthy, 2);
    let own = service.health.as_ref().unwrap();
    assert_eq!((seen(own), own.require), (vec![(3, 2, 20, 20)], Require::All));
}

#[test]
fn a_service_has_an_order_backups_and_a_rule_for_when_it_is_down() {
    let with = |keys: &str| format!("{MINIMAL}[[service]]\nname = \"db\"\nnodes = [\"node1\"]\n{keys}");
    let config = parse(&with("order = \"first\"\nbackup = [\"NODE2\"]\nall-down = \"nodata\"\n"));
    let service = &config.cluster.services[0];
    assert_eq!((service.order, &*service.backup), (Order::First, &["node2".to_owned()][..]));
    assert_eq!(service.all_down, Some(AllDown::Nodata));
    assert_ne!(config.epoch(), parse(&with("")).epoch(), "servers that differ in it have another epoch");
    assert_eq!(parse(&with("order = \"rotate\"\nbackup = []\n")).epoch(), parse(&with("")).epoch());
    let wrong = |keys: &str| Config::parse(&with(keys), Path::new("f")).unwrap_err().to_string();
    assert!(wrong("backup = [\"node1\"]\n").contains("one of the service's `nodes`"));
    assert!(wrong("backup = [\"node3\"]\n").contains("`backup` names `node3`, and there is no such node"));
    assert!(
        wrong("order = \"first\"\nmin-healthy = 1\n")
            .contains("`min-healthy` has no effect without `order = \"rotate\"`")
    );
    assert!(wrong("order = \"last\"\n").contains("`order` is `last`"), "{}", wrong("order = \"last\"\n"));
}

#[test]
fn a_wrong_value_is_named_with_its_line() {
    // Each case: the text to replace, its replacement, and the error.
    let cases: &[(&str, &str, &str)] = &[
        (
            "interfaces",
            "intrefaces",
            "f:3: [listen] has no `interfaces`; write interfaces = [\"eth0\"]\nf:4: unknown key `intrefaces`; did you mean `interfaces`?",
        ),
        ("[\"eth0\"]", "[]", "f:4: `interfaces` is empty; write interfaces = [\"eth0\"]"),
        ("[\"eth0\"]", "\"eth0\"", "f:4: `interfaces` is a list; write it in brackets: [\"…\"]"),
        ("[\"eth0\"]", "[\"eth0\", \"eth0\"]", "f:4: `interfaces` has eth0 twice; remove one"),
        (
            "[\"eth0\"]",
            "[\"eth 0\"]",
            "f:4: `interfaces` is `eth 0`, which is no name of an interface; see `ip link`",
        ),
        (
            "[listen]",
            "ttl = 5\n[listen]",
            "f:3: `ttl` has the type integer; write whole seconds such as \"5s\"",
        ),
        (
            "[listen]",
            "ttl = \"1500ms\"\n[listen]",
            "f:3: `ttl` is 1500ms; a TTL is whole seconds such as \"5s\"",
        ),
        ("[listen]", "ttl = \"2147483648s\"\n[listen]", "f:3: `ttl` is 2147483648s; write at most \"7days\""),
        (
            "[listen]",
            "ns-addresses = \"fixd\"\n[listen]",
            "f:3: `ns-addresses` is `fixd`; did you mean \"fixed\"? There is \"live\", \"fixed\"",
        ),
        (
            "[listen]",
            "contact = \"@\"\n[listen]",
            "f:3: `contact` is ``, which is no host name; use letters, digits and inner hyphens, at most 63 to a label",
        ),
        (
            "Demo.Example.com",
            ".",
            "f:2: `name` is ``, which is no host name; use letters, digits and inner hyphens, at most 63 to a label",
        ),
        (
            "[zone]\nname = \"Demo.Example.com\"\n",
            "",
            "f:1: [zone] has no `name`; write name = \"mycluster.example.com\"",
        ),
        (
            "Node1",
            "node_1",
            "f:6: `name` is `node_1`, which is no host name; use letters, digits and inner hyphens, at most 63 to a label",
        ),
        ("Node1", "node1.", "f:6: `name` is `node1.`, which ends in a dot; write it relative to the zone"),
        ("Node1", "NODE2", "f:9: `node2`, a node, is already a node; rename one"),
        ("Node1", "ns2", "f:8: `ns2`, the name server of `node2`, is already a node; rename one"),
        (
            "ipv4 = \"192.0.2.11\"",
            "",
            "f:5: this node has no address; write ipv4 = \"192.0.2.11\", or `ipv6`, or both",
        ),
        (
            "192.0.2.11",
            "224.0.0.1",
            "f:7: `ipv4` is 224.0.0.1, a multicast address; write an IPv4 address such as \"192.0.2.11\"",
        ),
        (
            "192.0.2.11",
            "2001:db8::1",
            "f:7: `ipv4` is 2001:db8::1; write an IPv4 address such as \"192.0.2.11\", or use `ipv6`",
        ),
        (
            "ipv6 = \"2001:db8::12\"",
            "ipv4 = \"192.0.2.11\"",
            "f:10: 192.0.2.11 is already the address of node `node1`; each address counts once",
        ),
        (
            "name = \"node2\"",
            "name = \"node2\"\nbackup = [\"nod1\"]",
            "f:10: `backup` names `nod1`, and there is no such node; did you mean `node1`?",
        ),
        (
            "name = \"node2\"",
            "name = \"node2\"\nbackup = [\"node2\"]",
            "f:10: `backup` of `node2` is the node itself; name another",
        ),
        (
            "name = \"node2\"",
            "name = \"node2\"\nbackup = [\"node1\", \"node1\"]",
            "f:10: `backup` names `node1` twice; remove one",
        ),
        ("name = \"node2\"", "name = \"node2\"\nname = \"node3\"", "f:10: duplicate key"),
        ("[listen]", "[listen", "f:3: unclosed table, expected `]`"),
        ("[listen]", "ttl-min = \"6s\"\n[listen]", "f:3: `ttl-min` 6s is longer than `ttl` 5s; shorten it"),
        (
            "::12\"",
            "::12\"\n[health]\nrequire = 2",
            "f:12: `require` is 2 with 1 probes; write at most that many",
        ),
        ("::12\"", "::12\"\n[health]\nrise-max = 1", "f:12: `rise-max` is 1, less than `rise` 2; raise it"),
        (
            "::12\"",
            "::12\"\n[health]\nprobe = \"tcp\"\n[[health.probes]]\nport = 1",
            "f:12: `probe` is beside a list of `probes`; move it into the list",
        ),
        (
            "::12\"",
            "::12\"\n[node.health]\nfall = 2\n[health]\n[[health.probes]]\nport = 1",
            "f:11: [health] lists its probes; list the probes of [node.health] too, as `probes`",
        ),
        (
            "::12\"",
            "::12\"\n[[service]]\nname = \"db\"\nnodes = [\"node1\"]\nmin-healthy = 2",
            "f:14: `min-healthy` is 2 with 1 members; write at most 1",
        ),
        ("::12\"", "::12\"\nweight = 0", "f:11: `weight` is 0; write a number from 1 to 100"),
    ];
    for (this, that, said) in cases {
        assert_eq!(refusal(&MINIMAL.replacen(this, that, 1)), *said, "{that}");
    }
}

#[test]
fn a_zone_for_which_the_program_has_no_room_is_refused() {
    let service = |number: usize| format!("[[service]]\nname = \"s{number}\"\nnodes = [\"node1\"]\n");
    let text = |services: usize, xdp: &str| {
        let services: String = (0..services).map(service).collect();
        format!("{MINIMAL}\n[xdp]\ncapacity = 16\n{xdp}\n{services}")
    };
    let path = Path::new("f");
    assert!(Config::parse(&text(11, ""), path).is_ok());
    let said = "f:1: the zone has 17 names, more than the 16 of `[xdp] capacity`; write at least 17 or \"auto\" there";
    assert_eq!(refusal(&text(12, "")), said);
    // `b.c` and `c` exist too, because a name below them exists.
    let below = "[[service]]\nname = \"a.b.c\"\nnodes = [\"node1\"]\n";
    assert!(Config::parse(&(text(8, "") + below), path).is_ok());
    assert_eq!(refusal(&(text(9, "") + below)), said);
    assert!(Config::parse(&text(12, "mode = \"off\""), path).is_ok(), "nothing is laid out");
}

#[test]
fn a_wrong_section_is_named_with_its_line() {
    let cases = [
        ("[health]\nintervall = \"1s\"", "f:12: unknown key `intervall`; did you mean `interval`?"),
        ("[helth]\nport = 1", "f:11: unknown key `helth`; did you mean `health`?"),
        (
            "[health]\nprobe = \"htp\"",
            "f:12: `probe` is `htp`; did you mean \"http\"? There is \"tcp\", \"redis\", \"http\", \"https\", \"icmp\", \"dns\", \"exec\"",
        ),
        ("[health]\nfall = 0", "f:12: `fall` is 0; write a number from 1 to 1000"),
        ("[health]\ntimeout = \"0s\"", "f:12: `timeout` is zero; write a duration such as \"250ms\""),
        ("[health]\ninterval = \"1ns\"", "f:12: `interval` is shorter than 10 ms; write at least \"10ms\""),
        ("[health]\ntimeout = \"2days\"", "f:12: `timeout` is 2days; write at most \"24h\""),
        (
            "[health]\nfast-interval = \"2s\"",
            "f:12: `fast-interval` 2s is longer than `interval` 1s; shorten it",
        ),
        (
            "[node.health]\ninterval = \"100ms\"",
            "f:12: `fast-interval` 250ms is longer than `interval` 100ms; shorten it",
        ),
        ("[failover]\nquorum = 3", "f:12: `quorum` is 3 with 2 nodes and witnesses; write at most 2"),
        (
            "[failover]\nquorum = \"most\"",
            "f:12: `quorum` is neither \"majority\" nor a number of at least 1",
        ),
        (
            "[failover]\nwitness = [\"2001:db8::12\"]",
            "f:12: 2001:db8::12 is already the address of node `node2`; each address counts once",
        ),
        (
            "[xdp]\nmode = \"fast\"",
            "f:12: `mode` is `fast`; there is \"auto\", \"native\", \"generic\", \"off\"",
        ),
        ("[xdp]\ncapacity = 8", "f:12: `capacity` is 8; write a number from 16 to 65536"),
        ("[xdp]\npin = \"x\"", "f:12: `pin` is `x`; write the whole path, from /"),
        (
            "[xdp]\npin = \"/sys/fs/bpf/a/..\"",
            "f:12: `pin` is `/sys/fs/bpf/a/..`; write the path without `..`",
        ),
        (
            "[xdp]\nstale-after = \"10ms\"",
            "f:12: `stale-after` is shorter than a second; write at least \"1s\", or \"off\"",
        ),
        ("[xdp]\nlog = 1", "f:12: `log` has the type integer; write true or false"),
        (
            "[metrics]\nlisten = \"9153\"",
            "f:12: `listen` is `9153`; write an address and port such as \"127.0.0.1:9153\", or \"off\"",
        ),
        ("[[service]]\nname = \"db1\"", "f:11: [[service]] has no `nodes`; write nodes = [\"node1\"]"),
        ("[[service]]\nname = \"db1\"\nnodes = []", "f:13: `nodes` is empty; write nodes = [\"node1\"]"),
        (
            "[[service]]\nname = \"ns1\"\nnodes = [\"db\"]",
            "f:12: `ns1`, a service, is already the name server of `node1`; rename one\nf:13: `nodes` names `db`, and there is no such node; add a [[node]] of that name, or remove it here",
        ),
        ("[service]\nname = \"db1\"", "f:11: `service` is a list; begin each with [[service]]"),
    ];
    for (section, said) in cases {
        assert_eq!(refusal(&format!("{MINIMAL}{section}\n")), said, "{section}");
    }
}

#[test]
fn a_file_without_nodes_is_refused() {
    let text = "[zone]\nname = \"example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n";
    assert_eq!(refusal(text), "f:1: there is no node; write a [[node]] with `name` and `ipv4` for each");
}

#[test]
fn every_problem_is_reported_in_the_order_of_the_file() {
    let text = MINIMAL.replace("eth0", "").replace("192.0.2.11", "nowhere") + "[xdp]\nmod = 1\n";
    let lines: Vec<String> = refusal(&text).lines().map(|line| line[..4].to_owned()).collect();
    assert_eq!(lines, ["f:4:", "f:7:", "f:12"]);
}

#[test]
fn names_too_long_in_full_are_refused() {
    let label = "a".repeat(60);
    let zone = [label.as_str(); 4].join(".");
    let text = MINIMAL.replace("Demo.Example.com", &zone).replace("node2", "node2.node.node");
    let refused = refusal(&text.replace("[listen]", "contact = \"a@example.com\"\n[listen]"));
    assert!(refused.contains("f:10: the name is `node2.node.node.aaa"), "{refused}");
    assert!(refused.contains("which is longer than 255 octets in full; shorten it"), "{refused}");
}

#[test]
fn a_missing_file_is_named() {
    let error = Config::load(Path::new("/nonexistent/dns-xdp.toml")).unwrap_err().to_string();
    assert!(error.starts_with("/nonexistent/dns-xdp.toml: cannot be read: "), "{error}");
}

#[test]
fn the_epoch_is_of_what_servers_share() {
    let config = parse(MINIMAL);
    let local = MINIMAL.replace("eth0", "eth1") + "[xdp]\nmode = \"off\"\n[metrics]\nlisten = \"off\"\n";
    let other = parse(&local);
    assert_eq!(config.epoch(), other.epoch());
    assert_eq!(config.needs_restart(&other), ["listen", "xdp", "metrics"]);
    for shared in
        ["[health]\nfall = 4", "[failover]\nquorum = 1", "[[service]]\nname = \"a\"\nnodes = [\"node1\"]"]
    {
        let other = parse(&format!("{MINIMAL}{shared}\n"));
        assert_ne!(config.epoch(), other.epoch(), "{shared}");
        assert!(config.needs_restart(&other).is_empty());
    }
}

#[test]
fn the_epoch_of_the_contracts_file_never_changes() {
    assert_eq!(parse(CONTRACT).epoch(), 3_312_818_275);
}

#[test]
fn the_nearest_name_is_near() {
    assert_eq!(nearest("noed1", ["node1", "node10"]), Some("node1"));
    assert_eq!(nearest("gateway", ["node1", "node10"]), None);
    assert_eq!(nearest("x", []), None);
}

#[test]
fn a_mutilated_file_is_read_or_refused_and_never_a_panic() {
    let path = Path::new("f");
    let lines: Vec<&str> = CONTRACT.lines().collect();
    for (index, line) in lines.iter().enumerate() {
        let mut without = lines.clone();
        without.remove(index);
        let mut twice = lines.clone();
        twice.insert(index, line);
        for text in [without.join("\n"), twice.join("\n")] {
            Config::parse(&text, path).ok();
        }
    }
    for end in (0..CONTRACT.len()).filter(|&end| CONTRACT.is_char_boundary(end)) {
        Config::parse(&CONTRACT[..end], path).ok();
    }
}

#[test]
fn a_name_server_may_be_called_as_its_node_where_both_answer_the_same() {
    let same = MINIMAL.replace("\"192.0.2.11\"\n", "\"192.0.2.11\"\nns = \"node1\"\n");
    assert_eq!(parse(&same).cluster.nodes[0].ns.as_deref(), Some("node1"));

    let fixed = same.replace("[listen]", "ns-addresses = \"fixed\"\n[listen]");
    let error = Config::parse(&fixed, Path::new("f")).unwrap_err().to_string();
    assert_eq!(error, "f:9: `node1`, the name server of `node1`, is already a node; rename one");
    let others = MINIMAL.replace("\"192.0.2.11\"\n", "\"192.0.2.11\"\nns = \"node2\"\n");
    assert!(Config::parse(&others, Path::new("f")).is_err());
}

#[test]
fn a_quorum_that_one_silent_death_breaks_is_warned_of() {
    let warned = |text: &str| Config::parse(text, Path::new("f")).unwrap().warnings();
    let two = &MINIMAL.replace("ipv6 = \"2001:db8::12\"", "ipv4 = \"192.0.2.12\"");
    let warning = warned(two).remove(0);
    assert!(warning.contains("`witness`") && warning.contains("third node"), "{warning}");
    let third = "[[node]]\nname = \"node3\"\nipv4 = \"192.0.2.13\"\n";
    assert!(warned(&format!("{two}{third}")).is_empty());
    for (rules, said) in
        [("witness = [\"192.0.2.1\"]", "both take over"), ("quorum = 1", "takes over all names")]
    {
        let warnings = warned(&format!("{two}[failover]\n{rules}\n"));
        assert!(warnings.len() == 1 && warnings[0].contains(said), "{warnings:?}");
    }
    assert_eq!(warned(CONTRACT).len(), 2, "and its nodes differ in families");
}

#[test]
fn nodes_that_differ_in_families_are_warned_of() {
    let warned = |text: &str| Config::parse(text, Path::new("f")).unwrap().warnings().join("\n");
    let third = "[[node]]\nname = \"node3\"\nipv4 = \"192.0.2.13\"\n";
    let two = MINIMAL.replace("ipv6 = \"2001:db8::12\"", "ipv4 = \"192.0.2.12\"");
    let alike = format!("{two}{third}");
    assert_eq!(warned(&alike), "");
    let one = warned(&format!("{alike}ipv6 = \"2001:db8::13\"\n"));
    assert!(one.contains("differ in families (no ipv6 address: node1, node2)"), "{one}");
    let third_ipv6 = third.replace("ipv4 = \"192.0.2.13\"", "ipv6 = \"2001:db8::13\"");
    let other = warned(&format!("{two}{third_ipv6}"));
    assert!(other.contains("(no ipv4 address: node3; no ipv6 address: node1, node2)"), "{other}");
}

#[test]
fn families_without_effect_are_warned_of() {
    let warned = |text: &str| Config::parse(text, Path::new("f")).unwrap().warnings().join("\n");
    let no_node =
        "`families = \"any\"` has no effect: no node with this rule has both an `ipv4` and an `ipv6`";
    let once = "`families = \"any\"` has no effect: each probe with this rule counts for both families";
    let node = |last: u8| format!("[[node]]\nname = \"node{last}\"\nipv4 = \"192.0.2.{last}\"\n");
    let both = |last: u8| format!("{}ipv6 = \"2001:db8::{last}\"\n", node(last));
    let zone = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n";
    let any = "[health]\nfamilies = \"any\"\n";
    let service = "[[service]]\nname = \"db\"\nnodes = [\"node1\"]\n[service.health]\nport = 5432\n";
    let [one, two]: [[String; 3]; 2] = [[1, 2, 3].map(node), [1, 2, 3].map(both)];
    let [one, two] = [one.concat(), two.concat()];
    for (text, expected) in [
        (format!("{zone}{any}{one}"), Some(no_node)),
        (format!("{zone}{any}{two}"), None),
        (format!("{zone}{one}"), None),
        (format!("{zone}[health]\nfamilies = \"each\"\n{one}"), None),
        (format!("{zone}{any}probe = \"exec\"\ncommand = [\"/bin/true\"]\n{two}"), Some(once)),
        (format!("{zone}{any}target = \"192.0.2.9\"\n{two}"), Some(once)),
        (format!("{zone}{any}target = \"192.0.2.9\"\n{two}{service}"), Some(once)),
        (
            format!(
                "{zone}{any}probe = \"exec\"\ncommand = [\"/bin/true\"]\n{two}{service}probe = \"tcp\"\n"
            ),
            None,
        ),
        (format!("{zone}{one}{service}families = \"any\"\n"), Some(no_node)),
    ] {
        let warning = warned(&text);
        assert!(warning.starts_with(expected.unwrap_or_default()), "{text}{warning}");
        assert_eq!(warning.is_empty(), expected.is_none(), "{text}{warning}");
    }
}

#[test]
fn an_on_event_command_is_a_program_that_can_be_run() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("notify").display().to_string();
    std::fs::write(&file, "#!/bin/sh\n").unwrap();
    let text = |program: &str| format!("{MINIMAL}[events]\non-event = [\n  \"{program}\",\n  \"-v\",\n]\n");
    let cases = [
        ("notify", "f:13: `on-event` begins with `notify`; write the whole path of the program, from /"),
        (
            "/nonexistent/notify",
            "f:13: `on-event` begins with /nonexistent/notify, which cannot be run: No such file",
        ),
        (&*file, "which is not executable; `chmod +x` it"),
        ("/usr", "f:13: `on-event` begins with /usr, which is no file"),
        ("", "f:13: `on-event` begins with ``"),
    ];
    for (program, expected) in cases {
        let refusal = refusal(&text(program));
        assert!(refusal.contains(expected), "{program}: {refusal}");
    }
    let config = parse(&text("/bin/sh"));
    assert_eq!(config.events.on_event, ["/bin/sh", "-v"]);
    assert_eq!(config.events.on_event_timeout, Duration::from_secs(10));
    assert!(
        refusal(&format!("{MINIMAL}[events]\non-event-timeout = \"0s\"\n"))
            .contains("f:12: `on-event-timeout` is zero")
    );
    let none = parse(MINIMAL);
    assert!(none.events.on_event.is_empty());
    assert_eq!(config.epoch(), none.epoch());
    assert!(config.needs_restart(&none).is_empty());
}
