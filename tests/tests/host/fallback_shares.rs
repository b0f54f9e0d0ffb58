//! Tests how much of the responder a client keeps during a flood: the path of a query in memory, with its own clock.
use std::net::IpAddr;

use dns_xdp::flood_limits::FloodLimits;
use dns_xdp_ebpf::host::Host;
use dns_xdp_ebpf::outcome::{Action, Outcome};
use dns_xdp_ebpf::table::address_words;
use dns_xdp_tests::oracle::frames::{Datagram, TAG};
use dns_xdp_tests::oracle::host::Server;
use dns_xdp_tests::oracle::table::zone::{PORT, ask, over_ipv4, over_ipv6, places, zone};
use dns_xdp_tests::rng::{Rng, SEED, seed};

const A: u16 = 1;
const NS: u16 = 2;
const SECOND: u64 = 1_000_000_000;
/// The responder's limit per second, and the rate of the flood.
const LIMIT: u32 = 1000;
const FLOOD: u64 = 10_000;
const SECONDS: u64 = 4;
/// A client sends queries for this many seconds before the flood, so that it is known.
const ACQUAINTANCE: u64 = 3;
/// The beginning of a test on the clock of the limits.
const START: u64 = 1000 * SECOND;

fn server(fallback_per_second: u32) -> Server {
    let mut server = Server::new(&places(), false, PORT);
    let mut flood_policy = FloodLimits { fallback_per_second, ..FloodLimits::default() }.table();
    flood_policy.set_prefixes(24, 56);
    server.publish(&zone().guarded(flood_policy));
    server.now = START;
    server
}

fn goes_up(server: &Server, query: &Datagram) -> bool {
    server.run(&query.frame()).0.action() == Action::Pass
}

/// Whether a query from this address goes up. A flood is tested without frames, because building frames would take most
/// of the time.
fn admits(server: &Server, source: IpAddr) -> bool {
    let flood_policy = &server.head().expect("there is a zone").flood_policy;
    server.admit_fallback(flood_policy.prefix(address_words(source)), flood_policy)
}

/// A client that asks for the name servers, and how often.
struct Client {
    query: Datagram,
    per_second: u64,
}

impl Client {
    fn new(per_second: u64) -> Client {
        Client {
            query: Datagram { source: [198, 51, 100, 7].into(), ..over_ipv4(&ask("@", NS)) },
            per_second,
        }
    }

    /// Asks before the flood; every query goes up.
    fn acquainted(self, server: &mut Server) -> Client {
        for _ in 0..ACQUAINTANCE * self.per_second {
            assert!(goes_up(server, &self.query));
            server.now += SECOND / self.per_second;
        }
        self
    }
}

/// How many of the client's queries go up beside a flood, and how many of the flood's.
fn beside(server: &mut Server, client: &Client, seconds: u64, flood: impl Fn(u64) -> IpAddr) -> (u64, u64) {
    let (start, mut ours, mut theirs) = (server.now, 0, 0);
    for nth in 0..seconds * FLOOD {
        server.now = start + nth * (SECOND / FLOOD);
        theirs += u64::from(admits(server, flood(nth)));
        if nth % (FLOOD / client.per_second) == 0 {
            ours += u64::from(goes_up(server, &client.query));
        }
    }
    (ours, theirs)
}

fn expect_limited(theirs: u64, seconds: u64) {
    let limit = u64::from(LIMIT) * seconds;
    assert!((limit * 9 / 10..=limit * 11 / 10).contains(&theirs), "{theirs} of the flood in {seconds} s");
}

fn spoofed(nth: u64) -> IpAddr {
    let [_, a, b, c, d, ..] = (nth.wrapping_mul(0x9e37_79b9_7f4a_7c15)).to_be_bytes();
    [11 + a % 100, b, c, d].into()
}

/// Returns the source of the nth query, with this many prefixes in turn.
fn returning(nth: u64, prefixes: u64) -> IpAddr {
    let [.., high, low] = (nth % prefixes).to_be_bytes();
    [11, high, low, 1].into()
}

#[test]
fn a_client_that_asks_moderately_is_not_starved_by_spoofed_queries() {
    let mut server = server(LIMIT);
    let (ours, theirs) = beside(&mut server, &Client::new(10), SECONDS, spoofed);
    assert!(ours >= 39, "{ours} of 40");
    expect_limited(theirs, SECONDS);
}

#[test]
fn a_client_that_asks_moderately_is_not_starved_by_prefixes_that_ask_more() {
    let client = Client { query: over_ipv6(&ask("@", NS)), per_second: 10 };
    for prefixes in [1, 4, 250] {
        let (ours, theirs) = beside(&mut server(LIMIT), &client, SECONDS, |nth| returning(nth, prefixes));
        assert!(ours >= 39, "{ours} of 40 beside {prefixes} prefixes");
        expect_limited(theirs, SECONDS);
    }
}

#[test]
fn a_known_client_within_its_share_gets_all_beside_thousands_of_prefixes_that_come_back() {
    let seed = seed().unwrap();
    println!("{SEED}={seed:#x}");
    let mut rng = Rng(seed);
    for _ in 0..8 {
        // Each prefix has 1 to 10 queries in each second.
        let prefixes = 1000 + rng.below(9000) as u64;
        let per_second = [1, 2, 10, 50, 100][rng.below(5)];
        let mut server = server(LIMIT);
        let client = Client::new(per_second).acquainted(&mut server);
        let seconds = 10;
        let (ours, theirs) = beside(&mut server, &client, seconds, |nth| returning(nth, prefixes));
        assert_eq!(ours, seconds * per_second, "at {per_second}/s beside {prefixes} prefixes");
        expect_limited(theirs, seconds);
    }
}

#[test]
fn a_known_client_keeps_its_place_through_one_flood_after_another() {
    let mut server = server(LIMIT);
    let client = Client::new(10).acquainted(&mut server);
    for nth in 0..5 {
        let (ours, _) = beside(&mut server, &client, 3, |nth| returning(nth, 3000));
        assert_eq!(ours, 30, "flood {nth}");
        // Between the floods no client asks. Forged prefixes do not become known when they return.
        server.now += 20 * SECOND;
    }
}

#[test]
fn a_known_client_above_its_share_keeps_that_share() {
    let mut server = server(LIMIT);
    let client = Client::new(100).acquainted(&mut server);
    let much = Client { per_second: 1000, ..client };
    let (ours, _) = beside(&mut server, &much, 10, |nth| returning(nth, 3000));
    // 1/8 of the limit.
    assert!(ours >= 10 * u64::from(LIMIT) / 8, "{ours} of 10,000");
}

#[test]
fn what_a_known_client_asks_beyond_its_share_does_not_starve_another() {
    let mut server = server(LIMIT);
    let client = Client::new(10).acquainted(&mut server);
    let heavy = returning(0, 1);
    for _ in 0..30 {
        server.now += SECOND / 10;
        assert!(admits(&server, heavy) && goes_up(&server, &client.query));
    }
    let (ours, _) = beside(&mut server, &client, SECONDS, |_| heavy);
    assert_eq!(ours, 40);
}

#[test]
fn a_lone_client_has_all_of_it() {
    let mut server = server(LIMIT);
    let mut passed = 0;
    for nth in 0..SECONDS * FLOOD {
        server.now = START + nth * (SECOND / FLOOD);
        passed += u64::from(admits(&server, returning(0, 1)));
    }
    expect_limited(passed, SECONDS);
}

/// Queries to the served port of a served address count for the limit in every form, and at most the limit goes up.
#[test]
fn everything_that_goes_up_to_the_responder_counts() {
    let (ns, plain) = (ask("@", NS), ask("node3", A));
    let group = |destination_mac, datagram| Datagram { destination_mac, ..datagram };
    let tagged = |tags: &[(u16, u16)]| Datagram { tags: tags.to_vec(), ..over_ipv4(&ns) };
    for (what, has_room, query) in [
        ("an answer without room", false, over_ipv4(&plain)),
        ("an answer without room over IPv6", false, over_ipv6(&plain)),
        ("a denial without room", false, over_ipv4(&ask("node9", A))),
        ("to all stations", true, group([0xff; 6], over_ipv4(&plain))),
        ("to a multicast group", true, group([0x33, 0x33, 0, 0, 0, 1], over_ipv6(&plain))),
        ("behind a priority", true, tagged(&[(TAG, 0xe000)])),
        ("behind two priorities", true, tagged(&[(TAG, 0), (TAG, 0)])),
        ("of a VLAN behind a priority", true, tagged(&[(TAG, 0), (TAG, 5)])),
    ] {
        let mut server = server(10);
        server.room = has_room;
        let frame = query.frame();
        let (mut up, mut counted) = (0, 0);
        for nth in 0..2_000 {
            server.now = START + nth * (SECOND / 200);
            let (outcome, _) = server.run(&frame);
            up += u32::from(outcome.action() == Action::Pass);
            counted += u32::from(outcome == Outcome::FallbackLimited);
        }
        assert!(
            (98..=110).contains(&up) && up + counted == 2_000,
            "{what}: {up} in ten seconds at ten a second"
        );
    }
}
