//! The switch of a run and the cables to it.
use std::fs;
use std::net::IpAddr;
use std::path::PathBuf;

use anyhow::{Context, Result};
use aya::Ebpf;
use aya::programs::links::{FdLink, PinnedLink};
use aya::programs::xdp::XdpLink;
use aya::programs::{Xdp, XdpMode};

use crate::bed::netns::Namespace;
use crate::bed::programs::TESTBED;
use crate::bed::run::Run;

/// The interface of every station.
pub const INTERFACE: &str = "eth0";

const BRIDGE: &str = "br0";

/// The programs of the switch's ports.
const PASS: &str = "pass";
const HALVE: &str = "halve";

/// A bridge in its own namespace.
#[derive(Debug)]
pub struct Network {
    switch: Namespace,
    programs: Ebpf,
}

impl Network {
    /// Makes a switch without stations for `run`.
    ///
    /// # Errors
    /// The namespace cannot be made, or the kernel does not accept the `XDP_PASS` stub.
    pub fn create(run: &Run) -> Result<Self> {
        let mut programs = Ebpf::load(TESTBED).context("cannot load the test bed's object")?;
        for name in [PASS, HALVE] {
            program(&mut programs, name)?
                .load()
                .with_context(|| format!("cannot load `{name}`: is this root, on a kernel with BPF?"))?;
        }
        let switch = Namespace::create(run.namespace("switch").name())?;
        // Neighbour discovery is multicast. A bridge with snooping drops it until a listener has reported.
        switch.ip(&format!(
            "link add {BRIDGE} type bridge stp_state 0 forward_delay 0 mcast_snooping 0\nlink set {BRIDGE} up\n"
        ))?;
        Ok(Network { switch, programs })
    }

    /// Makes a station's namespace and connects it; its `eth0` has `addresses`, usable at once.
    ///
    /// # Errors
    /// There is a station of that name, or the devices cannot be made.
    pub fn plug(&mut self, run: &Run, station: &str, addresses: &[IpAddr]) -> Result<(Namespace, Cable)> {
        let namespace = Namespace::create(run.namespace(station).name())?;
        self.connect(run, station, &namespace, addresses)?;
        Ok((namespace, Cable { switch: self.switch.clone(), station: station.into() }))
    }

    /// Removes a station's `eth0`, and with it the cable.
    ///
    /// # Errors
    /// There is no such station.
    pub fn unplug(&mut self, run: &Run, station: &str) -> Result<()> {
        run.namespace(station).ip(&format!("link del {INTERFACE}\n"))?;
        let pin = port_pin(run, station);
        fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))
    }

    /// Gives a station an `eth0` with these addresses, usable at once, and connects it.
    ///
    /// # Errors
    /// The station already has an `eth0`, or the devices cannot be made.
    pub fn connect(
        &mut self,
        run: &Run,
        station: &str,
        namespace: &Namespace,
        addresses: &[IpAddr],
    ) -> Result<()> {
        self.switch.ip(&format!(
            "link add {station} type veth peer name {INTERFACE} netns {}\n\
             link set {station} master {BRIDGE} up\n",
            namespace.name()
        ))?;
        let mut lines = String::new();
        for address in addresses {
            lines += &match address {
                IpAddr::V4(ipv4) => format!("addr add {ipv4}/24 dev {INTERFACE}\n"),
                IpAddr::V6(ipv6) => format!("addr add {ipv6}/64 dev {INTERFACE} nodad\n"),
            };
        }
        namespace.ip(&format!("{lines}link set {INTERFACE} up\n"))?;
        self.let_replies_through(run, station)
    }

    /// Attaches a foreign program to a station's `eth0`, until the link is dropped.
    ///
    /// # Errors
    /// The interface already has a program.
    pub fn occupy(&mut self, station: &Namespace) -> Result<XdpLink> {
        let programs = &mut self.programs;
        station.enter(move || {
            let program = program(programs, PASS)?;
            let id = program.attach(INTERFACE, XdpMode::Driver)?;
            Ok(program.take_link(id)?)
        })
    }

    /// Makes every second IPv4 connection to a station fail, counted for each source station: the SYN-ACK is lost.
    ///
    /// # Errors
    /// There is no such station.
    pub fn halve(&mut self, run: &Run, station: &str) -> Result<()> {
        let pin = port_pin(run, station);
        let pinned = PinnedLink::from_pin(&pin).with_context(|| format!("cannot open {}", pin.display()))?;
        let program = program(&mut self.programs, HALVE)?;
        let id = program.attach_to_link(FdLink::from(pinned).try_into()?)?;
        // The pin keeps the link alive.
        drop(program.take_link(id)?);
        Ok(())
    }

    /// Detaches the program from a station's port. The port then drops the frames that the station sends with `XDP_TX`.
    ///
    /// # Errors
    /// There is no such station.
    pub fn drop_replies(&self, run: &Run, station: &str) -> Result<()> {
        let pin = port_pin(run, station);
        fs::remove_file(&pin).with_context(|| format!("cannot remove {}", pin.display()))
    }

    /// Attaches the program again. A veth device accepts frames that its peer sent with `XDP_TX` only if it has an XDP
    /// program itself.
    ///
    /// # Errors
    /// There is no such station, or its port has a program.
    pub fn let_replies_through(&mut self, run: &Run, station: &str) -> Result<()> {
        let pin = port_pin(run, station);
        let programs = &mut self.programs;
        self.switch.enter(move || {
            let program = program(programs, PASS)?;
            let id = program.attach(station, XdpMode::Driver)?;
            let link: FdLink = program.take_link(id)?.try_into()?;
            // A pinned link outlives this process, as the lab needs it.
            link.pin(&pin).with_context(|| format!("cannot pin {}", pin.display()))?;
            Ok(())
        })
    }
}

/// The pin of the link that attaches the program to a station's port.
fn port_pin(run: &Run, station: &str) -> PathBuf {
    run.pins().join(format!("switch-{station}"))
}

fn program<'a>(object: &'a mut Ebpf, name: &str) -> Result<&'a mut Xdp> {
    let program = object.program_mut(name);
    Ok(program.with_context(|| format!("the test bed's object has no program `{name}`"))?.try_into()?)
}

/// The cable from one station to the switch.
#[derive(Debug)]
pub struct Cable {
    switch: Namespace,
    station: String,
}

impl Cable {
    /// Pulls the cable: the station loses its carrier and keeps its addresses.
    ///
    /// # Errors
    /// The switch is gone.
    pub fn pull(&self) -> Result<()> {
        self.switch.ip(&format!("link set {} down\n", self.station))
    }

    /// Puts the cable back.
    ///
    /// # Errors
    /// The switch is gone.
    pub fn put_back(&self) -> Result<()> {
        self.switch.ip(&format!("link set {} up\n", self.station))
    }
}
