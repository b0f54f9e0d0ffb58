//! What a client keeps of the responder while others flood it: the path of a query in memory, over a clock of its own.
use dns_xdp::guard::Guard;
use dns_xdp_ebpf::outcome::Outcome;
use dns_xdp_tests::oracle::frames::Datagram;
use dns_xdp_tests::oracle::host::Server;
use dns_xdp_tests::oracle::table::zone::{PORT, ask, over_ipv4, over_ipv6, places, zone};

const NS: u16 = 2;
const ANY: u16 = 255;
const SECOND: u64 = 1_000_000_000;
/// What the responder is given in a second, and what is sent.
const LIMIT: u32 = 1000;
const FLOOD: u64 = 10_000;
const SECONDS: u64 = 4;

fn server(fallback_per_second: u32) -> Server {
    let mut server = Server::new(&places(), false, PORT);
    let mut guard = Guard { fallback_per_second, ..Guard::default() }.table();
    guard.set_prefixes(24, 56);
    server.publish(&zone().guarded(guard));
    server
}

/// How many of a client's queries go up, and how many of a flood's, in four seconds.
fn flooded(client: &Datagram, every: u64, flood: impl Fn(u64) -> Datagram) -> (usize, usize) {
    let mut server = server(LIMIT);
    let (mut ours, mut theirs) = (0, 0);
    let goes_up = |server: &Server, query: &Datagram| {
        usize::from(server.run(&query.frame()).0 != Outcome::FallbackLimited)
    };
    for nth in 0..SECONDS * FLOOD {
        server.now = SECOND + nth * (SECOND / FLOOD);
        theirs += goes_up(&server, &flood(nth));
        if nth % every == 0 {
            ours += goes_up(&server, client);
        }
    }
    (ours, theirs)
}

fn spoofed(nth: u64) -> Datagram {
    let [_, a, b, c, d, ..] = (nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
    Datagram { source: [11 + a % 100, b, c, d].into(), ..over_ipv4(&ask("node1", ANY)) }
}

#[test]
fn a_client_that_asks_moderately_is_not_starved_by_spoofed_queries() {
    let client = Datagram { source: [198, 51, 100, 7].into(), ..over_ipv4(&ask("@", NS)) };
    let (ours, theirs) = flooded(&client, FLOOD / 10, spoofed);
    assert!(ours >= 39, "{ours} of 40");
    assert!((3_600..=4_300).contains(&theirs), "{theirs} of the flood in four seconds");
}

#[test]
fn a_client_that_asks_moderately_is_not_starved_by_prefixes_that_ask_more() {
    let client = over_ipv6(&ask("@", NS));
    for prefixes in [1, 4, 250] {
        let flood = |nth: u64| Datagram {
            source: [11, 0, (nth % prefixes) as u8, 1].into(),
            ..over_ipv4(&ask("node1", ANY))
        };
        let (ours, theirs) = flooded(&client, FLOOD / 10, flood);
        assert!(ours >= 39, "{ours} of 40 beside {prefixes} prefixes");
        assert!((3_600..=4_300).contains(&theirs), "{theirs} of the flood in four seconds");
    }
}

#[test]
fn who_is_alone_has_all_of_it() {
    let mut server = server(LIMIT);
    let query = over_ipv4(&ask("@", NS)).frame();
    let mut passed = 0;
    for nth in 0..SECONDS * FLOOD {
        server.now = SECOND + nth * (SECOND / FLOOD);
        passed += usize::from(server.run(&query).0 != Outcome::FallbackLimited);
    }
    assert!((3_900..=4_300).contains(&passed), "{passed} in four seconds");
}
