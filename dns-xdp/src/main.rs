//! `dns-xdp`: arguments, logging, exit code.
use std::process::ExitCode;

use clap::Parser as _;
use clap_complete::CompleteEnv;
use dns_xdp::{child, cli};

fn main() -> ExitCode {
    // Ends here when this process is to watch over a command.
    child::enter();
    // Ends here when a shell asks what could come next.
    CompleteEnv::with_factory(cli::command).complete();
    match cli::dispatch(cli::Args::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::from(cli::exit_code(&error))
        }
    }
}
