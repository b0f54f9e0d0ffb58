//! `run`: runs the daemon in the foreground.
use std::path::PathBuf;

use anyhow::Context as _;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::filter::LevelFilter;

use super::ConfigFile;
use crate::{controller, log, privileges};

pub(super) const EXAMPLE: &str = "Example: dns-xdp run --config /etc/dns-xdp/dns-xdp.toml";

#[derive(Debug, clap::Args)]
pub(super) struct Run {
    #[command(flatten)]
    file: ConfigFile,
    /// Take over from a running daemon without losing a query
    #[arg(long)]
    replace: bool,
}

impl Run {
    pub(super) fn run(&self, socket: Option<PathBuf>) -> anyhow::Result<()> {
        let loaded = self.file.load_all(socket)?;
        privileges::close_to_programs()?;
        start_log()?;
        privileges::decide(&loaded.config);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .on_thread_start(privileges::drop_thread_privileges)
            .build();
        let runtime = runtime.context("cannot start the asynchronous runtime")?;
        let ended = runtime.block_on(controller::run(loaded, self.replace));
        // Does not wait for a look-up or a file that hangs.
        runtime.shutdown_background();
        ended
    }
}

/// Starts the log at the level of `RUST_LOG`, otherwise at info.
fn start_log() -> anyhow::Result<()> {
    let log = log::start().context("cannot start the log")?;
    let levels = || EnvFilter::builder().with_default_directive(LevelFilter::INFO.into());
    let (filter, trouble) = match levels().from_env() {
        Ok(filter) => (filter, None),
        Err(error) => (levels().parse_lossy(""), Some(error)),
    };
    let subscriber = tracing_subscriber::fmt().with_env_filter(filter).with_ansi(false).with_target(false);
    subscriber.log_internal_errors(false).with_writer(move || log).init();
    if let Some(error) = trouble {
        tracing::warn!("RUST_LOG is ignored: {error}");
    }
    Ok(())
}
