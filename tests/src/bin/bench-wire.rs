//! Measures the answers of one core over a veth pair under a flood, compared with a bare reflector in the same run.
//!
//! Every round floods the reflectors and the responder in turn. Answers are counted at the generator's end, and some of
//! them are checked. Other work on the machine only lowers the numbers, so the best rounds are compared. The spread of
//! the rounds is printed too.
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::{Parser, ValueEnum};
use dns_xdp_testbed::load::Seen;
use dns_xdp_tests::bed::process::exit_code;
use dns_xdp_tests::bed::run::Run;
use dns_xdp_tests::competitors::{OURS, Server, ours};
use dns_xdp_tests::load::cores::Workers;
use dns_xdp_tests::load::figures::{Rounds, percent, rate, table};
use dns_xdp_tests::load::generator::Generator;
use dns_xdp_tests::load::queries::Kind;
use dns_xdp_tests::load::window::{Window, measure};
use dns_xdp_tests::load::wire::{Counting, Wire};
use dns_xdp_tests::load::{cores, sample};

/// The time until all frames under way have arrived.
const DRAIN: Duration = Duration::from_millis(20);
/// The responder's counters and the arrived answers may differ by this share: a full ring loses some answers.
const SWALLOWED: f64 = 0.001;

/// Answers per second of one core over a veth pair under flood, compared with a bare reflector's
#[derive(Parser)]
#[command(name = "cargo xtask bench wire")]
struct Args {
    /// The number of rounds, of about 6 seconds each
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// Milliseconds of each measurement
    #[arg(long, default_value_t = 500, value_parser = clap::value_parser!(u16).range(100..=10_000))]
    window: u16,
    /// The core that counts the answers
    #[arg(long, value_enum, default_value_t = Counter::Server)]
    counter: Counter,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Counter {
    /// The server's core, as with a real driver; the generator can then saturate it
    Server,
    /// The generator's core: the server's core only serves, but one core cannot send enough to saturate it
    Generator,
}

/// A row of the table.
struct Row {
    title: &'static str,
    kind: Kind,
    what: What,
    windows: Vec<Window>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum What {
    Reflector,
    /// The reflector that makes room at the tail.
    Growing,
    Responder,
}

fn main() -> ExitCode {
    exit_code(bench(&Args::parse()))
}

fn bench(args: &Args) -> Result<()> {
    cores::check()?;
    let run = Run::unique()?;
    let mut bench = Bench::set_up(&run, args)?;
    let reflector = |title, kind| Row { title, kind, what: What::Reflector, windows: Vec::new() };
    let growing =
        Row { title: "reflector that grows", kind: Kind::A, what: What::Growing, windows: Vec::new() };
    let responder =
        |kind: Kind| Row { title: kind.title(), kind, what: What::Responder, windows: Vec::new() };
    let mut rows = vec![reflector("reflector", Kind::A), growing];
    rows.push(reflector("reflector over IPv6", Kind::AaaaOverIpv6));
    rows.extend(Kind::ALL.map(responder));
    for round in 1..=args.rounds {
        eprint!("\rround {round} of {}", args.rounds);
        for row in &mut rows {
            let window = bench.measure(row);
            row.windows.push(window.with_context(|| format!("measuring {}", row.title))?);
        }
    }
    eprintln!();
    print!("{}", report(&rows));
    println!(
        "\n{} answers were looked at and right; the responder's counters agree with what arrived.",
        bench.checked
    );
    Ok(())
}

struct Bench<'r> {
    run: &'r Run,
    generator: Generator,
    reflector: (Wire, Workers),
    growing: (Wire, Workers),
    responder: Wire,
    server: Server,
    window: Duration,
    checked: usize,
}

impl<'r> Bench<'r> {
    fn set_up(run: &'r Run, args: &Args) -> Result<Self> {
        let counting = match args.counter {
            Counter::Server => Counting::WithServer,
            Counter::Generator => Counting::WithGenerator,
        };
        let mut generator = Generator::load(run)?;
        let responder = lay(run, 0, &mut generator)?;
        let server = OURS.start(run, &responder, &mut generator, counting)?;
        let mut reflecting = |number: u8, program: &str| {
            let wire = lay(run, number, &mut generator)?;
            generator.attach(program, &wire.server, &wire.server_end.device)?;
            let workers = wire.thread(counting)?;
            Ok::<_, anyhow::Error>((wire, workers))
        };
        let (reflector, growing) = (reflecting(1, "reflect")?, reflecting(2, "reflect_grown")?);
        let window = Duration::from_millis(args.window.into());
        Ok(Bench { run, generator, reflector, growing, responder, server, window, checked: 0 })
    }

    fn measure(&mut self, row: &Row) -> Result<Window> {
        let (wire, workers, expected) = match row.what {
            What::Reflector => (&self.reflector.0, &self.reflector.1, Seen::Reflected),
            What::Growing => (&self.growing.0, &self.growing.1, Seen::Reflected),
            What::Responder => (&self.responder, &self.server.workers, row.kind.expected()),
        };
        self.generator.aim(&row.kind.templates(wire))?;
        self.generator.take_samples()?;
        let before = (self.generator.counts()?, self.answers(row.kind)?);
        let window = measure(&self.generator, wire, workers, expected, self.window)?;
        ensure!(window.others == 0.0, "{:.0} frames a second came back that are no answers", window.others);
        if row.what == What::Responder {
            sleep(DRAIN);
            let arrived = self.generator.counts()?.seen[expected as usize] - before.0.seen[expected as usize];
            let answered = self.answers(row.kind)? - before.1;
            let missing = answered as f64 / arrived as f64 - 1.0;
            ensure!(
                missing.abs() <= SWALLOWED,
                "the responder counted {answered} answers, {arrived} arrived"
            );
            let samples = self.generator.take_samples()?;
            ensure!(!samples.is_empty(), "no answer was kept to be looked at");
            for frame in samples {
                sample::check_ours(row.kind, &self.responder, &frame).context("a wrong answer")?;
                self.checked += 1;
            }
        }
        Ok(window)
    }

    /// Returns the responder's own count of answers.
    fn answers(&self, kind: Kind) -> Result<u64> {
        let outcome = if kind == Kind::NxDomain { "nxdomain" } else { "answered" };
        ours::outcomes(self.run)?.get(outcome).copied().context("no such counter")
    }
}

/// Builds a wire with the counter of answers on it.
fn lay(run: &Run, number: u8, generator: &mut Generator) -> Result<Wire> {
    let wire = Wire::lay(run, number)?;
    generator.attach("receive", &wire.generator, &wire.generator_end.device)?;
    Ok(wire)
}

fn report(rows: &[Row]) -> String {
    let reflector = |kind: Kind| {
        let it = rows.iter().find(|row| row.what == What::Reflector && row.kind.is_ipv6() == kind.is_ipv6());
        &it.expect("there is one for either family").windows
    };
    let answered = |windows: &[Window]| windows.iter().map(|window| window.answered).collect::<Rounds>();
    let lines = rows.iter().map(|row| {
        let reflected = reflector(row.kind);
        let pairs = row.windows.iter().zip(reflected);
        let ratios: Rounds = pairs.map(|(row, reflector)| row.answered / reflector.answered).collect();
        let (least, greatest) = ratios.range();
        let (_, best) = answered(&row.windows).range();
        let (_, best_reflected) = answered(reflected).range();
        let offered: Rounds = row.windows.iter().map(|window| window.offered).collect();
        let busy: Rounds = row.windows.iter().map(|window| window.busy).collect();
        vec![
            row.title.to_owned(),
            rate(offered.median()),
            percent(busy.median()),
            rate(answered(&row.windows).median()),
            rate(best),
            format!("{:.2}", best / best_reflected),
            format!("{least:.2}–{greatest:.2}"),
        ]
    });
    let headings =
        ["", "offered/s", "core", "answered/s, median", "best", "best × reflector's", "in single rounds"];
    table(&headings, &lines.collect::<Vec<_>>())
}
