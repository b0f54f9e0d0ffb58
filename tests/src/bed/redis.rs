//! A real Redis on a node, and its real client, which finds the node by name through a resolver.
mod connections;
mod server;

use std::fs;
use std::net::{IpAddr, SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

use crate::bed::netns::Namespace;
use crate::bed::wait;

pub use connections::{Attempt, Connections, Span, spans};
pub use server::Server;

/// The longest time until a server on a busy machine listens.
const LISTENS_WITHIN: Duration = Duration::from_secs(15);
/// The longest time of one check whether it listens.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);

/// Starts a server in a namespace and waits until it accepts connections. The server announces the first of these
/// addresses, and keeps nothing on disk. Its log is the file `name`.redis.log in `directory`.
///
/// # Errors
/// redis-server is not installed or does not listen.
pub fn start(
    namespace: &Namespace,
    directory: &Path,
    name: &str,
    addresses: &[IpAddr],
    port: u16,
) -> Result<Child> {
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--protected-mode", "no", "--save", "", "--appendonly", "no"]);
    // It listens on every address, even if the namespace gets the address later.
    command.args(["--bind", "*", "-::*", "--replica-announce-ip", &addresses[0].to_string()]);
    command.arg("--dir").arg(directory).arg("--logfile").arg(directory.join(format!("{name}.redis.log")));
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null()).process_group(0);
    let mut server = namespace.spawn(&mut command).context("is redis-server installed?")?;
    let listens = wait::until(&format!("the database of {name} listens"), LISTENS_WITHIN, || {
        let address = SocketAddr::new(addresses[0], port);
        namespace.enter(|| Ok(TcpStream::connect_timeout(&address, CONNECT_TIMEOUT).map(drop)?))
    });
    if listens.is_err() {
        server.kill().and_then(|()| server.wait()).ok();
    }
    listens?;
    Ok(server)
}

/// A `redis-cli` in a namespace. It looks names up at one resolver, independently of the machine's settings.
#[derive(Debug, Clone)]
pub struct Cli {
    namespace: Namespace,
    /// The directory that it sees as `/etc`.
    etc: PathBuf,
}

impl Cli {
    /// Writes the settings of the client's own `/etc` into `directory`.
    ///
    /// # Errors
    /// The settings cannot be written.
    pub fn new(namespace: &Namespace, directory: &Path, resolver: IpAddr) -> Result<Self> {
        let etc = directory.join("etc");
        fs::create_dir_all(&etc).with_context(|| format!("cannot make {}", etc.display()))?;
        let resolv = format!("nameserver {resolver}\n");
        for (name, text) in [("resolv.conf", resolv.as_str()), ("nsswitch.conf", "hosts: dns\n")] {
            fs::write(etc.join(name), text).with_context(|| format!("cannot write {name}"))?;
        }
        Ok(Cli { namespace: namespace.clone(), etc })
    }

    /// Runs `work` on a thread whose programs see the namespace and the settings.
    ///
    /// # Errors
    /// The namespace cannot be entered, or `work` fails.
    pub fn enter<T: Send>(&self, work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
        self.namespace.enter(|| {
            unshare(CloneFlags::CLONE_NEWNS).context("cannot make a mount namespace")?;
            let none = None::<&str>;
            // Without this call, the next mount would be visible on the whole machine.
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none)
                .context("cannot make the mounts private")?;
            mount(Some(&self.etc), "/etc", none, MsFlags::MS_BIND, none)
                .context("cannot put the client's settings on /etc")?;
            work()
        })
    }
}
