//! The developers' commands, `cargo xtask VERB`. Each verb first installs the programs that it needs on this machine.
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
mod pictures;
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

/// Commands for developers.
#[derive(Subcommand)]
enum Verb {
    /// Show the main job: three nodes, one of them dies and comes back
    Demo {
        /// Show five servers that share one view through etcd instead
        #[arg(long)]
        etcd: bool,
    },
    /// Run the tests: all of them, or one part
    Test {
        /// unit: no privileges; kernel: the packet table in the kernel; net: scenes in network namespaces; store:
        /// scenes of servers that share a store; kernels: other kernels, in QEMU machines; survive: a steady load
        /// during faults
        part: Option<test::Part>,
        /// for survive: the table's own times, 2 hours in all
        #[arg(long)]
        long: bool,
        /// for survive: only these rows of its table; for kernels: only these versions, such as 6.1 or `newest`
        #[arg(value_name = "ROW|VERSION")]
        which: Vec<String>,
    },
    /// Run a measurement
    Bench {
        what: bench::What,
        /// The arguments of the measurement: `cargo xtask bench wire -- --help`
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        arguments: Vec<String>,
    },
    /// Look for an input that is not treated as expected
    Fuzz {
        /// the target; by default all of them, one after another
        target: Option<fuzz::Target>,
        /// how long to run each target
        #[arg(long, default_value_t = 60, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
        seconds: u32,
    },
    /// Keep the demo's cluster running, for experiments
    Lab {
        #[command(subcommand)]
        verb: lab::Verb,
    },
    /// Pack a release: a tarball and a Debian package, in target/dist
    Dist {
        /// the build profile; `dev` for a quick look at the package
        #[arg(long, default_value = "release")]
        profile: String,
    },
    /// Draw the pictures of the README again: the status page, `top`, and the plot of `bench compare` if there is one
    Pictures,
    /// Install the programs for a build: the toolchain's components and the BPF linker
    Setup,
    /// Check licences, sources and features of the linked crates
    Deny,
    /// Check the project's rules that the compiler does not check
    Tidy,
}

fn main() -> ExitCode {
    let result = match Args::parse().verb {
        // Its last line is the count of the tests, so it reports failures itself.
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
        Verb::Pictures => pictures::run(),
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
