//! Scenes with a machine that is stopped from outside and continued later, as for a snapshot or a migration.
use std::fs;
use std::io::{Write as _, stdout};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::time::{ClockId, clock_gettime};

use crate::bed::guest::server::Server;
use crate::bed::guest::wire::Wire;
use crate::bed::plan::{self, DATABASE_PORT, Plan};
use crate::bed::process;
use crate::bed::wait;

/// How long the machine is stopped.
const STOPPED: Duration = Duration::from_secs(20);
/// The longest time until the emulator notices. It looks at the console 10 times a second.
const NOTICED_WITHIN: Duration = Duration::from_secs(60);
/// The longest time for 2 discarded results of each probe and `fall` failures, on an emulated processor.
const JUDGED_WITHIN: Duration = Duration::from_secs(30);
const QUERIES: u64 = 5;

/// The clocks of the machine.
struct Clocks {
    monotonic: Instant,
    boot: Duration,
    wall: Duration,
    hardware: Duration,
}

impl Clocks {
    fn read() -> Result<Self> {
        let hardware = "/sys/class/rtc/rtc0/since_epoch";
        let hardware = fs::read_to_string(hardware).with_context(|| format!("cannot read {hardware}"))?;
        Ok(Clocks {
            monotonic: Instant::now(),
            boot: clock_gettime(ClockId::CLOCK_BOOTTIME)?.into(),
            wall: clock_gettime(ClockId::CLOCK_REALTIME)?.into(),
            hardware: Duration::from_secs(hardware.trim().parse()?),
        })
    }
}

/// Only the hardware clock continues. The daemon notices the stop, keeps answering, and uses no earlier result.
pub(super) fn stopped_and_continued() -> Result<()> {
    let wire = Wire::veth(&["eth0"])?;
    let node2 = plan::addresses(2);
    wire.client
        .ip(&format!("addr add {}/24 dev eth0\naddr add {}/64 dev eth0 nodad\n", node2[0], node2[1]))?;
    let mut command = Command::new(process::sibling("database")?);
    command.arg(DATABASE_PORT.to_string()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    let mut database = wire.client.spawn(&mut command)?;
    let mut server = Server::start(&wire, &Plan::new(2))?;
    let node1 = server.node.ipv4();
    wait::until("node2 is answered", JUDGED_WITHIN, || server.expect_address("node2", node2[0]))?;

    let before = Clocks::read()?;
    // The emulator's host reads this line, stops the machine for this long, and continues it.
    stdout().write_all(format!("stop\t{}\n", STOPPED.as_secs()).as_bytes())?;
    let after = wait::until("the machine was stopped", NOTICED_WITHIN, || {
        let now = Clocks::read()?;
        let own = now.monotonic - before.monotonic;
        ensure!(now.hardware - before.hardware + Duration::from_secs(2) > own + STOPPED, "it was not");
        Ok(now)
    });
    // From this machine's view, node2 has died during the stop.
    let awake = Instant::now();
    database.kill().and_then(|()| database.wait())?;
    let (after, _) = after?;
    let went = after.monotonic - before.monotonic;
    println!(
        "stopped for {} s: monotonic {went:.1?}, boot {:.1?}, wall {:.1?}, hardware {:?}",
        STOPPED.as_secs(),
        after.boot - before.boot,
        after.wall - before.wall,
        after.hardware - before.hardware
    );
    ensure!(went < STOPPED, "the machine's own clock went on: {went:?}");

    server.expect_answers_in_kernel(QUERIES)?;
    wait::until("the daemon notices", JUDGED_WITHIN, || {
        // The alarm in `status` may be over already.
        let log = fs::read_to_string(&server.node.log)?;
        ensure!(log.contains("this machine was stopped for "), "{}", server.log());
        Ok(())
    })?;
    wait::until("node2's name answers node1", JUDGED_WITHIN, || server.expect_address("node2", node1))?;
    println!("node2's death in the meantime is answered {:.1?} after the machine went on", awake.elapsed());
    server.end()
}
