//! `run`: the daemon, in the foreground.
use std::io;
use std::path::PathBuf;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::ConfigFile;
use crate::{controller, privileges};

pub(super) const EXAMPLE: &str = "Example: dns-xdp run --config /etc/dns-xdp/dns-xdp.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// Take over from a running daemon, losing no query
    #[arg(long)]
    replace: bool,
}

impl Run {
    pub(super) fn run(&self, socket: Option<PathBuf>) -> anyhow::Result<()> {
        let loaded = self.file.load_all(socket)?;
        log_to_stderr();
        privileges::close_to_programs()?;
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .on_thread_start(privileges::settle_thread)
            .build();
        let runtime = runtime.context("cannot start the asynchronous runtime")?;
        runtime.block_on(controller::run(loaded, self.replace))
    }
}

/// At the level of `RUST_LOG`, else info.
fn log_to_stderr() {
    let filter = EnvFilter::builder().with_default_directive(LevelFilter::INFO.into()).from_env_lossy();
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false);
    log.with_writer(io::stderr).init();
}
