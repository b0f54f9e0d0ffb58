//! Runs in a QEMU machine that boots another kernel: checks the program, the daemon and its interfaces there.
use std::env::args;
use std::process::ExitCode;

use anyhow::{Result, bail};
use dns_xdp_tests::bed::guest;
use dns_xdp_tests::bed::process;

fn main() -> ExitCode {
    process::exit_code(run(args().nth(1).as_deref()))
}

fn run(verb: Option<&str>) -> Result<()> {
    match verb {
        None => guest::run(),
        // This runs outside the machine, for making its image.
        Some("modules") => {
            guest::modules().iter().for_each(|module| println!("{module}"));
            Ok(())
        }
        Some(other) => bail!("usage: guest [modules], not {other}"),
    }
}
