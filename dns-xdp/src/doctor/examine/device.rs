//! Findings about the devices that should have a program: what blocks it, and what slows it down.
use super::super::facts::Device;
use super::super::{Finding, Kind, Remedy};
use super::{View, interface};
use crate::config::Mode;
use crate::datapath::{KernelVersion, mtu_max, needs_half_of_the_queues, sets_ring, takes_fragments};
use crate::network::ethtool::Channels;
use crate::network::{Link, Port};

/// The largest MTU that every driver takes.
const MTU_USUAL: u32 = 1500;
/// The manual's advice for the receive ring. The frames of such a ring stay in the cache.
const RING: u32 = 512;

pub(super) fn findings(view: &View<'_>) -> Vec<Finding> {
    let devices = view.setting.devices.iter();
    let with_link = devices.filter_map(|(index, device)| Some((view.setting.network.link(*index)?, device)));
    with_link.flat_map(|(link, device)| one(view, link, device)).collect()
}

fn one(view: &View<'_>, link: &Link, device: &Device) -> Vec<Finding> {
    let mode = view.setting.mode;
    let found = [
        program(view, link, device),
        Some(mtu(view, link, device)),
        queues(view, link, device),
        ring(mode, link, device),
        tags(view, link, device),
        transmit(view, link),
    ];
    found.into_iter().flatten().collect()
}

fn program(view: &View<'_>, link: &Link, device: &Device) -> Option<Finding> {
    let name = &link.name;
    let what = format!("{name} program");
    let there = device.program.as_ref()?;
    let program = &there.program;
    let attached = if program.native { "native" } else { "generic" };
    if there.ours {
        return Some(Finding::ok(
            what,
            format!("dns-xdp's program is attached, {attached} (id {})", program.id),
        ));
    }
    // Reading its name needs CAP_SYS_ADMIN.
    let called = if program.name.is_empty() { "with a name that only root can read" } else { &program.name };
    let text = format!("another XDP program is there, {called} (id {}, {attached})", program.id);
    let remedy = Remedy::remove_program(name, there, view.host.bpftool, &view.setting.units);
    Some(match view.setting.mode {
        Mode::Auto => Finding::warn(what, format!("{text}: the responder answers everything"), remedy),
        _ => Finding::fail(what, text, remedy),
    })
}

/// Returns the ports whose frames arrive on this device.
fn ports<'a>(view: &View<'a>, link: &Link) -> impl Iterator<Item = (&'a str, &'a Port)> {
    let index = link.index;
    let all = view.setting.serving.interfaces.iter();
    let ports = all.filter_map(|interface| Some((&*interface.name, interface.port.as_ref().ok()?)));
    ports
        .filter(move |(_, port)| port.device == index || port.slaves.iter().any(|slave| slave.index == index))
}

/// Returns the device's mode and reason from the running daemon's status.
fn state<'a>(view: &View<'a>, link: &Link) -> Option<(&'a str, &'a str)> {
    let running = view.running?;
    let (name, _) = ports(view, link).next()?;
    let state = running.interface(name)?;
    Some((&state.mode, state.reason.as_deref().unwrap_or_default()))
}

fn mtu(view: &View<'_>, link: &Link, device: &Device) -> Finding {
    let (what, mtu) = (format!("{} mtu", link.name), link.mtu);
    let is_native = interface::has_native(view, link.index) != Some(false);
    if mtu <= MTU_USUAL || view.setting.mode == Mode::Generic || !is_native {
        return Finding::ok(what, mtu.to_string());
    }
    let state = state(view, link);
    if let Some(("native", _)) = state {
        return Finding::ok(what, format!("{mtu}, and native"));
    }
    let driver = link.driver.as_deref().unwrap_or("its driver");
    let limit = mtu_max(driver);
    match (takes_jumbo(view, driver, device), limit, state) {
        (true, ..) => Finding::ok(what, format!("{mtu}: {driver} takes programs for fragmented frames")),
        (false, Some(limit), _) if mtu <= limit => Finding::ok(what, format!("{mtu} of at most {limit}")),
        (false, Some(limit), _) => {
            let text = format!("{mtu} is above {limit}, the most with which {driver} takes native XDP");
            // The MTU of the other end counts.
            let remedy = (driver != "veth").then(|| Remedy::lower_mtu(&link.name, limit));
            Finding::warn(what, text, remedy)
        }
        (false, None, Some((mode, reason))) if reason.contains("MTU") => {
            let text = format!("{mtu}: {mode}, because {reason}");
            Finding::warn(what, text, Remedy::lower_mtu(&link.name, MTU_USUAL))
        }
        (false, None, _) => Finding::ok(
            what,
            format!("{mtu}: `dns-xdp status` shows whether {driver} takes native XDP with that"),
        ),
    }
}

fn takes_jumbo(view: &View<'_>, driver: &str, device: &Device) -> bool {
    let has_frags = KernelVersion::parse(&view.host.kernel).is_some_and(KernelVersion::has_frags);
    let takes = device.features.map_or_else(|| takes_fragments(driver), |features| features.fragments);
    has_frags && takes
}

fn queues(view: &View<'_>, link: &Link, device: &Device) -> Option<Finding> {
    let name = &link.name;
    let what = format!("{name} queues");
    let driver = link.driver.as_deref().unwrap_or_default();
    let channels = device.settings.channels?;
    let cpus = view.host.cpus;
    if driver == "veth" {
        return Some(veth_queues(what, name, channels, device));
    }
    let receiving = channels.receive + channels.combined;
    let is_combined = channels.combined > 0 || channels.receive_max == 0;
    let most = if is_combined { channels.combined_max } else { channels.receive_max };
    let is_halved = view.setting.mode != Mode::Generic && needs_half_of_the_queues(driver);
    let usable = if is_halved { (most / 2).max(1) } else { most };
    let wanted = usable.min(cpus);
    let remedy = || {
        let numbers = match (is_combined, is_halved) {
            (true, _) => format!("combined {wanted}"),
            (false, true) => format!("rx {wanted} tx {wanted}"),
            (false, false) => format!("rx {wanted}"),
        };
        Remedy::queues(Kind::SetQueues, name, &numbers)
    };
    let text = format!("{receiving} receive queues of {most}, {cpus} processors");
    Some(if is_halved && receiving > usable && most > 1 {
        let text = format!(
            "{text}: native XDP is refused, because {driver} needs as many queues again to send answers"
        );
        Finding::warn(what, text, remedy())
    } else if receiving < wanted {
        Finding::warn(what, format!("{text}: the other processors answer nothing"), remedy())
    } else {
        Finding::ok(what, text)
    })
}

/// Returns the finding about a veth's queues. Native XDP needs a receive queue for each transmit queue of the other end
/// (`veth_set_xdp_features`).
fn veth_queues(what: String, name: &str, channels: Channels, device: &Device) -> Finding {
    let Channels { receive, receive_max, .. } = channels;
    let text = format!("{receive} receive queues of {receive_max}");
    if device.features.is_some_and(|features| !features.native) && receive < receive_max {
        let text = format!("{text}: native XDP is refused, because the other end sends by more");
        let remedy = Remedy::queues(Kind::SetVethQueues, name, &format!("rx {receive_max}"));
        return Finding::warn(what, text, remedy);
    }
    Finding::ok(what, text)
}

fn ring(mode: Mode, link: &Link, device: &Device) -> Option<Finding> {
    let what = format!("{} ring", link.name);
    let slots = device.settings.ring?;
    let is_settable = link.driver.as_deref().is_some_and(sets_ring);
    Some(if slots > RING && is_settable && mode != Mode::Generic {
        let text = format!("{slots} slots: frames leave the cache before they are answered");
        Finding::warn(what, text, Remedy::shorten_ring(&link.name, RING))
    } else {
        Finding::ok(what, format!("{slots} slots"))
    })
}

/// Returns the finding about VLAN tags. A device may take a tag out of the frame, and the program then does not see it.
/// In native mode a master has no frames of its own, so its slaves decide.
fn tags(view: &View<'_>, link: &Link, device: &Device) -> Option<Finding> {
    let what = format!("{} vlan", link.name);
    let decides = |port: &Port| port.device != link.index || port.slaves.is_empty();
    let ports = || ports(view, link).filter(|(_, port)| device.settings.strips_tags && decides(port));
    let Some((vlan, _)) = ports().find(|(_, port)| !port.tags.is_empty()) else {
        let is_native = view.setting.mode != Mode::Generic && !link.is("veth");
        let (_, port) = ports().next().filter(|_| is_native)?;
        let vlan = &view.setting.network.vlan_above(port.device)?.name;
        let text = format!(
            "the device takes VLAN tags out of frames: clients in {vlan} that ask at an address of {} get no answer",
            port.device_name
        );
        return Some(Finding::warn(what, text, Remedy::keep_tags(&link.name)));
    };
    if link.is("veth") {
        let text = format!(
            "the program answers {vlan} if the other end of this veth leaves tags in its frames, there: \
             ethtool -K OTHER txvlan off"
        );
        return Some(Finding::ok(what, text));
    }
    let text =
        format!("the device takes VLAN tags out of frames: the responder answers {vlan}, not the program");
    Some(Finding::warn(what, text, Remedy::keep_tags(&link.name)))
}

fn transmit(view: &View<'_>, link: &Link) -> Option<Finding> {
    let errors = *view.running?.transmit_errors.get(&link.name)?;
    let what = format!("{} transmit", link.name);
    Some(match errors {
        0 => Finding::ok(what, "every answer has left"),
        errors => Finding::warn(
            what,
            format!("the driver has failed to send {errors} answers since the program was attached"),
            None,
        ),
    })
}
