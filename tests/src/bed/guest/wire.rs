//! Two namespaces, a server's and a client's, with interfaces of the same names that are joined pair by pair.
use std::fs;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::links::FdLink;
use aya::programs::{Xdp, XdpMode};

use crate::bed::cluster::CLIENT;
use crate::bed::netns::Namespace;
use crate::bed::plan;
use crate::bed::process;
use crate::bed::programs::TESTBED;
use crate::bed::run::Run;
use crate::bed::wait;

/// The kernel's list of the interfaces of this process's namespace.
const INTERFACES: &str = "/sys/class/net";
/// The longest time until a card returns from a removed namespace.
const RETURN_LIMIT: Duration = Duration::from_secs(20);

/// The two namespaces; everything in them ends when the value is dropped.
pub struct Wire {
    /// The namespace of the daemon, with the addresses of a plan's first node.
    pub server: Namespace,
    /// The namespace that queries come from, with the addresses of a cluster's client.
    pub client: Namespace,
    /// Names the namespaces, and keeps files and pins.
    pub run: Run,
    /// Programs on the client's ends, without which a veth device drops the frames that its peer sent by XDP_TX.
    stubs: Vec<Stubs>,
}

/// Programs that stay attached while this lives.
pub struct Stubs {
    _object: Ebpf,
    _links: Vec<FdLink>,
}

impl Wire {
    /// Makes one pair of veth devices for each name, with addresses on the first. The client's ends have an `XDP_PASS`
    /// stub.
    ///
    /// # Errors
    /// The kernel lacks veth, or the caller is not root.
    pub fn veth(names: &[&str]) -> Result<Self> {
        let mut wire = Wire::bare_veth(names)?;
        wire.assign(names[0])?;
        Ok(wire)
    }

    /// Like [`Wire::veth`], without addresses.
    ///
    /// # Errors
    /// The same as for [`Wire::veth`].
    pub fn bare_veth(names: &[&str]) -> Result<Self> {
        let mut wire = Wire::empty()?;
        for name in names {
            let client = wire.client.name();
            wire.server.ip(&format!("link add {name} type veth peer name {name} netns {client}\n"))?;
        }
        wire.up(names)?;
        wire.put_stubs(names)?;
        Ok(wire)
    }

    /// Takes the cards of one driver under these names, in the pairs that hubs join, with addresses on the first.
    ///
    /// # Errors
    /// The machine has too few cards of that driver.
    pub fn cards(driver: &str, names: &[&str]) -> Result<Self> {
        let mut wire = Wire::bare_cards(driver, names)?;
        wire.assign(names[0])?;
        Ok(wire)
    }

    /// Like [`Wire::cards`], without addresses.
    ///
    /// # Errors
    /// The same as for [`Wire::cards`].
    pub fn bare_cards(driver: &str, names: &[&str]) -> Result<Self> {
        let wire = Wire::empty()?;
        let (pairs, _) =
            wait::until(&format!("{} pairs of {driver} are there", names.len()), RETURN_LIMIT, || {
                let pairs = card_pairs(driver)?;
                anyhow::ensure!(pairs.len() >= names.len(), "there are {}", pairs.len());
                Ok(pairs)
            })?;
        for (name, ends) in names.iter().zip(pairs) {
            for (namespace, card) in [&wire.server, &wire.client].into_iter().zip(ends) {
                let lines =
                    format!("link set {card} down\nlink set {card} netns {} name {name}\n", namespace.name());
                process::succeed(std::process::Command::new("ip").args(["-batch", "-"]), &lines)?;
            }
        }
        wire.up(names)?;
        Ok(wire)
    }

    fn empty() -> Result<Self> {
        let run = Run::unique()?;
        let server = Namespace::create(run.namespace("server").name())?;
        let client = Namespace::create(run.namespace("client").name())?;
        Ok(Wire { server, client, run, stubs: Vec::new() })
    }

    fn up(&self, names: &[&str]) -> Result<()> {
        let lines: String = names.iter().map(|name| format!("link set {name} up\n")).collect();
        self.server.ip(&lines)?;
        self.client.ip(&lines)
    }

    /// Gives an interface of both namespaces the addresses of server and client, and removes them from the interfaces
    /// that had them.
    ///
    /// # Errors
    /// There is no such interface.
    pub fn assign(&mut self, interface: &str) -> Result<()> {
        assign(&self.server, interface, &plan::addresses(1))?;
        assign(&self.client, interface, &CLIENT)
    }

    /// Makes a bond of these interfaces at both ends, up and without addresses; `mode` as `ip` takes it.
    ///
    /// # Errors
    /// The kernel does not bond the interfaces.
    pub fn bond(&self, bond: &str, mode: &str, interfaces: &[&str]) -> Result<()> {
        let mut lines = format!("link add {bond} type bond mode {mode} miimon 100\n");
        for interface in interfaces {
            lines += &format!("link set {interface} down\nlink set {interface} master {bond}\n");
        }
        lines += &format!("link set {bond} up\n");
        if let (true, Some(primary)) = (mode == "active-backup", interfaces.first()) {
            // Each end chooses its active slave by itself, and both have to choose the same pair.
            lines += &format!("link set {bond} type bond primary {primary}\n");
        }
        self.server.ip(&lines)?;
        self.client.ip(&lines)
    }

    /// Makes the interface of a VLAN at both ends, up and without addresses.
    ///
    /// # Errors
    /// The kernel does not make the interface.
    pub fn vlan(&self, name: &str, parent: &str, id: u16) -> Result<()> {
        let lines = format!("link add {name} link {parent} type vlan id {id}\nlink set {name} up\n");
        self.server.ip(&lines)?;
        self.client.ip(&lines)
    }

    /// Runs lines of `ip` in both namespaces.
    ///
    /// # Errors
    /// A line fails.
    pub fn both(&self, lines: &str) -> Result<()> {
        self.server.ip(lines)?;
        self.client.ip(lines)
    }

    /// Joins one more pair of veth devices, with a stub and without addresses.
    ///
    /// # Errors
    /// The same as for [`Wire::veth`].
    pub fn add_veth(&mut self, name: &str) -> Result<()> {
        let client = self.client.name();
        self.server.ip(&format!("link add {name} type veth peer name {name} netns {client}\n"))?;
        self.up(&[name])?;
        self.put_stubs(&[name])
    }

    /// Puts the stub on each of these interfaces of the client.
    ///
    /// # Errors
    /// The kernel does not accept the stub.
    pub fn put_stubs(&mut self, names: &[&str]) -> Result<()> {
        let stubs = attached(&self.client, "pass", names)?;
        self.stubs.push(stubs);
        Ok(())
    }

    /// The same with a stub that allows a large MTU.
    ///
    /// # Errors
    /// The same as for [`Wire::put_stubs`].
    pub fn put_stubs_for_fragments(&mut self, names: &[&str]) -> Result<()> {
        let stubs = attached(&self.client, "pass_frags", names)?;
        self.stubs.push(stubs);
        Ok(())
    }

    /// Takes every stub off.
    pub fn remove_stubs(&mut self) {
        self.stubs.clear();
    }

    /// Attaches one foreign program to interfaces of the server, until the value is dropped.
    ///
    /// # Errors
    /// The interface already has a program.
    pub fn occupy(&self, names: &[&str]) -> Result<Stubs> {
        attached(&self.server, "pass", names)
    }
}

/// Attaches a program of the test bed natively.
fn attached(namespace: &Namespace, name: &str, interfaces: &[&str]) -> Result<Stubs> {
    let mut object = Ebpf::load(TESTBED).context("cannot load the test bed's object")?;
    let program = object.program_mut(name);
    let program = program.with_context(|| format!("the test bed's object has no program `{name}`"))?;
    let program: &mut Xdp = program.try_into()?;
    program.load().with_context(|| format!("cannot load `{name}`"))?;
    let links = namespace.enter(|| {
        let attach = |interface: &&str| -> Result<FdLink> {
            let id = program.attach(interface, XdpMode::Driver);
            let id = id.with_context(|| format!("cannot attach `{name}` to {interface}"))?;
            Ok(program.take_link(id)?.try_into()?)
        };
        interfaces.iter().map(attach).collect::<Result<Vec<_>>>()
    })?;
    Ok(Stubs { _object: object, _links: links })
}

fn assign(namespace: &Namespace, interface: &str, addresses: &[IpAddr]) -> Result<()> {
    let mut lines = String::new();
    for address in addresses {
        lines += &match address {
            IpAddr::V4(ipv4) => format!("addr add {ipv4}/24 dev {interface}\n"),
            IpAddr::V6(ipv6) => format!("addr add {ipv6}/64 dev {interface} nodad\n"),
        };
    }
    namespace.ip(&lines)
}

/// The cards of a driver in this process's namespace, grouped by hub. The last two octets of a card's address are its
/// hub and its end.
fn card_pairs(driver: &str) -> Result<Vec<[String; 2]>> {
    let mut cards = Vec::new();
    for entry in fs::read_dir(INTERFACES).with_context(|| format!("cannot list {INTERFACES}"))? {
        let path = entry?.path();
        if driver_of(&path).is_some_and(|of| of == driver)
            && let Ok(address) = fs::read_to_string(path.join("address"))
        {
            let name = path.file_name().unwrap_or_default().to_string_lossy().into_owned();
            cards.push((address, name));
        }
    }
    cards.sort();
    let hub = |address: &str| address.get(12..14).map(str::to_owned);
    let pairs = cards.chunk_by(|(one, _), (other, _)| hub(one) == hub(other));
    Ok(pairs.filter_map(|pair| Some([pair.first()?.1.clone(), pair.get(1)?.1.clone()])).collect())
}

/// The driver of an interface. It also works for `virtio_net`, whose devices have their own bus.
fn driver_of(interface: &Path) -> Option<String> {
    let driver: PathBuf = fs::read_link(interface.join("device/driver")).ok()?;
    Some(driver.file_name()?.to_string_lossy().into_owned())
}
