//! The server's side of the control socket. It checks and limits the requests, and passes commands to the controller.
use std::error::Error as _;
use std::fs::{self, DirBuilder, Permissions};
use std::io;
use std::os::unix::fs::{DirBuilderExt, FileTypeExt, MetadataExt, PermissionsExt};
use std::os::unix::net::{UnixListener as StdListener, UnixStream as StdStream};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::{HttpBody as _, to_bytes};
use axum::extract::{Request, State};
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use http_body_util::{BodyExt as _, LengthLimitError};
use jiff::Timestamp;
use nix::sys::socket::{getsockopt, sockopt};
use nix::unistd::geteuid;
use serde_json::Value;
use tokio::net::UnixListener;
use tokio::sync::{Semaphore, SemaphorePermit, mpsc, oneshot};
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

use super::api::{Call, Command, Refusal, RefusalKind};
use super::connections::{ControlSocket, LIMITS};
use super::{COMMAND_PATH, UNTIL};
use crate::config::Capacity;
use crate::connections;
use crate::event::{EVENTS, Journal, Page};

/// Octets of the longest valid command: a service with the most nodes of a zone. Each node name has 253 octets, two
/// quotation marks and a comma.
const LONGEST_COMMAND: usize = NAMES_MAX * (253 + 3) + SHORT_COMMAND;
/// The most names of a zone.
const NAMES_MAX: usize = Capacity::MAX as usize;
/// Commands up to this size are read at once. A longer command waits until the previous long command is answered, so
/// that only one of them is in memory.
const SHORT_COMMAND: usize = 64 * 1024;
/// The longest time for the body of a request.
const LONGEST_BODY: Duration = Duration::from_secs(10);
/// The most clients that wait for events at a time.
const FOLLOWERS: usize = 32;
/// How long a client may wait for an event. No client gives up earlier.
const LONGEST_WAIT: Duration = Duration::from_secs(20);
/// How long a client may take to read its answer after the daemon has begun to stop.
const LAST_ANSWERS: Duration = Duration::from_secs(1);

/// The bound socket. Dropping it removes its file.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    file: Arc<SocketFile>,
}

/// Why there is no control socket.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// A daemon answers on the socket.
    #[error(
        "another dns-xdp (pid {pid}) runs on this socket, {path}: stop it, take over with 'dns-xdp run --replace', or name another socket",
        path = path.display()
    )]
    Busy {
        /// The socket.
        path: PathBuf,
        /// The daemon's process.
        pid: i32,
    },
    /// The path is something other than a socket.
    #[error("{path} is not a socket: remove it, or name another in [control] socket", path = path.display())]
    NotASocket {
        /// The path.
        path: PathBuf,
    },
    /// Another user could replace the socket.
    #[error("the control socket would not be safe in {directory}, which {why}", directory = directory.display())]
    Unsafe {
        /// The socket's directory.
        directory: PathBuf,
        /// The fault of the directory, and the remedy.
        why: String,
    },
    /// The system refused.
    #[error("cannot make the control socket {path}: {source}", path = path.display())]
    Refused {
        /// The socket.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
}

impl Server {
    /// Binds the socket with mode 0600. No other user may write to its directory, which is made with mode 0700 if it is
    /// missing. Replaces a socket that a killed daemon has left: no daemon answers there. Needs a tokio runtime.
    pub fn bind(path: &Path) -> Result<Self, BindError> {
        let refused = |source| BindError::Refused { path: path.to_owned(), source };
        let directory = made_directory(path).map_err(refused)?;
        check_directory(parent(path))?;
        let listener = match StdListener::bind(path) {
            Err(error) if error.kind() == io::ErrorKind::AddrInUse => {
                remove_stale(path)?;
                StdListener::bind(path)
            }
            bound => bound,
        };
        let listener = listener.map_err(refused)?;
        // Another user may connect until the mode is set. The server then rejects it by its uid.
        let bound = || {
            fs::set_permissions(path, Permissions::from_mode(0o600))?;
            listener.set_nonblocking(true)?;
            identity(path)
        };
        let identity = bound().map_err(refused)?;
        let file = Arc::new(SocketFile {
            path: path.to_owned(),
            identity,
            directory,
            is_removed: AtomicBool::new(false),
        });
        Ok(Server { listener: UnixListener::from_std(listener).map_err(refused)?, file })
    }

    /// Returns the socket's file, so that it can be removed without waiting for [`Server::serve`].
    pub fn file(&self) -> Arc<SocketFile> {
        Arc::clone(&self.file)
    }

    /// Serves until `stop` is cancelled and the answers under way are sent. Dropping the future removes the socket.
    ///
    /// Commands go to the controller; events are read from the journal without the controller.
    pub async fn serve(self, calls: mpsc::Sender<Call>, journal: Arc<Journal>, stop: CancellationToken) {
        let Server { listener, file } = self;
        let context = Context {
            calls,
            journal,
            followers: Arc::new(Semaphore::new(FOLLOWERS)),
            long_command: Arc::new(Semaphore::new(1)),
            stop: stop.clone(),
        };
        let router = Router::new().route(COMMAND_PATH, post(command)).with_state(context);
        let give_up = async {
            stop.cancelled().await;
            tokio::time::sleep(LAST_ANSWERS).await;
        };
        tokio::select! {
            () = connections::serve(ControlSocket(listener), router, LIMITS, stop.clone()) => {}
            () = give_up => {}
        }
        file.remove();
    }
}

/// The socket's file, and its directory if [`Server::bind`] has made it.
#[derive(Debug)]
pub struct SocketFile {
    path: PathBuf,
    identity: Identity,
    directory: Option<PathBuf>,
    /// Whether the file was removed. The kernel may then give the same identity to another file.
    is_removed: AtomicBool,
}

/// Device and inode of a file.
type Identity = (u64, u64);

fn identity(path: &Path) -> io::Result<Identity> {
    fs::symlink_metadata(path).map(|metadata| (metadata.dev(), metadata.ino()))
}

impl SocketFile {
    /// Removes the file and the directory, unless another daemon's socket is there now.
    pub fn remove(&self) {
        if self.is_removed.swap(true, Ordering::AcqRel) || identity(&self.path).ok() != Some(self.identity) {
            return;
        }
        // The next start replaces a remaining socket, so a failure here does no harm.
        fs::remove_file(&self.path).ok();
        if let Some(directory) = &self.directory {
            fs::remove_dir(directory).ok();
        }
    }
}

impl Drop for SocketFile {
    fn drop(&mut self) {
        self.remove();
    }
}

/// Makes the socket's directory; `None` if it is there already.
fn made_directory(path: &Path) -> io::Result<Option<PathBuf>> {
    let directory = parent(path);
    if directory.exists() {
        return Ok(None);
    }
    DirBuilder::new().recursive(true).mode(0o700).create(directory)?;
    Ok(Some(directory.to_owned()))
}

fn parent(path: &Path) -> &Path {
    path.parent().filter(|directory| !directory.as_os_str().is_empty()).unwrap_or(Path::new("."))
}

/// Refuses an unsafe directory. A user that may write to it could replace the socket, unless the directory is sticky
/// like /tmp.
fn check_directory(directory: &Path) -> Result<(), BindError> {
    let refused = |source| BindError::Refused { path: directory.to_owned(), source };
    let metadata = fs::symlink_metadata(directory).map_err(refused)?;
    let (owner, mode) = (metadata.uid(), metadata.mode());
    let why = if metadata.is_symlink() {
        "is a symbolic link: name its target in [control] socket".to_owned()
    } else if owner != 0 && owner != geteuid().as_raw() {
        format!("belongs to user {owner}: name a directory of the daemon's user in [control] socket")
    } else if mode & 0o022 != 0 && mode & 0o1000 == 0 {
        format!("other users may write to: chmod go-w {}", directory.display())
    } else {
        return Ok(());
    };
    Err(BindError::Unsafe { directory: directory.to_owned(), why })
}

/// Removes a socket that a killed daemon has left: no daemon listens there. Returns `false` if there is no socket.
pub fn remove_stale(path: &Path) -> Result<bool, BindError> {
    let refused = |source| BindError::Refused { path: path.to_owned(), source };
    match fs::symlink_metadata(path) {
        Ok(metadata) if metadata.file_type().is_socket() => {}
        Ok(_) => return Err(BindError::NotASocket { path: path.to_owned() }),
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(false),
        Err(error) => return Err(refused(error)),
    }
    match StdStream::connect(path) {
        Ok(stream) => {
            let peer = getsockopt(&stream, sockopt::PeerCredentials);
            Err(BindError::Busy { path: path.to_owned(), pid: peer.map_or(0, |peer| peer.pid()) })
        }
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).map(|()| true).map_err(refused)
        }
        Err(error) => Err(refused(error)),
    }
}

/// The data that the handler of a request needs.
#[derive(Debug, Clone)]
struct Context {
    calls: mpsc::Sender<Call>,
    journal: Arc<Journal>,
    followers: Arc<Semaphore>,
    long_command: Arc<Semaphore>,
    stop: CancellationToken,
}

async fn command(State(context): State<Context>, request: Request) -> Response {
    let until = request.headers().get(UNTIL).and_then(|until| until.to_str().ok()?.parse().ok());
    let until = until.map(Duration::from_millis);
    let (command, permit) = match context.read(request).await {
        Ok(read) => read,
        Err((status, refusal)) => return json(status, &refusal),
    };
    let answer = context.ask(command, until).await;
    drop(permit);
    match answer {
        Ok(value) => json(StatusCode::OK, &value),
        Err(refusal) => {
            let status = StatusCode::from_u16(refusal.kind.http_status());
            json(status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR), &refusal)
        }
    }
}

impl Context {
    /// Reads a command, or returns what is wrong with it. A long command comes with the permit that it holds while it
    /// is in memory.
    async fn read(
        &self,
        request: Request,
    ) -> Result<(Command, Option<SemaphorePermit<'_>>), (StatusCode, Refusal)> {
        let wrong = |message| (StatusCode::BAD_REQUEST, Refusal::new(RefusalKind::Invalid, message));
        let mut body = request.into_body();
        // The size of a chunked body is unknown.
        let size = body.size_hint().upper().map(|size| usize::try_from(size).unwrap_or(usize::MAX));
        if let Some(size) = size.filter(|size| *size > LONGEST_COMMAND) {
            // A client that loses its connection while it writes does not read the answer, so read the rest first.
            let rest = async { while body.frame().await.is_some_and(|frame| frame.is_ok()) {} };
            timeout(LONGEST_BODY, rest).await.ok();
            return Err(too_long(&size.to_string()));
        }
        let is_short = size.is_some_and(|size| size <= SHORT_COMMAND);
        let permit = if is_short { None } else { self.long_command.acquire().await.ok() };
        let body = timeout(LONGEST_BODY, to_bytes(body, LONGEST_COMMAND)).await.map_err(|_| {
            let message = format!("the command did not arrive within {} s", LONGEST_BODY.as_secs());
            (StatusCode::REQUEST_TIMEOUT, Refusal::new(RefusalKind::Invalid, message))
        })?;
        let body = body.map_err(|error| {
            if error.source().is_some_and(|error| error.is::<LengthLimitError>()) {
                too_long(&format!("more than {LONGEST_COMMAND}"))
            } else {
                wrong(format!("the command was cut off: {error}"))
            }
        })?;
        let command: Command = serde_json::from_slice(&body)
            .map_err(|error| wrong(format!("this is not a command: {error}")))?;
        // This command is small in memory, even if its text was long, and its answer may take long.
        let is_small = matches!(command, Command::Events { .. });
        Ok((command, permit.filter(|_| !is_small)))
    }

    async fn ask(&self, command: Command, until: Option<Duration>) -> Result<Value, Refusal> {
        if let Command::Events { after, started, limit, wait_ms } = command {
            self.wait(started, after, Duration::from_millis(wait_ms)).await?;
            let limit = limit.unwrap_or(EVENTS).min(EVENTS);
            return page(&self.journal.page(started, after, limit));
        }
        let stopping = || Refusal::new(RefusalKind::Failed, "the daemon is stopping; ask again when it runs");
        let (reply, answer) = oneshot::channel();
        self.calls.send(Call { command, until, reply }).await.map_err(|_| stopping())?;
        answer.await.map_err(|_| stopping())?
    }

    /// Waits until there is an event to read, the time is over, or the daemon stops.
    async fn wait(&self, started: Option<Timestamp>, after: u64, limit: Duration) -> Result<(), Refusal> {
        if limit.is_zero() {
            return Ok(());
        }
        let _place = self.followers.try_acquire().map_err(|_| {
            let message =
                format!("{FOLLOWERS} clients already follow the events; end one, or ask without waiting");
            Refusal::new(RefusalKind::Conflict, message)
        })?;
        tokio::select! {
            () = self.journal.appended(started, after) => {}
            () = tokio::time::sleep(limit.min(LONGEST_WAIT)) => {}
            () = self.stop.cancelled() => {}
        }
        Ok(())
    }
}

fn too_long(size: &str) -> (StatusCode, Refusal) {
    let message = format!(
        "the command has {size} octets, and it may have at most {LONGEST_COMMAND}: a zone has at most {NAMES_MAX} names; \
         name fewer nodes, or write them into the configuration file and reload"
    );
    (StatusCode::PAYLOAD_TOO_LARGE, Refusal::new(RefusalKind::Invalid, message))
}

fn page(page: &Page) -> Result<Value, Refusal> {
    serde_json::to_value(page).map_err(|error| Refusal::new(RefusalKind::Failed, error.to_string()))
}

fn json(status: StatusCode, body: &impl serde::Serialize) -> Response {
    let text = serde_json::to_vec(body).expect("these types have a JSON form");
    (status, [(header::CONTENT_TYPE, "application/json")], text).into_response()
}

#[cfg(test)]
mod tests {
    use axum::body::Body;

    use super::*;

    fn context() -> (Context, mpsc::Receiver<Call>) {
        let (calls, inbox) = mpsc::channel(1);
        let journal = Arc::new(Journal::new(Timestamp::UNIX_EPOCH));
        let (followers, long_command) = (Arc::new(Semaphore::new(FOLLOWERS)), Arc::new(Semaphore::new(1)));
        (Context { calls, journal, followers, long_command, stop: CancellationToken::new() }, inbox)
    }

    /// Returns a request with a command, followed by blanks.
    fn long(command: &Command) -> Request {
        let mut body = serde_json::to_vec(command).unwrap();
        body.resize(SHORT_COMMAND + 1, b' ');
        Request::new(Body::from(body))
    }

    #[tokio::test]
    async fn a_long_command_is_the_only_one_in_memory_until_it_is_answered() {
        let (context, mut inbox) = context();
        let asked = tokio::spawn(command(State(context.clone()), long(&Command::Status)));
        let call = inbox.recv().await.unwrap();
        assert_eq!(context.long_command.available_permits(), 0);
        call.reply.send(Ok(Value::Null)).unwrap();
        assert_eq!(asked.await.unwrap().status(), StatusCode::OK);
        assert_eq!(context.long_command.available_permits(), 1);
    }

    #[tokio::test]
    async fn whoever_waits_for_events_keeps_no_long_command_from_being_read() {
        let (context, _inbox) = context();
        let events = Command::Events { after: 0, started: None, limit: None, wait_ms: 10_000 };
        let waiting = tokio::spawn(command(State(context.clone()), long(&events)));
        while context.followers.available_permits() == FOLLOWERS {
            tokio::task::yield_now().await;
        }
        assert_eq!(context.long_command.available_permits(), 1);
        context.stop.cancel();
        assert_eq!(waiting.await.unwrap().status(), StatusCode::OK);
    }
}
