//! A machine of QEMU's: two processors, no disk, for each driver two cards on one hub, a serial console in a file.
use std::fs;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};

use crate::cargo::command;

/// What the machine writes on its serial console.
pub(crate) const CONSOLE: &str = "console.log";

/// A machine that is not done by then is ended. One takes a minute or two without hardware's help.
const TIME_LIMIT: Duration = Duration::from_secs(300);
/// How often a running machine is looked at.
const POLL: Duration = Duration::from_millis(100);

/// Models of QEMU's cards. A hub joins two; `virtio-net-pci` has two hubs, so that two cards can be bonded at each end.
const CARDS: [&str; 4] = ["virtio-net-pci", "virtio-net-pci", "vmxnet3", "e1000e"];

/// What the kernel is told. Of its messages only emergencies get between the guest's lines; a panic ends the machine.
/// Nobody attacks it: what that would cost is saved.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 loglevel=3 panic=-1 mitigations=off nokaslr no5lvl random.trust_cpu=on net.ifnames=0";

/// A kernel with its initramfs.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The kernel's version in two numbers.
    pub(crate) version: String,
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// What it unpacks.
    pub(crate) initramfs: PathBuf,
    /// Where the console's file is written.
    pub(crate) directory: PathBuf,
}

/// A machine's end.
#[derive(Debug)]
pub(crate) struct Ended {
    /// All that it wrote on its console.
    pub(crate) console: String,
    /// From its start.
    pub(crate) time: Duration,
}

impl Machine {
    /// Boots it and waits until it has switched itself off.
    ///
    /// # Errors
    /// When QEMU cannot be started or fails, or the machine is still running at its time limit. It is ended then.
    pub(crate) fn boot(&self) -> Result<Ended> {
        let console = self.directory.join(CONSOLE);
        fs::write(&console, "").with_context(|| format!("cannot write {}", console.display()))?;
        let start = Instant::now();
        println!("kernels: booting {}", self.version);
        let mut qemu = self.command().spawn().context("cannot start qemu-system-x86_64")?;
        let ended = wait(&mut qemu);
        let text = String::from_utf8_lossy(&fs::read(&console).unwrap_or_default()).into_owned();
        ended.with_context(|| format!("Linux {}: the console ends:\n{}", self.version, tail(&text)))?;
        Ok(Ended { console: text, time: start.elapsed() })
    }

    fn command(&self) -> Command {
        let mut qemu = command("qemu-system-x86_64");
        // Not the processor's own virtualization: inside another virtual machine it is there and does not work.
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1500"]);
        qemu.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
        qemu.arg("-serial").arg(format!("file:{}", self.directory.join(CONSOLE).display()));
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs);
        qemu.args(["-append", KERNEL_ARGUMENTS]);
        for (hub, model) in CARDS.iter().enumerate() {
            for end in 0..2 {
                let card = format!("h{hub}e{end}");
                qemu.arg("-netdev").arg(format!("hubport,hubid={hub},id={card}"));
                // The guest knows a card's hub and end by the last two octets.
                qemu.arg("-device").arg(format!("{model},netdev={card},mac=52:54:00:00:{hub:02x}:{end:02x}"));
            }
        }
        qemu.stdin(Stdio::null());
        qemu
    }
}

fn wait(qemu: &mut Child) -> Result<()> {
    let start = Instant::now();
    loop {
        match qemu.try_wait().context("cannot wait for QEMU")? {
            Some(status) if status.success() => return Ok(()),
            Some(status) => bail!("QEMU failed ({status})"),
            None if start.elapsed() > TIME_LIMIT => {
                qemu.kill().context("cannot end QEMU")?;
                qemu.wait().context("cannot wait for QEMU")?;
                bail!("it was still running after {} s", TIME_LIMIT.as_secs());
            }
            None => thread::sleep(POLL),
        }
    }
}

/// The last lines of a console.
pub(crate) fn tail(console: &str) -> String {
    const LINES: usize = 25;
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}
