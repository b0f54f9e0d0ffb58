//! Findings about the served port: whether the daemon can bind it, and whether queries reach it.
use super::super::facts::Holder;
use super::super::{Finding, Kind, Remedy};
use super::View;

/// Returns the finding about the port: whether the daemon can bind it, or has bound it.
pub(super) fn port(view: &View<'_>) -> Finding {
    let setting = view.setting;
    let what = format!("port {}", setting.listen.port);
    let served = setting.serving.served();
    let pid = view.running.map(|running| running.pid);
    let ours = |holder: &Holder| holder.process.as_ref().is_some_and(|(holder, _)| Some(*holder) == pid);
    let collides = |holder: &&Holder| {
        !ours(holder) && (holder.address.is_unspecified() || served.contains(&holder.address))
    };
    let Some(holder) = setting.holders.iter().find(collides) else {
        let state = if setting.holders.iter().any(ours) { "held by the daemon" } else { "free" };
        return Finding::ok(what, state);
    };
    let (protocol, address) = (holder.protocol, holder.address);
    let who = match &holder.process {
        Some((pid, name)) => format!("{name} (pid {pid}){}", instead(name)),
        None => "a process that is not seen from here".to_owned(),
    };
    let remedy = Remedy::free_port(holder, setting);
    Finding::fail(what, format!("{protocol} on {address} is taken by {who}"), remedy)
}

/// Returns an alternative to stopping a program that often holds the port.
fn instead(name: &str) -> &'static str {
    match name {
        "dnsmasq" => "; bind-interfaces and except-interface in dnsmasq.conf would keep it off the address",
        "named" | "unbound" | "nsd" | "knotd" | "kresd" | "pdns_server" | "coredns" => {
            "; it may listen on other addresses instead"
        }
        "dns-xdp" => "; --socket names its control socket",
        _ => "",
    }
}

pub(super) fn tcp(view: &View<'_>) -> Finding {
    let port = view.setting.listen.port;
    let what = format!("tcp {port}");
    let filters = view.host.filters.join(" and ");
    let open =
        || Remedy::new(Kind::OpenFilter, format!("let udp and tcp {port} in: nft list ruleset; iptables -S"));
    match (&view.setting.reached, filters.is_empty()) {
        (Some((address, Err(reason))), _) => {
            Finding::fail(what, format!("{address} does not answer: {reason}"), open())
        }
        (Some((address, Ok(()))), true) => {
            Finding::ok(what, format!("{address} answers; no packet filter has rules"))
        }
        (Some((address, Ok(()))), false) => {
            let text =
                format!("{address} answers from this machine; {filters} has rules that may block others");
            Finding::warn(what, text, open())
        }
        (None, true) => Finding::ok(what, "no daemon to reach; no packet filter has rules"),
        (None, false) => Finding::warn(what, format!("{filters} has rules that may block queries"), open()),
    }
}
