//! Tests of values that are valid alone, but cannot do what the operator means. They are refused, and the message says
//! why.
use std::path::Path;

use dns_xdp_ebpf::table::limit::Rate;

use super::Config;
use crate::cluster::NO_NODES;

const FILE: &str = r#"[zone]
name = "demo.example.com"
[listen]
interfaces = ["eth0"]
[[node]]
name = "node1"
ipv4 = "192.0.2.11"
ipv6 = "2001:db8::11"
"#;

/// A second name server, whose silence freezes nothing.
const SECOND: &str = r#"[[node]]
name = "node2"
ipv4 = "192.0.2.12"
ipv6 = "2001:db8::12"
quorum = false
"#;

pub(super) fn refusal(text: &str) -> String {
    Config::parse(text, Path::new("f")).expect_err(text).to_string()
}

pub(super) fn warnings(text: &str) -> String {
    Config::parse(text, Path::new("f")).unwrap_or_else(|error| panic!("{error}")).warnings().join("\n")
}

fn rate_limit(rate: u32, burst: u32) -> String {
    format!("{FILE}[rate-limit]\nanswers-per-second = {rate}\nburst = {burst}\n")
}

#[test]
fn a_burst_that_the_clock_makes_smaller_than_the_rate_is_refused_with_the_least() {
    for (rate, burst, least) in [
        (1000, 1, 10),
        (1000, 9, 10),
        (101, 2, 3),
        (99, 1, 2),
        (199, 2, 3),
        (3, 1, 2),
        (10_000_000, 99_999, 100_000),
    ] {
        let expected = format!(
            "f:11: `burst` is {burst}, and with a kernel clock of 10 ms that lets less than {rate} \
             `answers-per-second` through; write at least {least}"
        );
        assert_eq!(refusal(&rate_limit(rate, burst)), expected);
    }
    for (rate, burst) in
        [(1000, 10), (1000, 0), (100, 1), (1, 1), (50, 1), (3, 2), (0, 0), (10_000_000, 100_000)]
    {
        Config::parse(&rate_limit(rate, burst), Path::new("f")).unwrap();
    }
}

/// Returns how many answers a limit admits in 10 s, by a clock with ticks of 10 ms.
fn admitted(limit: Rate, rate: u32) -> u32 {
    const TICK: u64 = 10_000_000;
    let (mut due, mut admitted) = (0, 0);
    for tick in 1..=1000 {
        for _ in 0..rate / 100 + 2 {
            if let Some(next) = limit.admit(due, tick * TICK) {
                (due, admitted) = (next, admitted + 1);
            }
        }
    }
    admitted
}

#[test]
fn every_rate_brings_what_it_says_by_a_clock_of_ten_milliseconds() {
    for rate in [1_u32, 2, 3, 7, 50, 99, 100, 101, 199, 250, 300, 1000, 1999, 20_000, 1_000_000] {
        let text = format!(
            "{FILE}[rate-limit]\nanswers-per-second = {rate}\n[fallback]\nqueries-per-second = {rate}\n"
        );
        let whole = Config::parse(&text, Path::new("f")).unwrap().flood_limits.table();
        // Find the smallest burst that is accepted.
        let mut bursts =
            (u32::max(1, rate / 100)..).map(|burst| Config::parse(&rate_limit(rate, burst), Path::new("f")));
        let least = bursts.find_map(Result::ok).unwrap().flood_limits.table();
        for limit in [whole.answers, whole.fallback, least.answers] {
            let admitted = admitted(limit, rate);
            assert!(admitted >= 10 * rate, "{admitted} in 10 s, of {rate}/s: {limit:?}");
        }
    }
}

#[test]
fn an_address_that_no_client_or_every_machine_reaches_is_no_nodes() {
    for (address, kind) in NO_NODES {
        let key = if address.contains(':') { "ipv6" } else { "ipv4" };
        let line = if address.contains(':') { 8 } else { 7 };
        let own = if address.contains(':') { "2001:db8::11" } else { "192.0.2.11" };
        let text = refusal(&FILE.replace(&format!("{key} = \"{own}\""), &format!("{key} = \"{address}\"")));
        assert!(text.starts_with(&format!("f:{line}: `{key}` is {address}, {kind}")), "{text}");
        let text = refusal(&format!("{FILE}[failover]\nwitness = [\"{address}\"]\n"));
        assert!(text.starts_with(&format!("f:10: `witness` is {address}, {kind}")), "{text}");
    }
    for address in ["10.0.0.1", "100.64.0.1", "223.255.255.255", "1.0.0.1"] {
        Config::parse(&FILE.replace("192.0.2.11", address), Path::new("f")).unwrap();
    }
    for address in ["fd00::1", "fec0::1", "2001:db8::1"] {
        Config::parse(&FILE.replace("2001:db8::11", address), Path::new("f")).unwrap();
    }
    // A server may listen on the loopback address and, in IPv4, on a link-local address. A probe may use these
    // addresses too.
    let listen = |address: &str| FILE.replace("[[node]]", &format!("addresses = [\"{address}\"]\n[[node]]"));
    let target = |address: &str| format!("{FILE}[health]\ntarget = \"{address}\"\n");
    for address in ["127.0.0.1", "::1", "169.254.1.1"] {
        Config::parse(&listen(address), Path::new("f")).unwrap();
        Config::parse(&target(address), Path::new("f")).unwrap();
    }
    for (address, kind) in NO_NODES {
        if address.starts_with("127.") || ["::1", "169.254.1.1"].contains(&address) {
            continue;
        }
        let text = refusal(&listen(address));
        assert!(text.starts_with(&format!("f:5: `addresses` is {address}, {kind}")), "{text}");
        let text = refusal(&target(address));
        assert!(text.starts_with(&format!("f:10: `target` is {address}, {kind}")), "{text}");
    }
}

#[test]
fn a_ttl_is_for_as_long_as_a_cache_may_be_wrong() {
    let with = |line: &str| FILE.replace("[listen]", &format!("{line}\n[listen]"));
    for (line, expected) in [
        ("ns-ttl = \"0s\"", "f:3: `ns-ttl` is 0s; write at least \"1s\""),
        ("negative-ttl = \"2147483647s\"", "f:3: `negative-ttl` is 2147483647s; write at most \"1day\""),
        ("negative-ttl = \"86401s\"", "f:3: `negative-ttl` is 86401s; write at most \"1day\""),
        ("ttl = \"2147483647s\"", "f:3: `ttl` is 2147483647s; write at most \"7days\""),
        ("ns-ttl = \"8days\"", "f:3: `ns-ttl` is 8days; write at most \"7days\""),
    ] {
        assert_eq!(refusal(&with(line)), expected);
    }
    for line in [
        "ns-ttl = \"1s\"",
        "ttl = \"0s\"",
        "negative-ttl = \"24h\"",
        "negative-ttl = \"0s\"",
        "ns-ttl = \"7days\"",
    ] {
        Config::parse(&with(line), Path::new("f")).unwrap();
    }
}

#[test]
fn a_zone_below_a_name_that_resolvers_keep_to_themselves_is_warned_of() {
    let zone = |name: &str| format!("{}{SECOND}", FILE.replace("demo.example.com", name));
    for name in ["cluster.local", "local", "a.b.LOCAL.", "x.localhost", "x.invalid", "x.onion", "x.test"] {
        let text = warnings(&zone(name));
        let last = name.trim_end_matches('.').rsplit('.').next().unwrap_or_default().to_lowercase();
        assert!(text.contains(&format!("`.{last}`")), "{name}: {text}");
    }
    for name in ["demo.example.com", "local.example.com", "cluster.internal", "cluster.home.arpa"] {
        assert_eq!(warnings(&zone(name)), "", "{name}");
    }
}

#[test]
fn keys_without_effect_are_refused_with_what_they_lack() {
    let cases = [
        ("[cluster]\nendpoints = [\"http://192.0.2.61:2379\"]", "f:10: `endpoints`", "store = \"etcd\""),
        ("[cluster]\nskydns-follow = \"/a\"", "f:10: `skydns-follow`", "store = \"etcd\""),
        ("[cluster]\nlease = \"9s\"", "f:10: `lease`", "store = \"etcd\""),
        ("[failover]\nobservers = 2", "f:10: `observers`", "store = \"etcd\""),
        ("[failover]\nprobers = 2", "f:10: `probers`", "store = \"etcd\""),
        ("[rate-limit]\nburst = 9", "f:10: `burst`", "`answers-per-second`"),
        ("[rate-limit]\nslip = 3", "f:10: `slip`", "`answers-per-second`"),
        ("[rate-limit]\nexempt = [\"10.0.0.0/8\"]", "f:10: `exempt`", "`answers-per-second`"),
        ("[events]\non-event-timeout = \"1s\"", "f:10: `on-event-timeout`", "`on-event`"),
        ("[health]\nrequire = \"any\"", "f:10: `require`", "[[health.probes]]"),
        ("[health]\nrequire = 1", "f:10: `require`", "[[health.probes]]"),
        ("[health]\nrequire = \"any\"\n[[health.probes]]\nport = 1", "f:10: `require`", "[[health.probes]]"),
        ("[health]\nrequire = 1\n[[health.probes]]\nport = 1", "f:10: `require`", "[[health.probes]]"),
    ];
    for (section, place, lacks) in cases {
        let text = refusal(&format!("{FILE}{section}\n"));
        assert!(text.starts_with(place) && text.contains("has no effect") && text.contains(lacks), "{text}");
        assert_eq!(text.lines().count(), 1, "{text}");
    }
    // A feature that the file turns off explicitly may keep its settings.
    for off in [
        "[rate-limit]\nanswers-per-second = 0\nburst = 9\nslip = 1",
        "[events]\non-event = []\non-event-timeout = \"1s\"",
        "[xdp]\nmode = \"off\"\nstop-grace = \"1s\"",
        "[health]\nrequire = \"all\"",
        "[health]\nrequire = \"all\"\n[[health.probes]]\nport = 1",
        "[cluster]\nstore = \"file\"\nendpoints = [\"http://192.0.2.61:2379\"]\nlease = \"9s\"\nskydns-follow = \"/a\"",
        "[cluster]\nstore = \"file\"\n[failover]\nobservers = 2\nprobers = 2",
    ] {
        Config::parse(&format!("{FILE}{off}\n"), Path::new("f")).unwrap_or_else(|error| panic!("{error}"));
    }
}

#[test]
fn a_key_that_says_its_default_needs_nothing_beside_it() {
    for line in [
        "[rate-limit]\nburst = 0",
        "[rate-limit]\nslip = 2",
        "[rate-limit]\nexempt = []",
        "[events]\non-event-timeout = \"10s\"",
        "[events]\non-event-timeout = \"10000ms\"",
        "[cluster]\nendpoints = []",
        "[cluster]\nlease = \"5s\"",
        "[failover]\nobservers = \"majority\"",
        "[failover]\nprobers = 5",
    ] {
        let config = Config::parse(&format!("{FILE}{line}\n"), Path::new("f"));
        assert_eq!(
            config.unwrap_or_else(|error| panic!("{error}")),
            Config::parse(FILE, Path::new("f")).unwrap()
        );
    }
    let wrong = refusal(&format!("{FILE}[rate-limit]\nburst = \"0\"\n"));
    assert!(wrong.contains("`burst` has no effect"), "{wrong}");
}

#[test]
fn keys_of_tls_without_a_member_that_speaks_it_are_refused() {
    let store = |endpoints: &str, more: &str| {
        format!("{FILE}[cluster]\nstore = \"etcd\"\nendpoints = [{endpoints}]\n{more}\n")
    };
    let http = "\"http://192.0.2.61:2379\"";
    let text = refusal(&store(http, "ca = \"/etc/ca.pem\""));
    assert!(text.starts_with("f:12: `ca` has no effect") && text.contains("https"), "{text}");
    let text = refusal(&store(http, "cert = \"/a\"\nkey = \"/b\""));
    assert!(text.starts_with("f:12: `cert` has no effect") && text.contains("\nf:13: `key`"), "{text}");
    let https = "\"https://192.0.2.62:2379\"";
    Config::parse(&store(https, "ca = \"/etc/ca.pem\""), Path::new("f")).unwrap();
}

#[test]
fn whom_a_store_over_https_trusts_is_said() {
    let store = |more: &str| {
        let text = format!(
            "{FILE}{SECOND}[cluster]\nstore = \"etcd\"\nendpoints = [\"https://192.0.2.61:2379\"]\n{more}"
        );
        warnings(&text)
    };
    let text = store("");
    assert!(text.contains("[cluster]") && text.contains("`ca`") && text.contains("this machine"), "{text}");
    assert_eq!(store("ca = \"/etc/ca.pem\"\n"), "");
}

#[test]
fn a_list_of_thousands_of_unknown_names_costs_few_comparisons_and_few_lines() {
    let names = |prefix: &str, count: usize| -> String {
        let names: Vec<String> = (0..count).map(|number| format!("\"{prefix}{number}\"")).collect();
        names.join(", ")
    };
    let node = |number: usize| format!("[[node]]\nname = \"server{number}\"\nipv4 = \"10.0.0.{number}\"\n");
    let nodes: String = (1..200).map(node).collect();
    let text =
        refusal(&format!("{FILE}{nodes}[[service]]\nname = \"db\"\nnodes = [{}]\n", names("serwer", 20_000)));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines.len(), 101, "{}", lines.len());
    assert!(lines[100].ends_with(": and 19900 more problems"), "{}", lines[100]);
    assert_eq!(text.matches("did you mean").count(), 3, "each is compared with every node");
    let text =
        refusal(&format!("{FILE}[[service]]\nname = \"db\"\nnodes = [{}]\n", names("node1\", \"", 300)));
    assert!(text.contains("twice") && text.lines().count() == 101, "{text}");
}
