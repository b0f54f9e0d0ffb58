//! Facts into findings: pure, in the order in which an operator would look.
use std::net::IpAddr;

use super::Finding;
use super::facts::{Daemon, Device, Facts, Holder, Host, Setting};
use crate::config::Mode;

/// BPF links for XDP.
const OLDEST_KERNEL: (u32, u32) = (5, 9);
/// From here on BPF memory is the control group's, not the memlock limit's.
const NO_MEMLOCK: (u32, u32) = (5, 11);
/// What native XDP takes of a page of 4096 for itself: 256 octets of headroom, 320 behind, and the Ethernet header.
const LONGEST_NATIVE_MTU: u32 = 4096 - 256 - 320 - 18;
/// The README's advice: frames that stay in the cache.
const RING: u32 = 512;
/// Drivers with native XDP, for kernels that do not tell themselves (before 6.3).
const NATIVE: [&str; 24] = [
    "atlantic",
    "bnxt_en",
    "dpaa2-eth",
    "ena",
    "fsl_dpaa2_eth",
    "gve",
    "hv_netvsc",
    "i40e",
    "iavf",
    "ice",
    "igb",
    "igc",
    "ixgbe",
    "ixgbevf",
    "mana",
    "mlx4_en",
    "mlx5_core",
    "mvneta",
    "mvpp2",
    "nfp",
    "qede",
    "tun",
    "veth",
    "virtio_net",
];

/// Judges what was found.
pub fn findings(facts: &Facts) -> Vec<Finding> {
    let mut findings = host(&facts.host);
    match &facts.setting {
        Ok(setting) => findings.extend(fits(setting, &facts.host, &facts.daemon)),
        Err(problems) => findings.push(Finding::fail(
            "configuration",
            problems.clone(),
            "correct these lines, then: dns-xdp check",
        )),
    }
    findings.extend(daemon(&facts.daemon));
    findings
}

fn host(host: &Host) -> Vec<Finding> {
    let kernel = &host.kernel;
    let version = version(kernel);
    let mut findings = vec![match version {
        Some(version) if version < OLDEST_KERNEL => {
            let text = format!("{kernel} is older than 5.9, which XDP links take");
            Finding::fail("kernel", text, "install a newer kernel, or write [xdp] mode = \"off\"")
        }
        _ => Finding::ok("kernel", kernel.clone()),
    }];
    findings.push(if host.btf {
        Finding::ok("btf", "/sys/kernel/btf/vmlinux is there")
    } else {
        Finding::warn(
            "btf",
            "/sys/kernel/btf/vmlinux is missing: the program may not load",
            "boot a kernel with CONFIG_DEBUG_INFO_BTF=y: grep BTF /boot/config-$(uname -r)",
        )
    });
    findings.push(if host.bpffs {
        Finding::ok("bpffs", "mounted on /sys/fs/bpf")
    } else {
        let text = "nothing is mounted on /sys/fs/bpf; the daemon mounts it only if it may";
        Finding::warn("bpffs", text, "mount -t bpf bpf /sys/fs/bpf")
    });
    findings.push(if host.lacking.is_empty() {
        Finding::ok("capabilities", "this process has those that XDP takes")
    } else {
        let text = format!("this process lacks {}", host.lacking.join(", "));
        Finding::fail("capabilities", text, "run this as root: sudo dns-xdp doctor")
    });
    findings.push(match version {
        Some(version) if version < NO_MEMLOCK => {
            let text = "kernels before 5.11 count BPF maps against the memlock limit";
            Finding::warn("memlock", text, "write LimitMEMLOCK=infinity in the unit: systemctl edit dns-xdp")
        }
        _ => Finding::ok("memlock", "does not matter to this kernel"),
    });
    findings.push(match host.clock_synchronised {
        Some(false) => Finding::warn(
            "clock",
            "nobody keeps it right: times in events, and of intents with an end, are off",
            "timedatectl set-ntp true, or install chrony",
        ),
        Some(true) => Finding::ok("clock", "synchronised"),
        None => Finding::ok("clock", "the kernel does not tell whether it is synchronised"),
    });
    findings
}

/// `6.18.0-1-amd64`: 6 and 18.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(|letter: char| !letter.is_ascii_digit()).map(str::parse);
    Some((numbers.next()?.ok()?, numbers.next()?.ok()?))
}

fn fits(setting: &Setting, host: &Host, daemon: &Daemon) -> Vec<Finding> {
    let mut findings = vec![Finding::ok("configuration", format!("{} is valid", setting.path.display()))];
    for warning in &setting.warnings {
        findings.push(Finding::warn("configuration", warning.clone(), "dns-xdp check"));
    }
    for (name, found) in &setting.interfaces {
        match found {
            Ok(device) => findings.extend(interface(name, device, setting.mode, host.cpus)),
            Err(text) => {
                let remedy = "correct [listen] interfaces: ip -brief link";
                findings.push(Finding::fail(name, text.clone(), remedy));
            }
        }
    }
    findings.extend(addresses(setting));
    findings.push(port(setting, daemon));
    findings.push(tcp(setting, host));
    findings
}

fn interface(name: &str, device: &Device, mode: Mode, cpus: u32) -> Vec<Finding> {
    let link = &device.link;
    let driver = link.driver.as_deref().unwrap_or("a driver unknown");
    let mut findings = vec![if !link.up {
        Finding::fail(name, format!("{driver}, down"), format!("ip link set {name} up"))
    } else if !link.carrier {
        Finding::fail(
            name,
            format!("{driver}, up without a carrier"),
            format!("look at the cable: ethtool {name}"),
        )
    } else {
        Finding::ok(name, format!("{driver}, up"))
    }];
    if mode == Mode::Off {
        findings
            .push(Finding::ok(format!("{name} xdp"), "off, as configured: the responder answers everything"));
        return findings;
    }
    findings.push(expected(name, device, mode));
    findings.extend(in_the_way(name, device, mode));
    if link.mtu > LONGEST_NATIVE_MTU && mode != Mode::Generic {
        let text = format!("{} octets: most drivers refuse native XDP above {LONGEST_NATIVE_MTU}", link.mtu);
        findings.push(Finding::warn(
            format!("{name} mtu"),
            text,
            format!("ip link set {name} mtu {LONGEST_NATIVE_MTU}"),
        ));
    } else {
        findings.push(Finding::ok(format!("{name} mtu"), link.mtu.to_string()));
    }
    if let Some((now, most)) = device.queues {
        let text = format!("{now} receive queues of {most}, {cpus} processors");
        let wanted = most.min(cpus);
        findings.push(if now < wanted {
            let text = format!("{text}: the others answer nothing");
            Finding::warn(format!("{name} queues"), text, format!("ethtool -L {name} combined {wanted}"))
        } else {
            Finding::ok(format!("{name} queues"), text)
        });
    }
    if let Some(ring) = device.ring {
        findings.push(if ring > RING {
            let text = format!("{ring} slots: frames leave the cache before they are answered");
            Finding::warn(format!("{name} ring"), text, format!("ethtool -G {name} rx {RING}"))
        } else {
            Finding::ok(format!("{name} ring"), format!("{ring} slots"))
        });
    }
    if device.trunk && device.strips_tags {
        let text = "the card takes VLAN tags away, and an answer cannot put them back";
        findings.push(Finding::warn(
            format!("{name} vlan"),
            text,
            format!("ethtool -K {name} rxvlan off txvlan off"),
        ));
    }
    findings
}

/// What mode the ladder will end in.
fn expected(name: &str, device: &Device, mode: Mode) -> Finding {
    let what = format!("{name} xdp");
    let driver = device.link.driver.as_deref();
    let native = device.native.or_else(|| driver.map(|driver| NATIVE.contains(&driver)));
    let driver = driver.unwrap_or("its driver");
    match (device.link.ethernet, native, mode) {
        (false, ..) => {
            let remedy = "write [xdp] mode = \"off\"";
            Finding::fail(what, "not an Ethernet interface: the program does not read its frames", remedy)
        }
        (true, _, Mode::Generic) => Finding::ok(what, "generic, as configured"),
        (true, Some(true), _) => Finding::ok(what, format!("native is to be expected: {driver} has it")),
        (true, Some(false), Mode::Native) => {
            let text = format!("{driver} has no native XDP, and the mode demands it");
            Finding::fail(what, text, "write [xdp] mode = \"auto\"")
        }
        (true, Some(false), _) => {
            let text = format!("{driver} has no native XDP: generic, at a fraction of the speed");
            Finding::warn(what, text, "none needed; for more speed, a card whose driver has it")
        }
        (true, None, _) => {
            Finding::ok(what, format!("nothing is known of {driver}: `dns-xdp status` will tell"))
        }
    }
}

fn in_the_way(name: &str, device: &Device, mode: Mode) -> Option<Finding> {
    let what = format!("{name} program");
    let there = device.link.program.as_ref()?;
    let program = &there.program;
    let attached = if program.native { "native" } else { "generic" };
    if there.ours {
        return Some(Finding::ok(what, format!("ours is attached, {attached} (id {})", program.id)));
    }
    let text = format!("another XDP program is there, {} (id {}, {attached})", program.name, program.id);
    let remedy = program.remedy(name);
    Some(match mode {
        Mode::Auto => Finding::warn(what, format!("{text}: the responder answers everything"), remedy),
        _ => Finding::fail(what, text, remedy),
    })
}

fn addresses(setting: &Setting) -> Vec<Finding> {
    let served = match &setting.served {
        Ok(served) => served,
        Err(text) => {
            let remedy = "ip address add ADDRESS/LENGTH dev INTERFACE, or write [listen] addresses";
            return vec![Finding::fail("addresses", text.clone(), remedy)];
        }
    };
    let on = |address: &IpAddr| setting.present.iter().find(|(_, present)| present == address);
    let mut findings = Vec::new();
    for address in served {
        let missing = |text: String| {
            let first = setting.interfaces.first().map_or("INTERFACE", |(name, _)| name.as_str());
            let length = if address.is_ipv4() { 32 } else { 128 };
            Finding::fail("addresses", text, format!("ip address add {address}/{length} dev {first}"))
        };
        match on(address) {
            None => findings.push(missing(format!("{address} is served, and this machine does not have it"))),
            Some((interface, _)) if !setting.interfaces.iter().any(|(name, _)| name == interface) => {
                let text = format!("{address} is on {interface}, which is not in [listen] interfaces");
                let remedy =
                    format!("add \"{interface}\" to [listen] interfaces, if its queries come in there");
                findings.push(Finding::warn("addresses", text, remedy));
            }
            Some(_) => {}
        }
    }
    if findings.is_empty() {
        let served: Vec<String> = served.iter().map(ToString::to_string).collect();
        findings.push(Finding::ok("addresses", served.join(", ")));
    }
    if !setting.nodes.iter().any(|address| served.contains(address)) {
        let text = "no node of the zone has an address that is served here";
        findings.push(Finding::warn(
            "addresses",
            text,
            "add this machine as a [[node]], or leave it as a server alone",
        ));
    }
    findings
}

/// Whether the daemon gets, or has, its port.
fn port(setting: &Setting, daemon: &Daemon) -> Finding {
    let port = setting.port;
    let what = format!("port {port}");
    let served = setting.served.as_deref().unwrap_or_default();
    let pid = match daemon {
        Daemon::Running { pid, .. } => Some(*pid),
        _ => None,
    };
    let ours = |holder: &Holder| holder.process.as_ref().is_some_and(|(holder, _)| Some(*holder) == pid);
    let collides = |holder: &&Holder| {
        !ours(holder) && (holder.address.is_unspecified() || served.contains(&holder.address))
    };
    let Some(holder) = setting.holders.iter().find(collides) else {
        let state = if setting.holders.iter().any(ours) { "held by the daemon" } else { "free" };
        return Finding::ok(what, state);
    };
    let (protocol, address) = (holder.protocol, holder.address);
    let (who, remedy) = match &holder.process {
        Some((pid, name)) => (format!("{name} (pid {pid})"), eviction(name, *pid)),
        None => ("a process that is not seen from here".to_owned(), format!("ss -lunpt 'sport = :{port}'")),
    };
    Finding::fail(what, format!("{protocol} on {address} is taken by {who}"), remedy)
}

/// How those who often hold the port are talked out of it.
fn eviction(name: &str, pid: u32) -> String {
    // The kernel keeps 15 letters of a name.
    match name {
        "systemd-resolve" | "systemd-resolved" => {
            "mkdir -p /etc/systemd/resolved.conf.d; printf '[Resolve]\\nDNSStubListener=no\\n' \
             >/etc/systemd/resolved.conf.d/dns-xdp.conf; systemctl restart systemd-resolved"
                .to_owned()
        }
        "dnsmasq" => "write bind-interfaces and except-interface=… in dnsmasq.conf, or: systemctl disable --now dnsmasq".to_owned(),
        "dns-xdp" => "another dns-xdp runs: name its socket with --socket, or: dns-xdp run --replace".to_owned(),
        "named" | "unbound" | "nsd" | "knotd" | "kresd" | "pdns_server" | "coredns" => {
            format!("let {name} listen on other addresses, or: systemctl disable --now {name}")
        }
        _ => format!("stop it, or let it listen on other addresses: ps -fp {pid}"),
    }
}

fn tcp(setting: &Setting, host: &Host) -> Finding {
    let port = setting.port;
    let what = format!("tcp {port}");
    let filters = host.filters.join(" and ");
    let open = format!("let udp and tcp {port} in: nft list ruleset; iptables -S");
    match (&setting.reached, host.filters.is_empty()) {
        (Some((address, Err(reason))), _) => {
            Finding::fail(what, format!("{address} does not answer: {reason}"), open)
        }
        (Some((address, Ok(()))), true) => {
            Finding::ok(what, format!("{address} answers; no packet filter has rules"))
        }
        (Some((address, Ok(()))), false) => {
            let text = format!("{address} answers here; {filters} has rules that others may not get through");
            Finding::warn(what, text, open)
        }
        (None, true) => Finding::ok(what, "no daemon to reach; no packet filter has rules"),
        (None, false) => {
            Finding::warn(what, format!("{filters} has rules that queries may not get through"), open)
        }
    }
}

fn daemon(daemon: &Daemon) -> Vec<Finding> {
    match daemon {
        Daemon::Absent => {
            vec![Finding::warn(
                "daemon",
                "none answers on the control socket",
                "systemctl start dns-xdp, or: dns-xdp run",
            )]
        }
        Daemon::Garbled(text) => vec![Finding::fail("daemon", text.clone(), "journalctl -u dns-xdp")],
        Daemon::Running { pid, alarms } => {
            let mut findings = vec![Finding::ok("daemon", format!("runs, pid {pid}"))];
            let alarm = |alarm: &String| Finding::warn("daemon", alarm.clone(), "dns-xdp status");
            findings.extend(alarms.iter().map(alarm));
            findings
        }
    }
}
