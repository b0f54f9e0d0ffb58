//! `dns-xdp`: arguments, logging, exit code.
use std::process::ExitCode;

use clap::Parser as _;
use dns_xdp::cli;

fn main() -> ExitCode {
    match cli::dispatch(cli::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
