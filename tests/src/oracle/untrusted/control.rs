//! Any input on the control socket: the real server, with a controller that changes a text.
use std::io::{Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use dns_xdp::config::Config;
use dns_xdp::config::edit::{EditError, Edited, add_node, remove_node, set_node};
use dns_xdp::control::{Call, Command, Refusal, RefusalKind, Server};
use dns_xdp::event::Journal;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::runtime::Runtime;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const PATH: &str = "/nonexistent/dns-xdp.toml";
const TEXT: &str = "[zone]\nname = \"demo.example.com\"\n[listen]\ninterfaces = [\"eth0\"]\n\
                    [[node]]\nname = \"node1\"\nipv4 = \"192.0.2.11\"\n";
/// The longest time for an answer: a slower server hangs.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The most octets of the answers to several requests. None of the answers is long.
const ANSWER_MAX: usize = 1 << 20;

/// A control socket, served as long as this value lives.
#[derive(Debug)]
pub struct Socket {
    path: PathBuf,
    _runtime: Runtime,
    _directory: TempDir,
}

impl Socket {
    /// Serves a new control socket.
    ///
    /// # Errors
    /// The socket, its directory or the runtime cannot be made.
    pub fn serve() -> anyhow::Result<Self> {
        let directory = tempfile::tempdir()?;
        let path = directory.path().join("control.sock");
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
        let _inside = runtime.enter();
        let (calls, inbox) = mpsc::channel(1);
        let journal = Arc::new(Journal::new(jiff::Timestamp::UNIX_EPOCH));
        runtime.spawn(Server::bind(&path)?.serve(calls, journal, CancellationToken::new()));
        runtime.spawn(control(inbox));
        Ok(Socket { path, _runtime: runtime, _directory: directory })
    }

    /// Checks the property for one input: the server answers in HTTP or closes the connection, soon. An input that
    /// begins with a zero octet is sent as it is, without that octet. Any other input is the body of a command.
    ///
    /// # Errors
    /// The server's wrong behaviour.
    pub fn hold(&self, input: &[u8]) -> Result<(), String> {
        let said = match input {
            [0, raw @ ..] => raw.to_vec(),
            body => post(body),
        };
        let answer =
            self.say(&said).map_err(|error| format!("{error} after {:?}", String::from_utf8_lossy(&said)))?;
        if !answer.is_empty() && !answer.starts_with(b"HTTP/1.") {
            return Err(format!("{:?} is no HTTP", String::from_utf8_lossy(&answer)));
        }
        if answer.get(8..12) == Some(b" 500") {
            return Err(String::from_utf8_lossy(&answer).into_owned());
        }
        Ok(())
    }

    fn say(&self, said: &[u8]) -> std::io::Result<Vec<u8>> {
        let mut stream = UnixStream::connect(&self.path)?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        // The server may close the connection before it has read everything.
        stream.write_all(said).ok();
        stream.shutdown(Shutdown::Write).ok();
        let mut answer = Vec::new();
        match stream.take(ANSWER_MAX as u64).read_to_end(&mut answer) {
            Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(answer),
        }
    }
}

fn post(body: &[u8]) -> Vec<u8> {
    let length = body.len();
    let head =
        format!("POST /command HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n");
    [head.as_bytes(), body].concat()
}

/// The controller: it changes nodes in a text, which has to stay a valid configuration, and echoes other commands.
async fn control(mut inbox: mpsc::Receiver<Call>) {
    while let Some(Call { command, reply, .. }) = inbox.recv().await {
        // The client may have closed its connection.
        reply.send(answer(&command)).ok();
    }
}

fn answer(command: &Command) -> Result<Value, Refusal> {
    let again = serde_json::to_vec(command).expect("a command has a JSON form");
    let again: Command = serde_json::from_slice(&again).expect("what was written can be read");
    assert_eq!(again, *command, "written and read it is another command");
    let invalid = |error: EditError| Refusal::new(RefusalKind::Invalid, error.to_string());
    let Edited { text, notes } = match command {
        Command::NodeAdd { name, ipv4, ipv6, keys, .. } => add_node(TEXT, name, *ipv4, *ipv6, keys),
        Command::NodeSet { name, ipv4, ipv6, keys, .. } => set_node(TEXT, name, *ipv4, *ipv6, keys),
        Command::NodeRemove { name, .. } => remove_node(TEXT, name),
        _ => return Ok(json!(command)),
    }
    .map_err(invalid)?;
    let nodes = Config::parse(&text, Path::new(PATH))
        .map_err(|error| Refusal::new(RefusalKind::Invalid, error.to_string()))?
        .cluster
        .nodes
        .len();
    assert!(nodes <= 2, "more than one node was added: {text}");
    Ok(json!({ "notes": notes }))
}
