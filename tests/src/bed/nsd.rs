//! An NSD that serves zones in a namespace of the test bed.
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use hickory_proto::rr::RecordType;

use crate::bed::client::Client;
use crate::bed::netns::Namespace;
use crate::bed::process;
use crate::bed::wait;

/// The identity of NSD, for NSID and `id.server`.
pub const IDENTITY: &str = "node1";

/// A zone that it serves.
#[derive(Debug, Clone, Copy)]
pub struct Zone<'a> {
    /// The apex, with or without the final dot.
    pub apex: &'a str,
    /// The text of a zone file.
    pub text: &'a str,
}

/// A running NSD; it has to be ended, or its namespace removed.
#[derive(Debug)]
pub struct Nsd {
    server: Child,
}

impl Nsd {
    /// Starts NSD on port 53 of `addresses` and waits for its first answer, about the first of `zones`. NSD's files go
    /// into `directory`.
    ///
    /// # Errors
    /// NSD is not installed, refuses a zone or does not come up.
    pub fn start(
        namespace: &Namespace,
        directory: &Path,
        addresses: &[IpAddr],
        zones: &[Zone<'_>],
    ) -> Result<Self> {
        let mut command = command(directory, addresses, zones, "")?;
        let log = directory.join("nsd.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let server = namespace.spawn(&mut command).context("is nsd installed?")?;
        let mut nsd = Nsd { server };
        let answered = wait::until("nsd answers", Duration::from_secs(10), || {
            let client = Client::open_patient(namespace)?;
            let response = client.ask(addresses[0], zones[0].apex, RecordType::SOA)?;
            ensure!(response.metadata.authoritative, "without authority:\n{response}");
            Ok(())
        });
        match answered {
            Ok(_) => Ok(nsd),
            Err(error) => {
                nsd.end();
                Err(anyhow!("{error:#}\n{}", process::tail(&log, 10)))
            }
        }
    }

    /// Kills it.
    pub fn end(&mut self) {
        self.server.kill().and_then(|()| self.server.wait()).ok();
    }
}

/// Writes the files of NSD and returns its command. `more` are further lines of its configuration's `server:`.
///
/// # Errors
/// A file cannot be written.
pub fn command(directory: &Path, addresses: &[IpAddr], zones: &[Zone<'_>], more: &str) -> Result<Command> {
    let file = |name: &str| directory.join(name);
    for (index, zone) in zones.iter().enumerate() {
        write(&file(&zone_file(index)), zone.text)?;
    }
    write(&file("nsd.conf"), &configuration(directory, addresses, zones, more))?;
    let mut command = Command::new("nsd");
    command.arg("-d").arg("-c").arg(file("nsd.conf"));
    Ok(command)
}

fn zone_file(index: usize) -> String {
    format!("nsd-{index}.zone")
}

fn write(path: &PathBuf, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// The configuration: one server process, which answers in order, and no rate limit.
fn configuration(directory: &Path, addresses: &[IpAddr], zones: &[Zone<'_>], more: &str) -> String {
    let directory = directory.display();
    let zones = zones.iter().enumerate();
    let zones: String = zones
        .map(|(index, zone)| format!("zone:\n\tname: {}\n\tzonefile: {}\n", zone.apex, zone_file(index)))
        .collect();
    let addresses: String = addresses.iter().map(|address| format!("\tip-address: {address}\n")).collect();
    format!(
        "server:\n\
         {addresses}\
         {more}\
         \tserver-count: 1\n\
         \trrl-ratelimit: 0\n\
         \tidentity: {IDENTITY}\n\
         \tnsid: ascii_{IDENTITY}\n\
         \thide-version: yes\n\
         \tusername: \"\"\n\
         \tzonesdir: \"{directory}\"\n\
         \tpidfile: \"{directory}/nsd.pid\"\n\
         \tdatabase: \"\"\n\
         \txfrdfile: \"{directory}/nsd.xfrd\"\n\
         \txfrdir: \"{directory}\"\n\
         \tzonelistfile: \"{directory}/nsd.zones\"\n\
         remote-control:\n\
         \tcontrol-enable: no\n\
         {zones}"
    )
}
