//! Row 14: other users, a fuzzer, and clients that never read on the control socket.
use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{ErrorKind, Read, Write};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use nix::errno::Errno;

use super::load::thousands;
use super::resources::Process;
use super::stage::on_laid;
use super::{Length, Row, SOON};
use crate::bed::cluster::Cluster;
use crate::bed::control_socket::{Connection, post};
use crate::bed::node::{Node, healths};
use crate::bed::plan::Plan;
use crate::bed::wait;
use crate::rng::Rng;

/// The user number of `nobody` on every system.
const STRANGER: libc::uid_t = 65534;
/// The number of connections of each kind: some ask and never read, the others never ask.
const DEAF: usize = 50;
/// The requests under way on one connection.
const WINDOW: usize = 50;
/// The longest time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);
/// The limit of the daemon's growth during the requests.
const GROWTH: u64 = 16 << 20;
/// The commands to send and to change. No change of a few octets turns a verb into another one.
const COMMANDS: [&str; 9] = [
    r#"{"verb":"status"}"#,
    r#"{"verb":"stats"}"#,
    r#"{"verb":"names"}"#,
    r#"{"verb":"node-list"}"#,
    r#"{"verb":"query","name":"node1","qtype":"A"}"#,
    r#"{"verb":"events","after":0,"limit":1,"wait_ms":0}"#,
    r#"{"verb":"node-add","name":"node1","ipv4":"192.0.2","ipv6":null,"ephemeral":true}"#,
    r#"{"verb":"node-remove","name":"nobody-knows-this-one","ephemeral":true}"#,
    r#"{"verb":"admin","node":"nobody-knows-this-one","admin":"drain","reason":"why","by":null,"for_ms":1}"#,
];

/// Plays the row.
///
/// # Errors
/// Another user is served, or the daemon stops answering.
pub fn run(length: Length) -> Result<Row> {
    on_laid(&Plan::quick(2), |cluster| {
        cluster.nodes.iter_mut().try_for_each(Node::start_database)?;
        a_symlink_is_refused(&cluster.nodes[0])?;
        cluster.nodes[0].start()?;
        wait::until("both nodes are up", SOON, || all_up(&cluster.nodes[0]))?;
        a_stranger_is_refused(&cluster.nodes[0])?;
        let fuzzed = fuzz(cluster, length.pick(5_000, 1_000_000))?;
        let late = length.pick(Duration::from_secs(4), Duration::from_millis(500));
        let reached = fuzzed.growth <= GROWTH
            && fuzzed.slowest <= length.pick(Duration::from_secs(2), Duration::from_millis(250))
            && fuzzed.detected <= fuzzed.promise + late;
        Ok(Row::new(14, fuzzed.text(), reached))
    })
}

fn all_up(node: &Node) -> Result<()> {
    let status = node.status()?;
    let healths = healths(&status)?;
    ensure!(healths.iter().all(|health| *health == "up"), "{healths:?}");
    Ok(())
}

/// A symbolic link in the socket's place is left alone, and so is its target.
fn a_symlink_is_refused(node: &Node) -> Result<()> {
    let victim = node.socket.with_extension("victim");
    fs::write(&victim, "mine")?;
    symlink(&victim, &node.socket)?;
    let output = node.run_to_the_end(&[])?;
    let stderr = String::from_utf8_lossy(&output.stderr);
    ensure!(
        output.status.code() == Some(1) && stderr.contains("not a socket"),
        "{}: {stderr}",
        output.status
    );
    ensure!(fs::read_to_string(&victim)? == "mine", "what the link led to was changed");
    fs::remove_file(&node.socket)?;
    Ok(())
}

/// The file's mode keeps other users out. If the mode lets other users in, the daemon refuses them.
fn a_stranger_is_refused(node: &Node) -> Result<()> {
    let kept_out = as_stranger(|| match UnixStream::connect(&node.socket) {
        Err(error) if error.kind() == ErrorKind::PermissionDenied => Ok(()),
        other => Err(anyhow::anyhow!("a stranger at the socket: {other:?}")),
    });
    kept_out?;
    let mode = fs::metadata(&node.socket)?.permissions();
    fs::set_permissions(&node.socket, Permissions::from_mode(0o666))?;
    let answered = as_stranger(|| {
        // A client may notice the closed connection when it writes or when it reads.
        let codes = Connection::open(&node.socket)?.exchange(&[post(COMMANDS[0].as_bytes())]);
        Ok(codes.ok().map(|codes| codes[0]))
    });
    fs::set_permissions(&node.socket, mode)?;
    let answered = answered?;
    ensure!(answered.is_none(), "a stranger was answered {answered:?}");
    Ok(())
}

/// Runs `work` on a thread of another user.
fn as_stranger<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let stranger = || {
        #[expect(unsafe_code, reason = "the call of the C library would change the user of all threads")]
        // SAFETY: three numbers go in, nothing in memory is touched, and the thread ends with its work.
        let result = unsafe { libc::syscall(libc::SYS_setresuid, STRANGER, STRANGER, STRANGER) };
        Errno::result(result).context("cannot become another user")?;
        work()
    };
    thread::scope(|scope| scope.spawn(stranger).join().expect("a stranger does not panic"))
}

/// The fuzzer's results.
#[derive(Debug, Default)]
struct Fuzzed {
    requests: u64,
    codes: BTreeMap<u16, u64>,
    growth: u64,
    /// The slowest answer to a valid command meanwhile.
    slowest: Duration,
    detected: Duration,
    promise: Duration,
}

impl Fuzzed {
    fn text(&self) -> String {
        let Fuzzed { requests, codes, growth, slowest, detected, promise } = self;
        let codes: Vec<String> = codes.iter().map(|(code, count)| format!("{code}: {count}")).collect();
        format!(
            "another user and a symlink refused; {} requests ({}) beside {DEAF} clients that never read and {DEAF} that \
             never ask: {} KiB more memory, `status` within {:.0} ms, a death told after {:.0} of {:.0} ms",
            thousands(*requests),
            codes.join(", "),
            growth >> 10,
            slowest.as_secs_f64() * 1e3,
            detected.as_secs_f64() * 1e3,
            promise.as_secs_f64() * 1e3,
        )
    }
}

fn fuzz(cluster: &mut Cluster, count: u64) -> Result<Fuzzed> {
    let status = cluster.nodes[0].status()?;
    let daemon = Process(u32::try_from(status["pid"].as_u64().context("a daemon has a number")?)?);
    let socket = cluster.nodes[0].socket.clone();
    let promise = cluster.nodes[0].promise()?;
    let _deaf = (0..DEAF).map(|_| deaf(&socket)).collect::<Result<Vec<_>>>()?;
    let _dumb = (0..DEAF).map(|_| Ok(UnixStream::connect(&socket)?)).collect::<Result<Vec<_>>>()?;
    // Memory that is used once stays in use.
    let mut fuzzer = Fuzzer { socket: socket.clone(), rng: Rng(14), codes: BTreeMap::new() };
    let warm_up = count / 10;
    fuzzer.ask(warm_up)?;
    let before = daemon.resident()?;
    let (fuzzed, slowest, detected) = thread::scope(|scope| {
        let fuzzing = scope.spawn(|| fuzzer.ask(count - warm_up).map(|()| fuzzer.codes));
        let mut slowest = Duration::ZERO;
        let killed = Instant::now();
        cluster.nodes[1].kill_database()?;
        let mut detected = None;
        while !fuzzing.is_finished() || detected.is_none() {
            let asked = Instant::now();
            let health = health_of_the_second(&socket)?;
            slowest = slowest.max(asked.elapsed());
            if health == "down" {
                detected.get_or_insert(killed.elapsed());
            }
            ensure!(killed.elapsed() < ANSWER_TIMEOUT || detected.is_some(), "the dead node is {health}");
            thread::sleep(Duration::from_millis(5));
        }
        let fuzzed = fuzzing.join().expect("the fuzzer does not panic")?;
        Ok::<_, anyhow::Error>((fuzzed, slowest, detected.unwrap_or_default()))
    })?;
    let growth = daemon.resident()?.saturating_sub(before);
    for code in [200, 400, 404] {
        ensure!(fuzzed.contains_key(&code), "nothing was answered {code}: {fuzzed:?}");
    }
    Ok(Fuzzed { requests: count, codes: fuzzed, growth, slowest, detected, promise })
}

fn health_of_the_second(socket: &Path) -> Result<String> {
    let (code, status) = Connection::open(socket)?.ask(COMMANDS[0])?;
    ensure!(code == 200, "status is {code}");
    Ok(healths(&status)?[1].to_owned())
}

/// A connection full of requests; the client reads no answer.
fn deaf(socket: &Path) -> Result<UnixStream> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_nonblocking(true)?;
    let questions = post(COMMANDS[0].as_bytes()).repeat(500);
    match stream.write(&questions) {
        Err(error) if error.kind() != ErrorKind::WouldBlock => Err(error.into()),
        _ => Ok(stream),
    }
}

struct Fuzzer {
    socket: std::path::PathBuf,
    rng: Rng,
    codes: BTreeMap<u16, u64>,
}

impl Fuzzer {
    /// Valid or nearly valid commands, and sometimes a connection with data that is no HTTP.
    fn ask(&mut self, count: u64) -> Result<()> {
        let mut client = Connection::open(&self.socket)?;
        let mut asked = 0;
        while asked < count {
            if self.rng.below(100) == 0 {
                self.garble()?;
                asked += 1;
            }
            let requests: Vec<Vec<u8>> = (0..WINDOW).map(|_| self.request()).collect();
            for code in client.exchange(&requests)? {
                *self.codes.entry(code).or_default() += 1;
            }
            asked += WINDOW as u64;
        }
        Ok(())
    }

    fn request(&mut self) -> Vec<u8> {
        let mut body = COMMANDS[self.rng.below(COMMANDS.len())].as_bytes().to_vec();
        match self.rng.below(8) {
            0 => {}
            1 => body = self.rng.octets(200),
            _ => self.rng.disturb(&mut body),
        }
        post(&body)
    }

    fn garble(&mut self) -> Result<()> {
        let mut request = self.request();
        self.rng.disturb(&mut request);
        let mut client = Connection::open(&self.socket)?;
        client.stream.write_all(&request)?;
        client.stream.shutdown(std::net::Shutdown::Write)?;
        let mut answer = Vec::new();
        // The connection may be cut off or refused, but has to end.
        match client.stream.read_to_end(&mut answer) {
            Err(error) if error.kind() == ErrorKind::WouldBlock => {
                Err(error).context("a garbled request hangs")
            }
            _ => Ok(()),
        }
    }
}
