//! The scenes: interfaces as machines have them, each with a daemon on them.
//!
//! A scene is one line of [`SCENES`] and one function in a file below. It is played where its kernel is new enough, in
//! namespaces of its own that it makes with [`super::wire::Wire`].
mod bonds;
mod lifecycle;

use std::path::Path;

use anyhow::{Result, ensure};

use super::release::Release;
use super::report::{self, Kind};

/// A scene.
pub struct Scene {
    /// A sentence about what is to be seen.
    name: &'static str,
    /// What has to be loaded for it, besides what the drivers need.
    pub modules: &'static [&'static str],
    /// The first kernel that it applies to.
    since: Release,
    play: fn() -> Result<()>,
}

/// Every scene, in the order in which they are played.
pub const SCENES: [Scene; 4] = [
    Scene {
        name: "a daemon that is killed leaves the program answering, and the next one adopts it",
        modules: &[],
        since: Release::ANY,
        play: lifecycle::killed_and_adopted,
    },
    Scene {
        name: "generic mode answers in the kernel where it is asked for",
        modules: &[],
        since: Release::ANY,
        play: lifecycle::generic_on_request,
    },
    Scene {
        name: "a responder alone answers over a VLAN on a bond of veths",
        modules: &["bonding", "8021q"],
        since: Release::ANY,
        play: bonds::vlan_on_a_bond_of_veths,
    },
    Scene {
        name: "a responder alone answers over a VLAN on a bond of cards",
        modules: &["bonding", "8021q"],
        since: Release::ANY,
        play: bonds::vlan_on_a_bond_of_cards,
    },
];

/// Plays every scene that applies to the running kernel.
pub fn check(release: Release) {
    for scene in SCENES.iter().filter(|scene| release >= scene.since) {
        report::check(Kind::Scene, scene.name, |_| {
            for module in scene.modules {
                // A module that is built in has a directory only if it has parameters or a version.
                let there = Path::new("/sys/module").join(module).exists();
                ensure!(there, "the kernel does not have the module {module}, or refused it");
            }
            (scene.play)()
        });
    }
}
