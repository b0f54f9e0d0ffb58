//! What was found out about the machine, without a judgement.
use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use crate::config::Mode;
use crate::datapath::Inspection;
pub use crate::network::Holder;

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
    /// The kernel's clock is disciplined by somebody. `None`: it does not tell.
    pub clock_synchronised: Option<bool>,
    /// The packet filters that have rules.
    pub filters: Vec<&'static str>,
}

/// The part of the configuration that the machine has to fit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// The file.
    pub path: PathBuf,
    /// What is valid and probably not meant.
    pub warnings: Vec<String>,
    /// `[xdp] mode`
    pub mode: Mode,
    /// `[listen] port`
    pub port: u16,
    /// `[listen] interfaces`, each with what the kernel says of it.
    pub interfaces: Vec<(String, Result<Device, String>)>,
    /// The served addresses; the error says why there are none.
    pub served: Result<Vec<IpAddr>, String>,
    /// Every address of this machine, with the interface that has it.
    pub present: Vec<(String, IpAddr)>,
    /// Addresses of the nodes.
    pub nodes: Vec<IpAddr>,
    /// Who holds the served port.
    pub holders: Vec<Holder>,
    /// Whether a TCP connection to a served address came about; `None`: nobody is there to take it.
    pub reached: Option<(SocketAddr, Result<(), String>)>,
}

/// A network device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Device {
    /// What netlink tells.
    pub link: Inspection,
    /// The driver's own word on native XDP; `None`: this kernel does not ask it.
    pub native: Option<bool>,
    /// Receive queues: now, and the most.
    pub queues: Option<(u32, u32)>,
    /// Slots in a receive ring.
    pub ring: Option<u32>,
    /// The card takes VLAN tags away.
    pub strips_tags: bool,
    /// VLANs are configured on it.
    pub trunk: bool,
}

/// What answered on the control socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Daemon {
    /// Nothing.
    Absent,
    /// Somebody, and not as expected.
    Garbled(String),
    /// A daemon.
    Running {
        /// Its process.
        pid: u32,
        /// What it raises itself.
        alarms: Vec<String>,
    },
}
