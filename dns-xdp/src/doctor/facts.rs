//! The facts about the machine, without a judgement.
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::{Listen, Mode};
use crate::datapath::ProgramThere;
pub use crate::network::Holder;
use crate::network::ethtool::Settings;
use crate::network::{Network, Serving};

/// All facts for the findings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The machine.
    pub host: Host,
    /// The needs of the configuration. The error has every problem of the file.
    pub setting: Result<Setting, String>,
    /// The daemon on the control socket.
    pub daemon: Daemon,
}

/// The machine.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    /// Its name.
    pub name: String,
    /// The kernel's release: `6.18.0-1-amd64`.
    pub kernel: String,
    /// Whether the kernel describes its types.
    pub btf: bool,
    /// Whether a BPF filesystem is mounted at its usual place.
    pub bpffs: bool,
    /// The capabilities that XDP needs and this process lacks.
    pub lacking: Vec<&'static str>,
    /// Processors online.
    pub cpus: u32,
    /// Whether a time daemon synchronises the kernel's clock. `None`: unknown.
    pub clock_synchronised: Option<bool>,
    /// The packet filters that have rules.
    pub filters: Vec<&'static str>,
    /// Whether `bpftool` is installed.
    pub bpftool: bool,
    /// Whether the unit of the package is installed.
    pub unit: bool,
}

/// The part of the configuration that the machine has to fit, and the parts of the machine that the configuration
/// names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The file.
    pub path: PathBuf,
    /// The control socket, if it is not the default one.
    pub socket: Option<PathBuf>,
    /// Warnings about values that are valid, but probably not meant.
    pub warnings: Vec<String>,
    /// `[xdp] mode`
    pub mode: Mode,
    /// `[listen]`
    pub listen: Listen,
    /// The links and addresses of this machine.
    pub network: Network,
    /// The links and addresses that the daemon serves.
    pub serving: Serving,
    /// The devices that should have a program, and their slaves, by index.
    pub devices: BTreeMap<u32, Device>,
    /// Addresses of the nodes, each with its node's name.
    pub nodes: Vec<(String, IpAddr)>,
    /// The processes that hold the served port.
    pub holders: Vec<Holder>,
    /// The systemd units of these processes and of the holders of programs, by process.
    pub units: BTreeMap<u32, String>,
    /// Whether a TCP connection to a served address succeeded; `None`: no process accepts connections.
    pub reached: Option<(SocketAddr, Result<(), String>)>,
}

/// The facts about a device that should have a program.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// The XDP program on it.
    pub program: Option<ProgramThere>,
    /// The driver's XDP features; `None`: this kernel does not report them.
    pub features: Option<Features>,
    /// Queues, ring, offload.
    pub settings: Settings,
    /// For a veth: whether the other end has an XDP program. `None`: unknown, or the device is not a veth.
    pub peer_has_native_program: Option<bool>,
}

/// The XDP features of a driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Whether it takes programs in the driver.
    pub native: bool,
    /// Whether it takes programs for fragmented frames.
    pub fragments: bool,
}

/// The answer on the control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Daemon {
    /// No daemon answers.
    Absent,
    /// An unexpected answer, or an error.
    Garbled(String),
    /// A daemon.
    Running(Running),
}

/// The facts from a running daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// Its alarms.
    pub alarms: Vec<String>,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceState>,
    /// Its addresses.
    pub addresses: Vec<AddressState>,
    /// Answers that drivers did not send, by interface.
    pub transmit_errors: BTreeMap<String, u64>,
    /// Whether it may lock unlimited memory. `None`: unknown.
    pub unlimited_memory: Option<bool>,
}

/// An interface in the running daemon's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct InterfaceState {
    /// Its name in the configuration.
    pub name: String,
    /// `native`, `generic` or `off`.
    pub mode: String,
    /// Why it is not in a better mode.
    pub reason: Option<String>,
}

/// An address in the running daemon's status.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressState {
    /// The address.
    pub address: IpAddr,
    /// `served`, or why not.
    pub state: String,
    /// Why it is not served, as text.
    pub reason: Option<String>,
}

impl Daemon {
    /// Returns the daemon, if one runs.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Daemon::Running(running) => Some(running),
            Daemon::Absent | Daemon::Garbled(_) => None,
        }
    }
}

impl Running {
    /// Returns its state of a configured interface.
    pub fn interface(&self, name: &str) -> Option<&InterfaceState> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// Whether its program is attached to any interface.
    pub fn is_attached(&self) -> bool {
        self.interfaces.iter().any(|interface| interface.mode != "off")
    }
}
