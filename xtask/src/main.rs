//! Everything a developer runs, as `cargo xtask VERB`. Each verb first sets up what it needs on this machine.
mod bench;
mod cargo;
mod count;
mod demo;
mod deny;
mod dist;
mod fuzz;
mod kernels;
mod lab;
mod notices;
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
    Demo {
        /// Instead: five servers that share one view through etcd
        #[arg(long)]
        etcd: bool,
    },
    /// Run the tests: all of them, or one part
    Test {
        /// unit: no privileges; kernel: the packet table in the kernel; net: scenes in network namespaces; store: those of
        /// servers that share one; kernels: other kernels, in machines of QEMU's; survive: a steady load while things go
        /// wrong
        part: Option<test::Part>,
        /// of survive: for as long as its table says, which takes two hours
        #[arg(long)]
        long: bool,
        /// of survive: these rows of its table alone; of kernels: these versions alone, such as 6.1 or `newest`
        #[arg(value_name = "ROW|VERSION")]
        which: Vec<String>,
    },
    /// Measure
    Bench {
        what: bench::What,
        /// What the measurement takes: `cargo xtask bench wire -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Look for an input that is not treated as expected
    Fuzz {
        /// all of them, one after the other, unless one is named
        target: Option<fuzz::Target>,
        /// how long to look, for each of them
        #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
    },
    /// The demo's cluster, left running to play with
    Lab {
        #[command(subcommand)]
        verb: lab::Verb,
    },
    /// Pack a release: a tarball and a Debian package, in target/dist
    Dist {
        /// how it is built; `dev` for a look at the package
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Install what a build takes: the toolchain's components and the BPF linker
    Setup,
    /// Check licences, sources and features of what is linked
    Deny,
    /// Check the house rules that no compiler checks
    Tidy,
}

fn main() -> ExitCode {
    let result = match Args::parse().verb {
        // Its last line is the count of the tests, so it says itself what failed.
        Verb::Test { part, long, which } => match test::run(part, &test::Options { long, which }) {
            Ok(true) => Ok(()),
            Ok(false) => return ExitCode::FAILURE,
            Err(error) => Err(error),
        },
        Verb::Demo { etcd } => demo::run(etcd),
        Verb::Bench { what, arguments } => bench::run(what, &arguments),
        Verb::Fuzz { target, seconds } => fuzz::run_for(target, seconds),
        Verb::Lab { verb } => lab::run(&verb),
        Verb::Dist { profile } => dist::run_in(&profile),
        Verb::Setup => setup::toolchain(),
        Verb::Deny => deny::run(),
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
