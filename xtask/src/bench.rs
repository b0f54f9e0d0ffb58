//! `cargo xtask bench`: sets up, builds with optimisations, and starts the measurement.
use anyhow::{Result, ensure};
use clap::ValueEnum;

use crate::{cargo, setup};

/// The measurement.
#[derive(Clone, Copy, ValueEnum)]
pub(crate) enum What {
    /// ns per answered query, by BPF_PROG_TEST_RUN
    Program,
    /// milliseconds of the controller's longest step over 65,536 names
    Core,
    /// map writes and milliseconds of a publication, by the number of changed names
    Publish,
    /// answers per second of one core over a veth pair under flood, compared with a bare reflector's
    Wire,
    /// answers per second and losses compared with NSD, Knot DNS, gdnsd and dns-xdp without XDP, with a plot
    Compare,
    /// seconds from a node's death to another answer, and back, compared with gdnsd's
    Failover,
}

/// Runs one measurement with its `arguments`.
///
/// # Errors
/// The kernel does not run the program, or the measurement fails.
pub(crate) fn run(what: What, arguments: &[String]) -> Result<()> {
    let binary = match what {
        What::Program => {
            ensure!(arguments.is_empty(), "`bench program` takes no arguments, not {}", arguments.join(" "));
            setup::kernel()?;
            "bench-program"
        }
        What::Core => {
            ensure!(arguments.is_empty(), "`bench core` takes no arguments, not {}", arguments.join(" "));
            // It uses the controller's internals, which are private to the library.
            return cargo::cargo(&[
                "test",
                "--release",
                "--package",
                "dns-xdp",
                "--lib",
                "--",
                "--ignored",
                "--nocapture",
                "scale_of_a_step",
            ]);
        }
        What::Publish => {
            ensure!(arguments.is_empty(), "`bench publish` takes no arguments, not {}", arguments.join(" "));
            setup::kernel()?;
            "bench-publish"
        }
        What::Wire => {
            setup::network()?;
            "bench-wire"
        }
        What::Compare => {
            setup::competitors()?;
            "bench-compare"
        }
        What::Failover => {
            setup::competitors()?;
            "bench-failover"
        }
    };
    cargo::run(cargo::built(binary)?.args(arguments))
}
