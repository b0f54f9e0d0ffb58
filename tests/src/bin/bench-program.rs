//! What one answer costs in the kernel: the program timed by BPF_PROG_TEST_RUN, beside parts of known cost.
//!
//! A run leaves the packet changed, so the timed program is called by one that puts the packet back first; the time
//! of the same caller with a program that does nothing is taken away. Every line is the least of several rounds in
//! one run on one core; the ratios travel, the nanoseconds are this machine's.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use anyhow::{Context as _, Result, ensure};
use aya::maps::{Array, MapData, ProgramArray};
use aya::programs::{ProgramFd, TestRun, TestRunOptions, Xdp};
use aya::{Ebpf, EbpfLoader};
use dns_xdp::datapath::{Size, TESTBED, Unattached};
use dns_xdp::zone::{Addresses, Origin, Zone};
use hickory_proto::rr::Name;
use nix::sched::{CpuSet, sched_setaffinity};
use nix::unistd::Pid;

const ROUNDS: usize = 7;
const REPEAT: u32 = 100_000;
const WORDS: usize = 32;
const TEMPLATE_LENGTH: usize = 8 + 8 * WORDS;
const MAC: [u8; 6] = [2, 0, 0, 0, 0, 1];
const SERVER: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 11);
const CLIENT: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 100);
const XDP_TX: u32 = 3;

/// How a query is put.
#[derive(Clone, Copy)]
struct Query<'a> {
    name: &'a str,
    qtype: u16,
    opt: &'a [u8],
    ipv6: bool,
}

const OPT: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
const OPT_COOKIE: &[u8] = &[0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 12, 0, 10, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8];

fn main() -> Result<()> {
    let mut cpu = CpuSet::new();
    cpu.set(nix::sched::sched_getcpu().unwrap_or(0))?;
    sched_setaffinity(Pid::from_raw(0), &cpu)?;
    let mut bench = Bench::load()?;
    let a = Query { name: "node1.demo.example.com", qtype: 1, opt: &[], ipv6: false };
    let rows = [
        ("A", a),
        ("A, OPT", Query { opt: OPT, ..a }),
        ("A, OPT with a cookie", Query { opt: OPT_COOKIE, ..a }),
        ("A, mixed case", Query { name: "nOdE1.DeMo.ExAmPlE.cOm", ..a }),
        ("A over IPv6", Query { ipv6: true, ..a }),
        ("AAAA", Query { qtype: 28, ..a }),
        ("AAAA, OPT, over IPv6", Query { qtype: 28, opt: OPT, ipv6: true, ..a }),
        ("A of 3 addresses", Query { name: "db.demo.example.com", ..a }),
        ("NODATA", Query { qtype: 65, ..a }),
        ("NXDOMAIN", Query { name: "random-7f3a.demo.example.com", ..a }),
    ];
    let size = bench.responder.size()?;
    let Size { verified, translated, compiled } = size;
    println!(
        "program: {} instructions, {verified} verified, {compiled} octets of machine code",
        translated / 8
    );
    println!("{:32} {:>8} {:>10}", "", "ns", "× A");
    let mut least = vec![f64::MAX; rows.len() + 4];
    for _ in 0..4 * ROUNDS {
        bench.put(0, &frame(&rows[0].1))?;
        bench.mask.set(0, 0, 0)?;
        for (nth, name) in ["transmit", "reflect", "grow", "grow_head"].into_iter().enumerate() {
            least[nth] = least[nth].min(bench.once(Some(name))?);
        }
        for (nth, row) in rows.iter().enumerate() {
            bench.put(0, &frame(&row.1))?;
            least[nth + 4] = least[nth + 4].min(bench.once(None)?);
        }
    }
    let base = least[0];
    let reference = least[4] - base;
    for (nth, name) in ["transmit", "reflect", "grow", "grow_head"].into_iter().enumerate() {
        println!("{name:32} {:8.1}", least[nth] - base);
    }
    for (nth, row) in rows.iter().enumerate() {
        println!("{:32} {:8.1}", row.0, least[nth + 4] - base);
    }
    println!("base {base}");
    for count in [16, 1024, 65_536] {
        let ns = bench.spread(count)?;
        println!("{:32} {ns:8.1} {:10.2}", format!("A, {count} names at random"), ns / reference);
    }
    Ok(())
}

struct Bench {
    responder: Unattached,
    testbed: Ebpf,
    templates: Array<MapData, [u8; TEMPLATE_LENGTH]>,
    mask: Array<MapData, u64>,
    timed: ProgramArray<MapData>,
}

impl Bench {
    fn load() -> Result<Self> {
        let ipv6: Ipv6Addr = "2001:db8::11".parse()?;
        let mut responder = Unattached::load(&[IpAddr::V4(SERVER), IpAddr::V6(ipv6)], MAC, 53, 65_536)?;
        responder.publish(&zone(16)?)?;
        let mut testbed = EbpfLoader::new().load(TESTBED)?;
        for (_, program) in testbed.programs_mut() {
            let program: &mut Xdp = program.try_into()?;
            program.load()?;
        }
        let templates = testbed.take_map("TEMPLATE").context("TEMPLATE")?.try_into()?;
        let mask = testbed.take_map("MASK").context("MASK")?.try_into()?;
        let timed = testbed.take_map("TIMED").context("TIMED")?.try_into()?;
        Ok(Bench { responder, testbed, templates, mask, timed })
    }

    /// Nanoseconds that the responder, or a program of the testbed, takes for a frame.
    fn time(&mut self, frame: &[u8], program: Option<&str>) -> Result<f64> {
        self.put(0, frame)?;
        self.mask.set(0, 0, 0)?;
        self.least(program)
    }

    /// The same over the names of a zone of `count`, in an order that no prefetcher foresees.
    fn spread(&mut self, count: usize) -> Result<f64> {
        self.responder.publish(&zone(count)?)?;
        for nth in 0..count {
            let scattered = nth.wrapping_mul(0x9e37_79b1) % count;
            let name = if scattered == 0 { String::new() } else { format!("node{scattered}.") };
            let name = format!("{name}demo.example.com");
            self.put(nth, &frame(&Query { name: &name, qtype: 1, opt: &[], ipv6: false }))?;
        }
        self.mask.set(0, count as u64 - 1, 0)?;
        self.least(None)
    }

    fn put(&mut self, nth: usize, frame: &[u8]) -> Result<()> {
        let mut template = [0; TEMPLATE_LENGTH];
        ensure!(frame.len() <= 8 * (WORDS - 1), "the template is too short");
        template[..8].copy_from_slice(&(frame.len() as u64).to_ne_bytes());
        template[8..8 + frame.len()].copy_from_slice(frame);
        template[TEMPLATE_LENGTH - 8..].copy_from_slice(&frame[frame.len() - 8..]);
        Ok(self.templates.set(u32::try_from(nth)?, template, 0)?)
    }

    fn least(&mut self, program: Option<&str>) -> Result<f64> {
        let mut least = [f64::MAX; 2];
        for _ in 0..ROUNDS {
            for (nth, name) in [program, Some("transmit")].into_iter().enumerate() {
                least[nth] = least[nth].min(self.once(name)?);
            }
        }
        Ok(least[0] - least[1])
    }

    fn once(&mut self, name: Option<&str>) -> Result<f64> {
        match name {
            Some(name) => {
                let program: &Xdp = self.testbed.program(name).context("program")?.try_into()?;
                let fd: ProgramFd = program.fd()?.try_clone()?;
                self.timed.set(0, &fd, 0)?;
            }
            None => self.timed.set(0, self.responder.program()?, 0)?,
        }
        let restore: &Xdp = self.testbed.program("restore").context("restore")?.try_into()?;
        let packet = [0; 128];
        let options = TestRunOptions { data_in: Some(&packet), repeat: REPEAT, ..TestRunOptions::new() };
        let result = restore.test_run(options)?;
        ensure!(result.return_value == XDP_TX, "not answered: action {}", result.return_value);
        Ok(result.duration.as_nanos() as f64)
    }
}

fn zone(count: usize) -> Result<Zone> {
    let apex = Name::from_ascii("demo.example.com.")?;
    let name = |label: &str| Name::from_ascii(label).and_then(|name| name.append_domain(&apex));
    let origin = Origin {
        apex: apex.clone(),
        contact: name("hostmaster")?,
        serial: 1,
        ns_ttl_seconds: 60,
        negative_ttl_seconds: 300,
        name_servers: vec![name("ns1")?],
    };
    let ipv6 = |i: u128| IpAddr::V6(Ipv6Addr::from_bits(0x2001_0db8 << 96 | i));
    let ipv4 = |i: u32| IpAddr::V4(Ipv4Addr::from_bits(0xc000_0200 + i));
    let nodes = (1..count).map(|i| {
        let address = [ipv4(i as u32), ipv6(i as u128)];
        Ok((name(&format!("node{i}"))?, Addresses::new(5, address)))
    });
    let mut names = nodes.collect::<Result<Vec<_>>>()?;
    names.push((apex.clone(), Addresses::new(5, [ipv4(1)])));
    if count < 65_536 {
        names.push((
            name("db")?,
            Addresses { rotate: true, ..Addresses::new(5, [ipv4(1), ipv4(2), ipv4(3)]) },
        ));
    }
    Ok(Zone::new(origin, names))
}

fn frame(query: &Query<'_>) -> Vec<u8> {
    let mut message = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, u8::from(!query.opt.is_empty())];
    for label in query.name.split('.') {
        message.push(label.len() as u8);
        message.extend(label.as_bytes());
    }
    message.push(0);
    message.extend(query.qtype.to_be_bytes());
    message.extend([0, 1]);
    message.extend(query.opt);

    let length = (8 + message.len()) as u16;
    let mut frame = [MAC, [2, 0, 0, 0, 0, 2]].concat();
    if query.ipv6 {
        frame.extend([0x86, 0xdd, 0x60, 0, 0, 0]);
        frame.extend(length.to_be_bytes());
        frame.extend([17, 64]);
        for last in [0x100_u128, 0x11] {
            frame.extend(Ipv6Addr::from_bits(0x2001_0db8 << 96 | last).octets());
        }
    } else {
        frame.extend([8, 0, 0x45, 0]);
        frame.extend((20 + length).to_be_bytes());
        frame.extend([0, 0, 0x40, 0, 64, 17, 0, 0]);
        frame.extend(CLIENT.octets());
        frame.extend(SERVER.octets());
    }
    frame.extend([0xc0, 0, 0, 53]);
    frame.extend(length.to_be_bytes());
    // The program does not verify it, but IPv6 has to have one.
    frame.extend([0xbe, 0xef]);
    frame.extend(message);
    frame
}
