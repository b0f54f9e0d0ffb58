//! The effects: everything is asked once, within a bounded time.
use std::net::{IpAddr, SocketAddr};
use std::path::Path;
use std::time::Duration;

use nix::ifaddrs::getifaddrs;
use serde_json::Value;
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::facts::{Daemon, Device, Facts, Setting};
use super::{device, features, host};
use crate::config::{Config, ConfigError};
use crate::control::{CallError, Client, Command};
use crate::controller::served_addresses;
use crate::{datapath, network};

/// For the daemon, and for a connection to ourselves.
const PATIENCE: Duration = Duration::from_secs(2);

/// Looks at everything that the configuration touches.
pub async fn gather(config: Result<&Config, &ConfigError>, socket: &Path) -> Facts {
    let daemon = daemon(socket).await;
    let setting = match config {
        Ok(config) => Ok(setting(config, &daemon).await),
        Err(error) => Err(error.to_string()),
    };
    Facts { host: host::host().await, setting, daemon }
}

async fn daemon(socket: &Path) -> Daemon {
    let client = Client::new(socket).with_patience(PATIENCE);
    let status = match client.call(&Command::Status).await {
        Ok(status) => status,
        Err(CallError::NoDaemon { .. }) => return Daemon::Absent,
        Err(error) => return Daemon::Garbled(error.to_string()),
    };
    let Some(pid) = status["pid"].as_u64().and_then(|pid| u32::try_from(pid).ok()) else {
        return Daemon::Garbled("its status has no pid: it is another version".to_owned());
    };
    let alarms = status["alarms"].as_array().into_iter().flatten().filter_map(Value::as_str);
    let frozen = status["frozen"].as_str().map(|reason| format!("the answers are frozen: {reason}"));
    Daemon::Running { pid, alarms: alarms.map(str::to_owned).chain(frozen).collect() }
}

async fn setting(config: &Config, daemon: &Daemon) -> Setting {
    let listen = &config.listen;
    let served = served_addresses(listen).map_err(|error| format!("{error:#}"));
    let first = served.as_ref().ok().and_then(|served| served.first());
    let reached = match (daemon, first) {
        (Daemon::Running { .. }, Some(first)) => Some(reach(SocketAddr::new(*first, listen.port)).await),
        _ => None,
    };
    let interface = |name: &String| {
        let found = datapath::inspect(name, &config.xdp.pin);
        (name.clone(), found.map(|link| inspect(name, link)))
    };
    Setting {
        path: config.path.clone(),
        warnings: config.warnings(),
        mode: config.xdp.mode,
        port: listen.port,
        interfaces: listen.interfaces.iter().map(interface).collect(),
        served,
        present: present(),
        nodes: config.cluster.nodes.iter().flat_map(|node| node.addresses()).collect(),
        holders: network::holders(listen.port),
        reached,
    }
}

fn inspect(name: &str, link: datapath::Inspection) -> Device {
    let settings = device::settings(name);
    Device {
        native: features::native(link.index),
        queues: settings.queues,
        ring: settings.ring,
        strips_tags: settings.strips_tags,
        trunk: device::is_trunk(name),
        link,
    }
}

async fn reach(address: SocketAddr) -> (SocketAddr, Result<(), String>) {
    let connected = match timeout(PATIENCE, TcpStream::connect(address)).await {
        Ok(connected) => connected.map(drop).map_err(|error| error.to_string()),
        Err(_) => Err(format!("no connection within {}", humantime::format_duration(PATIENCE))),
    };
    (address, connected)
}

fn present() -> Vec<(String, IpAddr)> {
    let all = getifaddrs().into_iter().flatten();
    let ip = |one: nix::ifaddrs::InterfaceAddress| {
        let address = one.address?;
        let ipv4 = address.as_sockaddr_in().map(|socket| IpAddr::V4(socket.ip()));
        let ip = ipv4.or_else(|| address.as_sockaddr_in6().map(|socket| IpAddr::V6(socket.ip())))?;
        Some((one.interface_name, ip))
    };
    all.filter_map(ip).collect()
}
