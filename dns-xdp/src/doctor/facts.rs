//! What was found out about the machine, without a judgement.
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::{Listen, Mode};
use crate::datapath::ProgramThere;
pub use crate::network::Holder;
use crate::network::ethtool::Settings;
use crate::network::{Network, Serving};

/// Everything that the findings are made from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Facts {
    /// The machine.
    pub host: Host,
    /// What the configuration asks of it; the error has every problem of the file.
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
    /// The kernel describes its types.
    pub btf: bool,
    /// A BPF filesystem is where it belongs.
    pub bpffs: bool,
    /// The capabilities that this process lacks, of those that XDP takes.
    pub lacking: Vec<&'static str>,
    /// Processors online.
    pub cpus: u32,
    /// A time daemon disciplines the kernel's clock. `None`: it does not tell.
    pub clock_synchronised: Option<bool>,
    /// The packet filters that have rules.
    pub filters: Vec<&'static str>,
    /// `bpftool` is installed.
    pub bpftool: bool,
    /// The unit of the package is installed.
    pub unit: bool,
}

/// The part of the configuration that the machine has to fit, and what of the machine it names.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The file.
    pub path: PathBuf,
    /// The control socket, when it is not the default one.
    pub socket: Option<PathBuf>,
    /// What is valid and probably not meant.
    pub warnings: Vec<String>,
    /// `[xdp] mode`
    pub mode: Mode,
    /// `[listen]`
    pub listen: Listen,
    /// The links and addresses of this machine.
    pub network: Network,
    /// What the daemon serves of them.
    pub serving: Serving,
    /// The devices that a program belongs on, and their slaves, by index.
    pub devices: BTreeMap<u32, Device>,
    /// Addresses of the nodes, each with its node's name.
    pub nodes: Vec<(String, IpAddr)>,
    /// Who holds the served port.
    pub holders: Vec<Holder>,
    /// The systemd units of these and of the holders of programs, by process.
    pub units: BTreeMap<u32, String>,
    /// Whether a TCP connection to a served address came about; `None`: no process takes it.
    pub reached: Option<(SocketAddr, Result<(), String>)>,
}

/// What is particular to a device that a program belongs on.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Device {
    /// The XDP program on it.
    pub program: Option<ProgramThere>,
    /// The driver's own word on XDP; `None`: this kernel does not ask it.
    pub features: Option<Features>,
    /// Queues, ring, offload.
    pub settings: Settings,
    /// Of a veth: the other end has an XDP program. `None`: it is none, or that cannot be known.
    pub peer_has_native_program: Option<bool>,
}

/// What of XDP a driver has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Features {
    /// Programs in the driver.
    pub native: bool,
    /// Programs for fragmented frames.
    pub fragments: bool,
}

/// What answered on the control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Daemon {
    /// Nothing.
    Absent,
    /// Somebody, and not as expected.
    Garbled(String),
    /// A daemon.
    Running(Running),
}

/// What a running daemon says of itself.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Running {
    /// Its process.
    pub pid: u32,
    /// What it raises itself.
    pub alarms: Vec<String>,
    /// Its interfaces.
    pub interfaces: Vec<InterfaceState>,
    /// Its addresses.
    pub addresses: Vec<AddressState>,
    /// Answers that drivers did not send, by interface.
    pub transmit_errors: BTreeMap<String, u64>,
    /// It may lock as much memory as it likes. `None`: that cannot be read.
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
    /// Why it is not served, in words.
    pub reason: Option<String>,
}

impl Daemon {
    /// The daemon, when one runs.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Daemon::Running(running) => Some(running),
            Daemon::Absent | Daemon::Garbled(_) => None,
        }
    }
}

impl Running {
    /// What it says of an interface of the configuration.
    pub fn interface(&self, name: &str) -> Option<&InterfaceState> {
        self.interfaces.iter().find(|interface| interface.name == name)
    }

    /// Its program is attached somewhere.
    pub fn is_attached(&self) -> bool {
        self.interfaces.iter().any(|interface| interface.mode != "off")
    }
}
