//! The generator's process: `flood PINS INTERFACE` sends until it is killed. The benches start it.
use std::env;
use std::path::Path;
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use dns_xdp_tests::bed::process::exit_code;
use dns_xdp_tests::load::generator;

fn main() -> ExitCode {
    exit_code(flood())
}

fn flood() -> Result<()> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [pins, interface] = &arguments[..] else { bail!("usage: flood PINS INTERFACE") };
    let interface = interface.parse().with_context(|| format!("{interface} is no interface's index"))?;
    generator::flood(Path::new(pins), interface)
}
