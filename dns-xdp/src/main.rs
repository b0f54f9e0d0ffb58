//! `dns-xdp`: what this process is to be, and its arguments.
use std::process::ExitCode;

use clap::Parser as _;
use clap_complete::CompleteEnv;
use dns_xdp::{cli, subprocess};

fn main() -> ExitCode {
    // Ends here when this process is to watch over a command.
    subprocess::enter();
    // Ends here when a shell asks what could come next.
    CompleteEnv::with_factory(cli::command).complete();
    cli::run(cli::Args::parse())
}
