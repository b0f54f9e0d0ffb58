//! Findings about addresses: whether each is served, and why not.
use std::net::IpAddr;

use super::super::{Finding, Remedy};
use super::{View, interface};
use crate::network::{AddressState, Link, State};

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    let setting = view.setting;
    let mut findings: Vec<Finding> =
        setting.serving.addresses.iter().filter_map(|state| address(view, state)).collect();
    findings.extend(not_served(view));
    findings.extend(nothing(view));
    findings.extend(no_node(view));
    findings
}

/// Returns the finding about an address; `None`: no operator expects it to be served.
fn address(view: &View<'_>, state: &AddressState) -> Option<Finding> {
    let address = state.address;
    let what = format!("address {address}");
    let on = state.interface.as_deref().unwrap_or_default();
    let said = view.running.and_then(|running| running.addresses.iter().find(|said| said.address == address));
    let reason = || state.reason.clone().unwrap_or_default();
    Some(match state.state {
        State::NotGlobal | State::NotListed => return None,
        State::Served => match said {
            Some(said) if said.state != "served" => {
                let reason = said.reason.clone().unwrap_or_else(|| said.state.clone());
                Finding::warn(what, format!("on {on}, and the daemon does not serve it: {reason}"), None)
            }
            said => served(view, what, on, said.is_some()),
        },
        State::Absent => {
            let first = first_interface(view);
            let remedy = first.map(|link| Remedy::add_address(address, &link.name));
            Finding::warn(what, reason(), remedy)
        }
        State::Duplicate => Finding::warn(what, reason(), give_up(view, address, on)),
        State::Tentative | State::Deprecated | State::Temporary => {
            Finding::ok(what, format!("not served: {}", reason()))
        }
    })
}

/// Returns the finding about a served address. `on` names an interface that has it.
fn served(view: &View<'_>, what: String, on: &str, is_said: bool) -> Finding {
    let text = if is_said { format!("served, on {on}") } else { format!("to be served, on {on}") };
    let network = &view.setting.network;
    let link = network.named(on);
    let is_configured = |link: &Link| {
        let interfaces = &view.setting.serving.interfaces;
        interfaces.iter().any(|interface| interface.link == Some(link.index))
    };
    match link {
        // Queries for an address on an interface without frames arrive on other interfaces.
        Some(link) if !is_configured(link) && !link.is_loopback && !link.is("dummy") => {
            let text = format!(
                "{text}, which is not in [listen] interfaces: the responder answers queries that arrive there"
            );
            let all = view.setting.serving.interfaces.iter().map(|interface| &*interface.name);
            let names: Vec<&str> = all.chain([&*link.name]).collect();
            Finding::warn(what, text, Remedy::interfaces(&names, view.is_running()))
        }
        _ => Finding::ok(what, text),
    }
}

/// Returns the first configured interface that this machine has.
fn first_interface<'a>(view: &View<'a>) -> Option<&'a Link> {
    let setting = view.setting;
    setting.serving.interfaces.iter().find_map(|interface| setting.network.link(interface.link?))
}

/// Returns the command that removes an address. An address that the configuration names needs more than a command.
fn give_up(view: &View<'_>, address: IpAddr, on: &str) -> Option<Remedy> {
    let setting = view.setting;
    if setting.listen.addresses.contains(&address) {
        return None;
    }
    let link = setting.network.named(on)?;
    let there =
        setting.network.addresses.iter().find(|there| there.link == link.index && there.ip == address)?;
    Some(Remedy::remove_address(address, there.prefix_length, &link.name))
}

/// Returns one finding for the addresses that are not served as expected.
fn not_served(view: &View<'_>) -> Option<Finding> {
    let addresses = view.setting.serving.addresses.iter();
    let others = addresses.filter(|address| matches!(address.state, State::NotGlobal | State::NotListed));
    let others: Vec<String> = others
        .map(|address| {
            format!(
                "{} on {} ({})",
                address.address,
                address.interface.as_deref().unwrap_or("none"),
                address.state
            )
        })
        .collect();
    (!others.is_empty()).then(|| Finding::ok("addresses", format!("not served: {}", others.join(", "))))
}

fn nothing(view: &View<'_>) -> Option<Finding> {
    let setting = view.setting;
    if !setting.serving.served().is_empty() {
        return None;
    }
    // The other alarms have findings of their own.
    let alarms: Vec<&str> = setting.serving.alarms().iter().map(|alarm| &**alarm).collect();
    let ours: Vec<&str> = setting.serving.interfaces.iter().map(|interface| &*interface.name).collect();
    let others = interface::usable(view).into_iter().filter(|name| !ours.contains(name));
    let names: Vec<&str> = ours.iter().copied().chain(others).collect();
    let is_known = names.len() > ours.len();
    let remedy = is_known.then(|| Remedy::interfaces(&names, view.is_running()));
    let remedy = remedy.or_else(|| {
        let own = setting.nodes.iter().find(|(node, _)| *node == host_label(view))?.1;
        let is_to_be_found = setting.listen.addresses.is_empty();
        is_to_be_found.then(|| Some(Remedy::add_address(own, &first_interface(view)?.name)))?
    });
    Some(Finding::fail("addresses", alarms.join("\n"), remedy))
}

fn no_node(view: &View<'_>) -> Option<Finding> {
    let setting = view.setting;
    let served = setting.serving.served();
    let first = *served.first()?;
    if setting.nodes.iter().any(|(_, address)| served.contains(address)) {
        return None;
    }
    let text = "no node of the zone has an address that is served here; this is right only for a server that is no node";
    let remedy = Remedy::add_node(&host_label(view), first, setting.socket.as_deref());
    Some(Finding::warn("node", text, remedy))
}

/// Returns the machine's name as one label, like a node's name.
fn host_label(view: &View<'_>) -> String {
    view.host.name.split('.').next().unwrap_or_default().to_ascii_lowercase()
}
