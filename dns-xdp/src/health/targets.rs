//! The targets of probes: the subject, the address and the probe of each target.
use std::collections::BTreeMap;
use std::net::IpAddr;

use super::{ProbeId, Subject};
use crate::cluster::{Cluster, Family, FamilyRule, HealthCheck, Node, Probe, ProbeKind, Require};

/// The address and the probe of a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// The address that is probed.
    pub address: IpAddr,
    /// The probe that is made.
    pub probe: Probe,
}

/// How a witness is probed: with the `tcp` probe of the first node that is probed. A witness that refuses the connection
/// counts like a witness that accepts it. If that node has no `tcp` probe, an echo probes the witness. An echo also
/// replaces a `tcp` probe that expects a reply, because a gateway does not answer a request for a web page.
pub fn of_witness(nodes: &[Node]) -> HealthCheck {
    let node = nodes.iter().find(|node| node.is_probed()).expect("a cluster has a node that is probed");
    let probes = &node.health.probes;
    let tcp = |probe: &&Probe| matches!(probe.kind, ProbeKind::Tcp { .. }) && probe.target.is_none();
    let echo = || Probe { kind: ProbeKind::Icmp, target: None, ..probes[0].clone() };
    let probe = probes.iter().find(tcp).cloned().unwrap_or_else(echo);
    HealthCheck { probes: vec![probe], require: Require::All, families: FamilyRule::Each }
}

/// All probes of a cluster. A subject with addresses of both families is probed at each of them. A probe of another
/// target, or a command, is made once and counts for both families.
pub fn targets(cluster: &Cluster, witnesses: &[IpAddr]) -> BTreeMap<ProbeId, Target> {
    let mut targets = BTreeMap::new();
    let mut add = |subject: Subject, addresses: &[IpAddr], probes: &[Probe]| {
        for (index, probe) in probes.iter().enumerate() {
            let asked: Vec<(Option<Family>, IpAddr)> = match (&probe.target, addresses) {
                (Some(elsewhere), _) => vec![(None, elsewhere.address)],
                (None, [_, _, ..]) if probe.is_made_at_each_address() => {
                    addresses.iter().map(|&address| (Some(Family::of(address)), address)).collect()
                }
                (None, _) => addresses.first().map(|&address| (None, address)).into_iter().collect(),
            };
            for (family, address) in asked {
                let id = ProbeId { subject: subject.clone(), index, family };
                targets.insert(id, Target { address, probe: probe.clone() });
            }
        }
    };
    let addresses = |node: &Node| -> Vec<IpAddr> { node.addresses().collect() };
    for node in &cluster.nodes {
        add(Subject::Node(node.name.clone()), &addresses(node), &node.health.probes);
    }
    for (service, HealthCheck { probes, .. }) in
        cluster.services.iter().filter_map(|service| Some((service, service.health.as_ref()?)))
    {
        let member = |node: &&Node| service.candidates().any(|name| *name == node.name);
        for node in cluster.nodes.iter().filter(member) {
            let (service, name) = (service.name.clone(), node.name.clone());
            add(Subject::Member { service, node: name }, &addresses(node), probes);
        }
    }
    for &witness in witnesses {
        add(Subject::Witness(witness), &[witness], &of_witness(&cluster.nodes).probes);
    }
    targets
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::super::tests::{SLOW, node, probe_of, targets_of};
    use super::*;
    use crate::cluster::{Dns, Elsewhere};

    #[test]
    fn a_witness_is_asked_what_it_can_answer() {
        let witness = |kinds: &[ProbeKind]| {
            let probes = kinds.iter().map(|kind| Probe { kind: kind.clone(), ..probe_of(1, SLOW) }).collect();
            let health = HealthCheck { probes, require: Require::Any, families: FamilyRule::Each };
            let check = of_witness(&[Node { health, ..node("node1", 1) }]);
            assert_eq!((check.probes.len(), check.probes[0].interval), (1, SLOW));
            check.probes[0].kind.clone()
        };
        let tcp = ProbeKind::Tcp { port: 1 };
        let dns = ProbeKind::Dns(Dns { port: 53, name: hickory_proto::rr::Name::root() });
        assert_eq!(witness(std::slice::from_ref(&tcp)), tcp);
        assert_eq!(witness(&[dns.clone(), tcp.clone()]), tcp);
        assert_eq!(witness(&[dns]), ProbeKind::Icmp);
    }

    #[test]
    fn a_witness_is_asked_as_no_other_target_is() {
        let mut elsewhere = node("node1", 1);
        let address = Ipv4Addr::new(192, 0, 2, 1).into();
        elsewhere.health.probes[0].target = Some(Elsewhere { written: "monitor".to_owned(), address });
        let check = of_witness(&[elsewhere]);
        assert_eq!((&check.probes[0].kind, &check.probes[0].target), (&ProbeKind::Icmp, &None));
    }

    #[test]
    fn a_probe_goes_to_its_target_if_it_has_one() {
        let mut elsewhere = node("node1", 1);
        let address = Ipv4Addr::new(192, 0, 2, 1).into();
        elsewhere.health.probes[0].target = Some(Elsewhere { written: "monitor".to_owned(), address });
        let addresses: Vec<IpAddr> =
            targets_of([elsewhere, node("node2", 1)]).values().map(|target| target.address).collect();
        assert_eq!(addresses, [address, Ipv4Addr::LOCALHOST.into()]);
    }

    #[test]
    fn a_node_of_both_families_is_probed_at_each_of_its_addresses() {
        let ipv6 = Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, 1);
        let mut both = Node { ipv6: Some(ipv6), ..node("node1", 1) };
        let tcp = both.health.probes[0].clone();
        let elsewhere = Elsewhere { written: "monitor".to_owned(), address: ipv6.into() };
        both.health.probes.push(Probe { target: Some(elsewhere), ..tcp });
        let targets = targets_of([both, Node { ipv4: None, ipv6: Some(ipv6), ..node("node2", 1) }]);
        let asked = targets.iter().map(|(id, target)| {
            (id.subject.to_string(), id.index, id.family.map(Family::text), target.address)
        });
        let [ipv4, ipv6] = [IpAddr::from(Ipv4Addr::LOCALHOST), ipv6.into()];
        let expected = [
            ("node1".to_owned(), 0, Some("ipv4"), ipv4),
            ("node1".to_owned(), 0, Some("ipv6"), ipv6),
            ("node1".to_owned(), 1, None, ipv6),
            ("node2".to_owned(), 0, None, ipv6),
        ];
        assert_eq!(asked.collect::<Vec<_>>(), expected);
    }
}
