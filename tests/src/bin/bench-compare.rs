//! Answers per second and losses of name servers on one core each, under the same load in rising steps.
//!
//! The generator itself paces the load: it sends each query at the query's time. Every server has its own wire, the
//! same zone, one thread for queries, and one core. That core also receives the queries and sends the answers.
use std::fs;
use std::path::PathBuf;
use std::process::ExitCode;
use std::thread::sleep;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use clap::Parser;
use dns_xdp_tests::bed::process::exit_code;
use dns_xdp_tests::bed::run::Run;
use dns_xdp_tests::competitors::{ALL, Competitor, OURS};
use dns_xdp_tests::load::figures::{percent, rate, table};
use dns_xdp_tests::load::generator::Generator;
use dns_xdp_tests::load::plot::{Curve, plot};
use dns_xdp_tests::load::queries::Kind;
use dns_xdp_tests::load::window::{Window, measure};
use dns_xdp_tests::load::wire::{Counting, Wire};
use dns_xdp_tests::load::{cores, sample};

/// Queries per second of the first step.
const FIRST: f64 = 25_000.0;
const LAST: f64 = 5_000_000.0;
const STEP: f64 = std::f64::consts::SQRT_2;
/// A rate has to exceed the best rate by this factor; otherwise the step is flat. A curve ends after several flat
/// steps.
const FLAT: f64 = 1.02;
const FLAT_STEPS: usize = 2;
/// A generator has to send this share of its queries. If it sends less, other work on its core has delayed it.
const HELD_UP: f64 = 0.95;
/// The pause between two steps. The queues run empty meanwhile.
const PAUSE: Duration = Duration::from_millis(100);

/// Answers per second and losses of name servers under the same load
#[derive(Parser)]
#[command(name = "cargo xtask bench compare")]
struct Args {
    /// Measure only these servers
    #[arg(value_parser = ALL.map(|competitor| competitor.word))]
    servers: Vec<String>,
    /// The number of rounds, of about 2 minutes each for all servers; the best round of each server counts
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=100))]
    rounds: u8,
    /// The kind of query
    #[arg(long, value_enum, default_value_t = Kind::A)]
    query: Kind,
    /// Milliseconds of each measurement. Each step is measured twice, and the better result counts, because
    /// disturbances only lower it
    #[arg(long, default_value_t = 700, value_parser = clap::value_parser!(u16).range(100..=10_000))]
    window: u16,
    /// The file for the plot
    #[arg(long, default_value = "target/bench/compare.svg")]
    svg: PathBuf,
}

fn main() -> ExitCode {
    exit_code(compare(&Args::parse()))
}

fn compare(args: &Args) -> Result<()> {
    cores::check()?;
    let chosen = |competitor: &&Competitor| {
        args.servers.is_empty() || args.servers.iter().any(|word| word == competitor.word)
    };
    let competitors: Vec<&Competitor> = ALL.iter().filter(chosen).collect();
    let mut results: Vec<(&Competitor, Vec<Window>)> = Vec::new();
    for round in 1..=args.rounds {
        for (index, competitor) in competitors.iter().enumerate() {
            eprint!("round {round}: {:<18}", competitor.title);
            let steps = climb(competitor, args).with_context(|| competitor.title)?;
            eprintln!();
            match results.get_mut(index) {
                None => results.push((competitor, steps)),
                Some((_, before)) if best(before).answered < best(&steps).answered => *before = steps,
                Some(_) => {}
            }
        }
    }
    print!("{}", report(&results));
    let curves: Vec<Curve> = results.iter().map(|(competitor, steps)| curve(competitor, steps)).collect();
    let title = format!("{}, one core: answered of the queries offered", args.query.title());
    if let Some(directory) = args.svg.parent() {
        fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    }
    fs::write(&args.svg, plot(&title, &curves))
        .with_context(|| format!("cannot write {}", args.svg.display()))?;
    println!("\nplot: {}", args.svg.display());
    Ok(())
}

/// Measures one server under rising load, until more load brings no more answers.
fn climb(competitor: &Competitor, args: &Args) -> Result<Vec<Window>> {
    let kind = args.query;
    let run = Run::unique()?;
    let mut generator = Generator::load(&run)?;
    let wire = Wire::lay(&run, 0)?;
    generator.attach("receive", &wire.generator, &wire.generator_end.device)?;
    let server = competitor.start(&run, &wire, &mut generator, Counting::WithServer)?;
    generator.aim(&kind.templates(&wire))?;
    let length = Duration::from_millis(args.window.into());
    let mut steps: Vec<Window> = Vec::new();
    let (mut best, mut flat) = (0.0, 0);
    for pace in paces() {
        generator.pace(pace)?;
        let once = || measure(&generator, &wire, &server.workers, kind.expected(), length);
        let window = once()?.better(once()?);
        eprint!(".");
        if let Some(pace) = pace.filter(|pace| window.offered < HELD_UP * f64::from(*pace)) {
            eprint!("(held up at {})", rate(pace.into()));
        }
        check(&mut generator, kind, &wire, &window)?;
        steps.push(window);
        flat = if window.answered > best * FLAT { 0 } else { flat + 1 };
        best = window.answered.max(best);
        if flat == FLAT_STEPS {
            break;
        }
        sleep(PAUSE);
    }
    Ok(steps)
}

/// Queries per second; the last step is the generator's maximum.
fn paces() -> impl Iterator<Item = Option<u32>> {
    let paces = std::iter::successors(Some(FIRST), |pace| Some(pace * STEP));
    paces.take_while(|pace| *pace < LAST).map(|pace| Some(pace as u32)).chain([None])
}

/// Checks that the returned frames are right answers.
fn check(generator: &mut Generator, kind: Kind, wire: &Wire, window: &Window) -> Result<()> {
    ensure!(window.others == 0.0, "{:.0} frames a second came back that are no answers", window.others);
    ensure!(window.answered > 0.0, "nothing came back");
    for frame in generator.take_samples()? {
        sample::check(kind, wire, &frame).context("a wrong answer")?;
    }
    Ok(())
}

/// The step with the most answers.
fn best(steps: &[Window]) -> Window {
    let best = steps.iter().copied().reduce(Window::better);
    best.expect("there is a first step")
}

fn report(results: &[(&Competitor, Vec<Window>)]) -> String {
    let ours = results
        .iter()
        .find(|(competitor, _)| competitor.word == OURS.word)
        .map(|(_, steps)| best(steps).answered);
    let lines = results.iter().map(|(competitor, steps)| {
        let best = best(steps);
        vec![
            competitor.title.to_owned(),
            rate(best.offered),
            rate(best.answered),
            percent(best.lost()),
            percent(best.busy),
            format!("{:.2} µs", 1e6 * best.busy / best.answered),
            ours.map_or_else(|| "–".to_owned(), |ours| format!("{:.1}", ours / best.answered)),
        ]
    });
    let headings =
        ["", "offered/s", "answered/s, at most", "lost then", "core", "core per answer", "dns-xdp ×"];
    table(&headings, &lines.collect::<Vec<_>>())
}

fn curve(competitor: &Competitor, steps: &[Window]) -> Curve {
    let points = steps.iter().map(|step| (step.offered, step.answered)).collect();
    Curve { title: competitor.title.to_owned(), points }
}
