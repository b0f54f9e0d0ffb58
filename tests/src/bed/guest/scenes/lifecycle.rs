//! Scenes: how a daemon starts and ends on one interface.
use anyhow::{Result, ensure};
use nix::sys::signal::Signal;

use crate::bed::guest::server::Server;
use crate::bed::guest::wire::Wire;
use crate::bed::plan::Plan;

const QUERIES: u64 = 5;

/// The program answers without a daemon until its lease ends; the next daemon takes it over with its counters.
pub(super) fn killed_and_adopted() -> Result<()> {
    let wire = Wire::cards("virtio_net", &["eth0"])?;
    let mut server = Server::start(&wire, &Plan::quick(1))?;
    server.expect_answers_in_kernel(QUERIES)?;
    let before = server.node.stats()?.answered_by_xdp();
    server.node.stop(Signal::SIGKILL)?;
    server.ask(QUERIES)?;
    server.node.start()?;
    let after = server.node.stats()?.answered_by_xdp();
    ensure!(after >= before + 2 * QUERIES, "{before} answers were counted before, {after} after");
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}

/// With `[xdp] mode = "generic"`, `status` shows this mode.
pub(super) fn generic_on_request() -> Result<()> {
    // On a veth the client's checksums are not complete, so the responder would answer.
    let wire = Wire::cards("virtio_net", &["eth0"])?;
    let mut server = Server::start(&wire, &Plan::quick(1).line("xdp", "mode = \"generic\""))?;
    let (mode, _) = server.mode("eth0")?;
    ensure!(mode == "generic", "the mode is {mode}");
    server.expect_answers_in_kernel(QUERIES)?;
    server.end()
}
