//! Measures the time of one answer in the kernel by BPF_PROG_TEST_RUN, compared with parts that every responder needs.
//!
//! A run changes the packet. A caller program therefore restores the packet, and then calls the timed program. The time
//! of the same caller with an empty program is subtracted. Every line is the minimum of several rounds in one run on
//! one core. The ratios hold on other machines; the nanoseconds are this machine's.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;

use anyhow::{Context, Result};
use dns_xdp::bench::{Between, Edns, Query, Route};
use dns_xdp::datapath::{Least, Size, Stopwatch, Timed, Unattached, Variant, places};
use dns_xdp::flood_limits::{FloodLimits, RateLimit};
use dns_xdp::program_features::ProgramFeatures;
use dns_xdp::records::{RecordSet, Records};
use dns_xdp::zone::{Addresses, Zone};
use dns_xdp_ebpf::cookie::Secret;
use dns_xdp_ebpf::table;
use dns_xdp_tests::oracle::table::zone::zone_of;
use hickory_proto::rr::rdata::A;
use hickory_proto::rr::{Name, RData, RecordType};

const ROUNDS: usize = 14;
const REPEAT: u32 = 100_000;
const CAPACITY: usize = 65_536;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
/// The stopwatch's programs for single parts of an answer.
const REFERENCES: [&str; 5] = ["reflect", "grow", "look_up", "grow_head", "read_line"];
/// The number of these parts that every responder with a hash map and growing answers needs.
const PARTS: usize = 3;
const PORT: u16 = 53;
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const SERVER_IPV6: Ipv6Addr = ipv6(0x11);
const IPV4: Route =
    Route { between: Between::Ipv4([Ipv4Addr::new(192, 0, 2, 100), SERVER]), mac: MAC, port: PORT };
const IPV6: Route = Route { between: Between::Ipv6([ipv6(0x100), SERVER_IPV6]), ..IPV4 };

fn main() -> Result<()> {
    let mut bench = Bench::load()?;
    let a = |qname: &str| frame(qname, RecordType::A, Edns::None, &IPV4);
    let node = |qtype, edns, route| frame("node00001.demo.example.com", qtype, edns, route);
    let plain = a("node00001.demo.example.com")?;
    let reference =
        |program| Row { what: format!("({program})"), frame: plain.clone(), program: Some(program) };
    let row = |what: &str, frame| Row { what: what.to_owned(), frame, program: None };
    let mut rows = REFERENCES.map(reference).to_vec();
    rows.extend([
        row("A", plain.clone()),
        row("A, OPT", node(RecordType::A, Edns::Opt, &IPV4)?),
        row("A, OPT with a cookie", node(RecordType::A, Edns::Cookie, &IPV4)?),
        row("A, mixed case", a("nOdE00001.DeMo.ExAmPlE.cOm")?),
        row("A over IPv6", node(RecordType::A, Edns::None, &IPV6)?),
        row("AAAA", node(RecordType::AAAA, Edns::None, &IPV4)?),
        row("AAAA, OPT, over IPv6", node(RecordType::AAAA, Edns::Opt, &IPV6)?),
        row("A of 3 addresses", a("db.demo.example.com")?),
        row("NODATA", node(RecordType::HTTPS, Edns::None, &IPV4)?),
        row("NXDOMAIN", a("random-7f3a.demo.example.com")?),
    ]);
    let programs =
        [("plain", &bench.responder), ("guarded", &bench.guarded), ("wildcards", &bench.wildcards)];
    for (variant, program) in programs {
        let Size { verified, translated, compiled } = program.size()?;
        println!(
            "{variant} program: {} instructions, {verified} verified, {compiled} octets of machine code",
            translated / 8
        );
    }
    println!("| | ns | × parts |\n|---|---|---|");
    let least = bench.time_each(&rows)?;
    let parts: f64 = least[..PARTS].iter().sum();
    let print = |what: &str, ns: f64| println!("| {what} | {ns:.0} | {:.2} |", ns / parts);
    for (row, ns) in rows.iter().zip(least) {
        print(&row.what, ns);
    }
    print("parts: reflect + grow + look_up", parts);
    for (what, query, flood_policy) in guarded() {
        let ns = bench.time_guarded(query, flood_policy)?;
        print(what, ns);
    }
    for (what, qname) in [
        ("A; the zone has a wildcard", "node00001.demo.example.com"),
        ("A of a wildcard", "random-7f3a.demo.example.com"),
        ("NXDOMAIN beside a wildcard", "random-7f3a.db.demo.example.com"),
    ] {
        bench.stopwatch.frames(&[a(qname)?])?;
        print(what, time(&mut bench.stopwatch, &bench.wildcards)?);
    }
    let spread = [16, 1024, CAPACITY].map(|count| bench.spread(count).map(|ns| (count, ns)));
    for row in spread {
        let (count, ns) = row?;
        print(&format!("A, {count} names at random"), ns);
    }
    Ok(())
}

/// The rows with cookies and limits in use.
fn guarded() -> [(&'static str, Edns, table::FloodPolicy); 5] {
    let secrets = FloodLimits { secrets: vec![Secret::new([7; 16])], ..FloodLimits::default() }.table();
    let limits = |answers_per_second, slip| {
        let rate_limit = RateLimit { answers_per_second, slip, ipv4_prefix: 24, ..RateLimit::default() };
        FloodLimits { rate_limit, ..FloodLimits::default() }.table()
    };
    let whole = Edns::WholeCookie([0; 16]);
    [
        ("A, OPT; cookies on", Edns::Opt, secrets),
        ("A, the client's cookie; cookies on", Edns::Cookie, secrets),
        ("A, a whole cookie; cookies on", whole, secrets),
        ("A, never too many; limit on", Edns::None, limits(10_000_000, 2)),
        ("A, too many, slipping; limit on", Edns::None, limits(1, 1)),
    ]
}

/// A line of the table.
#[derive(Clone)]
struct Row {
    what: String,
    frame: Vec<u8>,
    /// The stopwatch's program; `None`: the responder.
    program: Option<&'static str>,
}

struct Bench {
    responder: Unattached,
    /// The variant with cookies and limits.
    guarded: Unattached,
    /// The variant with wildcards.
    wildcards: Unattached,
    stopwatch: Stopwatch,
}

impl Bench {
    fn load() -> Result<Self> {
        let served = [IpAddr::V4(SERVER), IpAddr::V6(SERVER_IPV6)];
        let load = |guarded, wildcards| {
            let variant = Variant { features: ProgramFeatures { guarded, wildcards }, frags: false };
            Unattached::load(variant, &places(&served, MAC), PORT, CAPACITY as u32)
        };
        let mut responder = load(false, false)?;
        responder.publish(&zone(16))?;
        let mut wildcards = load(false, true)?;
        wildcards.publish(&zone_with_wildcard())?;
        let guarded = load(true, false)?;
        Ok(Bench { responder, guarded, wildcards, stopwatch: Stopwatch::load(CAPACITY)? })
    }

    /// Nanoseconds of each row. Each round measures all rows, so that a temporary disturbance does not affect only one
    /// row.
    fn time_each(&mut self, rows: &[Row]) -> Result<Vec<f64>> {
        let mut least = vec![Least::NONE; rows.len()];
        for _ in 0..ROUNDS {
            for (row, least) in rows.iter().zip(&mut least) {
                self.stopwatch.frames(std::slice::from_ref(&row.frame))?;
                let timed = row.program.map_or(Timed::Responder(&self.responder), Timed::Reference);
                self.stopwatch.round(timed, REPEAT, least)?;
            }
        }
        Ok(least.into_iter().map(Least::ns).collect())
    }

    /// Nanoseconds of an answer to a query with this OPT record, with this flood policy. A whole cookie is one that the
    /// program has made.
    fn time_guarded(&mut self, mut edns: Edns, flood_policy: table::FloodPolicy) -> Result<f64> {
        self.guarded.publish(&zone(16).guarded(flood_policy))?;
        let query = |edns| frame("node00001.demo.example.com", RecordType::A, edns, &IPV4);
        if let Edns::WholeCookie(server) = &mut edns {
            let (_, answer) = self.guarded.run(&query(Edns::Cookie)?)?;
            *server = *answer.last_chunk().context("the answer is shorter than a cookie")?;
        }
        self.stopwatch.frames(&[query(edns)?])?;
        time(&mut self.stopwatch, &self.guarded)
    }

    /// Nanoseconds of an answer over the names of a zone with `count` names, in an order that no prefetcher foresees.
    fn spread(&mut self, count: usize) -> Result<f64> {
        self.responder.publish(&zone(count))?;
        let frame = |nth: usize| {
            let scattered = nth.wrapping_mul(0x9e37_79b1) % (count - 1) + 1;
            frame(&format!("node{scattered:05}.demo.example.com"), RecordType::A, Edns::None, &IPV4)
        };
        self.stopwatch.frames(&(0..count).map(frame).collect::<Result<Vec<_>>>()?)?;
        time(&mut self.stopwatch, &self.responder)
    }
}

/// Nanoseconds of an answer of this program over the frames of the stopwatch.
fn time(stopwatch: &mut Stopwatch, program: &Unattached) -> Result<f64> {
    let mut least = Least::NONE;
    for _ in 0..ROUNDS {
        stopwatch.round(Timed::Responder(program), REPEAT, &mut least)?;
    }
    Ok(least.ns())
}

fn frame(qname: &str, qtype: RecordType, edns: Edns, route: &Route) -> Result<Vec<u8>> {
    let qname = Name::from_ascii(qname)?;
    Ok(Query { qname: &qname, qtype, edns }.frame(route))
}

fn zone(count: usize) -> Zone {
    let ipv4 = |i: u32| IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + i));
    let nodes = (1..count).map(|i| {
        let address = [ipv4(i as u32), IpAddr::V6(ipv6(i as u128))];
        (format!("node{i:05}"), Addresses::new(5, address))
    });
    let mut names: Vec<(String, Addresses)> = nodes.collect();
    names.push(("@".to_owned(), Addresses::new(5, [ipv4(1)])));
    if count < 65_536 {
        let addresses = Addresses::new(5, [ipv4(1), ipv4(2), ipv4(3)]);
        names.push(("db".to_owned(), Addresses { rotate: true, ..addresses }));
    }
    zone_of(names)
}

const fn ipv6(i: u128) -> Ipv6Addr {
    Ipv6Addr::from_bits(0x2001_0db8 << 96 | i)
}

/// The same zone with an address for all other names directly below the apex.
fn zone_with_wildcard() -> Zone {
    let wildcard = RecordSet {
        owner: Name::from_ascii("*.demo.example.com.").expect("a name"),
        rtype: RecordType::A,
        ttl_seconds: 5,
        data: vec![RData::A(A(Ipv4Addr::new(203, 0, 113, 88)))],
    };
    zone(16).with_records(Arc::new(Records::new([wildcard])))
}
