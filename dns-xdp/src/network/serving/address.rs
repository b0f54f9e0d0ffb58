//! Decides whether an address of the configuration or of its interfaces is served, and why not.
use std::fmt;
use std::net::IpAddr;

use super::super::{Address, Link, Network};
use super::{Configured, Listener};
use crate::config::Listen;

/// An address, and whether it is served.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AddressState {
    /// The address.
    pub address: IpAddr,
    /// The name of an interface that has it.
    pub interface: Option<String>,
    /// Whether it is served.
    pub state: State,
    /// Why it is not served, and what to do; `None`: it is served.
    pub reason: Option<String>,
}

/// Whether an address is served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum State {
    /// The address is served.
    Served,
    /// `[listen] addresses` names it, and no interface of this machine has it.
    Absent,
    /// Duplicate address detection has not ended.
    Tentative,
    /// Duplicate address detection found another holder.
    Duplicate,
    /// The address's preferred lifetime is over.
    Deprecated,
    /// A privacy address.
    Temporary,
    /// A link-local address, or a loopback address on an interface other than `lo`.
    NotGlobal,
    /// `[listen] addresses` names other addresses.
    NotListed,
}

impl fmt::Display for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            State::Served => "served",
            State::Absent => "absent",
            State::Tentative => "tentative",
            State::Duplicate => "duplicate",
            State::Deprecated => "deprecated",
            State::Temporary => "temporary",
            State::NotGlobal => "not-global",
            State::NotListed => "not-listed",
        })
    }
}

impl AddressState {
    fn new(address: IpAddr, interface: Option<&Link>, state: State) -> Self {
        let interface = interface.map(|link| link.name.clone());
        let reason = reason(address, interface.as_deref().unwrap_or_default(), state);
        AddressState { address, interface, state, reason }
    }

    /// Whether an alarm has to report that it is not served.
    pub(super) fn is_alarm(&self, listen: &Listen) -> bool {
        match self.state {
            State::Absent | State::Duplicate => true,
            // It is served without an action after 1 or 2 s.
            State::Tentative => listen.addresses.contains(&self.address),
            State::Served | State::Deprecated | State::Temporary | State::NotGlobal | State::NotListed => {
                false
            }
        }
    }
}

/// An address, its state, and its links.
#[derive(Debug)]
pub(super) struct Found {
    pub(super) state: AddressState,
    /// The links that can send and receive with it; if none can, every link that has it.
    pub(super) holders: Vec<u32>,
    is_listed: bool,
}

impl Found {
    /// Whether the address is served and this link has it.
    pub(super) fn is_served_on(&self, link: &Link) -> bool {
        self.state.state == State::Served && self.holders.contains(&link.index)
    }

    /// Returns a listener for each VRF that has the address. A listed address that no link has is expected in the VRF
    /// of the configured interfaces, if they share one.
    pub(super) fn listeners(&self, network: &Network, configured: &Configured<'_>) -> Vec<Listener> {
        if self.state.state != State::Served && !self.is_listed {
            return Vec::new();
        }
        let listener =
            |vrf: Option<&str>| Listener { address: self.state.address, device: vrf.map(str::to_owned) };
        if self.holders.is_empty() {
            let mut vrfs = configured.links().map(|link| network.vrf(link));
            let first = vrfs.next().flatten();
            return vec![listener(first.filter(|_| vrfs.all(|vrf| vrf == first)))];
        }
        let holders = self.holders.iter().filter_map(|index| network.link(*index));
        holders.map(|link| listener(network.vrf(link))).collect()
    }
}

/// Returns the addresses of the configuration, then the other addresses of its interfaces, each once.
pub(super) fn addresses(listen: &Listen, network: &Network, configured: &Configured<'_>) -> Vec<Found> {
    let listed = listen.addresses.iter().copied();
    let of_interface = |link: &Link| {
        let index = link.index;
        network.addresses.iter().filter(move |address| address.link == index).map(|address| address.ip)
    };
    let others = configured.links().flat_map(of_interface);
    let mut all: Vec<IpAddr> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    all.extend(listed.chain(others).filter(|address| seen.insert(*address)));
    all.into_iter()
        .map(|address| {
            if listen.addresses.is_empty() {
                by_default(address, network, configured)
            } else if listen.addresses.contains(&address) {
                listed_address(address, network, configured)
            } else {
                not_listed(address, network, configured)
            }
        })
        .collect()
}

/// Finds a listed address. It is served on whichever link has it.
fn listed_address(address: IpAddr, network: &Network, configured: &Configured<'_>) -> Found {
    let state = |there: &Address| match there {
        there if there.is_usable() => State::Served,
        there if there.dad_failed => State::Duplicate,
        _ => State::Tentative,
    };
    let holders = holders(address, network).into_iter();
    let found: Vec<(&Link, State)> = holders.map(|(link, there)| (link, state(there))).collect();
    let ours = |link: &Link| configured.has(link.index);
    found_in(address, found, ours, State::Absent, true)
}

/// Finds an address without a list. The global addresses of the interfaces are served, and the addresses of `lo` if it
/// is configured.
fn by_default(address: IpAddr, network: &Network, configured: &Configured<'_>) -> Found {
    let state = |link: &Link, there: &Address| match there {
        there if !(is_global(there.ip) || link.is_loopback && there.ip.is_loopback()) => State::NotGlobal,
        there if there.dad_failed => State::Duplicate,
        there if !there.is_usable() => State::Tentative,
        there if there.deprecated => State::Deprecated,
        there if there.temporary => State::Temporary,
        _ => State::Served,
    };
    let holders = holders(address, network).into_iter().filter(|(link, _)| configured.has(link.index));
    let found = holders.map(|(link, there)| (link, state(link, there))).collect();
    found_in(address, found, |_| true, State::Absent, false)
}

fn not_listed(address: IpAddr, network: &Network, configured: &Configured<'_>) -> Found {
    let holders = holders(address, network).into_iter().filter(|(link, _)| configured.has(link.index));
    let found = holders.map(|(link, _)| (link, State::NotListed)).collect();
    found_in(address, found, |_| true, State::NotListed, false)
}

/// Returns every link that has the address.
fn holders(address: IpAddr, network: &Network) -> Vec<(&Link, &Address)> {
    let there = network.addresses.iter().filter(|there| there.ip == address);
    there.filter_map(|there| Some((network.link(there.link)?, there))).collect()
}

/// Returns the best state that a link gives the address. `ours`: whether to name a link first.
fn found_in(
    address: IpAddr,
    mut found: Vec<(&Link, State)>,
    ours: impl Fn(&Link) -> bool,
    nowhere: State,
    is_listed: bool,
) -> Found {
    found.sort_by_key(|(link, state)| (*state, !ours(link)));
    let best = found.first().map_or(nowhere, |(_, state)| *state);
    let interface = found.first().map(|(link, _)| *link);
    let holders = found.iter().filter(|(_, state)| *state == best).map(|(link, _)| link.index).collect();
    Found { state: AddressState::new(address, interface, best), holders, is_listed }
}

fn is_global(address: IpAddr) -> bool {
    !is_link_local(address) && !address.is_loopback() && !address.is_unspecified() && !address.is_multicast()
}

fn is_link_local(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(address) => address.is_link_local(),
        IpAddr::V6(address) => address.is_unicast_link_local(),
    }
}

/// Returns why a listed address can never be served.
pub(super) fn impossible(address: IpAddr) -> Option<String> {
    if address.is_unspecified() || address.is_multicast() {
        return Some(format!(
            "{address} is not one address: name the addresses that clients ask in [listen] addresses"
        ));
    }
    (address.is_ipv6() && is_link_local(address)).then(|| {
        format!("{address} is a link-local address, which is ambiguous without an interface: remove it from [listen] addresses")
    })
}

fn reason(address: IpAddr, interface: &str, state: State) -> Option<String> {
    let reason = match state {
        State::Served => return None,
        State::Absent => format!(
            "no interface has {address}: it is served when one gets it, or correct [listen] addresses"
        ),
        State::Tentative => format!(
            "{address} on {interface} is tentative: it is served when duplicate address detection has ended"
        ),
        State::Duplicate => format!(
            "another machine in the network of {interface} has {address} (duplicate address detection failed): \
             give one of the two another address"
        ),
        State::Deprecated => {
            format!("{address} on {interface} is deprecated: name it in [listen] addresses to serve it")
        }
        State::Temporary => {
            format!("{address} on {interface} is temporary: name it in [listen] addresses to serve it")
        }
        State::NotGlobal => format!("{address} on {interface} is not global: no other network reaches it"),
        State::NotListed => format!("{address} on {interface} is not in [listen] addresses"),
    };
    Some(reason)
}
