//! The scenes: a daemon on interfaces as real machines have them.
//!
//! A scene is one line of [`SCENES`] and one function in a file below. It is played if the kernel is new enough, in its
//! own namespaces, which it makes with [`super::wire::Wire`].
mod addresses;
mod bonds;
mod devices;
mod lifecycle;
mod pauses;
mod pins;

use std::path::Path;

use anyhow::{Context as _, Result, ensure};

use super::release::Release;
use super::report::{self, Kind};
use super::share::Share;

/// A scene.
pub struct Scene {
    /// A sentence about the expected behaviour.
    name: &'static str,
    /// The modules that have to be loaded for it, besides the drivers' modules.
    pub modules: &'static [&'static str],
    /// The first kernel that it applies to.
    since: Release,
    play: fn() -> Result<()>,
}

/// Every scene, in playing order.
pub const SCENES: [Scene; 20] = [
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
        name: "a bond is served natively, by slaves that come later too",
        modules: &["bonding"],
        since: Release::ANY,
        play: bonds::bond_of_cards,
    },
    Scene {
        name: "a VLAN on a bond is served natively",
        modules: &["bonding", "8021q"],
        since: Release::ANY,
        play: bonds::vlan_on_a_bond_of_cards,
    },
    Scene {
        name: "a VLAN is served natively, and frames of another are not answered for it",
        modules: &["8021q"],
        since: Release::ANY,
        play: bonds::vlan_on_a_card,
    },
    Scene {
        name: "a card and its VLAN are served by one program",
        modules: &["8021q"],
        since: Release::ANY,
        play: bonds::card_and_its_vlan,
    },
    Scene {
        name: "jumbo frames on a card are native where the driver takes fragments, and else when the MTU falls",
        modules: &[],
        since: Release::ANY,
        play: devices::jumbo_frames_on_cards,
    },
    Scene {
        name: "jumbo frames on a veth are native where the driver takes fragments, and else when the MTU falls",
        modules: &[],
        since: Release::ANY,
        play: devices::jumbo_frames_on_a_veth,
    },
    Scene {
        name: "a veth without a program at the other end is generic until there is one",
        modules: &[],
        since: Release::ANY,
        play: devices::veth_without_a_program_at_the_other_end,
    },
    Scene {
        name: "an interface with a dot in its name is served and adopted",
        modules: &[],
        since: Release::ANY,
        play: devices::name_with_a_dot,
    },
    Scene {
        name: "removed pins are restored",
        modules: &[],
        since: Release::ANY,
        play: devices::pins_are_removed,
    },
    Scene {
        name: "pins are restored with the cookies that a reload has switched on, and counters continue",
        modules: &[],
        since: Release::ANY,
        play: pins::made_anew_with_cookies,
    },
    Scene {
        name: "cookies are switched on for every interface, even if a link was unpinned",
        modules: &[],
        since: Release::ANY,
        play: pins::cookies_without_a_pin,
    },
    Scene {
        name: "an interface that was renamed after a stop is taken by the next daemon",
        modules: &[],
        since: Release::ANY,
        play: pins::renamed_interface,
    },
    Scene {
        name: "an interface is taken when another program leaves it",
        modules: &[],
        since: Release::ANY,
        play: devices::foreign_program_leaves,
    },
    Scene {
        name: "an interface that is missing is taken when it appears, and the others are served meanwhile",
        modules: &[],
        since: Release::ANY,
        play: devices::missing_interface_appears,
    },
    Scene {
        name: "an address that comes is answered by the program, and one that goes is not",
        modules: &[],
        since: Release::ANY,
        play: addresses::come_and_go,
    },
    Scene {
        name: "sixty addresses of one interface are answered by the program",
        modules: &[],
        since: Release::ANY,
        play: addresses::many_on_one_interface,
    },
    Scene {
        name: "a listed address that appears on another interface is answered by the program",
        modules: &[],
        since: Release::ANY,
        play: addresses::listed_on_another_interface,
    },
    Scene {
        name: "a machine that was stopped notices this, keeps answering and judges no node by earlier results",
        modules: &["veth"],
        since: Release::ANY,
        play: pauses::stopped_and_continued,
    },
];

/// Plays the scene of this name, which must need no module.
pub fn play_without_modules(name: &str) -> Result<()> {
    let scene = SCENES.iter().find(|scene| scene.name == name && scene.modules.is_empty());
    (scene.with_context(|| format!("there is no scene of that name without modules: {name}"))?.play)()
}

/// Plays every scene of a share that applies to the running kernel.
pub fn check(release: Release, share: Share) {
    let shared = SCENES.iter().enumerate().filter(|(place, _)| share.has(*place));
    for scene in shared.map(|(_, scene)| scene).filter(|scene| release >= scene.since) {
        report::check(Kind::Scene, scene.name, |_| {
            for module in scene.modules {
                // A built-in module has a directory only if it has parameters or a version.
                let there = Path::new("/sys/module").join(module).exists();
                ensure!(there, "the kernel does not have the module {module}, or refused it");
            }
            (scene.play)()
        });
    }
}
