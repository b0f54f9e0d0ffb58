//! The fuzzer's seeds, for each of its targets.
use std::collections::BTreeSet;

use crate::oracle::frames::read;
use crate::oracle::table::rows;

/// The targets of `cargo xtask fuzz`.
pub const TARGETS: [&str; 5] = ["frame", "request", "update", "configuration", "control"];

/// The smallest configuration, one with a key of most sections, a wrong one, and one with suffixes.
const CONFIGURATIONS: [&str; 4] = [
    "[zone]\nname = \"a.example\"\n[listen]\ninterfaces = [\"eth0\"]\n[[node]]\nname = \"n\"\nipv4 = \"192.0.2.1\"\n",
    "[zone]\nname = \"demo.example.com\"\nttl = \"5s\"\nns-addresses = \"fixed\"\n[listen]\ninterfaces = [\"eth0\"]\n\
     addresses = [\"192.0.2.11\", \"2001:db8::1\"]\n[xdp]\nmode = \"off\"\nstale-after = \"off\"\n[health]\n\
     probe = \"http\"\npath = \"/h\"\ncodes = [200, \"204-206\"]\nbody = \"^ready\"\ninterval = \"1s\"\n[failover]\n\
     quorum = 1\nwitness = [\"192.0.2.254\"]\nall-down = \"last-good\"\n[[node]]\nname = \"node1\"\n\
     ipv4 = \"192.0.2.11\"\nbackup = [\"node2\"]\nweight = 3\n[node.health]\nrequire = \"any\"\n\
     [[node.health.probes]]\nprobe = \"icmp\"\n[[node.health.probes]]\nport = 1\n[[node]]\nname = \"node2\"\nipv6 = \"2001:db8::2\"\nns = \"x\"\n\
     [[service]]\nname = \"@\"\nnodes = [\"node1\", \"node2\"]\nmin-healthy = 1\n\
     [[record]]\nname = \"_x._tcp\"\ntype = \"SRV\"\nvalue = \"0 0 1 node1\"\nttl = \"1m\"\n\
     [[record]]\nname = \"*\"\ntype = \"TXT\"\nvalues = [\"a\", \"\\\"b\\\"\"]\n[control]\nwatch = true\n\
     [events]\non-event = []\non-event-timeout = \"10s\"\n[metrics]\nlisten = \"off\"\n",
    "[zone]\nname = \"a.example\"\nnaem = 1\n[listen]\ninterfaces = []\n[[node]]\nname = \"-\"\nipv4 = \"1.2.3\"\n",
    "[zone]\nname = \"a.example\"\n[listen]\ninterfaces = [\"eth0\"]\n[[node]]\nname = \"n\"\nipv4 = \"192.0.2.1\"\n\
     [node.addresses.in]\nipv4 = \"10.0.0.1\"\nipv6 = \"2001:db8::1\"\n[[node]]\nname = \"m\"\nipv4 = \"192.0.2.2\"\n\
     [[suffix]]\nname = \"in\"\naddresses = \"in\"\n[[suffix]]\nname = \"x.y.a.example\"\n[[suffix]]\nname = \"b.test.\"\n\
     addresses = \"in\"\n[[record]]\nname = \"s\"\ntype = \"SRV\"\nvalue = \"0 0 1 n\"\n\
     [[record]]\nname = \"_acme.in\"\ntype = \"TXT\"\nvalue = \"a\"\n",
];

/// After a zero octet, the input is HTTP.
const CONTROL: [&str; 18] = [
    r#"{"verb":"status"}"#,
    r#"{"verb":"stats"}"#,
    r#"{"verb":"names"}"#,
    r#"{"verb":"query","name":"node1","qtype":"A"}"#,
    r#"{"verb":"reload"}"#,
    r#"{"verb":"node-list"}"#,
    r#"{"verb":"node-add","name":"node2","ipv4":"192.0.2.12","ipv6":"2001:db8::12","ephemeral":true}"#,
    r#"{"verb":"node-set","name":"node1","ipv4":"192.0.2.12","ipv6":null,"ephemeral":false}"#,
    r#"{"verb":"node-remove","name":"node1","ephemeral":true}"#,
    r#"{"verb":"record-add","record":{"name":"x","type":"TXT","values":["a"],"ttl_seconds":5},"ephemeral":true}"#,
    r#"{"verb":"suffix-list"}"#,
    r#"{"verb":"suffix-add","name":"in","addresses":"in","ephemeral":true}"#,
    r#"{"verb":"suffix-remove","name":"b.test.","ephemeral":false}"#,
    r#"{"verb":"zone-export-of","zone":"b.test"}"#,
    r#"{"verb":"admin","node":"node1","admin":"drain","reason":"a","by":"b","for_ms":1,"force":true}"#,
    r#"{"verb":"events","after":1,"started":"2026-03-01T12:00:00Z","limit":3,"wait_ms":1}"#,
    "\0GET /command HTTP/1.1\r\nhost: x\r\n\r\nPOST /command HTTP/1.1\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
    "\0POST /command HTTP/1.1\r\nexpect: 100-continue\r\ncontent-length: 17\r\n\r\n{\"verb\":\"status\"}",
];

/// The inputs for a target; empty for an unknown target.
pub fn of(target: &str) -> BTreeSet<Vec<u8>> {
    let frames = || rows().into_iter().map(|row| row.frame);
    let octets = |texts: &[&str]| texts.iter().map(|text| text.as_bytes().to_vec()).collect();
    match target {
        "frame" => frames().collect(),
        "request" => {
            let datagrams = frames().filter_map(|frame| read::datagram(&frame));
            datagrams.map(|datagram| [&[0], datagram.message.as_slice()].concat()).collect()
        }
        // Parts of updates: the input chooses them.
        "update" => (1..=64_u8).map(|seed| (0..96).map(|at| seed.wrapping_mul(at) | 1).collect()).collect(),
        "configuration" => octets(&CONFIGURATIONS),
        "control" => octets(&CONTROL),
        _ => BTreeSet::new(),
    }
}
