//! Checks quickly which programs a verb needs on the machine, and installs missing ones.
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::{Context, Result, bail, ensure};

use crate::cargo::{cargo, command, run};

/// The file with the toolchain that builds everything.
const TOOLCHAIN: &str = include_str!("../../rust-toolchain.toml");
/// The BPF linker, which uses the LLVM of the toolchain's rustc.
const BPF_LINKER: &str = "0.10.3";
const CARGO_FUZZ: &str = "0.13.2";
const CARGO_DEB: &str = "3.8.0";
const CARGO_DENY: &str = "0.20.2";

const BPFFS: &str = "/sys/fs/bpf";
/// The keys that Debian's releases are signed with.
pub(crate) const KEYRING: &str = "/usr/share/keyrings/debian-archive-keyring.gpg";
/// Debian's way to keep packages from starting their services: a program that exits with 101.
const POLICY: &str = "/usr/sbin/policy-rc.d";
/// `$0` is the policy's path, `$@` the command. A policy that exists already stays as it is.
const WITHOUT_SERVICES: &str = r#"
if [ ! -e "$0" ]; then
    trap 'rm -f "$0"' EXIT
    trap 'exit 130' HUP INT TERM
    printf '#!/bin/sh\nexit 101\n' >"$0" && chmod 755 "$0" || exit
fi
"$@"
"#;

/// Whether this process has fetched the lists of packages.
static UPDATED: AtomicBool = AtomicBool::new(false);

/// A program, and its Debian package.
struct Tool {
    program: &'static str,
    package: &'static str,
    /// Whether its package would start a service.
    service: Option<&'static str>,
}

/// A cluster in network namespaces: `ip` builds it, and each node has a database.
const CLUSTER: [Tool; 2] = [
    Tool { program: "ip", package: "iproute2", service: None },
    Tool { program: "redis-server", package: "redis-server", service: Some("redis-server.service") },
];

/// The cluster's parent zone, a resolver, and clients.
const CLIENTS: [Tool; 4] = [
    Tool { program: "dig", package: "bind9-dnsutils", service: None },
    Tool { program: "nsd", package: "nsd", service: Some("nsd.service") },
    Tool { program: "unbound", package: "unbound", service: Some("unbound.service") },
    Tool { program: "redis-cli", package: "redis-tools", service: None },
];

/// The store that servers share.
const STORE: [Tool; 2] = [
    Tool { program: "etcd", package: "etcd-server", service: Some("etcd.service") },
    Tool { program: "etcdctl", package: "etcd-client", service: None },
];

/// The program that enters a station of a running cluster.
const ENTRANCE: [Tool; 1] = [Tool { program: "nsenter", package: "util-linux", service: None }];

/// The programs that scenes need besides a cluster, its clients and its store.
const SCENES: [Tool; 15] = [
    // Its library gives a daemon its own wall clock.
    Tool { program: "faketime", package: "faketime", service: None },
    // Makes the kernel refuse a system call of the daemon.
    Tool { program: "strace", package: "strace", service: None },
    Tool { program: "tmux", package: "tmux", service: None },
    // No program: the models of a provider's API. The tests check a zone change against these models.
    Tool {
        program: "/usr/lib/python3/dist-packages/botocore/__init__.py",
        package: "python3-botocore",
        service: None,
    },
    // It checks the shipped alerts.
    Tool { program: "promtool", package: "prometheus", service: Some("prometheus.service") },
    Tool { program: "chromium", package: "chromium", service: None },
    // Real clients of DNS UPDATE. The second is no program: it is certbot's plugin.
    Tool { program: "nsupdate", package: "bind9-dnsutils", service: None },
    Tool {
        program: "/usr/lib/python3/dist-packages/certbot_dns_rfc2136/__init__.py",
        package: "python3-certbot-dns-rfc2136",
        service: None,
    },
    // Reads the unit and rates it; no service manager has to run.
    Tool { program: "systemd-analyze", package: "systemd", service: None },
    Tool { program: "man", package: "man-db", service: None },
    // The programs of `doctor`'s remedies.
    Tool { program: "bpftool", package: "bpftool", service: None },
    Tool { program: "ethtool", package: "ethtool", service: None },
    // The firewall of a machine that rejects its own probes.
    Tool { program: "nft", package: "nftables", service: None },
    // A filesystem that stops writing, as under a snapshot.
    Tool { program: "fsfreeze", package: "util-linux", service: None },
    Tool { program: "mkfs.ext4", package: "e2fsprogs", service: None },
];

/// The programs for machines with other kernels.
const EMULATION: [Tool; 5] = [
    Tool { program: "qemu-system-x86_64", package: "qemu-system-x86", service: None },
    // The first programs of a machine.
    Tool { program: "busybox", package: "busybox-static", service: None },
    Tool { program: "ip", package: "iproute2", service: None },
    // A scene switches offloads with it.
    Tool { program: "ethtool", package: "ethtool", service: None },
    // No program: the keys of the archive that the kernels are downloaded from.
    Tool { program: KEYRING, package: "debian-archive-keyring", service: None },
];

/// libFuzzer is compiled from its source.
const COMPILER: [Tool; 1] = [Tool { program: "c++", package: "g++", service: None }];

/// A browser, and a program that makes a page of the screen of a terminal.
const PICTURES: [Tool; 3] = [
    Tool { program: "chromium", package: "chromium", service: None },
    Tool { program: "aha", package: "aha", service: None },
    Tool { program: "tmux", package: "tmux", service: None },
];

const PACKAGING: [Tool; 1] = [Tool { program: "dpkg-deb", package: "dpkg", service: None }];

/// The name servers of the comparison, besides NSD.
const COMPETITORS: [Tool; 2] = [
    Tool { program: "knotd", package: "knot", service: Some("knot.service") },
    Tool { program: "gdnsd", package: "gdnsd", service: Some("gdnsd.service") },
];

/// Sets up a build: the toolchain's components and the BPF linker.
///
/// # Errors
/// A component is missing and cannot be installed.
pub(crate) fn toolchain() -> Result<()> {
    let sysroot = output("rustc", &["--print", "sysroot"])?;
    let sysroot = Path::new(sysroot.trim());
    let components = [
        ("rust-src", "lib/rustlib/src/rust/library/core"),
        ("clippy", "bin/cargo-clippy"),
        ("rustfmt", "bin/cargo-fmt"),
    ];
    for (component, file) in components {
        if !sysroot.join(file).exists() {
            let channel = channel()?;
            println!("setup: adding {component} to toolchain {channel}");
            run(command("rustup").args(["component", "add", component, "--toolchain", channel]))
                .with_context(|| format!("add {component} to the toolchain in {}", sysroot.display()))?;
        }
    }
    let linker = output("bpf-linker", &["--version"]).unwrap_or_default();
    if linker.trim() != format!("bpf-linker {BPF_LINKER}") {
        println!("setup: installing bpf-linker {BPF_LINKER}, which takes a minute");
        // Nearly all its work is in rustc's LLVM. With optimisations it would not link faster, but take 2.5 times as
        // long to build.
        cargo(&["install", "bpf-linker", "--version", BPF_LINKER, "--locked", "--quiet", "--debug"])?;
    }
    Ok(())
}

/// The toolchain's name for rustup.
fn channel() -> Result<&'static str> {
    let channel = TOOLCHAIN.lines().find_map(|line| line.strip_prefix("channel = \"")?.strip_suffix('"'));
    channel.context("rust-toolchain.toml has no channel")
}

/// Sets up fuzzing: cargo-fuzz and a C++ compiler.
///
/// # Errors
/// A program is missing and cannot be installed.
pub(crate) fn fuzzing() -> Result<()> {
    toolchain()?;
    install(&[&COMPILER])?;
    let version = output("cargo", &["fuzz", "--version"]).unwrap_or_default();
    if version.trim() != format!("cargo-fuzz {CARGO_FUZZ}") {
        println!("setup: installing cargo-fuzz {CARGO_FUZZ}, which takes a minute");
        cargo(&["install", "cargo-fuzz", "--version", CARGO_FUZZ, "--locked", "--quiet"])?;
    }
    Ok(())
}

/// Sets up packing: cargo-deb, and Debian's own tool that checks the package.
///
/// # Errors
/// A program is missing and cannot be installed.
pub(crate) fn packaging() -> Result<()> {
    toolchain()?;
    install(&[&PACKAGING])?;
    let version = output("cargo", &["deb", "--version"]).unwrap_or_default();
    if version.trim() != format!("cargo-deb {CARGO_DEB}") {
        println!("setup: installing cargo-deb {CARGO_DEB}, which takes two minutes");
        cargo(&["install", "cargo-deb", "--version", CARGO_DEB, "--locked", "--quiet", "--debug"])?;
    }
    Ok(())
}

/// Sets up the check of the linked crates.
///
/// # Errors
/// A program is missing and cannot be installed.
pub(crate) fn denying() -> Result<()> {
    let version = output("cargo", &["deny", "--version"]).unwrap_or_default();
    if version.trim() != format!("cargo-deny {CARGO_DENY}") {
        println!("setup: installing cargo-deny {CARGO_DENY}, which takes two or three minutes");
        cargo(&["install", "cargo-deny", "--version", CARGO_DENY, "--locked", "--quiet", "--debug"])?;
    }
    Ok(())
}

/// Sets up the loading of programs: root and the BPF filesystem.
///
/// # Errors
/// One of them is missing and cannot be provided.
pub(crate) fn kernel() -> Result<()> {
    ensure!(
        output("id", &["-u"])?.trim() == "0",
        "this takes root: run it in a root shell, or as `sudo -E env PATH=\"$PATH\" cargo xtask …`"
    );
    ensure!(Path::new(BPFFS).exists(), "there is no {BPFFS}: the kernel needs CONFIG_BPF_SYSCALL");
    let mounts = fs::read_to_string("/proc/self/mounts").context("cannot read /proc/self/mounts")?;
    if !mounts.lines().any(|line| line.split(' ').nth(1) == Some(BPFFS)) {
        println!("setup: mounting the BPF filesystem on {BPFFS}");
        run(command("mount").args(["-t", "bpf", "bpf", BPFFS]))
            .context("the kernel needs CONFIG_BPF_SYSCALL")?;
    }
    toolchain()
}

/// Sets up the demonstration, and nothing else; `store`: the demonstration of servers that share a store.
///
/// # Errors
/// A program is missing, and there is no apt-get to install it. The error names the packages to install.
pub(crate) fn demo(store: bool) -> Result<()> {
    kernel()?;
    if store { install(&[&CLUSTER, &STORE]) } else { install(&[&CLUSTER, &CLIENTS]) }
}

/// Sets up a cluster that is left running, in addition to [`demo`].
///
/// # Errors
/// The same as for [`demo`].
pub(crate) fn lab() -> Result<()> {
    kernel()?;
    install(&[&CLUSTER, &CLIENTS, &ENTRANCE])
}

/// Sets up the pictures of a cluster.
///
/// # Errors
/// The same as for [`demo`].
pub(crate) fn pictures() -> Result<()> {
    kernel()?;
    install(&[&CLUSTER, &CLIENTS, &PICTURES])
}

/// Sets up the scenes in network namespaces.
///
/// # Errors
/// The same as for [`demo`].
pub(crate) fn network() -> Result<()> {
    kernel()?;
    packaging()?;
    install(&[&CLUSTER, &CLIENTS, &STORE, &ENTRANCE, &SCENES])
}

/// Sets up the comparison: the other name servers.
///
/// # Errors
/// The same as for [`demo`].
pub(crate) fn competitors() -> Result<()> {
    network()?;
    install(&[&COMPETITORS])
}

/// Sets up machines with other kernels: an emulator and the programs inside.
///
/// # Errors
/// The same as for [`demo`].
pub(crate) fn emulation() -> Result<()> {
    toolchain()?;
    let missing = EMULATION.iter().filter(|tool| !is_on_path(tool.program)).count();
    if missing > 0 {
        println!("setup: an emulator and its programs are missing: other kernels are booted in it");
    }
    install(&[&EMULATION])
}

/// Installs these programs if they are missing.
fn install(lists: &[&[Tool]]) -> Result<()> {
    let tools = lists.iter().copied().flatten();
    let missing: Vec<&Tool> = tools.filter(|tool| !is_on_path(tool.program)).collect();
    if missing.is_empty() {
        return Ok(());
    }
    if !is_on_path("apt-get") {
        let tools = missing.iter().map(|tool| format!("{} (Debian: {})", tool.program, tool.package));
        bail!("install these, then try again: {}", tools.collect::<Vec<_>>().join(", "));
    }
    let packages: Vec<&str> = missing.iter().map(|tool| tool.package).collect();
    println!("setup: installing {}", packages.join(", "));
    if !UPDATED.swap(true, Ordering::Relaxed) {
        run(&mut apt_get(&["update", "-qq"]))?;
    }
    let install = ["install", "-qq", "-o=Dpkg::Use-Pty=0", "--yes", "--no-install-recommends"];
    run(&mut without_services(Path::new(POLICY), &apt_get(&[&install, packages.as_slice()].concat())))?;
    for service in missing.iter().filter_map(|tool| tool.service).filter(|_| is_on_path("systemctl")) {
        run(command("systemctl").args(["disable", "--quiet", service]))?;
    }
    Ok(())
}

fn apt_get(arguments: &[&str]) -> Command {
    let mut command = command("apt-get");
    command.env("DEBIAN_FRONTEND", "noninteractive").args(arguments);
    command
}

/// Returns a command that runs `install` while no package starts a service. Tests need a name server's binary, not a
/// server on this machine's port 53. A shell removes the policy when the command ends, also by Ctrl-C or a signal.
fn without_services(policy: &Path, install: &Command) -> Command {
    let mut shell = command("sh");
    shell.arg("-c").arg(WITHOUT_SERVICES).arg(policy).arg(install.get_program()).args(install.get_args());
    for (name, value) in install.get_envs() {
        value.map(|value| shell.env(name, value));
    }
    shell
}

/// Returns what a program writes to stdout.
///
/// # Errors
/// The program cannot be started, or fails.
pub(crate) fn output(program: &str, arguments: &[&str]) -> Result<String> {
    let output =
        command(program).args(arguments).output().with_context(|| format!("cannot start {program}"))?;
    ensure!(output.status.success(), "{program} {} failed", arguments.join(" "));
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Whether a program exists. Also searches the directories of root's programs, even if they are not in PATH. An
/// absolute path is checked as it is.
fn is_on_path(program: &str) -> bool {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let system = ["/usr/sbin", "/sbin"].map(std::path::PathBuf::from);
    std::env::split_paths(&path).chain(system).any(|directory| directory.join(program).is_file())
}

#[cfg(test)]
mod tests {
    use std::os::unix::process::CommandExt as _;
    use std::process::Command;
    use std::thread::sleep;
    use std::time::{Duration, Instant};

    use super::*;

    #[test]
    fn the_toolchain_is_named_in_one_file_and_everything_else_agrees() {
        let channel = channel().unwrap();
        let manifests =
            [include_str!("../../Cargo.toml"), include_str!("../../dns-xdp-ebpf/fuzz/Cargo.toml")];
        for manifest in manifests {
            let oldest =
                manifest.lines().find_map(|line| line.strip_prefix("rust-version = \"")?.strip_suffix('"'));
            assert!(channel.starts_with(oldest.unwrap()), "{oldest:?}");
        }
    }

    #[test]
    fn the_policy_ends_with_the_installation_however_that_ends() {
        let directory = tempfile::tempdir().unwrap();
        let policy = directory.path().join("policy-rc.d");
        let install = |script: &str| {
            let mut install = Command::new("sh");
            install.args(["-c", script]);
            without_services(&policy, &install)
        };
        let seen = format!("{}; [ $? = 101 ] && exit 7", policy.display());
        assert_eq!(install(&seen).status().unwrap().code(), Some(7));
        assert!(!policy.exists());

        // Ctrl-C reaches every process of the group. A shell in the background may ignore it, and so would its children.
        let shell = install("sleep 30");
        let mut running = Command::new("env");
        running.arg("--default-signal=INT").arg(shell.get_program()).args(shell.get_args());
        let mut running = running.process_group(0).spawn().unwrap();
        let began = Instant::now();
        while !policy.exists() && began.elapsed() < Duration::from_secs(10) {
            sleep(Duration::from_millis(10));
        }
        assert!(policy.exists());
        run(command("kill").args(["-INT", "--", &format!("-{}", running.id())])).unwrap();
        assert!(!running.wait().unwrap().success());
        assert!(!policy.exists());

        fs::write(&policy, "theirs").unwrap();
        assert!(install("true").status().unwrap().success());
        assert_eq!(fs::read_to_string(&policy).unwrap(), "theirs");
    }
}
