//! An Unbound beside a client: a real recursive resolver, which starts with an empty cache at the root of the test bed.
use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use hickory_proto::rr::RecordType;

use crate::bed::client::Client;
use crate::bed::netns::Namespace;
use crate::bed::process;
use crate::bed::wait;

/// The address that it answers on, in its client's namespace.
pub const ADDRESS: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A running Unbound; it has to be ended, or its namespace removed.
#[derive(Debug)]
pub struct Unbound {
    server: Child,
}

impl Unbound {
    /// Starts Unbound and waits until it answers for a name that needs no other server. `root_hints` is a zone file's
    /// text. Unbound's files go into `directory`.
    ///
    /// # Errors
    /// Unbound is not installed or does not come up.
    pub fn start(namespace: &Namespace, directory: &Path, root_hints: &str) -> Result<Self> {
        let (hints, config) = (directory.join("root.hints"), directory.join("unbound.conf"));
        fs::write(&hints, root_hints).with_context(|| format!("cannot write {}", hints.display()))?;
        fs::write(&config, configuration(directory))
            .with_context(|| format!("cannot write {}", config.display()))?;
        let log = directory.join("unbound.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        let mut command = Command::new("unbound");
        command.args(["-d", "-p", "-c"]).arg(&config);
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let mut unbound = Unbound { server: namespace.spawn(&mut command).context("is unbound installed?")? };
        let answered = wait::until("unbound answers", Duration::from_secs(10), || {
            Client::open_patient(namespace)?.ask(ADDRESS, "localhost.", RecordType::A)
        });
        match answered {
            Ok(_) => Ok(unbound),
            Err(error) => {
                unbound.end();
                Err(anyhow!("{error:#}\n{}", process::tail(&log, 10)))
            }
        }
    }

    /// Kills it.
    pub fn end(&mut self) {
        self.server.kill().and_then(|()| self.server.wait()).ok();
    }
}

/// The configuration: no validation, because nothing is signed here. Except for the paths of files, the rest has
/// defaults.
fn configuration(directory: &Path) -> String {
    let directory = directory.display();
    format!(
        "server:\n\
         \tinterface: {ADDRESS}\n\
         \taccess-control: 127.0.0.0/8 allow\n\
         \tmodule-config: \"iterator\"\n\
         \troot-hints: \"{directory}/root.hints\"\n\
         \tdirectory: \"{directory}\"\n\
         \tchroot: \"\"\n\
         \tusername: \"\"\n\
         \tuse-syslog: no\n\
         \tlogfile: \"\"\n\
         \tnum-threads: 1\n\
         remote-control:\n\
         \tcontrol-enable: no\n"
    )
}
