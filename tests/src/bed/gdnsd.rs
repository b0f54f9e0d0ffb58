//! A gdnsd that serves one zone in a namespace of the test bed.
use std::fs::{self, File};
use std::net::IpAddr;
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

/// A running gdnsd; it has to be ended, or its namespace removed.
#[derive(Debug)]
pub struct Gdnsd {
    server: Child,
}

impl Gdnsd {
    /// Starts gdnsd on port 53 of `addresses` and waits for its first answer. `zone` is the text of a zone file. The
    /// files of gdnsd go into `directory`. `more` is the same as for [`command`].
    ///
    /// # Errors
    /// gdnsd is not installed, refuses its files or does not come up.
    pub fn start(
        namespace: &Namespace,
        directory: &Path,
        addresses: &[IpAddr],
        apex: &str,
        zone: &str,
        more: &str,
    ) -> Result<Self> {
        let mut command = command(directory, addresses, apex, zone, more)?;
        let log = directory.join("gdnsd.log");
        let output = File::create(&log).with_context(|| format!("cannot write {}", log.display()))?;
        command.stdin(Stdio::null()).stdout(output.try_clone()?).stderr(output).process_group(0);
        let mut gdnsd = Gdnsd { server: namespace.spawn(&mut command).context("is gdnsd installed?")? };
        let answered = wait::until("gdnsd answers", Duration::from_secs(10), || {
            Client::open_patient(namespace)?.ask(addresses[0], apex, RecordType::SOA)
        });
        match answered {
            Ok(_) => Ok(gdnsd),
            Err(error) => {
                gdnsd.end();
                Err(anyhow!("{error:#}\n{}", process::tail(&log, 10)))
            }
        }
    }

    /// Kills it.
    pub fn end(&mut self) {
        self.server.kill().and_then(|()| self.server.wait()).ok();
    }
}

/// Writes the files of gdnsd and returns its command. `directory` becomes its configuration directory with `config`,
/// and with a file named after the zone in `zones`. `more` are stanzas after `options`.
///
/// # Errors
/// A file cannot be written.
pub fn command(
    directory: &Path,
    addresses: &[IpAddr],
    apex: &str,
    zone: &str,
    more: &str,
) -> Result<Command> {
    let zones = directory.join("zones");
    fs::create_dir(&zones).with_context(|| format!("cannot make {}", zones.display()))?;
    write(&zones.join(apex), zone)?;
    write(&directory.join("config"), &configuration(directory, addresses, more))?;
    let mut command = Command::new("gdnsd");
    command.arg("-c").arg(directory).arg("start");
    Ok(command)
}

fn configuration(directory: &Path, addresses: &[IpAddr], more: &str) -> String {
    let listen: Vec<String> = addresses.iter().map(|address| format!("\"{address}\"")).collect();
    format!(
        "options => {{\n\
         \x20 listen => [ {listen} ],\n\
         \x20 udp_threads => 1,\n\
         \x20 tcp_threads => 1,\n\
         \x20 run_dir => \"{directory}/gdnsd-run\",\n\
         \x20 state_dir => \"{directory}/gdnsd-state\",\n\
         }}\n\
         {more}",
        listen = listen.join(", "),
        directory = directory.display(),
    )
}

fn write(file: &Path, text: &str) -> Result<()> {
    fs::write(file, text).with_context(|| format!("cannot write {}", file.display()))
}
