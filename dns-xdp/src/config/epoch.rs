//! The number on which servers with the same configuration agree, whatever their version or machine.
use std::fmt;

use super::{AllDown, Config, NsAddresses, Quorum};
use crate::cluster::ProbeKind;

/// FNV-1a, 64 bits: draft-eastlake-fnv, section 5.
const FNV_OFFSET: u64 = 0xcbf2_9ce4_8422_2325;
const FNV_PRIME: u64 = 0x0000_0100_0000_01b3;

/// Never 0, which stands for "no epoch".
pub(super) fn epoch(config: &Config) -> u32 {
    let mut hash = Fnv1a(FNV_OFFSET);
    canonical(config, &mut hash).expect("hashing cannot fail");
    // Folding the halves together keeps what either half knows.
    let folded = (hash.0 >> 32) as u32 ^ hash.0 as u32;
    folded.max(1)
}

struct Fnv1a(u64);

impl fmt::Write for Fnv1a {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for byte in text.bytes() {
            self.0 = (self.0 ^ u64::from(byte)).wrapping_mul(FNV_PRIME);
        }
        Ok(())
    }
}

/// The part of the configuration that the servers of a cluster share, as text. Its form is fixed: to change
/// it is to change every epoch, and servers of two versions would no longer agree.
fn canonical(config: &Config, out: &mut impl fmt::Write) -> fmt::Result {
    let zone = &config.zone;
    let ns_addresses = match zone.ns_addresses {
        NsAddresses::Live => "live",
        NsAddresses::Fixed => "fixed",
    };
    let (ttl, ns_ttl, negative_ttl) = (zone.ttl_seconds, zone.ns_ttl_seconds, zone.negative_ttl_seconds);
    writeln!(out, "zone {} {ttl} {ns_ttl} {negative_ttl} {} {ns_addresses}", zone.apex, zone.contact)?;
    for node in &config.cluster.nodes {
        write!(out, "node {} {}", node.name, node.ns)?;
        for address in node.addresses() {
            write!(out, " {address}")?;
        }
        writeln!(out, " backup {}", node.backup.join(" "))?;
        let probe = &node.probe;
        let kind = match probe.kind {
            ProbeKind::Tcp => "tcp",
        };
        let periods = [probe.interval, probe.fast_interval, probe.timeout].map(|period| period.as_nanos());
        let [interval, fast_interval, timeout] = periods;
        let (port, fall, rise) = (probe.port, probe.fall, probe.rise);
        writeln!(out, "probe {kind} {port} {interval} {fast_interval} {timeout} {fall} {rise}")?;
    }
    for service in &config.cluster.services {
        writeln!(out, "service {} {}", service.name, service.nodes.join(" "))?;
    }
    let failover = &config.failover;
    let quorum = match failover.quorum {
        Quorum::Majority => "majority".to_owned(),
        Quorum::Count(count) => count.to_string(),
    };
    let all_down = match failover.all_down {
        AllDown::Configured => "configured",
        AllDown::LastGood => "last-good",
        AllDown::Refused => "refused",
    };
    write!(out, "failover {quorum} {all_down}")?;
    for witness in &failover.witness {
        write!(out, " {witness}")?;
    }
    writeln!(out)
}
