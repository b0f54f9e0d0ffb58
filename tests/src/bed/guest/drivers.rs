//! Tests each network driver: a daemon behind it answers a client at the other end, in the kernel and in the expected
//! XDP mode.
use anyhow::{Result, ensure};

use super::release::Release;
use super::report::{self, Kind, Seen};
use super::server::Server;
use super::wire::Wire;
use crate::bed::plan::Plan;

/// A driver, and the XDP mode of its interfaces.
pub struct Driver {
    name: &'static str,
    /// The modules that have to be loaded for it.
    pub modules: &'static [&'static str],
    /// The first kernel where the driver runs programs natively in this setup; `None`: no known kernel.
    native_since: Option<Release>,
    wire: fn() -> Result<Wire>,
}

/// All tested drivers.
pub const DRIVERS: [Driver; 4] = [
    Driver {
        name: "veth",
        modules: &["veth"],
        native_since: Some(Release::ANY),
        wire: || Wire::veth(&["eth0"]),
    },
    Driver {
        name: "virtio_net",
        modules: &["virtio_pci", "virtio_net"],
        native_since: Some(Release::ANY),
        wire: || Wire::cards("virtio_net", &["eth0"]),
    },
    Driver {
        name: "vmxnet3",
        modules: &["vmxnet3"],
        native_since: Some(Release(6, 6)),
        wire: || Wire::cards("vmxnet3", &["eth0"]),
    },
    Driver {
        name: "e1000e",
        modules: &["e1000e"],
        native_since: None,
        wire: || Wire::cards("e1000e", &["eth0"]),
    },
];

/// The number of queries over each protocol.
const QUERIES: u64 = 20;

/// Tests every driver on the running kernel.
pub fn check(release: Release) {
    for driver in DRIVERS {
        report::check(Kind::Driver, driver.name, |seen| try_driver(&driver, release, seen));
    }
}

fn try_driver(driver: &Driver, release: Release, seen: &mut Seen) -> Result<()> {
    let wire = (driver.wire)()?;
    let mut server = Server::start(&wire, &Plan::quick(1))?;
    let (mode, reason) = server.mode("eth0")?;
    seen.value = mode;
    seen.detail = reason;
    let expected =
        if driver.native_since.is_some_and(|since| release >= since) { "native" } else { "generic" };
    server.expect_answers_in_kernel(QUERIES)?;
    ensure!(seen.value == expected, "the mode is {} instead of {expected}", seen.value);
    server.end()
}
