//! Ctrl-C and SIGTERM end a run as cleanly as its last line does.
use std::sync::Once;
use std::{process, thread};

use anyhow::{Context, Result};
use tokio::runtime::{Builder, Runtime};
use tokio::signal::unix::{Signal, SignalKind, signal};

use crate::bed::run;

/// 128 + SIGINT, as a shell reports a program that Ctrl-C ended.
const EXIT_INTERRUPTED: i32 = 130;

/// From now on a signal removes the runs of this process before it ends. Arming twice is arming once.
///
/// # Errors
/// When the signals cannot be caught.
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
