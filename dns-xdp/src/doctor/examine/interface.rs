//! Findings about the configured interfaces: whether each exists and is up, and how its queries are answered.
use super::super::facts::Device;
use super::super::{Finding, Kind, Remedy};
use super::View;
use crate::config::Mode;
use crate::datapath;
use crate::network::{Interface, Link, Port, Unserved};

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    view.setting.serving.interfaces.iter().flat_map(|interface| one(view, interface)).collect()
}

fn one(view: &View<'_>, interface: &Interface) -> Vec<Finding> {
    let name = &interface.name;
    let others = || -> Vec<&str> {
        let all = view.setting.serving.interfaces.iter();
        let there = all.filter(|other| other.name != *name && other.link.is_some());
        there.map(|other| &*other.name).collect()
    };
    let link = match (&interface.port, interface.link.and_then(|link| view.setting.network.link(link))) {
        (Err(Unserved::Missing(reason)), _) => return vec![missing(view, name, reason, &others())],
        (Err(Unserved::Repeated(reason)), _) => {
            let remedy = Remedy::interfaces(&others(), view.is_running());
            return vec![Finding::warn(name, reason.clone(), remedy)];
        }
        (_, Some(link)) => link,
        // The network does not change between the two calls.
        (_, None) => return Vec::new(),
    };
    vec![state(view, name, link), xdp(view, name, &interface.port)]
}

fn missing(view: &View<'_>, name: &str, reason: &str, others: &[&str]) -> Finding {
    if !others.is_empty() {
        return Finding::warn(name, reason, Remedy::interfaces(others, view.is_running()));
    }
    let usable = usable(view);
    let remedy = (!usable.is_empty()).then(|| Remedy::interfaces(&usable, view.is_running()));
    Finding::fail(name, reason, remedy)
}

/// Returns the interfaces that have a usable global address. If addresses are listed, the usable address has to be a
/// listed one.
pub(super) fn usable<'a>(view: &View<'a>) -> Vec<&'a str> {
    let network = &view.setting.network;
    let listen = &view.setting.listen;
    let has_address = |link: &&Link| {
        let own =
            network.addresses.iter().filter(|address| address.link == link.index && address.is_usable());
        let mut own = own.map(|address| address.ip);
        own.any(|ip| {
            let is_wanted = listen.addresses.is_empty() || listen.addresses.contains(&ip);
            is_wanted && !ip.is_loopback() && !is_link_local(ip)
        })
    };
    network.links.iter().filter(has_address).map(|link| &*link.name).collect()
}

fn is_link_local(ip: std::net::IpAddr) -> bool {
    match ip {
        std::net::IpAddr::V4(ip) => ip.is_link_local(),
        std::net::IpAddr::V6(ip) => ip.is_unicast_link_local(),
    }
}

/// Returns the finding about the state of the interface and the link below it: up or not.
fn state(view: &View<'_>, name: &str, link: &Link) -> Finding {
    let driver = link.driver.as_deref().unwrap_or("a driver unknown");
    let lower = link.lower.and_then(|lower| view.setting.network.link(lower)).filter(|lower| !lower.up);
    match (link.up, link.carrier, lower) {
        (false, _, Some(lower)) => {
            let text = format!("{driver}, down, and {} below it is down too", lower.name);
            let both = format!("ip link set dev {} up; ip link set dev {} up", lower.name, link.name);
            Finding::fail(name, text, Remedy::new(Kind::SwitchOn, both))
        }
        (false, _, None) => Finding::fail(name, format!("{driver}, down"), Remedy::switch_on(&link.name)),
        (true, false, Some(lower)) => {
            let text = format!("{driver}, up, and {} below it is down", lower.name);
            Finding::fail(name, text, Remedy::switch_on(&lower.name))
        }
        (true, false, None) if !link.is_loopback => {
            let text = format!("{driver}, up without a carrier: check the cable and the other end");
            Finding::fail(name, text, None)
        }
        _ => Finding::ok(name, format!("{driver}, up")),
    }
}

/// Returns the finding about how an interface's queries are answered: by the running daemon's status, otherwise as
/// expected.
fn xdp(view: &View<'_>, name: &str, port: &Result<Port, Unserved>) -> Finding {
    let what = format!("{name} xdp");
    if view.setting.mode == Mode::Off {
        return Finding::ok(what, "off, as configured: the responder answers everything");
    }
    let port = match port {
        Ok(port) if port.is_ethernet() => port,
        Ok(_) => return Finding::ok(what, "not an Ethernet interface: the responder answers on it"),
        Err(reason) => return Finding::ok(what, reason.to_string()),
    };
    let expected = expected(view, port);
    let Some(state) = view.running.and_then(|running| running.interface(name)) else {
        return expected.finding(what, view);
    };
    let on = if port.device == port.index { String::new() } else { format!(" on {}", port.device_name) };
    let reason = state.reason.as_ref().map(|reason| format!(": {reason}")).unwrap_or_default();
    let text = format!("{}{on}{reason}", state.mode);
    match (&*state.mode, &expected) {
        ("native", _) | ("generic", Expected::Generic(_) | Expected::Lost | Expected::Configured) => {
            Finding::ok(what, text)
        }
        ("off", Expected::Generic(_) | Expected::Lost) if view.setting.mode == Mode::Native => {
            Finding::fail(what, text, Remedy::mode("auto", true))
        }
        _ => Finding::warn(what, text, None),
    }
}

/// The expected mode.
enum Expected {
    Native,
    /// Native mode on each of this many slaves.
    NativeOnSlaves(usize),
    /// `[xdp] mode = "generic"`
    Configured,
    /// The driver has no better mode.
    Generic(String),
    /// The other end of the veth takes no native answers.
    Lost,
    Unknown(String),
}

fn expected(view: &View<'_>, port: &Port) -> Expected {
    let setting = view.setting;
    if setting.mode == Mode::Generic {
        return Expected::Configured;
    }
    let device = setting.devices.get(&port.device);
    if device.is_some_and(|device| device.peer_has_native_program == Some(false)) {
        return Expected::Lost;
    }
    let slaves: Vec<Option<bool>> = port.slaves.iter().map(|slave| has_native(view, slave.index)).collect();
    let driver = port.driver.clone().unwrap_or_else(|| "its driver".to_owned());
    match has_native(view, port.device) {
        Some(true) => Expected::Native,
        _ if !slaves.is_empty() && slaves.iter().all(|native| *native == Some(true)) => {
            Expected::NativeOnSlaves(slaves.len())
        }
        Some(false) => Expected::Generic(driver),
        None => Expected::Unknown(driver),
    }
}

/// Whether a device's driver has native XDP, as the kernel reports or else by the table of drivers.
pub(super) fn has_native(view: &View<'_>, index: u32) -> Option<bool> {
    let word = view.setting.devices.get(&index).and_then(|device: &Device| device.features);
    let driver = || view.setting.network.link(index)?.driver.as_deref();
    word.map(|features| features.native).or_else(|| driver().map(datapath::has_native))
}

impl Expected {
    fn finding(&self, what: String, view: &View<'_>) -> Finding {
        let demands_native = view.setting.mode == Mode::Native;
        let lost =
            "native answers would be lost, because the other end of this veth has no native XDP program";
        match self {
            Expected::Native => Finding::ok(what, "native is to be expected: the driver supports it"),
            Expected::NativeOnSlaves(count) => {
                Finding::ok(what, format!("native is to be expected on each of {count} slaves"))
            }
            Expected::Configured => Finding::ok(what, "generic, as configured"),
            Expected::Lost if demands_native => Finding::fail(
                what,
                format!("{lost}, and the mode demands native"),
                Remedy::mode("auto", view.is_running()),
            ),
            Expected::Lost => Finding::ok(
                what,
                format!(
                    "generic: {lost}; for native mode attach a program there, which may pass everything (XDP_PASS)"
                ),
            ),
            Expected::Generic(driver) if demands_native => {
                let text = format!("{driver} has no native XDP, and the mode demands it");
                Finding::fail(what, text, Remedy::mode("auto", view.is_running()))
            }
            Expected::Generic(driver) => {
                Finding::ok(what, format!("generic, at a fraction of the speed: {driver} has no native XDP"))
            }
            Expected::Unknown(driver) => {
                Finding::ok(what, format!("{driver} is unknown: `dns-xdp status` will show the mode"))
            }
        }
    }
}
