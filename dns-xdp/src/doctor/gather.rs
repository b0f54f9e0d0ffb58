//! Gathers the facts. Reads each once, within a bounded time.
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use tokio::net::TcpStream;
use tokio::time::timeout;

use super::facts::{Device, Facts, Setting};
use super::{daemon, features, host};
use crate::cluster::Node;
use crate::config::{Config, ConfigError, DEFAULT_SOCKET, Mode};
use crate::datapath;
use crate::network::{self, Network, peer_has_native_program};

/// The time limit for the daemon's answer, and for a connection to this machine.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// Reads all facts that the configuration touches.
pub async fn gather(config: Result<&Config, &ConfigError>, socket: &Path) -> Facts {
    let daemon = daemon::daemon(socket).await;
    let setting = match config {
        Ok(config) => match Network::read() {
            Ok(network) => Ok(setting(config, socket, network, daemon.running().is_some()).await),
            Err(error) => Err(format!("cannot read the interfaces and addresses from the kernel: {error}")),
        },
        Err(error) => Err(error.to_string()),
    };
    Facts { host: host::host().await, setting, daemon }
}

async fn setting(config: &Config, socket: &Path, network: Network, is_running: bool) -> Setting {
    let listen = &config.listen;
    let serving = network::serving(listen, &network);
    let first = serving.served().first().copied().filter(|_| is_running);
    let reached = match first {
        Some(first) => Some(reach(SocketAddr::new(first, listen.port)).await),
        None => None,
    };
    let devices = if config.xdp.mode == Mode::Off {
        BTreeMap::new()
    } else {
        devices(&serving, &network, &config.xdp.pin)
    };
    let holders = network::holders(listen.port);
    let of_programs = devices.values().filter_map(|device| device.program.as_ref());
    let of_programs = of_programs.flat_map(|program| program.holders.iter().copied());
    let of_port = holders.iter().filter_map(|holder| holder.process.as_ref().map(|(pid, _)| *pid));
    let units = units(of_port.chain(of_programs));
    let addresses = |node: &Node| -> Vec<(String, IpAddr)> {
        node.addresses().map(|address| (node.name.clone(), address)).collect()
    };
    Setting {
        path: config.path.clone(),
        socket: Some(socket.to_owned()).filter(|socket| socket != Path::new(DEFAULT_SOCKET)),
        warnings: config.warnings(),
        mode: config.xdp.mode,
        listen: listen.clone(),
        devices,
        network,
        serving,
        nodes: config.cluster.nodes.iter().flat_map(addresses).collect(),
        units,
        holders,
        reached,
    }
}

fn devices(serving: &network::Serving, network: &Network, pin: &Path) -> BTreeMap<u32, Device> {
    let ports = serving.interfaces.iter().filter_map(|interface| interface.port.as_ref().ok());
    let ports = ports.filter(|port| port.is_ethernet());
    let with_slaves = |port: &network::Port| {
        std::iter::once(port.device).chain(port.slaves.iter().map(|slave| slave.index)).collect()
    };
    let indices: BTreeSet<u32> = ports.flat_map(|port| -> Vec<u32> { with_slaves(port) }).collect();
    let device = |index: u32| {
        let link = network.link(index)?;
        let device = Device {
            program: datapath::program_on(link, pin),
            features: features::features(index),
            settings: network::ethtool::settings(&link.name),
            peer_has_native_program: link.is("veth").then(|| peer_has_native_program(link)).flatten(),
        };
        Some((index, device))
    };
    indices.into_iter().filter_map(device).collect()
}

/// Returns the systemd units of processes.
fn units(pids: impl Iterator<Item = u32>) -> BTreeMap<u32, String> {
    let unit = |pid: u32| Some((pid, unit(&fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?)?));
    pids.filter_map(unit).collect()
}

/// Returns the unit in a cgroup: `named.service` for `0::/system.slice/named.service`. Ignores units of users and
/// containers, which this machine's systemd cannot stop.
fn unit(cgroup: &str) -> Option<String> {
    let path = cgroup.lines().find_map(|line| line.split_once("/system.slice/").map(|(_, path)| path))?;
    let unit = path.split('/').next()?;
    unit.ends_with(".service").then(|| unit.to_owned())
}

async fn reach(address: SocketAddr) -> (SocketAddr, Result<(), String>) {
    let connected = match timeout(CONNECT_TIMEOUT, TcpStream::connect(address)).await {
        Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection within {}", humantime::format_duration(CONNECT_TIMEOUT))),
    };
    (address, connected)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_unit_of_a_process_is_the_systems() {
        assert_eq!(unit("0::/system.slice/named.service\n").as_deref(), Some("named.service"));
        assert_eq!(unit("1:name=systemd:/system.slice/a.service/inner\n").as_deref(), Some("a.service"));
        assert_eq!(unit("0::/user.slice/user-0.slice/session-1.scope\n"), None);
        assert_eq!(unit("0::/system.slice/docker-1234.scope\n"), None);
    }
}
