//! Findings about the machine: kernel, BPF filesystem, capabilities, memory, clock.
use super::super::facts::{Facts, Host};
use super::super::{Finding, Kind, Remedy};
use crate::config::Mode;
use crate::datapath::KernelVersion;

/// The kernels that the tests boot and the kernel that developers use, except the newest.
const TESTED: [KernelVersion; 4] =
    [KernelVersion(5, 10), KernelVersion(6, 1), KernelVersion(6, 12), KernelVersion(6, 18)];
/// From this kernel on, BPF memory counts against the control group, not the memlock limit.
const NO_MEMLOCK: KernelVersion = KernelVersion(5, 11);

pub(super) fn findings(facts: &Facts) -> Vec<Finding> {
    let host = &facts.host;
    let is_off = facts.setting.as_ref().is_ok_and(|setting| setting.mode == Mode::Off);
    vec![kernel(facts, is_off), btf(host), bpffs(host), capabilities(host), memlock(facts), clock(host)]
}

fn kernel(facts: &Facts, is_off: bool) -> Finding {
    let release = &facts.host.kernel;
    let Some(version) = KernelVersion::parse(release) else {
        return Finding::ok("kernel", format!("{release}, a version that this program cannot read"));
    };
    let newest = KernelVersion::NEWEST_TESTED;
    if is_off {
        return Finding::ok("kernel", format!("{release}, which does not matter: XDP is switched off"));
    }
    if let Some(lacks) = version.lacks() {
        let remedy = format!(
            "install Linux {} or later; until then: write [xdp] mode = \"off\"",
            KernelVersion::OLDEST
        );
        return Finding::fail("kernel", lacks, Remedy::new(Kind::InstallKernel, remedy));
    }
    if TESTED.contains(&version) || version == newest {
        return Finding::ok("kernel", release.clone());
    }
    let tested: Vec<String> = TESTED.iter().chain([&newest]).map(ToString::to_string).collect();
    let text = format!("{release} is not among the kernels that are tested ({})", tested.join(", "));
    match facts.daemon.running() {
        Some(running) if running.is_attached() => {
            Finding::ok("kernel", format!("{text}; the program is loaded"))
        }
        _ if version > newest => {
            let remedy = "start the daemon, then: dns-xdp status, which shows whether the program loads";
            Finding::warn("kernel", text, Remedy::new(Kind::TryKernel, remedy))
        }
        _ => Finding::ok("kernel", text),
    }
}

fn btf(host: &Host) -> Finding {
    if host.btf {
        return Finding::ok("btf", "/sys/kernel/btf/vmlinux is there");
    }
    let remedy = "boot a kernel with CONFIG_DEBUG_INFO_BTF=y: grep BTF /boot/config-$(uname -r)";
    let text = "/sys/kernel/btf/vmlinux is missing: the program may not load";
    Finding::warn("btf", text, Remedy::new(Kind::InstallBtf, remedy))
}

fn bpffs(host: &Host) -> Finding {
    if host.bpffs {
        return Finding::ok("bpffs", "mounted on /sys/fs/bpf");
    }
    let text = "nothing is mounted on /sys/fs/bpf; the daemon mounts it if it has the permission";
    Finding::warn("bpffs", text, Remedy::new(Kind::MountBpffs, "mount -t bpf bpf /sys/fs/bpf"))
}

fn capabilities(host: &Host) -> Finding {
    if host.lacking.is_empty() {
        return Finding::ok("capabilities", "this process has the capabilities that XDP needs");
    }
    let text = format!("this process lacks {}", host.lacking.join(", "));
    Finding::fail("capabilities", text, Remedy::be_root())
}

fn memlock(facts: &Facts) -> Finding {
    let version = KernelVersion::parse(&facts.host.kernel);
    if version.is_none_or(|version| version >= NO_MEMLOCK) {
        return Finding::ok("memlock", "does not matter to this kernel");
    }
    if facts.daemon.running().is_some_and(|running| running.unlimited_memory == Some(true)) {
        return Finding::ok("memlock", "the daemon may lock unlimited memory");
    }
    let text = "kernels before 5.11 count BPF maps against the memlock limit";
    let remedy = "mkdir -p /etc/systemd/system/dns-xdp.service.d; printf '[Service]\\nLimitMEMLOCK=infinity\\n' \
                  >/etc/systemd/system/dns-xdp.service.d/memlock.conf; systemctl daemon-reload; \
                  systemctl restart dns-xdp";
    Finding::warn("memlock", text, Remedy::new(Kind::LockMemory, remedy))
}

fn clock(host: &Host) -> Finding {
    match host.clock_synchronised {
        Some(false) => Finding::warn(
            "clock",
            "not synchronised: the times of events and the ends of intents may be wrong",
            Remedy::new(Kind::SetClock, "timedatectl set-ntp true"),
        ),
        Some(true) => Finding::ok("clock", "synchronised"),
        None => Finding::ok("clock", "the kernel does not report whether it is synchronised"),
    }
}
