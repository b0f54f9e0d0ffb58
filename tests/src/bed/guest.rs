//! What `cargo xtask test kernels` runs inside a machine that boots another kernel: one check after the other.
//!
//! Each check ends in a line on the serial console, which is this program's stdout ([`report`]). A scene is added in
//! [`scenes`]; it plays in two namespaces that a [`wire`] joins.
pub mod budget;
pub mod drivers;
pub mod programs;
pub mod release;
pub mod report;
pub mod scenes;
pub mod server;
pub mod share;
pub mod wire;

use std::collections::BTreeSet;

use anyhow::Result;

use release::Release;
use share::Share;

pub use scenes::play_without_modules;

/// The modules that any check needs, for whoever packs the machine's initramfs.
pub fn modules() -> BTreeSet<&'static str> {
    let scenes = scenes::SCENES.iter().flat_map(|scene| scene.modules);
    let drivers = drivers::DRIVERS.iter().flat_map(|driver| driver.modules);
    scenes.chain(drivers).copied().collect()
}

/// Runs every check that applies to the running kernel and is in this machine's share.
///
/// # Errors
/// When it cannot be told which kernel or which share that is; a check that fails is reported, and the next one is run.
pub fn run() -> Result<()> {
    let (release, share) = (Release::running()?, Share::given()?);
    programs::check(share);
    drivers::check(release);
    scenes::check(release, share);
    report::end();
    Ok(())
}
