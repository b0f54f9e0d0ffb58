//! Writes the manual pages, one for dns-xdp and one for each verb, into a directory.
use std::env;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::{Context, Result, bail};
use dns_xdp_tests::bed::process::exit_code;

fn main() -> ExitCode {
    exit_code(write())
}

fn write() -> Result<()> {
    let arguments: Vec<PathBuf> = env::args_os().skip(1).map(PathBuf::from).collect();
    let [directory] = &arguments[..] else { bail!("usage: manual DIRECTORY") };
    std::fs::create_dir_all(directory).with_context(|| format!("cannot make {}", directory.display()))?;
    pages(dns_xdp::cli::command(), directory)
}

/// The help verb repeats what the pages say.
fn pages(command: clap::Command, directory: &Path) -> Result<()> {
    let command = command.disable_help_subcommand(true);
    clap_mangen::generate_to(command, directory)
        .with_context(|| format!("cannot write the pages to {}", directory.display()))
}
