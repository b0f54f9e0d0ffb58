//! The queries that the responder and NSD both get: every type, every named form of a query, and random queries.
use crate::oracle::frames::message::{A, AAAA, CD, DO, IN, Message, OPT, Opt, RD, name, option};
use crate::oracle::frames::octets;
use crate::oracle::nsd_differences::Path;
use crate::oracle::queries;
use crate::oracle::table::zone::{LETTERS, sized, within};
use dns_xdp::zone::Zone;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::{Config, RngSeed, TestRunner};

/// A message in wire form, and how it is sent.
pub type Sent = (Vec<u8>, Path);

const NS: u16 = 2;
const SOA: u16 = 6;
const TXT: u16 = 16;
const TSIG: u16 = 250;
const IXFR: u16 = 251;
const AXFR: u16 = 252;
const ANY: u16 = 255;
const CH: u16 = 3;
/// The types up to this one are asked for every kind of name: the defined types and their neighbours.
const DEFINED: u16 = 300;

/// Names of each kind in the zone.
const NAMES: [&str; 4] = ["node3", "@", "prod", "nothing"];

/// Every type for a name that exists; the defined types also for a name of each other kind.
pub fn types() -> Vec<Sent> {
    let every = (0..=u16::MAX).map(|qtype| (NAMES[0], qtype));
    let defined = NAMES[1..]
        .iter()
        .flat_map(|kind| (0..DEFINED).chain([32_768, 32_769, 65_280, u16::MAX]).map(|qtype| (*kind, qtype)));
    let messages = every.chain(defined).zip([Path::UdpOverIpv4, Path::UdpOverIpv6].into_iter().cycle());
    messages.map(|((relative, qtype), path)| (ask(&within(relative), qtype).bytes(), path)).collect()
}

/// Messages from a generator. PROPTEST_RNG_SEED is its seed; without it, the messages are the same in every run.
pub fn random(zone: &Zone, count: usize) -> Vec<Sent> {
    let rng_seed = match Config::default().rng_seed {
        RngSeed::Random => 0,
        RngSeed::Fixed(seed) => seed,
    };
    seeded(zone, count, rng_seed)
}

/// Messages from a generator with this seed.
pub fn seeded(zone: &Zone, count: usize, rng_seed: u64) -> Vec<Sent> {
    let rng_seed = RngSeed::Fixed(rng_seed);
    let mut runner = TestRunner::new(Config { rng_seed, ..Config::default() });
    let messages = queries::messages(zone);
    let mut message = || messages.new_tree(&mut runner).expect("messages can be drawn").current().bytes();
    Path::ALL.into_iter().cycle().take(count).map(|path| (message(), path)).collect()
}

/// Every form: answered forms over every path, mostly unanswered forms over two paths.
pub fn forms() -> Vec<Sent> {
    let answered = [names(), static_records(), edns(), classes(), transfers()].concat();
    let answered = answered.into_iter().flat_map(|message| Path::ALL.map(|path| (message.clone(), path)));
    let errors = [headers(), opcodes(), counts(), records(), cuts()].concat();
    let paths = [Path::UdpOverIpv4, Path::Tcp];
    let errors = errors.into_iter().flat_map(|message| paths.map(|path| (message.clone(), path)));
    answered.chain(errors).collect()
}

/// Queries for a name of 255 octets that does not exist: in lower and upper case, with and without NSID.
pub fn of_longest_name() -> Vec<Sent> {
    let qname = sized(255).replacen('l', "m", 1);
    let mut messages = Vec::new();
    for qname in [qname.to_uppercase(), qname] {
        for options in [vec![], option(3, &[])] {
            messages
                .push(Message { opt: Some(Opt { options, ..Opt::of_size(512) }), ..ask(&qname, A) }.bytes());
        }
    }
    messages.into_iter().map(|message| (message, Path::UdpOverIpv4)).collect()
}

fn ask(qname: &str, qtype: u16) -> Message {
    Message::query(&name(qname), qtype, IN)
}

/// Combinations of the position and case of a name, the type, and the client's size.
fn names() -> Vec<Vec<u8>> {
    let relative = [
        "@",
        "node1",
        "node2",
        "NODE3",
        "nOdE3",
        "ns1",
        "NS14",
        "ns15",
        "service",
        "sixteen",
        "seventeen",
        "prod",
        "PROD",
        "db.prod",
        "withheld",
        "x.withheld",
        "x.node1",
        "x.x.node1",
        "x.prod",
        "x.db.prod",
        "nothing",
        "a.b.nothing",
        LETTERS,
        "*",
        "_",
        "node1.demo.example.com",
    ];
    let foreign =
        ["", "com", "example.com", "xdemo.example.com", "demo.example.org", "demo.example.com.x", "org"];
    let mut qnames: Vec<String> = relative.iter().map(|relative| within(relative)).collect();
    qnames.extend(foreign.map(str::to_owned));
    qnames.extend([
        sized(84),
        sized(200),
        sized(254),
        sized(255),
        sized(255).to_uppercase(),
        sized(255).replacen('l', "m", 1),
    ]);
    let mut messages = Vec::new();
    for qname in &qnames {
        for qtype in [A, AAAA, NS, SOA, TXT, 5, 39, 43, 65, 256, 65_280, ANY] {
            for opt in [None, Some(Opt::of_size(512)), Some(Opt { flags: DO, ..Opt::of_size(1232) })] {
                messages.push(Message { opt, ..ask(qname, qtype) }.bytes());
            }
        }
    }
    messages
}

/// Queries for names with static records, for aliases and for wildcards, with the types that they have and others.
pub fn static_records() -> Vec<Vec<u8>> {
    let relative = [
        "texted",
        "Printed",
        "bound",
        "_redis._tcp",
        "_tcp",
        "x._redis._tcp",
        "mail",
        "@",
        "static",
        "alias",
        "Chain",
        "x.alias",
        "away",
        "dangling",
        "to-prod",
        "to-sixteen",
        "pointer",
        "unknown",
        "*",
        "x.*",
        "*.prod",
        "x.prod",
        "y.x.prod",
        "x.db.prod",
        "x.service",
        "nothing",
        "a.b.nothing",
    ];
    let mut messages = Vec::new();
    for relative in relative {
        for qtype in [A, AAAA, 5, 12, 15, TXT, 33, 44, 64, 65, 257, 65_280, NS, SOA, ANY] {
            for opt in [None, Some(Opt::of_size(1232))] {
                messages.push(Message { opt, ..ask(&within(relative), qtype) }.bytes());
            }
        }
    }
    messages
}

/// Variants of the OPT record, with an answer, without one, and with one that is just too large for some clients.
fn edns() -> Vec<Vec<u8>> {
    let sizes = [0, 1, 511, 512, 513, 600, 700, 800, 927, 928, 1000, 1231, 1232, 1233, 1500, 4096, u16::MAX]
        .map(Opt::of_size);
    let options: [Vec<u8>; 12] = [
        option(3, &[]),
        option(3, b"who"),
        [option(3, &[]), option(3, &[])].concat(),
        option(5, &[8, 13]),
        option(8, &[0, 1, 24, 0, 192, 0, 2]),
        option(8, &[9]),
        option(9, &[0; 4]),
        option(10, &[7; 8]),
        option(10, &[7; 24]),
        option(11, &[]),
        option(12, &[0; 100]),
        [option(10, &[7; 8]), option(u16::MAX, &[0; 30]), option(3, &[])].concat(),
    ];
    let options = options.map(|options| Opt { options, ..Opt::of_size(1232) });
    let flags = [DO, 0x4000, 0x7fff, 0xffff].map(|flags| Opt { flags, ..Opt::of_size(1232) });
    let versions = [1, 2, 255].into_iter().flat_map(|version| {
        [0, DO].map(|flags| Opt { version, flags, options: option(3, &[]), ..Opt::of_size(1232) })
    });
    let others = [
        Opt { extended_rcode: 0xff, ..Opt::of_size(1232) },
        Opt { owner: name("x"), ..Opt::of_size(1232) },
        Opt { length: Some(1), ..Opt::of_size(1232) },
        Opt { length: Some(1), version: 1, ..Opt::of_size(1232) },
        Opt { options: vec![0, 10, 0], ..Opt::of_size(1232) },
        Opt { options: vec![0, 10, 0, 8, 1], ..Opt::of_size(1232) },
    ];
    let opts: Vec<Opt> =
        sizes.into_iter().chain(options).chain(flags).chain(versions).chain(others).collect();
    let mut messages = Vec::new();
    for (relative, qtype) in
        [("node3", A), ("node3", TXT), ("nothing", A), ("@", NS), ("sixteen", AAAA), ("seventeen", AAAA)]
    {
        for opt in &opts {
            messages.push(ask(&within(relative), qtype).with(opt.clone()).bytes());
        }
    }
    messages.extend(opts.iter().map(|opt| ask("example.org", A).with(opt.clone()).bytes()));
    messages
}

/// Every flag and every rcode, alone and together.
fn headers() -> Vec<Vec<u8>> {
    let flags = (0..16).map(|bit| 1 << bit).chain(0..16).chain([RD | CD, 0x07f0, 0x05f0, 0x7fff & !0x7800]);
    let flags = flags.filter(|flags| flags & 0x7800 == 0);
    flags
        .flat_map(|flags| {
            [("node3", A), ("node3", TXT), ("nothing", A)]
                .map(|(relative, qtype)| Message { flags, ..ask(&within(relative), qtype) }.bytes())
        })
        .collect()
}

fn opcodes() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for opcode in 1..16_u16 {
        for flags in [0, 0x07f0] {
            for opt in [None, Some(Opt::of_size(1232))] {
                let qtype = if opcode == 4 || opcode == 5 { SOA } else { A };
                messages
                    .push(Message { flags: opcode << 11 | flags, opt, ..ask(&within("@"), qtype) }.bytes());
            }
        }
    }
    messages
}

fn classes() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for qclass in [0, 2, 4, 254, 255, 256, 4321, u16::MAX] {
        for (relative, qtype) in [("node3", A), ("@", SOA), ("node3", TXT), ("nothing", A), ("node3", ANY)] {
            for opt in [None, Some(Opt::of_size(1232))] {
                messages
                    .push(Message { opt, ..Message::query(&name(&within(relative)), qtype, qclass) }.bytes());
            }
        }
    }
    for qname in [
        "id.server",
        "ID.Server",
        "hostname.bind",
        "version.bind",
        "version.server",
        "authors.bind",
        "server",
        "",
        &within("node3"),
    ] {
        for qtype in [TXT, A, NS, SOA, ANY, AXFR] {
            messages.push(Message::query(&name(qname), qtype, CH).bytes());
        }
    }
    messages
}

fn transfers() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for qname in [within("@"), within("node3"), within("nothing"), "example.org".to_owned(), String::new()] {
        messages.push(ask(&qname, AXFR).bytes());
        messages.push(ask(&qname, IXFR).bytes());
        let trailing = record(&qname, SOA, IN, &[&[0, 0], &[0; 20][..]].concat());
        messages.push(Message { counts: Some([1, 0, 1, 0]), trailing, ..ask(&qname, IXFR) }.bytes());
    }
    messages
}

/// Wrong counts, and counts that no query has.
fn counts() -> Vec<Vec<u8>> {
    let counts = [
        [0, 0, 0, 0],
        [2, 0, 0, 0],
        [u16::MAX, 0, 0, 0],
        [1, 1, 0, 0],
        [1, 0, 1, 0],
        [1, 0, 0, 1],
        [1, 0, 0, 2],
        [0, 0, 0, 1],
        [2, 0, 0, 1],
    ];
    let mut messages = Vec::new();
    for counts in counts.map(Some) {
        for flags in [0, RD] {
            for opt in [None, Some(Opt::of_size(1232))] {
                messages.push(Message { counts, flags, opt, ..ask(&within("node3"), A) }.bytes());
            }
        }
    }
    let two = [ask(&within("node3"), A).question, ask(&within("node3"), AAAA).question].concat();
    messages.push(Message { counts: Some([2, 0, 0, 0]), question: two, ..ask("", A) }.bytes());
    messages
}

/// Records in sections where a query has none, and octets after the last record.
fn records() -> Vec<Vec<u8>> {
    let a = || record(&within("node3"), A, IN, &[192, 0, 2, 9]);
    let with =
        |counts, trailing| Message { counts: Some(counts), trailing, ..ask(&within("node3"), A) }.bytes();
    let opt = |owner: &[u8]| [owner, &octets(&[OPT, 1232, 0, 0, 0])].concat();
    vec![
        with([1, 1, 0, 0], a()),
        with([1, 0, 1, 0], a()),
        with([1, 0, 0, 1], a()),
        with([1, 0, 0, 2], [a(), opt(&[0])].concat()),
        with([1, 0, 0, 2], [opt(&[0]), a()].concat()),
        with([1, 0, 0, 2], [opt(&[0]), opt(&[0])].concat()),
        // The root, which lies at the end of the question's name.
        with([1, 0, 0, 1], opt(&[0xc0, 12 + 23])),
        with([1, 0, 0, 1], record("key", TSIG, 255, &tsig())),
        with([1, 0, 0, 0], vec![0xff; 9]),
        with([1, 0, 0, 0], vec![0; 700]),
    ]
}

/// A signature with an unknown key.
fn tsig() -> Vec<u8> {
    let algorithm = name("hmac-sha256");
    [&algorithm[..], &octets(&[0, 0x6000, 0, 300, 32]), &[0x5a; 32], &octets(&[0, 0, 0])].concat()
}

fn record(owner: &str, rtype: u16, class: u16, rdata: &[u8]) -> Vec<u8> {
    let length = u16::try_from(rdata.len()).expect("records of the tests are short");
    [&name(owner)[..], &octets(&[rtype, class, 0, 0, length]), rdata].concat()
}

/// A message cut off after each of its octets, and invalid names.
fn cuts() -> Vec<Vec<u8>> {
    let opt = Opt { options: option(10, &[7; 8]), ..Opt::of_size(1232) };
    let whole = ask(&within("node3"), A).with(opt).bytes();
    let mut messages: Vec<Vec<u8>> = (0..whole.len()).map(|length| whole[..length].to_vec()).collect();
    let pointer = |to| [0xc0, to].to_vec();
    for qname in [
        pointer(12),
        pointer(4),
        pointer(200),
        [&[5][..], b"node3", &pointer(12)].concat(),
        vec![64; 70],
        vec![1; 300],
        vec![0x80, 0],
        vec![0x41, 0],
    ] {
        messages.push(Message::query(&qname, A, IN).bytes());
    }
    messages
}
