//! The checked configuration that the daemon runs with. Every default is written once, in `config/spec.rs`.
//!
//! `spec`, `kind` and `store` read the sections with `table_reader` and `field`. `check` finds values that contradict
//! each other; `record` and `suffix` do both for their sections. `edit` and `sync_members` change a file's text, `diff` compares two texts, and `shared` splits a text
//! into documents. `name_servers` warns about the NS set. Nothing here watches the file or reads a store.
mod check;
mod diagnostic;
mod diff;
#[cfg(test)]
mod documented;
pub mod edit;
mod epoch;
#[cfg(test)]
mod example_file;
mod field;
mod kind;
#[cfg(test)]
mod limits;
mod name_servers;
mod record;
mod resolve;
#[cfg(test)]
mod roles;
pub mod shared;
mod spec;
mod store;
mod suffix;
pub mod sync_members;
mod table_reader;
#[cfg(test)]
mod tests;
mod unload_paths;
mod update;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use hickory_proto::rr::Name;

pub use crate::atomic_file::Replacement;
pub use crate::cluster::AllDown;
use crate::cluster::Cluster;
use crate::flood_limits::FloodLimits;
use crate::pin_directory;
use crate::records::Records;

use self::shared::{Documents, Revision};

pub use diagnostic::{ConfigError, Diagnostic};
pub use diff::differences;
pub use spec::DEFAULT_SOCKET;
#[cfg(test)]
pub(crate) use spec::PROBE;
pub use store::SharedStore;
pub use unload_paths::UnloadPaths;
pub use update::{Updates, shown};

/// A whole, valid configuration. Code that has a value of this type need not check it again.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Config {
    /// The file that it was read from. Commands such as `node add` edit this file.
    pub path: PathBuf,
    /// The delegated zone.
    pub zone: ZoneConfig,
    /// The interfaces, addresses and port that queries are answered on.
    pub listen: Listen,
    /// The XDP program.
    pub xdp: Xdp,
    /// `[rate-limit]`, `[cookies]` and `[fallback]`: the limits that apply in a flood.
    pub flood_limits: FloodLimits,
    /// `[failover]`: the rules of the decisions about the answers.
    pub failover: Failover,
    /// Nodes and services.
    pub cluster: Cluster,
    /// The static records. No failover changes them.
    pub records: Arc<Records>,
    /// The static records, and their copies under the suffixes. Without suffixes, they are [`Config::records`].
    pub repeated_records: Arc<Records>,
    /// `[[key]]` and `[update]`: the keys that may change records by DNS UPDATE.
    pub updates: Updates,
    /// The control socket, and the files that keep the daemon's state.
    pub control: Control,
    /// The address of the Prometheus listener; `None`: it is off.
    pub metrics: Option<SocketAddr>,
    /// `[events]`: the program that runs for each event.
    pub events: Events,
    /// The store that the servers share; `None`: each server has its file.
    pub store: Option<SharedStore>,
    /// The revision of the last change of the documents that it was read from. `None`: it was read without documents of
    /// a store.
    pub revision: Option<Revision>,
    /// Shared sections of the file that differ from the store's documents. The documents are in force.
    pub overridden: Vec<&'static str>,
}

impl Config {
    /// Reads and checks the file at `path`.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        Config::parse(&text(path)?, path)
    }

    /// Checks the text of the file at `path`, which need not exist. The path is for messages and for the files beside
    /// it. The error has every problem that was found.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        spec::parse(text, path)
    }

    /// Checks the text of a file together with the shared sections of the store. A problem in a shared section has the
    /// document's key and its line in that document.
    ///
    /// # Errors
    /// The file or a document is wrong.
    pub fn parse_with(text: &str, path: &Path, documents: &Documents) -> Result<Self, ConfigError> {
        store::parse_with(text, path, documents)
    }

    /// Returns the text of the file at `path`.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn text(path: &Path) -> Result<String, ConfigError> {
        text(path)
    }

    /// Returns the store that the file at `path` names. Reads none of its other sections.
    ///
    /// # Errors
    /// The file cannot be read, or its `[cluster]` is wrong.
    pub fn store_of(text: &str, path: &Path) -> Result<Option<SharedStore>, ConfigError> {
        store::of_file(text, path)
    }

    /// Checks on this machine that a daemon can use the directory of `[xdp] pin`. Without XDP nothing is pinned.
    ///
    /// # Errors
    /// The directory cannot be a pin directory.
    pub fn check_pin(&self) -> Result<(), ConfigError> {
        if self.xdp.mode == Mode::Off {
            return Ok(());
        }
        pin_directory::fit(&self.xdp.pin).map_err(|unfit| ConfigError::pin(&self.path, unfit))
    }

    /// Returns a number that is equal on servers with the same configuration, and never 0. With a store, it is the low
    /// 32 bits of the documents' revision. Without a store, it is a hash of zone, nodes, services, suffixes, records, health and failover.
    /// The hash does not depend on version or machine.
    pub fn epoch(&self) -> u32 {
        match self.revision {
            Some(revision) => (revision as u32).max(1),
            None => epoch::epoch(self),
        }
    }

    /// Returns this configuration with another revision, for new documents that leave the configuration unchanged.
    #[must_use]
    pub fn at_revision(&self, revision: Revision) -> Config {
        Config { revision: Some(revision), ..self.clone() }
    }

    /// Returns how many nodes and witnesses count for the quorum.
    pub fn voters(&self) -> usize {
        self.cluster.voters() + self.failover.witness.len()
    }

    /// Returns warnings about values that are valid, but probably not meant.
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = self.quorum_warnings();
        warnings.extend(special_use(&self.zone.apex));
        warnings.extend(self.name_server_warnings());
        warnings.extend(record::warnings(self));
        warnings.extend(suffix::warnings(self));
        warnings.extend(self.update_warnings());
        warnings.extend(self.cluster.family_warning());
        warnings.extend(self.cluster.family_rule_warning());
        warnings.extend(self.store.as_ref().and_then(SharedStore::warning));
        warnings.extend(self.overridden_warning());
        if self.failover.failback == Failback::Manual && !self.failover.hold_down.is_zero() {
            let text = "[failover] hold-down has no effect with failback = \"manual\": nodes come back with \
                        `dns-xdp node failback`";
            warnings.push(text.to_owned());
        }
        if is_open_to_others(&self.path) && !self.flood_limits.secrets.is_empty() {
            let path = self.path.display();
            warnings.push(format!("every user may read the secrets of [cookies]: chmod o= {path}"));
        }
        if is_open_to_others(&self.path) && self.updates.has_inline_secret {
            let path = self.path.display();
            warnings.push(format!("every user may read the secrets of [[key]]: chmod o= {path}"));
        }
        let of_the_store = self.store.as_ref().and_then(|store| store.user.as_ref());
        let mut passwords = self.cluster.password_files();
        passwords.extend(of_the_store.map(|(_, file)| file.as_path()));
        passwords.extend(self.secret_files());
        for path in passwords {
            let shown = path.display();
            if is_open_to_others(path) {
                warnings.push(format!("every user may read the password in {shown}: chmod o= {shown}"));
            } else if is_closed_to_the_owner_of(&self.path, path) {
                let file = self.path.display();
                warnings.push(format!(
                    "the owner of {file} may not read the password in {shown}; if the daemon runs as that \
                     user: chown --reference={file} {shown}"
                ));
            }
        }
        warnings
    }

    /// Returns the warnings that another configuration does not have.
    pub(crate) fn warnings_beyond(&self, other: &Config) -> Vec<String> {
        let known = other.warnings();
        let beyond = self.warnings().into_iter().filter(|warning| !known.contains(warning));
        let beyond = beyond.chain(name_servers::changed(other, self));
        beyond.chain(name_servers::changed_of_suffixes(other, self)).collect()
    }

    /// Returns a warning about the file's sections that are not in force.
    pub(crate) fn overridden_warning(&self) -> Option<String> {
        let sections: Vec<String> = self.overridden.iter().map(|section| format!("[{section}]")).collect();
        (!sections.is_empty()).then(|| {
            format!(
                "{} of {} differ from the store, which is in force: see `dns-xdp cluster diff`. To change the store, \
                 edit what `dns-xdp cluster export` prints and `dns-xdp cluster import` it, or remove them from the file",
                sections.join(", "),
                self.path.display()
            )
        })
    }

    fn quorum_warnings(&self) -> Vec<String> {
        let (nodes, voters) = (self.cluster.voters(), self.voters());
        let needed = self.failover.quorum.needed(voters);
        if voters < 2 {
            return Vec::new();
        }
        let mut warnings = Vec::new();
        if needed == voters {
            warnings.push(format!(
                "all {voters} nodes and witnesses have to be visible: if one falls silent, the answers freeze and keep its \
                 address; add a third node, or a `witness` to [failover], for example the gateway"
            ));
        } else if needed == 1 {
            warnings.push(
                "with quorum = 1 a server that is cut off from all others takes over all names; add a third node and leave \
                 `quorum` out"
                    .to_owned(),
            );
        } else if nodes == 2 && self.store.is_none() {
            warnings.push(
                "if only the link between the two nodes is cut, both see the witness and both take over; add a third node or \
                 a store ([cluster])"
                    .to_owned(),
            );
        }
        warnings
    }

    /// Returns the sections that differ in `other` and need a restart.
    pub fn needs_restart(&self, other: &Config) -> Vec<&'static str> {
        let differs = [
            ("listen", self.listen != other.listen),
            ("xdp", self.xdp != other.xdp),
            ("control", self.control.places() != other.control.places()),
            ("metrics", self.metrics != other.metrics),
            ("cluster", self.store != other.store),
        ];
        differs.into_iter().filter(|(_, differs)| *differs).map(|(section, _)| section).collect()
    }
}

/// Returns a warning about a zone that resolvers and clients do not look up in the DNS (RFC 6761, RFC 6762, RFC 7686).
fn special_use(apex: &Name) -> Option<String> {
    let last = apex.iter().next_back().map(String::from_utf8_lossy)?;
    let reason = match &*last {
        "local" => "many clients look such names up by multicast DNS (RFC 6762) and never ask a server",
        "localhost" | "invalid" | "onion" | "test" => {
            "many resolvers answer such names themselves (RFC 6761)"
        }
        _ => return None,
    };
    Some(format!(
        "the zone {} is below `.{last}`: {reason}; delegate a zone below a domain of your own",
        apex.to_ascii().trim_end_matches('.')
    ))
}

/// Whether users other than the owner and the group may read or change a file.
fn is_open_to_others(path: &Path) -> bool {
    std::fs::metadata(path).is_ok_and(|file| file.permissions().mode() & 0o007 != 0)
}

/// Whether the owner of the file `of` may not read `file`. Root may read every file. A missing file does not count.
fn is_closed_to_the_owner_of(of: &Path, file: &Path) -> bool {
    let (Ok(of), Ok(file)) = (std::fs::metadata(of), std::fs::metadata(file)) else { return false };
    let mode = file.permissions().mode();
    let may_read = match (of.uid() == file.uid(), of.gid() == file.gid()) {
        (true, _) => mode & 0o400 != 0,
        (false, true) => mode & 0o040 != 0,
        (false, false) => mode & 0o004 != 0,
    };
    of.uid() != 0 && !may_read
}

/// Returns why a file with a secret cannot be read, and what helps.
pub(crate) fn unreadable(error: &io::Error) -> String {
    if error.kind() != io::ErrorKind::PermissionDenied {
        return error.to_string();
    }
    let uid = nix::unistd::geteuid();
    let user = nix::unistd::User::from_uid(uid).ok().flatten();
    let user = user.map_or_else(|| format!("uid {uid}"), |user| user.name);
    format!("{error}; it has to belong to the user that the daemon runs as, here `{user}`, with mode 0600")
}

fn text(path: &Path) -> Result<String, ConfigError> {
    std::fs::read_to_string(path).map_err(|source| ConfigError::Unreadable { path: path.to_owned(), source })
}

/// Returns the known name that was probably meant by `name`.
pub fn nearest<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    /// The least similarity of two names. Two swapped letters in a name of 5 letters give 0.9.
    const ALIKE: f64 = 0.7;
    /// The longest name that is compared (RFC 1035, section 2.3.4). The time of a comparison grows with the product of
    /// both lengths.
    const LONGEST: usize = 255;
    let is_comparable = |known: &&str| name.len().max(known.len()) <= LONGEST;
    let known = known.into_iter().filter(is_comparable);
    let measured = known.map(|known| (strsim::normalized_damerau_levenshtein(name, known), known));
    let best = measured.max_by(|(a, _), (b, _)| a.total_cmp(b));
    best.filter(|(likeness, _)| *likeness >= ALIKE).map(|(_, known)| known)
}

/// `[zone]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ZoneConfig {
    /// The apex, fully qualified and in lower case.
    pub apex: Name,
    /// TTL of every address answer, in seconds.
    pub ttl_seconds: u32,
    /// The smallest TTL of an answer while its node is in doubt, in seconds.
    pub ttl_min_seconds: u32,
    /// TTL of the NS set, in seconds.
    pub ns_ttl_seconds: u32,
    /// TTL of negative answers, in seconds.
    pub negative_ttl_seconds: u32,
    /// The SOA's RNAME: the contact's mailbox as a domain name, fully qualified.
    pub contact: Name,
    /// The answer for a name server's name while its node is dead.
    pub ns_addresses: NsAddresses,
    /// The most addresses of a family in an answer about the apex or a service.
    pub answers_max: usize,
}

/// `[zone] ns-addresses`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NsAddresses {
    /// The address of a healthy node, like every other name.
    Live,
    /// Always the node's own address, which is the glue at the parent.
    Fixed,
}

/// `[listen]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listen {
    /// Names of the network interfaces to attach the program to; not empty, unique.
    pub interfaces: Vec<String>,
    /// Addresses served; empty: every global address of the interfaces.
    pub addresses: Vec<IpAddr>,
    /// UDP and TCP port.
    pub port: u16,
}

/// `[xdp]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Xdp {
    /// How the program is attached.
    pub mode: Mode,
    /// Directory on a BPF filesystem.
    pub pin: PathBuf,
    /// The lease: how long the program answers without its daemon. `None`: for ever.
    pub stale_after: Option<Duration>,
    /// The rest of the lease after an orderly stop.
    pub stop_grace: Duration,
    /// The most names that the kernel's table can hold.
    pub capacity: Capacity,
    /// Whether the program logs every query that it sees, through aya-log. For debugging, never in production.
    pub log: bool,
}

/// `[xdp] capacity`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Capacity {
    /// The table grows with the zone.
    Auto,
    /// For this many names.
    Names(u32),
}

impl Capacity {
    /// The most names that any table holds.
    pub const MAX: u32 = 65_536;

    /// Returns the most names that a zone may have.
    pub const fn most(self) -> u32 {
        match self {
            Capacity::Auto => Capacity::MAX,
            Capacity::Names(names) => names,
        }
    }
}

/// `[xdp] mode`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Native if possible, else generic, else off.
    Auto,
    /// In the driver; the daemon refuses to start otherwise.
    Native,
    /// In the kernel's network stack, after the skb is made.
    Generic,
    /// Userspace only.
    Off,
}

/// `[failover]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failover {
    /// How many nodes and witnesses have to be visible.
    pub quorum: Quorum,
    /// Addresses that count as visible nodes.
    pub witness: Vec<IpAddr>,
    /// The answer while every node is down.
    pub all_down: AllDown,
    /// With a store: how many servers have to find a node dead.
    pub observers: Observers,
    /// With a store: how many servers probe a node besides the node itself; at least one.
    pub probers: usize,
    /// Which nodes come back into the answers by themselves.
    pub failback: Failback,
    /// With [`Failback::Auto`]: how long a node that fell has to be healthy before it comes back.
    pub hold_down: Duration,
}

impl Failover {
    /// Whether a node that fell stays out of the answers after its recovery.
    pub fn holds(&self) -> bool {
        self.failback == Failback::Manual || !self.hold_down.is_zero()
    }
}

/// `[failover] failback`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failback {
    /// A node that fell comes back after it was healthy for [`Failover::hold_down`].
    Auto,
    /// A node that fell comes back when an operator commands it.
    Manual,
}

/// `[failover] quorum`
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Quorum {
    /// More than half of the nodes and witnesses.
    Majority,
    /// This many of them; at least one, at most all.
    Count(u32),
}

impl Quorum {
    /// Returns how many of `voters` (nodes and witnesses) have to be visible.
    pub fn needed(self, voters: usize) -> usize {
        match self {
            Quorum::Majority => voters / 2 + 1,
            Quorum::Count(count) => count as usize,
        }
    }
}

/// `[failover] observers`: how many servers have to find a node or a member of a service dead before it counts as dead.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Observers {
    /// More than half of the servers that have judged the node or member.
    Majority,
    /// This many servers. If fewer have judged the node, all of them.
    Count(usize),
}

impl Observers {
    /// Returns how many of `votes` servers have to agree, at least one.
    pub fn needed(self, votes: usize) -> usize {
        match self {
            Observers::Majority => votes / 2 + 1,
            Observers::Count(count) => count.min(votes).max(1),
        }
    }
}

/// `[events]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Events {
    /// The absolute path and the arguments of a program that runs for each event. Empty: none.
    pub on_event: Vec<String>,
    /// The daemon kills a program that runs longer.
    pub on_event_timeout: Duration,
}

/// `[control]`
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Control {
    /// The unix socket of the command line.
    pub socket: PathBuf,
    /// The file that keeps the admin intent over a restart.
    pub state: PathBuf,
    /// Whether the daemon reloads when the configuration file has changed.
    pub watch: bool,
}

impl Control {
    /// Returns the file that keeps the last answers, beside the admin intent.
    pub fn answers(&self) -> PathBuf {
        self.state.with_extension("answers.json")
    }

    /// Returns the file that keeps this server's instance identifier, beside the admin intent.
    pub fn instance(&self) -> PathBuf {
        self.state.with_extension("instance.json")
    }

    /// Returns the file that keeps this server's local intents, which the store does not have yet.
    pub fn local(&self) -> PathBuf {
        self.state.with_extension("local.json")
    }

    fn places(&self) -> (&Path, &Path) {
        (&self.socket, &self.state)
    }
}
