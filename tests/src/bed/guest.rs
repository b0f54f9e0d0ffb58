//! The checks of `cargo xtask test kernels` inside a machine that boots another kernel.
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

/// The modules that the checks need, for the machine's initramfs.
pub fn modules() -> BTreeSet<&'static str> {
    let scenes = scenes::SCENES.iter().flat_map(|scene| scene.modules);
    let drivers = drivers::DRIVERS.iter().flat_map(|driver| driver.modules);
    scenes.chain(drivers).copied().collect()
}

/// Runs every check that applies to the running kernel and is in this machine's share.
///
/// # Errors
/// The kernel or the share is not known. A failed check is reported, and the next one runs.
pub fn run() -> Result<()> {
    let (release, share) = (Release::running()?, Share::given()?);
    programs::check(share);
    drivers::check(release);
    scenes::check(release, share);
    report::end();
    Ok(())
}
