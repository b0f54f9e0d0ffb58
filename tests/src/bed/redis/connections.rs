//! A client that connects again and again, like an application with a connection for each request.
use std::io::Read as _;
use std::net::IpAddr;
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};

use super::Cli;
use crate::bed::wait;

/// The time between the beginnings of two attempts.
const INTERVAL: Duration = Duration::from_millis(100);
/// The longest time of an attempt, including the look-up of the name.
const TIMEOUT: Duration = Duration::from_secs(1);
/// The time between two looks at the running attempts.
const POLL: Duration = Duration::from_millis(5);
/// The command for the address that the server announces, which identifies the node.
const QUESTION: [&str; 3] = ["CONFIG", "GET", "replica-announce-ip"];

/// One run of `redis-cli`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attempt {
    /// When it began.
    pub at: Instant,
    /// The IPv4 address of the server that answered, or the error.
    pub outcome: Result<IpAddr, String>,
}

/// Consecutive attempts with the same outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Span {
    /// When the first began.
    pub first: Instant,
    /// When the last began.
    pub last: Instant,
    /// The number of attempts.
    pub attempts: u32,
    /// The outcome of each.
    pub outcome: Result<IpAddr, String>,
}

/// Groups consecutive attempts with the same outcome.
pub fn spans(attempts: &[Attempt]) -> Vec<Span> {
    let mut spans: Vec<Span> = Vec::new();
    for attempt in attempts {
        match spans.last_mut() {
            Some(span) if span.outcome == attempt.outcome => {
                span.last = attempt.at;
                span.attempts += 1;
            }
            _ => spans.push(Span {
                first: attempt.at,
                last: attempt.at,
                attempts: 1,
                outcome: attempt.outcome.clone(),
            }),
        }
    }
    spans
}

/// The running client: it makes an attempt every 100 ms, each of at most 1 s. A drop ends the client.
#[derive(Debug)]
pub struct Connections {
    attempts: Arc<Mutex<Vec<Attempt>>>,
    is_over: Arc<AtomicBool>,
    client: Option<JoinHandle<Result<()>>>,
}

impl Connections {
    /// The command line of one attempt.
    pub fn command_line(host: &str) -> String {
        format!("redis-cli -h {host} {}", QUESTION.join(" "))
    }

    /// Connects to a server by its name from now on.
    pub fn start(cli: Cli, host: &str) -> Self {
        let attempts = Arc::new(Mutex::new(Vec::new()));
        let is_over = Arc::new(AtomicBool::new(false));
        let client = thread::spawn({
            let (attempts, is_over, host) = (Arc::clone(&attempts), Arc::clone(&is_over), host.to_owned());
            move || cli.enter(|| connect(&host, &is_over, &attempts))
        });
        Connections { attempts, is_over, client: Some(client) }
    }

    /// The attempts that have ended, sorted by their beginning.
    pub fn so_far(&self) -> Vec<Attempt> {
        let mut attempts = self.attempts.lock().unwrap_or_else(PoisonError::into_inner).clone();
        attempts.sort_by_key(|attempt| attempt.at);
        attempts
    }

    /// Waits until `is_wanted` is true of the attempts so far.
    ///
    /// # Errors
    /// The wait takes longer than `limit`. The error has the client's last results.
    pub fn wait_until(
        &self,
        what: &str,
        limit: Duration,
        is_wanted: impl Fn(&[Attempt]) -> bool,
    ) -> Result<()> {
        wait::until(what, limit, || {
            let attempts = self.so_far();
            let last = attempts.last().map(|attempt| &attempt.outcome);
            ensure!(is_wanted(&attempts), "the client saw {last:?} last, of {} attempts", attempts.len());
            Ok(())
        })?;
        Ok(())
    }

    /// Ends the client and returns all attempts.
    ///
    /// # Errors
    /// redis-cli could not be started.
    pub fn finish(mut self) -> Result<Vec<Attempt>> {
        self.end()?;
        Ok(self.so_far())
    }

    fn end(&mut self) -> Result<()> {
        self.is_over.store(true, Ordering::Relaxed);
        match self.client.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(anyhow!("the client panicked")),
            None => Ok(()),
        }
    }
}

impl Drop for Connections {
    fn drop(&mut self) {
        // `finish` reports an error; a drop cannot.
        self.end().ok();
    }
}

fn connect(host: &str, is_over: &AtomicBool, attempts: &Mutex<Vec<Attempt>>) -> Result<()> {
    let mut running: Vec<(Instant, Child)> = Vec::new();
    let mut next = Instant::now();
    while !is_over.load(Ordering::Relaxed) || !running.is_empty() {
        let now = Instant::now();
        if now >= next && !is_over.load(Ordering::Relaxed) {
            running.push((now, start(host)?));
            // A delayed machine misses attempts, and does not make them later.
            next = now.max(next + INTERVAL);
        }
        for (at, mut child) in std::mem::take(&mut running) {
            match ended(&mut child, at)? {
                Some(outcome) => {
                    let attempt = Attempt { at, outcome };
                    attempts.lock().unwrap_or_else(PoisonError::into_inner).push(attempt);
                }
                None => running.push((at, child)),
            }
        }
        thread::sleep(POLL);
    }
    Ok(())
}

fn start(host: &str) -> Result<Child> {
    let mut command = Command::new("redis-cli");
    command.args(["-h", host]).args(QUESTION);
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command.spawn().context("cannot start redis-cli: is it installed?")
}

/// Returns the outcome of an attempt; `None`: it is still under way.
fn ended(child: &mut Child, began: Instant) -> Result<Option<Result<IpAddr, String>>> {
    let Some(status) = child.try_wait().context("cannot wait for redis-cli")? else {
        if began.elapsed() < TIMEOUT {
            return Ok(None);
        }
        child.kill().and_then(|()| child.wait()).context("cannot end redis-cli")?;
        return Ok(Some(Err(format!("no connection within {} s", TIMEOUT.as_secs()))));
    };
    let (mut stdout, mut stderr) = (String::new(), String::new());
    child.stdout.take().context("stdout is piped")?.read_to_string(&mut stdout)?;
    child.stderr.take().context("stderr is piped")?.read_to_string(&mut stderr)?;
    Ok(Some(if status.success() { address(&stdout) } else { Err(reason(&stderr)) }))
}

/// `replica-announce-ip`, and below it the address.
fn address(answer: &str) -> Result<IpAddr, String> {
    let address = answer.split_whitespace().nth(1).and_then(|word| word.parse().ok());
    address.ok_or_else(|| format!("the server answers {:?}", answer.trim()))
}

/// `Could not connect to Redis at HOST:PORT: REASON`
fn reason(stderr: &str) -> String {
    let line = stderr.lines().next().unwrap_or("no reason given");
    line.rsplit(": ").next().unwrap_or(line).to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_redis_cli_prints_is_an_address_or_a_reason() {
        assert_eq!(address("replica-announce-ip\n192.0.2.12\n"), Ok("192.0.2.12".parse().unwrap()));
        assert_eq!(address("ERR\n"), Err("the server answers \"ERR\"".to_owned()));
        let stderr = "Could not connect to Redis at node2.demo.example.com:6379: No route to host\n";
        assert_eq!(reason(stderr), "No route to host");
    }

    #[test]
    fn attempts_with_the_same_outcome_are_one_span() {
        let start = Instant::now();
        let node: IpAddr = "192.0.2.12".parse().unwrap();
        let outcomes = [Ok(node), Ok(node), Err("no connection".to_owned()), Ok(node)];
        let attempts: Vec<Attempt> = (0..)
            .zip(outcomes)
            .map(|(number, outcome)| Attempt { at: start + number * INTERVAL, outcome })
            .collect();
        let spans = spans(&attempts);
        assert_eq!(spans.iter().map(|span| span.attempts).collect::<Vec<_>>(), [2, 1, 1]);
        assert_eq!((spans[0].first, spans[0].last), (start, start + INTERVAL));
        assert!(spans[1].outcome.is_err() && spans[2].outcome == Ok(node));
    }
}
