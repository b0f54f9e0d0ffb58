//! The property: the responder's answer has the same meaning as NSD's answer from the same zone, or the difference is
//! intended.
use std::collections::BTreeMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::slice;
use std::sync::Arc;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use dns_xdp::network::Listener;
use dns_xdp::responder::{Lease, Responder, UpdateChannel, bind};
use dns_xdp::zone::{Zone, zone_file_of};
use dns_xdp_ebpf::table::FloodPolicy;
use dns_xdp_tests::bed::client::{Tcp, Udp};
use dns_xdp_tests::bed::netns::Namespace;
use dns_xdp_tests::bed::nsd::{self, IDENTITY, Nsd};
use dns_xdp_tests::bed::run::Run;
use dns_xdp_tests::oracle::frames::Checksum;
use dns_xdp_tests::oracle::meaning::Meaning;
use dns_xdp_tests::oracle::nsd_differences::{CHOICES, Difference, NAME_SERVERS, Path, Query, Served};
use dns_xdp_tests::oracle::queries;
use dns_xdp_tests::oracle::query_corpus::{self, Sent};
use dns_xdp_tests::oracle::table::zone::{zone_with_longest_soa, zone_with_name_servers};

use dns_xdp_tests::oracle::zones::{self, NAME_MAX};
use dns_xdp_tests::rng::{Rng, SEED, seed};
use tokio::runtime::Runtime;
use tokio::sync::watch;

const DNS_PORT: u16 = 53;
/// The number of messages under way at a time.
const WINDOW: usize = 64;
/// NSD sends at most 100 FORMERR and NOTIMP a second. It does not answer further such queries.
const ERRORS_A_SECOND: usize = 90;
const SECOND: Duration = Duration::from_millis(1050);
/// The number of random messages of a normal run; `PROPTEST_CASES` sets another number.
const CASES: usize = 5_000;
/// The least number of each kind of answer; a run with fewer proves little.
const EXPECTED: [(&str, usize); 7] = [
    ("truncated", 50),
    ("NoError with answers", 1500),
    ("NoError", 2000),
    ("NXDomain", 2000),
    ("Refused", 1000),
    ("FormErr", 200),
    ("silence", 20),
];
const EXPECTED_OF_TYPES: [(&str, usize); 3] =
    [("NoError", 65_000), ("NXDomain", 290), ("NoError with answers", 6)];
/// The number of random messages about a random zone.
const CASES_OF_A_ZONE: usize = 600;
/// The kinds of answers in random zones. At least one answer in [`ONE_IN`] has to be of each kind.
const KINDS: [&str; 6] = ["truncated", "NoError with answers", "NoError", "NXDomain", "Refused", "FormErr"];
const ONE_IN: usize = 100;
/// The most differences that are shown.
const SHOWN: usize = 10;

#[test]
#[ignore = "needs root and NSD: cargo xtask test net"]
fn every_type_is_answered_as_by_nsd() {
    let mut comparison = Comparison::over(zone_with_name_servers(NAME_SERVERS)).unwrap();
    comparison.hold(&query_corpus::types()).unwrap();
    comparison.judge(&EXPECTED_OF_TYPES);
}

/// One zone for each residue modulo 8 of the apex's length: the program reads names in words of 8 octets.
#[test]
#[ignore = "needs root and NSD: cargo xtask test net"]
fn queries_in_random_zones_are_answered_as_by_nsd() {
    let seed = seed().unwrap();
    println!("{SEED}={seed:#x}");
    let mut rng = Rng(seed);
    let mut seen = BTreeMap::<String, usize>::new();
    for residue in 0..8 {
        let apex_octets = (residue + 8 * rng.below(32)).clamp(1, NAME_MAX);
        let zone = zones::zone_of_file(&mut rng, apex_octets);
        let messages = query_corpus::seeded(&zone, CASES_OF_A_ZONE, rng.next_number());
        println!("an apex of {apex_octets} octets: {}", zone.apex());
        let mut comparison = Comparison::over(zone).unwrap();
        comparison.hold(&messages).unwrap();
        comparison.judge(&[]);
        for (kind, count) in comparison.seen {
            *seen.entry(kind).or_default() += count;
        }
    }
    let cases: usize = seen.values().sum();
    for kind in KINDS {
        let count = seen.get(kind).copied().unwrap_or(0);
        assert!(count * ONE_IN >= cases, "few cases of {kind}: {seen:?}");
    }
}

#[test]
#[ignore = "needs root and NSD: cargo xtask test net"]
fn every_form_is_answered_as_by_nsd_and_every_choice_occurs() {
    let zone = zone_with_name_servers(NAME_SERVERS);
    let cases = std::env::var("PROPTEST_CASES").ok().and_then(|cases| cases.parse().ok()).unwrap_or(CASES);
    let random = query_corpus::random(&zone, cases);
    let mut comparison = Comparison::over(zone).unwrap();
    comparison.hold(&query_corpus::forms()).unwrap();
    comparison.hold(&random).unwrap();
    comparison.judge(&EXPECTED);
    let mut of_longest_soa = Comparison::over(zone_with_longest_soa().guarded(FloodPolicy::NONE)).unwrap();
    of_longest_soa.hold(&query_corpus::of_longest_name()).unwrap();
    of_longest_soa.judge(&[("truncated", 1), ("NXDomain", 1)]);
    let mut idle = Vec::new();
    let occurred = comparison.occurred.iter().zip(of_longest_soa.occurred).map(|(some, more)| some + more);
    for (choice, occurred) in CHOICES.iter().zip(occurred) {
        println!("{occurred:>6}  {}: {}", choice.what, choice.reason);
        idle.extend((occurred == 0).then_some(choice.what));
    }
    assert!(idle.is_empty(), "take these off the list, they never occur: {idle:#?}");
}

/// Both servers, and the results of the comparison.
struct Comparison {
    ours: Clients,
    theirs: Clients,
    /// The number of compared answers of each kind.
    seen: BTreeMap<String, usize>,
    /// How often each intended difference occurred.
    occurred: Vec<usize>,
    breaches: Vec<String>,
    served: Arc<Served>,
    _servers: Servers,
}

impl Comparison {
    fn over(zone: Zone) -> Result<Comparison> {
        let served = Arc::new(Served::new(zone.clone()));
        let servers = Servers::start(zone)?;
        Ok(Comparison {
            served,
            ours: Clients::of(&servers.namespace, OURS)?,
            theirs: Clients::of(&servers.namespace, THEIRS)?,
            seen: BTreeMap::new(),
            occurred: vec![0; CHOICES.len()],
            breaches: Vec::new(),
            _servers: servers,
        })
    }

    /// Asks both and compares. If NSD was silent perhaps because of its error limit for that second, it is asked again
    /// in the next.
    fn hold(&mut self, messages: &[Sent]) -> Result<()> {
        let silent = self.ask(messages, false)?;
        for messages in silent.chunks(ERRORS_A_SECOND) {
            sleep(SECOND);
            self.ask(messages, true)?;
        }
        Ok(())
    }

    /// Returns the messages that only NSD has not answered; if `is_last`, these count as differences.
    fn ask(&mut self, messages: &[Sent], is_final: bool) -> Result<Vec<Sent>> {
        let mut silent = Vec::new();
        for path in Path::ALL {
            let those = messages.iter().filter(|(_, other)| *other == path);
            let those = queries::identified(those.map(|(message, _)| message.clone()));
            for window in those.chunks(WINDOW) {
                let ours = self.ours.ask(path, window).context("asking our responder")?;
                let theirs = self.theirs.ask(path, window).context("asking NSD")?;
                for ((message, ours), theirs) in window.iter().zip(ours).zip(theirs) {
                    if ours.is_some() && theirs.is_none() && !is_final {
                        silent.push((message.clone(), path));
                    } else {
                        self.compare(message, path, ours.as_deref(), theirs.as_deref());
                    }
                }
            }
        }
        Ok(silent)
    }

    fn compare(&mut self, message: &[u8], path: Path, ours: Option<&[u8]>, theirs: Option<&[u8]>) {
        let query = Query::of(message, &self.served);
        match self.difference(&query, path, ours, theirs) {
            Ok(kind) => *self.seen.entry(kind).or_default() += 1,
            Err(breach) => {
                let octets: String = message.iter().map(|octet| format!("{octet:02x}")).collect();
                self.breaches.push(format!("{path:?} {octets}\n{query:?}\n{breach}"));
            }
        }
    }

    /// Returns the kind of both answers, or their unintended difference.
    fn difference(
        &mut self,
        query: &Query,
        path: Path,
        ours: Option<&[u8]>,
        theirs: Option<&[u8]>,
    ) -> Result<String, String> {
        let ours = ours.map(unordered).transpose().map_err(|error| format!("our answer: {error}"))?;
        match (ours, theirs.map(unordered)) {
            (None, None) => Ok("silence".to_owned()),
            (None, Some(theirs)) => Err(format!("we keep silent, NSD says {theirs:?}")),
            (Some(ours), Some(Ok(theirs))) => self.normalize(query, path, &ours, &theirs),
            (Some(_), Some(Err(error))) => {
                let chosen = self.occurs(|choice| matches!(choice, Difference::Unreadable(of) if of(query)));
                chosen.then(|| "by choice".to_owned()).ok_or(format!("NSD's answer: {error}"))
            }
            (Some(ours), None) => {
                let chosen = self.occurs(|choice| matches!(choice, Difference::Silence(of) if of(query)));
                chosen.then(|| "by choice".to_owned()).ok_or(format!("NSD keeps silent, we say {ours:?}"))
            }
        }
    }

    fn normalize(
        &mut self,
        query: &Query,
        path: Path,
        ours: &Meaning,
        theirs: &Meaning,
    ) -> Result<String, String> {
        let instead = |difference: &Difference| match difference {
            Difference::Instead(is_so) => is_so(query, ours, theirs),
            _ => false,
        };
        if self.occurs(instead) {
            let plain = query.plain(ours.metadata.id);
            let theirs = self.theirs_of_plain(path, &plain).map_err(|error| format!("{error:#}"))?;
            return self.agree(&Query::of(&plain, &self.served), ours, &unordered(&theirs)?);
        }
        self.agree(query, ours, theirs)
    }

    /// NSD's answer to another query; asked once more in the next second if its error limit may be reached.
    fn theirs_of_plain(&mut self, path: Path, plain: &Vec<u8>) -> Result<Vec<u8>> {
        for pause in [Duration::ZERO, SECOND] {
            sleep(pause);
            if let Some(answer) = self.theirs.ask(path, slice::from_ref(plain))?.pop().flatten() {
                return Ok(answer);
            }
        }
        bail!("NSD keeps silent about {plain:02x?}")
    }

    fn agree(&mut self, query: &Query, ours: &Meaning, theirs: &Meaning) -> Result<String, String> {
        let (mut our, mut their) = (ours.clone(), theirs.clone());
        self.occurs(|difference| match difference {
            Difference::Answers(normalize) => normalize(query, &mut our, &mut their),
            _ => false,
        });
        if our == their { Ok(ours.kind()) } else { Err(format!("we say   {ours:?}\nNSD says {theirs:?}")) }
    }

    /// Counts the intended differences that have occurred. Returns whether any has.
    fn occurs(&mut self, mut occurs: impl FnMut(&Difference) -> bool) -> bool {
        let mut any = false;
        for (choice, occurred) in CHOICES.iter().zip(&mut self.occurred) {
            let here = occurs(&choice.difference);
            *occurred += usize::from(here);
            any |= here;
        }
        any
    }

    fn judge(&self, expected: &[(&str, usize)]) {
        println!("{:?}", self.seen);
        let shown: Vec<&str> = self.breaches.iter().map(String::as_str).take(SHOWN).collect();
        assert!(self.breaches.is_empty(), "{} breaches:\n{}", self.breaches.len(), shown.join("\n\n"));
        for (kind, least) in expected {
            let count = self.seen.get(*kind).copied().unwrap_or(0);
            assert!(count >= *least, "only {count} of {kind}: {:?}", self.seen);
        }
    }
}

/// An answer with sorted records.
fn unordered(answer: &[u8]) -> Result<Meaning, String> {
    let mut answer = Meaning::of(answer)?;
    for section in [&mut answer.answers, &mut answer.authorities, &mut answer.additionals] {
        section.sort_unstable();
    }
    Ok(answer)
}

/// Sockets to one of the servers.
struct Clients {
    over_ipv4: Udp,
    over_ipv6: Udp,
    tcp: Tcp,
}

impl Clients {
    fn of(namespace: &Namespace, [ipv4, ipv6]: [IpAddr; 2]) -> Result<Clients> {
        Ok(Clients {
            over_ipv4: Udp::connect(namespace, ipv4, Checksum::Partial)?,
            over_ipv6: Udp::connect(namespace, ipv6, Checksum::Partial)?,
            tcp: Tcp::new(namespace, ipv4),
        })
    }

    fn ask(&mut self, path: Path, messages: &[Vec<u8>]) -> Result<Vec<Option<Vec<u8>>>> {
        match path {
            Path::UdpOverIpv4 => self.over_ipv4.exchange(messages),
            Path::UdpOverIpv6 => self.over_ipv6.exchange(messages),
            Path::Tcp => messages.iter().map(|message| self.tcp.exchange(message)).collect(),
        }
    }
}

const OURS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 1)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1))];
const THEIRS: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 2)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 2))];

/// Starts dns-xdp's responder and NSD in one namespace, on its loopback.
struct Servers {
    namespace: Namespace,
    nsd: Nsd,
    _responder: Responder,
    _publisher: watch::Sender<Option<Arc<Zone>>>,
    _runtime: Runtime,
    _run: Run,
}

impl Servers {
    fn start(zone: Zone) -> Result<Servers> {
        let run = Run::unique()?;
        let namespace = Namespace::create(run.namespace("servers").name())?;
        let lines = [OURS, THEIRS].concat().into_iter().map(|address| {
            // Otherwise an address is usable only after a moment.
            let nodad = if address.is_ipv6() { "nodad" } else { "" };
            format!("addr add {address} dev lo {nodad}\n")
        });
        namespace.ip(&lines.collect::<String>())?;
        let texts =
            zone.authorities().iter().map(|of| (of.apex().to_ascii(), zone_file_of(&zone, of.apex())));
        let texts: Vec<(String, String)> = texts.collect();
        let theirs: Vec<nsd::Zone<'_>> = texts.iter().map(|(apex, text)| nsd::Zone { apex, text }).collect();
        let nsd = Nsd::start(&namespace, &run.directory(), &THEIRS, &theirs)?;
        let runtime = Runtime::new()?;
        let sockets = namespace.enter(|| Ok(bind(&OURS.map(Listener::from), DNS_PORT)?))?;
        let (publisher, published) = watch::channel(Some(Arc::new(zone)));
        let responder = {
            let _context = runtime.enter();
            Responder::start(sockets, published, Lease::default(), IDENTITY, || (), UpdateChannel::closed())?
        };
        let (_responder, _publisher, _runtime, _run) = (responder, publisher, runtime, run);
        Ok(Servers { namespace, nsd, _responder, _publisher, _runtime, _run })
    }
}

impl Drop for Servers {
    fn drop(&mut self) {
        self.nsd.end();
    }
}
