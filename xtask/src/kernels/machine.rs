//! A QEMU machine: two processors, no disk, two cards on one hub for each driver, a serial console in a file.
use std::fs::{self, File};
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Error, Result, bail};

use crate::cargo::command;

/// The file of the machine's serial console.
pub(crate) const CONSOLE: &str = "console.log";

/// The file of QEMU's own output.
const EMULATOR_LOG: &str = "qemu.log";

/// The longest time of a machine. With its own cores, one takes 3 to 5 minutes.
const TIME_LIMIT: Duration = Duration::from_secs(1500);
/// The time between two looks at a running machine.
const POLL: Duration = Duration::from_millis(100);

/// Models of QEMU's cards. A hub joins two; `virtio-net-pci` has two hubs, so that two cards can be bonded at each end.
const CARDS: [&str; 4] = ["virtio-net-pci", "virtio-net-pci", "vmxnet3", "e1000e"];

/// The kernel's command line. Only emergency messages are printed between the guest's lines; a panic ends the machine.
/// Protections against attacks are off, to save time.
const KERNEL_ARGUMENTS: &str =
    "console=ttyS0 loglevel=3 panic=-1 mitigations=off nokaslr no5lvl random.trust_cpu=on net.ifnames=0";

/// A kernel with its initramfs.
#[derive(Debug)]
pub(crate) struct Machine {
    /// The kernel's version in two numbers.
    pub(crate) version: String,
    /// The kernel.
    pub(crate) kernel: PathBuf,
    /// The initramfs.
    pub(crate) initramfs: PathBuf,
    /// The directory of the console's file.
    pub(crate) directory: PathBuf,
    /// The guest's share of the divided checks: 1/2, say, is the first of two parts.
    pub(crate) share: String,
}

/// The result of a machine.
#[derive(Debug)]
pub(crate) struct Ended {
    /// The whole text of its console.
    pub(crate) console: String,
    /// The time since its start.
    pub(crate) time: Duration,
    /// The reason, if the machine did not switch itself off.
    pub(crate) failure: Option<Error>,
}

impl Machine {
    /// Boots the machine and waits until it has switched itself off, or ends it at its time limit.
    ///
    /// # Errors
    /// QEMU cannot be started.
    pub(crate) fn boot(&self) -> Result<Ended> {
        let console = self.directory.join(CONSOLE);
        fs::write(&console, "").with_context(|| format!("cannot write {}", console.display()))?;
        let start = Instant::now();
        println!("kernels: booting {}", self.version);
        let log = self.directory.join(EMULATOR_LOG);
        let stderr = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut qemu = self.command().stderr(stderr).spawn().context("cannot start qemu-system-x86_64")?;
        let failure = wait(&mut qemu, &console)
            .with_context(|| format!("see {} and {}", console.display(), log.display()));
        let text = fs::read(&console).with_context(|| format!("cannot read {}", console.display()))?;
        let console = String::from_utf8_lossy(&text).into_owned();
        Ok(Ended { console, time: start.elapsed(), failure: failure.err() })
    }

    fn command(&self) -> Command {
        let mut qemu = command("qemu-system-x86_64");
        // The processor's virtualization is not used: inside another virtual machine it may be present and not work.
        qemu.args(["-accel", "tcg,thread=multi", "-cpu", "max", "-smp", "2", "-m", "1500"]);
        qemu.args(["-no-user-config", "-nodefaults", "-display", "none", "-no-reboot"]);
        qemu.arg("-serial").arg(format!("file:{}", self.directory.join(CONSOLE).display()));
        qemu.arg("-kernel").arg(&self.kernel).arg("-initrd").arg(&self.initramfs);
        // Unknown parameters become the environment of the kernel's first process.
        qemu.arg("-append").arg(format!("{KERNEL_ARGUMENTS} SHARE={}", self.share));
        for (hub, model) in CARDS.iter().enumerate() {
            for end in 0..2 {
                let card = format!("h{hub}e{end}");
                qemu.arg("-netdev").arg(format!("hubport,hubid={hub},id={card}"));
                // The guest derives a card's hub and end from the last two octets of its address.
                qemu.arg("-device").arg(format!("{model},netdev={card},mac=52:54:00:00:{hub:02x}:{end:02x}"));
            }
        }
        // The emulator takes commands on stdin, and answers on stdout.
        qemu.args(["-monitor", "stdio"]).stdin(Stdio::piped()).stdout(Stdio::null());
        qemu
    }
}

fn wait(qemu: &mut Child, console: &Path) -> Result<()> {
    let start = Instant::now();
    let mut stops = Stops { monitor: qemu.stdin.take().context("stdin is piped")?, done: 0 };
    loop {
        stops.obey(console)?;
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

/// The beginning of a guest's request to be stopped; the seconds follow it.
const STOP: &str = "stop\t";

/// The stops that the guest asks for on its console, as a host stops a machine for a snapshot.
struct Stops {
    /// The stream to the emulator's commands.
    monitor: ChildStdin,
    done: usize,
}

impl Stops {
    /// Stops the machine for the time that the guest asks for, if there is a new request.
    fn obey(&mut self, console: &Path) -> Result<()> {
        let text = fs::read(console).with_context(|| format!("cannot read {}", console.display()))?;
        let text = String::from_utf8_lossy(&text);
        let Some(seconds) = wanted_stops(&text).nth(self.done) else { return Ok(()) };
        self.done += 1;
        self.command("stop")?;
        thread::sleep(Duration::from_secs(seconds));
        self.command("cont")
    }

    fn command(&mut self, command: &str) -> Result<()> {
        writeln!(self.monitor, "{command}").with_context(|| format!("cannot tell QEMU to {command}"))
    }
}

/// The seconds of each whole line that asks for a stop.
fn wanted_stops(console: &str) -> impl Iterator<Item = u64> {
    let whole = console.split_inclusive('\n').filter(|line| line.ends_with('\n'));
    whole.filter_map(|line| line.trim_end().strip_prefix(STOP)?.parse().ok())
}

/// The last lines of a console.
pub(crate) fn tail(console: &str) -> String {
    const LINES: usize = 25;
    let lines: Vec<&str> = console.lines().collect();
    lines[lines.len().saturating_sub(LINES)..].join("\n")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_guest_is_stopped_for_each_whole_line_that_asks_for_it() {
        let console = "init: up\r\nstop\t20\r\nresult\tscene\nstop\tsoon\nstop\t3\nstop\t4";
        assert_eq!(wanted_stops(console).collect::<Vec<_>>(), [20, 3]);
    }
}
