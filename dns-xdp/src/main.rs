//! `dns-xdp`: decides the role of this process, and reads its arguments.
use std::process::ExitCode;

use clap::Parser as _;
use clap_complete::CompleteEnv;
use dns_xdp::{cli, subprocess};

fn main() -> ExitCode {
    // Does not return if this process is a supervisor of a command.
    subprocess::enter();
    // Does not return if a shell asks for completions.
    CompleteEnv::with_factory(cli::command).complete();
    cli::run(cli::Args::parse())
}
