//! Computes the epoch, a number that is equal on servers with the same configuration, whatever their version or
//! machine.
use std::fmt;

use super::spec;
use super::{Config, Failback, NsAddresses, Quorum};
use crate::cluster::{
    Dns, Elsewhere, Expect, FamilyRule, HealthCheck, Http, Order, Pattern, Probe, ProbeKind, Redis, Require,
    Role, Suffix, TcpDialogue, Trust,
};
use crate::fnv::Fnv1a;
use crate::records::{RecordSet, octets_of_data};

/// Returns the epoch of a configuration. It is never 0, which stands for "no epoch".
pub(super) fn epoch(config: &Config) -> u32 {
    let mut hash = Fnv1a::new();
    canonical(config, &mut hash).expect("hashing cannot fail");
    // Folding uses the bits of both halves.
    let hash = hash.finish();
    let folded = (hash >> 32) as u32 ^ hash as u32;
    folded.max(1)
}

/// Writes the part of the configuration that the servers of a cluster share. The form of this text is fixed. Another
/// form would change every epoch, so servers of two versions would differ.
fn canonical(config: &Config, out: &mut impl fmt::Write) -> fmt::Result {
    let zone = &config.zone;
    let ns_addresses = match zone.ns_addresses {
        NsAddresses::Live => "live",
        NsAddresses::Fixed => "fixed",
    };
    let (ttl, ns_ttl, negative_ttl) = (zone.ttl_seconds, zone.ns_ttl_seconds, zone.negative_ttl_seconds);
    writeln!(out, "zone {} {ttl} {ns_ttl} {negative_ttl} {} {ns_addresses}", zone.apex, zone.contact)?;
    if zone.ttl_min_seconds != ttl.min(spec::TTL_MIN_SECONDS) {
        writeln!(out, "ttl-min {}", zone.ttl_min_seconds)?;
    }
    if zone.answers_max != spec::ANSWERS_MAX {
        writeln!(out, "answers-max {}", zone.answers_max)?;
    }
    for node in &config.cluster.nodes {
        write!(out, "node {} {}", node.name, node.ns.as_deref().unwrap_or("-"))?;
        for address in node.addresses() {
            write!(out, " {address}")?;
        }
        writeln!(out, " backup {}", node.backup.join(" "))?;
        health(&node.health, out)?;
        if node.weight != 1 {
            writeln!(out, "weight {}", node.weight)?;
        }
        if node.is_voter != node.is_probed() {
            writeln!(out, "quorum {}", node.is_voter)?;
        }
        if !node.is_in_apex {
            writeln!(out, "apex false")?;
        }
        for (set, addresses) in &node.sets {
            write!(out, "addresses {set}")?;
            for address in addresses.addresses() {
                write!(out, " {address}")?;
            }
            writeln!(out)?;
        }
    }
    for service in &config.cluster.services {
        writeln!(out, "service {} {}", service.name, service.nodes.join(" "))?;
        if service.min_healthy != 0 {
            writeln!(out, "min-healthy {}", service.min_healthy)?;
        }
        if service.order != Order::Rotate {
            writeln!(out, "order {}", service.order.text())?;
        }
        if !service.backup.is_empty() {
            writeln!(out, "backup {}", service.backup.join(" "))?;
        }
        if let Some(all_down) = service.all_down {
            writeln!(out, "all-down {}", all_down.text())?;
        }
        if let Some(answers_max) = service.answers_max {
            writeln!(out, "answers-max {answers_max}")?;
        }
        if let Some(own) = &service.health {
            health(own, out)?;
        }
    }
    for Suffix { name, set } in &config.cluster.suffixes {
        writeln!(out, "suffix {name} {}", set.as_deref().unwrap_or("-"))?;
    }
    for RecordSet { owner, rtype, ttl_seconds, data } in config.records.iter() {
        write!(out, "record {owner} {} {ttl_seconds}", u16::from(*rtype))?;
        for rdata in data {
            write!(out, " ")?;
            for octet in octets_of_data(rdata) {
                write!(out, "{octet:02x}")?;
            }
        }
        writeln!(out)?;
    }
    let failover = &config.failover;
    let quorum = match failover.quorum {
        Quorum::Majority => "majority".to_owned(),
        Quorum::Count(count) => count.to_string(),
    };
    write!(out, "failover {quorum} {}", failover.all_down.text())?;
    for witness in &failover.witness {
        write!(out, " {witness}")?;
    }
    writeln!(out)?;
    if failover.failback == Failback::Manual {
        writeln!(out, "failback manual")?;
    }
    if !failover.hold_down.is_zero() {
        writeln!(out, "hold-down {}", failover.hold_down.as_nanos())?;
    }
    Ok(())
}

/// Writes one line for each probe. Keys that were added later are written only if they are not the default.
fn health(HealthCheck { probes, require, families }: &HealthCheck, out: &mut impl fmt::Write) -> fmt::Result {
    for probe in probes {
        let Probe { kind, target, interval, fast_interval, timeout, fall, rise, rise_max, flap_decay } =
            probe;
        let port = port(kind);
        let periods = [interval, fast_interval, timeout].map(|period| period.as_nanos());
        let [interval, fast_interval, timeout] = periods;
        write!(out, "probe {} {port} {interval} {fast_interval} {timeout} {fall} {rise}", kind.text())?;
        if (*rise_max, *flap_decay) != (spec::PROBE.rise_max.max(*rise), spec::PROBE.flap_decay) {
            write!(out, " flap {rise_max} {}", flap_decay.as_nanos())?;
        }
        writeln!(out)?;
        asked(kind, out)?;
        if let Some(Elsewhere { written, .. }) = target {
            writeln!(out, "target {written}")?;
        }
    }
    if *families == FamilyRule::Any {
        writeln!(out, "families any")?;
    }
    match require {
        Require::All => Ok(()),
        Require::Any => writeln!(out, "require any"),
        Require::Count(count) => writeln!(out, "require {count}"),
    }
}

/// Returns the port of a probe; 0 if the kind has none.
fn port(kind: &ProbeKind) -> u16 {
    match kind {
        ProbeKind::Tcp { port }
        | ProbeKind::TcpDialogue(TcpDialogue { port, .. })
        | ProbeKind::Redis(Redis { port, .. })
        | ProbeKind::Http(Http { port, .. })
        | ProbeKind::Dns(Dns { port, .. }) => *port,
        ProbeKind::Icmp | ProbeKind::Exec(_) => 0,
    }
}

/// Writes the settings of a kind besides its port. The operator's texts have their length before them.
fn asked(kind: &ProbeKind, out: &mut impl fmt::Write) -> fmt::Result {
    match kind {
        ProbeKind::Tcp { .. } | ProbeKind::Icmp => Ok(()),
        ProbeKind::TcpDialogue(TcpDialogue { send, expect, .. }) => {
            let send = send.as_deref().unwrap_or_default();
            let (how, text) = match expect {
                Expect::Text(text) => ("expect", text.as_str()),
                Expect::Pattern(Pattern(pattern)) => ("expect-regex", pattern.as_str()),
            };
            writeln!(out, "tcp send {}:{send} {how} {}:{text}", send.len(), text.len())
        }
        // The password may differ from server to server, so it is left out.
        ProbeKind::Redis(Redis { tls, host, user, password, role, .. }) => {
            write!(out, "redis {}", host.as_deref().unwrap_or("-"))?;
            if let Some(user) = user {
                write!(out, " user {}:{user}", user.len())?;
            }
            if let Some(password) = password {
                write!(out, " password {}", password.path.display())?;
            }
            if *role == Role::Master {
                write!(out, " master")?;
            }
            trust(tls.as_ref(), out)
        }
        ProbeKind::Http(Http { tls, host, path, codes, body, .. }) => {
            write!(out, "http {} {path} codes", host.as_deref().unwrap_or("-"))?;
            for range in codes {
                write!(out, " {}-{}", range.start(), range.end())?;
            }
            if let Some(Pattern(pattern)) = body {
                write!(out, " body {}:{pattern}", pattern.as_str().len())?;
            }
            trust(tls.as_ref(), out)
        }
        ProbeKind::Dns(dns) => writeln!(out, "dns {}", dns.name),
        ProbeKind::Exec(exec) => {
            write!(out, "exec")?;
            for word in &exec.command {
                write!(out, " {}:{word}", word.len())?;
            }
            writeln!(out)
        }
    }
}

/// Ends a line with the accepted certificates.
fn trust(tls: Option<&Trust>, out: &mut impl fmt::Write) -> fmt::Result {
    match tls {
        None => writeln!(out),
        Some(Trust::System) => writeln!(out, " trust system"),
        Some(Trust::Anybody) => writeln!(out, " trust anybody"),
        // The file may differ from server to server, like the machine's authorities. Only the path counts.
        Some(Trust::Authorities(authorities)) => writeln!(out, " trust {}", authorities.path.display()),
    }
}
