//! Removes a run after Ctrl-C or SIGTERM, as its regular end does.
use std::sync::Once;
use std::{process, thread};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::bed::run;

/// The exit code after Ctrl-C: 128 + SIGINT, as in a shell.
const EXIT_INTERRUPTED: i32 = 130;

/// Installs handlers that remove the runs of this process when a signal ends it. Further calls have no effect.
///
/// # Errors
/// The signals cannot be caught.
pub fn arm() -> Result<()> {
    static ARMED: Once = Once::new();
    let mut result = Ok(());
    ARMED.call_once(|| result = watch().context("cannot catch the signals"));
    result
}

fn watch() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    let (interrupt, terminate) = {
        let _context = runtime.enter();
        (signal(SignalKind::interrupt())?, signal(SignalKind::terminate())?)
    };
    thread::spawn(|| clean_up_on(runtime, interrupt, terminate));
    Ok(())
}

#[expect(clippy::needless_pass_by_value, reason = "the thread owns the runtime that delivers the signals")]
fn clean_up_on(runtime: Runtime, mut interrupt: Signal, mut terminate: Signal) {
    runtime.block_on(async {
        tokio::select! {
            _ = interrupt.recv() => {}
            _ = terminate.recv() => {}
        }
    });
    eprintln!("interrupted: cleaning up");
    if let Err(error) = run::remove_own() {
        eprintln!("{error:#}");
    }
    process::exit(EXIT_INTERRUPTED);
}
