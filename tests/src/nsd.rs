//! An NSD that serves one zone in a namespace of the test bed.
use std::fs::{self, File};
use std::net::IpAddr;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};

use crate::dig::dig;
use crate::netns::Namespace;
use crate::process;
use crate::wait;

/// How NSD says who it is: NSID and `id.server`.
pub const IDENTITY: &str = "node1";

/// A running NSD; it is to be ended, or its namespace removed.
#[derive(Debug)]
pub struct Nsd {
    server: Child,
}

impl Nsd {
    /// Starts it on port 53 of `addresses` with `zone`, which is a zone file's text, and waits for its first answer.
    /// Its files go into `directory`.
    ///
    /// # Errors
    /// When NSD is not installed, refuses the zone or does not come up.
    pub fn start(
        namespace: &Namespace,
        directory: &Path,
        addresses: &[IpAddr],
        apex: &str,
        zone: &str,
    ) -> Result<Self> {
        let mut command = command(directory, addresses, apex, zone, "")?;
        let log = directory.join("nsd.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let server = namespace.spawn(&mut command).context("is nsd installed?")?;
        let mut nsd = Nsd { server };
        let answered = wait::until("nsd answers", Duration::from_secs(10), || {
            dig(namespace, addresses[0], &[apex, "SOA"])
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

/// The program, its files written; `more` are further lines of its configuration's `server:`.
///
/// # Errors
/// When a file cannot be written.
pub fn command(
    directory: &Path,
    addresses: &[IpAddr],
    apex: &str,
    zone: &str,
    more: &str,
) -> Result<Command> {
    let file = |name: &str| directory.join(name);
    write(&file("nsd.zone"), zone)?;
    write(&file("nsd.conf"), &configuration(directory, addresses, apex, more))?;
    let mut command = Command::new("nsd");
    command.arg("-d").arg("-c").arg(file("nsd.conf"));
    Ok(command)
}

fn write(path: &PathBuf, text: &str) -> Result<()> {
    fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
}

/// One server process, which answers in order; as many answers a second as are asked for.
fn configuration(directory: &Path, addresses: &[IpAddr], apex: &str, more: &str) -> String {
    let directory = directory.display();
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
         zone:\n\
         \tname: {apex}\n\
         \tzonefile: nsd.zone\n"
    )
}
