//! The program on no interface: run over packets of the caller's by BPF_PROG_TEST_RUN, for tests and benchmarks.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::Duration;

use aya::Ebpf;
use aya::programs::{ProgramFd, TestRun, TestRunOptions};
use dns_xdp_ebpf::frame::Frame;
use dns_xdp_ebpf::table::{self, Local};

use super::maps::{self, Maps, Renewal};
use super::{Error, layout, program};
use crate::zone::Zone;

/// The interface that packets of BPF_PROG_TEST_RUN come in by: the loopback of the caller's network namespace.
const LOOPBACK: u32 = 1;

/// The loaded program with maps of its own.
pub struct Unattached {
    object: Ebpf,
    maps: Maps,
}

/// What the kernel says about the loaded program.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Size {
    /// Instructions that the verifier walked through, over all paths.
    pub verified: u32,
    /// Octets of BPF instructions, eight each.
    pub translated: u32,
    /// Octets of machine code.
    pub compiled: u32,
}

impl Unattached {
    /// Loads the program for these served addresses behind this MAC address; its lease lives for ever.
    pub fn load(addresses: &[IpAddr], mac: [u8; 6], port: u16, capacity: u32) -> Result<Self, Error> {
        let half = layout::half(capacity);
        let locals: Vec<Local> =
            addresses.iter().map(|address| Local::new(LOOPBACK, *address, mac)).collect();
        let options = program::Options { pins: None, half, locals: &locals, port, log: false };
        let mut object = program::load(&options)?;
        let maps = Maps::take(&mut object, half)?;
        let mut loaded = Unattached { object, maps };
        loaded.renew(None)?;
        Ok(loaded)
    }

    /// As [`super::Datapath::publish`].
    pub fn publish(&mut self, zone: &Zone) -> Result<(), Error> {
        self.maps.publish(zone)
    }

    /// As [`super::Datapath::renew`].
    pub fn renew(&mut self, lease: Option<Duration>) -> Result<(), Error> {
        let renewal = lease.map_or(Renewal::ForEver, Renewal::For);
        maps::renew(program::program(&self.object, table::RENEW)?, renewal).map(|_| ())
    }

    /// Runs the program over a packet: the XDP action, and the packet as it is afterwards.
    pub fn run(&self, packet: &[u8]) -> Result<(u32, Vec<u8>), Error> {
        let mut after = vec![0; 2 * Frame::MAX_LENGTH];
        let options =
            TestRunOptions { data_in: Some(packet), data_out: Some(&mut after), ..TestRunOptions::new() };
        let result = program::program(&self.object, table::RESPONDER)?.test_run(options);
        let result =
            result.map_err(|error| Error::new("cannot run the program over a packet").because_of(error))?;
        after.truncate(result.data_size_out as usize);
        Ok((result.return_value, after))
    }

    /// As [`super::Datapath::counters`].
    pub fn counters(&self) -> Result<BTreeMap<&'static str, u64>, Error> {
        self.maps.counters()
    }

    /// The program, to be called by another.
    pub fn program(&self) -> Result<&ProgramFd, Error> {
        let program = program::program(&self.object, table::RESPONDER)?;
        program.fd().map_err(|error| Error::loading(error.into()))
    }

    /// How large the program is.
    pub fn size(&self) -> Result<Size, Error> {
        let info = program::program(&self.object, table::RESPONDER)?.info();
        let info = info.map_err(|error| Error::loading(error.into()))?;
        Ok(Size {
            verified: info.verified_instruction_count().unwrap_or_default(),
            translated: info.size_translated().unwrap_or_default(),
            compiled: info.size_jitted(),
        })
    }
}
