//! Everything a developer runs, as `cargo xtask VERB`. Each verb first sets up what it needs on this machine.
mod bench;
mod cargo;
mod demo;
mod lab;
mod setup;
mod test;
mod tidy;

use std::process::ExitCode;

use clap::{Parser, Subcommand};

#[derive(Parser)]
#[command(name = "cargo xtask", about, disable_help_subcommand = true)]
struct Args {
    #[command(subcommand)]
    verb: Verb,
}

/// Everything a developer runs.
#[derive(Subcommand)]
enum Verb {
    /// Show the main job: three nodes, one of them dies and comes back
    Demo,
    /// Run the tests: all of them, or one part
    Test {
        /// unit: no privileges; kernel: the packet table in the kernel; net: scenes in network namespaces
        part: Option<test::Part>,
    },
    /// Measure
    Bench {
        /// program: ns per answered query
        what: bench::What,
    },
    /// The demo's cluster, left running to play with
    Lab {
        #[command(subcommand)]
        verb: lab::Verb,
    },
    /// Check the house rules that no compiler checks
    Tidy,
}

fn main() -> ExitCode {
    let result = match Args::parse().verb {
        Verb::Demo => demo::run(),
        Verb::Test { part } => test::run(part),
        Verb::Bench { what } => bench::run(what),
        Verb::Lab { verb } => lab::run(&verb),
        Verb::Tidy => tidy::run(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
