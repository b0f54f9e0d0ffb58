//! Plays the rows of the survival table and prints each result: `survive [--long] [ROW…]`.
use std::io::Write as _;
use std::process::ExitCode;
use std::time::Instant;

use anyhow::{Result, ensure};
use clap::Parser;
use dns_xdp_tests::bed::process::exit_code;
use dns_xdp_tests::survive::{EVENTS, Event, HEAD, Length, Row};

/// Test faults under a steady load; every query counts as right, wrong or lost
#[derive(Parser)]
#[command(
    name = "cargo xtask test survive",
    after_help = "Example: cargo xtask test survive --long 1 2\n\n\
    DNS_XDP_SOAK_MINUTES: how long row 16 takes in the long form, instead of an hour\n\
    DNS_XDP_SEED: plays the troubles of an earlier row 16 again"
)]
struct Args {
    /// Run the table's number of rounds and times; otherwise all rows take 2 minutes
    #[arg(long)]
    long: bool,
    /// Play only these rows of the table
    #[arg(value_name = "ROW", value_parser = clap::value_parser!(u8).range(1..=EVENTS.len() as i64))]
    rows: Vec<u8>,
}

fn main() -> ExitCode {
    exit_code(survive(&Args::parse()))
}

fn survive(args: &Args) -> Result<()> {
    let length = if args.long { Length::Long } else { Length::Short };
    let chosen = |event: &&Event| args.rows.is_empty() || args.rows.contains(&event.number);
    println!("{HEAD}");
    let (mut played, mut fallen_short) = (0, Vec::new());
    for event in EVENTS.iter().filter(chosen) {
        let Some(play) = event.play else {
            println!("| {} | {} | {} | not run yet |", event.number, event.what, event.aim);
            continue;
        };
        let start = Instant::now();
        let row = play(length)
            .unwrap_or_else(|error| Row::new(event.number, one_line(&format!("failed: {error:#}")), false));
        played += 1;
        println!("{}", row.line());
        std::io::stdout().flush()?;
        eprintln!("row {}: {:.1} s", event.number, start.elapsed().as_secs_f64());
        fallen_short.extend((!row.reached).then(|| event.number.to_string()));
    }
    // The line has libtest's form: `cargo xtask test` counts the rows by it.
    let verdict = if fallen_short.is_empty() { "ok" } else { "FAILED" };
    println!("test result: {verdict}. {} passed; {} failed", played - fallen_short.len(), fallen_short.len());
    ensure!(fallen_short.is_empty(), "not reached: row {}", fallen_short.join(", "));
    Ok(())
}

/// Returns a text as one line, for a row of the table.
fn one_line(text: &str) -> String {
    text.replace('\n', " ").replace('|', "/")
}
