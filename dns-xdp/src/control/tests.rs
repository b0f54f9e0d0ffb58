//! Tests of server and client over a socket of their own.
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::{BindError, Call, CallError, Client, Command, Refusal, RefusalKind, Server, remove_stale};
use crate::event::{EVENTS, Journal, Kind, Occurrence, Page};

/// A daemon that answers its status, drops reloads, and knows no node.
struct Daemon {
    directory: TempDir,
    socket: PathBuf,
    stop: CancellationToken,
    journal: Arc<Journal>,
    serving: JoinHandle<()>,
}

impl Daemon {
    fn start() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let socket = directory.path().join("run/control.sock");
        let (calls, controller) = mpsc::channel(1);
        let stop = CancellationToken::new();
        let server = Server::bind(&socket).unwrap();
        let journal = Arc::new(Journal::new(Timestamp::UNIX_EPOCH));
        let serving = tokio::spawn(server.serve(calls, Arc::clone(&journal), stop.clone()));
        tokio::spawn(answer(controller));
        Daemon { directory, socket, stop, journal, serving }
    }

    fn client(&self) -> Client {
        Client::new(&self.socket).with_patience(Duration::from_secs(5))
    }

    async fn stop(self) {
        self.stop.cancel();
        self.serving.await.unwrap();
    }
}

async fn answer(mut controller: mpsc::Receiver<Call>) {
    let mut kept = Vec::new();
    while let Some(Call { command, reply, .. }) = controller.recv().await {
        match command {
            Command::Status => reply.send(Ok(json!({"zone": "example.com."}))).unwrap(),
            Command::Reload { .. } => drop(reply),
            Command::Handover => kept.push(reply),
            _ => reply.send(Err(Refusal::unknown_node("nod1", ["node1"]))).unwrap(),
        }
    }
}

async fn raw(daemon: &Daemon, request: &[u8]) -> String {
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    stream.write_all(request).await.unwrap();
    stream.shutdown().await.unwrap();
    let mut response = Vec::new();
    stream.read_to_end(&mut response).await.unwrap();
    String::from_utf8_lossy(&response).into_owned()
}

fn post(body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST /command HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
    )
    .into()
}

#[tokio::test]
async fn a_command_reaches_the_controller_and_its_answer_the_client() {
    let daemon = Daemon::start();
    let answer: Value = daemon.client().ask(&Command::Status).await.unwrap();
    assert_eq!(answer, json!({"zone": "example.com."}));
    daemon.stop().await;
}

fn events(started: Option<Timestamp>, after: u64, wait_ms: u64) -> Command {
    Command::Events { after, started, limit: None, wait_ms }
}

fn happen(daemon: &Daemon) {
    daemon.journal.append(Timestamp::UNIX_EPOCH, Occurrence::new(Kind::Down).about("node2"));
}

#[tokio::test]
async fn events_are_read_from_a_number_on_and_awaited() {
    let daemon = Daemon::start();
    happen(&daemon);
    happen(&daemon);
    let page: Page = daemon.client().ask(&events(None, 1, 0)).await.unwrap();
    assert_eq!((page.events.len(), page.events[0].seq, page.newest), (1, 2, 2));
    let client = daemon.client();
    let waiting = tokio::spawn(async move { client.ask::<Page>(&events(None, 2, 10_000)).await });
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert!(!waiting.is_finished());
    happen(&daemon);
    let page = waiting.await.unwrap().unwrap();
    assert_eq!(page.events.iter().map(|event| event.seq).collect::<Vec<_>>(), [3]);
    let empty: Page = daemon.client().ask(&events(None, 3, 20)).await.unwrap();
    assert!(empty.events.is_empty() && empty.newest == 3);
    daemon.stop().await;
}

#[tokio::test]
async fn a_follower_of_the_daemon_before_gets_this_ones_first_events_at_once() {
    let daemon = Daemon::start();
    happen(&daemon);
    let before = Timestamp::from_second(1).unwrap();
    let page: Page = daemon.client().ask(&events(Some(before), 57, 10_000)).await.unwrap();
    assert_eq!((page.started, page.events[0].seq), (Timestamp::UNIX_EPOCH, 1));
    daemon.stop().await;
}

#[tokio::test]
async fn followers_are_bounded_and_let_go_when_the_daemon_stops() {
    let daemon = Daemon::start();
    let client = daemon.client();
    let follow = || {
        let client = client.clone();
        tokio::spawn(async move { client.ask::<Page>(&events(None, 0, 10_000)).await })
    };
    let following: Vec<_> = (0..40).map(|_| follow()).collect();
    tokio::time::sleep(Duration::from_millis(500)).await;
    // A request without waiting is still served, and so are commands.
    client.ask::<Page>(&events(None, 0, 0)).await.unwrap();
    client.call(&Command::Status).await.unwrap();
    let start = std::time::Instant::now();
    daemon.stop().await;
    let mut served = 0;
    for follower in following {
        match follower.await.unwrap() {
            Ok(page) => served += usize::from(page.events.is_empty()),
            Err(error) => assert!(error.to_string().starts_with("32 clients already follow"), "{error}"),
        }
    }
    assert_eq!(served, 32);
    assert!(start.elapsed() < Duration::from_millis(900), "{:?}", start.elapsed());
}

#[tokio::test]
async fn a_client_that_never_reads_its_answer_holds_nobody_up() {
    let daemon = Daemon::start();
    let mut silent = Vec::new();
    for _ in 0..3 {
        let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
        stream.write_all(&post(r#"{"verb":"events","wait_ms":10000}"#)).await.unwrap();
        silent.push(stream);
    }
    tokio::time::sleep(Duration::from_millis(100)).await;
    let reason = "x".repeat(500);
    let start = std::time::Instant::now();
    for _ in 0..EVENTS * 2 {
        daemon.journal.append(Timestamp::UNIX_EPOCH, Occurrence::new(Kind::Down).because(&reason));
    }
    assert!(start.elapsed() < Duration::from_secs(1), "{:?}", start.elapsed());
    let page: Page = daemon.client().ask(&events(None, 0, 0)).await.unwrap();
    assert_eq!((page.events.len(), page.lost), (EVENTS, EVENTS as u64));
    daemon.stop().await;
}

#[tokio::test]
async fn a_refusal_keeps_its_message_and_kind() {
    let daemon = Daemon::start();
    let command = Command::NodeRemove { name: "nod1".to_owned(), ephemeral: false };
    let error = daemon.client().call(&command).await.unwrap_err();
    assert_eq!(error.to_string(), "there is no node `nod1`; did you mean `node1`?");
    assert!(matches!(error, CallError::Refused(refusal) if refusal.kind == RefusalKind::NotFound));
    daemon.stop().await;
}

#[tokio::test]
async fn a_call_that_the_controller_drops_has_failed() {
    let daemon = Daemon::start();
    let error = daemon.client().call(&Command::Reload { force: false }).await.unwrap_err();
    assert_eq!(error.to_string(), "the daemon is stopping; ask again when it runs");
    daemon.stop().await;
}

#[tokio::test]
async fn a_controller_that_does_not_answer_is_not_waited_for() {
    let daemon = Daemon::start();
    let client = daemon.client().with_patience(Duration::from_millis(50));
    let error = client.call(&Command::Handover).await.unwrap_err().to_string();
    assert!(error.ends_with("did not answer within 50ms: look at its log"), "{error}");
    daemon.stop().await;
}

#[tokio::test]
async fn garbage_is_refused_and_the_server_goes_on() {
    let daemon = Daemon::start();
    let cases: [(&[u8], &str); 6] = [
        (b"\x16\x03\x01garbage\r\n\r\n", "400"),
        (b"GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "404"),
        (b"GET /command HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n", "405"),
        (&post("{"), "400"),
        (&post(r#"{"verb":"explode"}"#), "400"),
        (&post(&"x".repeat(20_000)), "400"),
    ];
    for (request, status) in cases {
        let response = raw(&daemon, request).await;
        assert!(response.starts_with(&format!("HTTP/1.1 {status} ")), "{status}: {response}");
    }
    assert!(daemon.client().call(&Command::Status).await.is_ok());
    daemon.stop().await;
}

#[tokio::test]
async fn a_client_that_says_nothing_does_not_hold_up_the_end() {
    let daemon = Daemon::start();
    let mut silent = UnixStream::connect(&daemon.socket).await.unwrap();
    silent.write_all(b"POST /comm").await.unwrap();
    let stopped = tokio::time::timeout(Duration::from_secs(5), daemon.stop()).await;
    assert!(stopped.is_ok());
}

#[tokio::test]
async fn a_directory_in_which_another_socket_could_be_put_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let [open, sticky, link] = ["open", "sticky", "link"].map(|name| directory.path().join(name));
    for (path, mode) in [(&open, 0o777), (&sticky, 0o1777)] {
        std::fs::create_dir(path).unwrap();
        std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).unwrap();
    }
    std::os::unix::fs::symlink(&sticky, &link).unwrap();
    for (path, why) in [(&open, "other users may write to: chmod go-w"), (&link, "is a symbolic link")] {
        let message = Server::bind(&path.join("control.sock")).unwrap_err().to_string();
        assert!(message.contains(why), "{message}");
    }
    drop(Server::bind(&sticky.join("control.sock")).unwrap());
    let target = directory.path().join("target.sock");
    let _listening = std::os::unix::net::UnixListener::bind(&target).unwrap();
    let path = directory.path().join("control.sock");
    std::os::unix::fs::symlink(&target, &path).unwrap();
    assert!(matches!(Server::bind(&path), Err(BindError::NotASocket { .. })));
    assert!(path.is_symlink() && target.exists());
}

#[tokio::test]
async fn a_missing_daemon_says_how_to_start_it() {
    let error = Client::new("/nonexistent/control.sock".as_ref()).call(&Command::Status).await.unwrap_err();
    let text = "no dns-xdp answers on /nonexistent/control.sock: \
                start it with 'dns-xdp run' or name its socket with --socket";
    assert_eq!(error.to_string(), text);
}

#[tokio::test]
async fn the_socket_is_private_and_gone_after_the_end() {
    let daemon = Daemon::start();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let run = daemon.directory.path().join("run");
    assert_eq!((mode(&run), mode(&daemon.socket)), (0o700, 0o600));
    let Daemon { directory, stop, serving, .. } = daemon;
    stop.cancel();
    serving.await.unwrap();
    assert!(!run.exists());
    directory.close().unwrap();
}

#[tokio::test]
async fn a_second_daemon_names_the_first_and_a_dead_ones_socket_is_replaced() {
    let daemon = Daemon::start();
    let error = Server::bind(&daemon.socket).unwrap_err();
    assert!(matches!(&error, BindError::Busy { pid, .. } if *pid == std::process::id() as i32), "{error}");
    let stale = daemon.directory.path().join("stale.sock");
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(stale.exists());
    drop(Server::bind(&stale).unwrap());
    assert!(!stale.exists() && !remove_stale(&stale).unwrap());
    drop(std::os::unix::net::UnixListener::bind(&stale).unwrap());
    assert!(remove_stale(&stale).unwrap() && remove_stale(&daemon.socket).is_err());
    daemon.stop().await;
}

#[tokio::test]
async fn what_is_no_socket_is_left_alone() {
    let file = tempfile::NamedTempFile::new().unwrap();
    assert!(matches!(Server::bind(file.path()), Err(BindError::NotASocket { .. })));
    assert!(file.path().exists());
}

#[tokio::test]
async fn a_successors_socket_survives_the_end_of_its_predecessor() {
    let daemon = Daemon::start();
    let socket = daemon.socket.clone();
    let directory = daemon.directory.path().to_owned();
    std::fs::rename(&socket, directory.join("away")).unwrap();
    let successor = Server::bind(&socket).unwrap();
    let Daemon { directory: _kept, stop, serving, .. } = daemon;
    stop.cancel();
    serving.await.unwrap();
    assert!(socket.exists());
    drop(successor);
}

#[tokio::test]
async fn the_largest_valid_command_is_taken_and_a_larger_one_is_refused_with_both_sizes() {
    let daemon = Daemon::start();
    // As many nodes as a zone can have, each with the longest name.
    let nodes: Vec<String> = (0..65_536).map(|node| format!("{node:n>253}")).collect();
    let add = |nodes: Vec<String>| Command::ServiceAdd {
        name: "s".repeat(63),
        nodes,
        min_healthy: Some(usize::MAX),
        order: None,
        backup: None,
        all_down: None,
        ephemeral: false,
    };
    let client = Client::new(&daemon.socket).with_patience(Duration::from_secs(60));
    let refusal = |error| match error {
        CallError::Refused(refusal) => refusal,
        other => panic!("{other}"),
    };
    let taken = refusal(client.call(&add(nodes.clone())).await.unwrap_err());
    assert_eq!(taken, Refusal::unknown_node("nod1", ["node1"]));
    let mut stream = UnixStream::connect(&daemon.socket).await.unwrap();
    stream.write_all(&post(&"x".repeat(20_000_000))).await.unwrap();
    let mut status = [0; 12];
    stream.read_exact(&mut status).await.unwrap();
    assert_eq!(String::from_utf8_lossy(&status), "HTTP/1.1 413");
    let refused = refusal(client.call(&add([nodes.clone(), nodes].concat())).await.unwrap_err());
    assert_eq!(refused.kind, RefusalKind::Invalid);
    assert!(refused.message.contains("octets") && refused.message.contains("at most"), "{refused}");
    daemon.stop().await;
}
