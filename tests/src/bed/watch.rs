//! A client that repeats the same questions while something happens, and notes when an answer changes.
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, ensure};
use hickory_proto::op::ResponseCode;
use hickory_proto::rr::RecordType;

use crate::bed::client::Client;
use crate::bed::netns::Namespace;
use crate::bed::plan::ZONE;

/// The pause between two rounds of questions.
const PAUSE: Duration = Duration::from_millis(2);

/// The running client. A drop ends the client.
#[derive(Debug)]
pub struct Watch {
    changes: Receiver<Change>,
    is_over: Arc<AtomicBool>,
    client: Option<JoinHandle<Pauses>>,
}

/// The times between rounds of questions.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pauses {
    /// Their number.
    pub count: u32,
    /// Their sum.
    pub sum: Duration,
    /// The longest.
    pub longest: Duration,
}

impl Pauses {
    /// Adds the pauses of another client.
    #[must_use]
    pub fn and(self, other: Pauses) -> Pauses {
        Pauses {
            count: self.count + other.count,
            sum: self.sum + other.sum,
            longest: self.longest.max(other.longest),
        }
    }

    fn one(length: Duration) -> Pauses {
        Pauses { count: 1, sum: length, longest: length }
    }
}

/// A server, and the name whose addresses it is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The server's address.
    pub server: IpAddr,
    /// The name below the zone, or `@` for the zone itself.
    pub label: String,
}

/// The first answer to a question, or one that differs from the answer before.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// When it came.
    pub at: Instant,
    /// The question.
    pub question: Question,
    /// The addresses in ascending order, or the fault: no answer, no address, another code than NOERROR.
    pub answer: Result<Vec<IpAddr>, String>,
}

impl Question {
    /// Returns the questions that ask each of these servers for each of these names.
    pub fn all(servers: &[IpAddr], labels: &[&str]) -> Vec<Question> {
        let question = |server, label: &&str| Question { server, label: (*label).to_owned() };
        servers.iter().flat_map(|server| labels.iter().map(move |label| question(*server, label))).collect()
    }

    fn qname(&self) -> String {
        if self.label == "@" { format!("{ZONE}.") } else { format!("{}.{ZONE}.", self.label) }
    }

    fn ask(&self, dns: &Client) -> Result<Vec<IpAddr>> {
        let response = dns.ask(self.server, &self.qname(), RecordType::A)?;
        let code = response.metadata.response_code;
        ensure!(code == ResponseCode::NoError, "{code}");
        let mut addresses: Vec<IpAddr> =
            response.answers.iter().filter_map(|record| record.data.ip_addr()).collect();
        ensure!(!addresses.is_empty(), "an empty answer");
        addresses.sort();
        Ok(addresses)
    }
}

impl fmt::Display for Change {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Question { server, label } = &self.question;
        write!(f, "{server} on {label}: {:?}", self.answer)
    }
}

impl Watch {
    /// Asks all `questions` in turn from now on, over UDP from sockets in `from`.
    ///
    /// # Errors
    /// The sockets cannot be opened.
    pub fn start(from: &Namespace, questions: Vec<Question>) -> Result<Self> {
        let dns = Client::open(from)?;
        let is_over = Arc::new(AtomicBool::new(false));
        let (sender, changes) = channel();
        let client = thread::spawn({
            let is_over = Arc::clone(&is_over);
            move || ask(&dns, &questions, &is_over, &sender)
        });
        Ok(Watch { changes, is_over, client: Some(client) })
    }

    /// Waits for the next change that satisfies `is_it`, and drops earlier changes.
    ///
    /// # Errors
    /// It does not come within `limit`, or an answer has a fault.
    pub fn wait_for(&self, limit: Duration, mut is_it: impl FnMut(&Change) -> bool) -> Result<Change> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let change = self.changes.recv_timeout(left);
            let change = change.map_err(|_| anyhow!("not within {limit:?}"))?;
            ensure!(change.answer.is_ok(), "{change}");
            if is_it(&change) {
                return Ok(change);
            }
        }
    }

    /// Ends the watch. Returns the changes that no caller has waited for, and the number of queries.
    ///
    /// # Errors
    /// The client has panicked.
    pub fn finish(mut self) -> Result<(Vec<Change>, Pauses)> {
        self.is_over.store(true, Ordering::Relaxed);
        let client = self.client.take().context("it is finished once")?;
        let pauses = client.join().map_err(|_| anyhow!("the client has panicked"))?;
        Ok((self.changes.try_iter().collect(), pauses))
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
    }
}

fn ask(dns: &Client, questions: &[Question], is_over: &AtomicBool, changes: &Sender<Change>) -> Pauses {
    let mut last: Vec<Option<Result<Vec<IpAddr>, String>>> = vec![None; questions.len()];
    let (mut pauses, mut round) = (Pauses::default(), Instant::now());
    while !is_over.load(Ordering::Relaxed) {
        for (question, last) in questions.iter().zip(&mut last) {
            let answer = question.ask(dns).map_err(|error| format!("{error:#}"));
            if last.as_ref() == Some(&answer) {
                continue;
            }
            *last = Some(answer.clone());
            // The receiver may have been dropped.
            changes.send(Change { at: Instant::now(), question: question.clone(), answer }).ok();
        }
        thread::sleep(PAUSE);
        pauses = pauses.and(Pauses::one(round.elapsed()));
        round = Instant::now();
    }
    pauses
}

/// The answers that were given at `moment` or after it. `changes` are in their order.
pub fn since(changes: &[Change], moment: Instant) -> impl Iterator<Item = &Change> {
    let is_superseded = move |index: usize, change: &Change| {
        let mut later = changes[index + 1..].iter();
        later.any(|next| next.question == change.question && next.at <= moment)
    };
    let all = changes.iter().enumerate();
    all.filter(move |(index, change)| !is_superseded(*index, change)).map(|(_, change)| change)
}

/// Checks that every answer had an address.
///
/// # Errors
/// An answer has no address. The error names the first such answer.
pub fn all_answered(changes: &[Change]) -> Result<()> {
    ensure!(!changes.is_empty(), "nothing was asked");
    match changes.iter().find(|change| change.answer.is_err()) {
        Some(change) => Err(anyhow!("{change}")),
        None => Ok(()),
    }
}

/// Whether an address is in an answer.
pub fn names(change: &Change, address: IpAddr) -> bool {
    change.answer.as_ref().is_ok_and(|addresses| addresses.contains(&address))
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use super::*;

    #[test]
    fn what_is_answered_since_a_moment_is_the_change_before_it_and_all_after() {
        let start = Instant::now();
        let [a, b] = Question::all(&[Ipv4Addr::new(192, 0, 2, 11).into()], &["a", "b"]).try_into().unwrap();
        let change = |at: u64, question: &Question| Change {
            at: start + Duration::from_secs(at),
            question: question.clone(),
            answer: Ok(Vec::new()),
        };
        let changes = [change(1, &a), change(2, &b), change(3, &a), change(6, &b)];
        let seen = |at| since(&changes, start + Duration::from_secs(at)).cloned().collect::<Vec<_>>();
        assert_eq!(seen(0), changes);
        assert_eq!(seen(3), changes[1..]);
        assert_eq!(seen(4), changes[1..]);
        assert_eq!(seen(9), changes[2..]);
    }
}
