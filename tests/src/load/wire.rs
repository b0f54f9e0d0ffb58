//! The wire: veth pairs between the generator's namespace and the server's, with each end's work on its own core.
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::process::{self, Command};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use nix::unistd::Pid;
use serde_json::Value;

use super::cores::{self, Workers};
use crate::bed::netns::Namespace;
use crate::bed::process::succeed;
use crate::bed::run::Run;
use crate::bed::wait;
use crate::oracle::frames::Mac;

/// The server's addresses.
pub const SERVER: [IpAddr; 2] =
    [IpAddr::V4(Ipv4Addr::new(192, 0, 2, 11)), IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11))];
/// The addresses that the queries come from.
pub const CLIENT: [IpAddr; 2] = [
    IpAddr::V4(Ipv4Addr::new(192, 0, 2, 100)),
    IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x100)),
];

/// A veth pair.
#[derive(Debug, Clone)]
pub struct Wire {
    /// The generator's namespace.
    pub generator: Namespace,
    /// The server's namespace.
    pub server: Namespace,
    /// The generator's end.
    pub generator_end: End,
    /// The server's end, which has [`SERVER`]'s addresses.
    pub server_end: End,
}

/// The core that works for the generator's end: it counts the answers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Counting {
    /// The generator's core. The server's core then only serves, and the generator's core has less time to send.
    WithGenerator,
    /// The server's core: it completes its own transmissions, as with a real driver. The generator's core only sends,
    /// which is fast enough for any server.
    WithServer,
}

/// One end of a pair.
#[derive(Debug, Clone)]
pub struct End {
    /// The device, whose name no other device of the machine has.
    pub device: String,
    /// Its MAC address.
    pub mac: Mac,
}

impl Wire {
    /// Builds wire `number` between two namespaces of its own.
    ///
    /// # Errors
    /// The caller is not root, or the kernel has no veth.
    pub fn lay(run: &Run, number: u8) -> Result<Self> {
        let [generator, server] = ["generator", "server"]
            .map(|station| Namespace::create(run.namespace(&format!("{station}{number}")).name()));
        let (generator, server) = (generator?, server?);
        // The NAPI thread of a device can be found only by the device's name.
        let end = |side: char, last: u8| End {
            device: format!("{side}{}x{number}", process::id()),
            mac: [2, 0, 0, 0, number, last],
        };
        let wire = Wire { generator, server, generator_end: end('g', 1), server_end: end('s', 2) };
        wire.plug()?;
        Ok(wire)
    }

    fn plug(&self) -> Result<()> {
        let (near, far) = (&self.generator_end, &self.server_end);
        let [near_mac, far_mac] = [near.mac, far.mac].map(text);
        self.generator.ip(&format!(
            "link add {near} address {near_mac} type veth peer name {far} address {far_mac} netns {there}\n\
             link set {near} up\n",
            near = near.device,
            far = far.device,
            there = self.server.name(),
        ))?;
        let mut lines = format!("link set {} up\n", far.device);
        for (address, length) in SERVER.iter().zip([24, 64]) {
            let nodad = if address.is_ipv6() { "nodad" } else { "" };
            lines += &format!("addr add {address}/{length} dev {} {nodad}\n", far.device);
        }
        // No station has the clients' addresses, so the neighbour entries are made here.
        for client in CLIENT {
            lines += &format!("neigh add {client} lladdr {near_mac} nud permanent dev {}\n", far.device);
        }
        self.server.ip(&lines)
    }

    /// The index of the generator's end.
    ///
    /// # Errors
    /// The device is gone.
    pub fn generator_index(&self) -> Result<u32> {
        let device = self.generator_end.device.as_str();
        self.generator
            .enter(|| nix::net::if_::if_nametoindex(device).context("the generator's device is gone"))
    }

    /// Moves the work of both ends to their cores. Call it when each end has its XDP program: only then it has NAPI.
    /// Returns the threads that work on the server's core.
    ///
    /// # Errors
    /// An end has no NAPI thread.
    pub fn thread(&self, counting: Counting) -> Result<Workers> {
        let napi = thread(&self.server, &self.server_end.device, cores::SERVER)?;
        if counting == Counting::WithGenerator {
            let counter = thread(&self.generator, &self.generator_end.device, cores::GENERATOR)?;
            // The counter has priority over the generator, which never pauses: otherwise returning frames would be
            // lost.
            succeed(Command::new("chrt").args(["--fifo", "--pid", "1", &counter.to_string()]), "")?;
        }
        Workers::gather(&self.server, napi)
    }
}

/// Gives a device's NAPI a thread, keeps it on a core and returns it.
fn thread(namespace: &Namespace, device: &str, core: usize) -> Result<Pid> {
    let switch = format!("/sys/class/net/{device}/threaded");
    // `ip netns exec` shows the namespace's own /sys.
    succeed(Command::new("ip").args(["netns", "exec", namespace.name(), "tee", &switch]), "1")?;
    let prefix = format!("napi/{device}-");
    let what = format!("the NAPI thread of {device} is there");
    let (thread, _) = wait::until(&what, Duration::from_secs(2), || {
        named(&prefix)?.ok_or_else(|| anyhow!("no thread is called {prefix}…"))
    })?;
    cores::claim(core, thread)?;
    Ok(thread)
}

/// Whether a device has an XDP program.
///
/// # Errors
/// The device is gone.
pub fn has_xdp(namespace: &Namespace, device: &str) -> Result<bool> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace.name(), "-json", "link", "show", device]);
    let links: Value = serde_json::from_str(&succeed(&mut command, "")?)?;
    Ok(links[0].get("xdp").is_some())
}

fn named(prefix: &str) -> Result<Option<Pid>> {
    let mut found = Vec::new();
    for entry in fs::read_dir("/proc").context("cannot list /proc")?.flatten() {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if name.starts_with(prefix) {
            found.extend(entry.file_name().to_str().and_then(|pid| pid.parse().ok()).map(Pid::from_raw));
        }
    }
    ensure!(found.len() <= 1, "{} threads are called {prefix}…", found.len());
    Ok(found.pop())
}

fn text(mac: Mac) -> String {
    mac.map(|octet| format!("{octet:02x}")).join(":")
}
