//! `events`: prints past events, and with `--follow` also new ones.
use std::time::Duration;

use anyhow::Context as _;
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::Value;

use super::print_if_read;
use crate::control::{CallError, Client, Command};
use crate::event::Event;
use crate::log;

pub(super) const EXAMPLE: &str = "Example: dns-xdp events --since 1h --follow";

/// How long a request of `--follow` waits for an event. It is less than the server's limit and less than this client's
/// timeout.
const WAIT: Duration = Duration::from_secs(15);
/// How often `--follow` checks whether the daemon is gone.
const LOOK: Duration = Duration::from_millis(250);

#[derive(Debug, clap::Args)]
pub(super) struct Events {
    /// Print the events after this number, or of this last period: 57, 10m
    #[arg(long, value_name = "SEQ|DURATION", value_parser = since)]
    since: Option<Since>,
    /// Continue with new events, across restarts of the daemon too, until Ctrl-C
    #[arg(long)]
    follow: bool,
    /// Print one JSON object a line
    #[arg(long)]
    json: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Since {
    Seq(u64),
    Ago(Duration),
}

fn since(text: &str) -> Result<Since, String> {
    if let Ok(seq) = text.parse() {
        return Ok(Since::Seq(seq));
    }
    let ago = humantime::parse_duration(text).map(Since::Ago);
    ago.map_err(|_| "write an event's number, as 57, or a duration, as 10m".to_owned())
}

/// A [`Page`](crate::event::Page) with unparsed events, because another version may know more kinds.
#[derive(Debug, Deserialize)]
struct Page {
    started: Timestamp,
    events: Vec<Value>,
    lost: u64,
    newest: u64,
}

/// How far the daemon's events have been read.
#[derive(Debug, Clone, Copy)]
struct Place {
    started: Option<Timestamp>,
    after: u64,
}

/// Whether stdout still has a reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reader {
    Reads,
    IsGone,
}

impl Events {
    pub(super) async fn run(&self, client: &Client) -> anyhow::Result<()> {
        if !self.follow {
            return self.begin(client).await.map(drop);
        }
        tokio::select! {
            followed = self.follow(client) => followed,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C"),
        }
    }

    async fn follow(&self, client: &Client) -> anyhow::Result<()> {
        let (mut place, mut reader) = self.begin(client).await?;
        let mut daemon_gone = false;
        while reader == Reader::Reads {
            match client.call(&place.command(WAIT)).await {
                Ok(answer) => {
                    let page = page(answer)?;
                    if place.started != Some(page.started) {
                        let started = local(page.started, &TimeZone::system());
                        log::tell(format_args!(
                            "the daemon was started again at {started}: its events count from 1"
                        ));
                    }
                    daemon_gone = false;
                    reader = self.print_after(&mut place, page, |_| true)?;
                }
                Err(error @ (CallError::Denied { .. } | CallError::Refused(_))) => return Err(error.into()),
                Err(_gone) => {
                    if !daemon_gone {
                        log::tell("the daemon is gone: waiting for it");
                        daemon_gone = true;
                    }
                    tokio::time::sleep(LOOK).await;
                }
            }
        }
        Ok(())
    }

    /// Prints the events that the daemon has.
    async fn begin(&self, client: &Client) -> anyhow::Result<(Place, Reader)> {
        let mut place = Place { started: None, after: 0 };
        if let Some(Since::Seq(seq)) = self.since {
            place.after = seq;
        }
        let page = page(client.call(&place.command(Duration::ZERO)).await?)?;
        if place.after > page.newest {
            let started = local(page.started, &TimeZone::system());
            log::tell(format_args!(
                "the newest event is {}, of a daemon that started at {started}",
                page.newest
            ));
        }
        let earliest = match self.since {
            Some(Since::Ago(ago)) => {
                SignedDuration::try_from(ago).ok().and_then(|ago| Timestamp::now().checked_sub(ago).ok())
            }
            _ => None,
        };
        let wanted =
            |at: Option<Timestamp>| earliest.is_none_or(|earliest| at.is_none_or(|at| at >= earliest));
        let reader = self.print_after(&mut place, page, wanted)?;
        Ok((place, reader))
    }

    /// Prints the events of a page that are recent enough, and moves the place past the page.
    fn print_after(
        &self,
        place: &mut Place,
        page: Page,
        wanted: impl Fn(Option<Timestamp>) -> bool,
    ) -> anyhow::Result<Reader> {
        if page.lost > 0 && (place.started.is_some() || place.after > 0) {
            log::tell(format_args!(
                "{} events are missing here: the daemon has dropped them for newer ones",
                page.lost
            ));
        }
        *place = Place { started: Some(page.started), after: page.newest };
        for event in page.events {
            let at = event["at"].as_str().and_then(|at| at.parse().ok());
            let text = if self.json { event.to_string() } else { readable(event, &TimeZone::system())? };
            if wanted(at) && !print_if_read(&format!("{text}\n"))? {
                return Ok(Reader::IsGone);
            }
        }
        Ok(Reader::Reads)
    }
}

impl Place {
    fn command(self, wait: Duration) -> Command {
        let wait_ms = u64::try_from(wait.as_millis()).unwrap_or(u64::MAX);
        Command::Events { after: self.after, started: self.started, limit: None, wait_ms }
    }
}

fn page(answer: Value) -> anyhow::Result<Page> {
    serde_json::from_value(answer).context("the daemon's events cannot be read: is it another version?")
}

/// Returns an event as one line, with its time in a time zone.
fn readable(event: Value, zone: &TimeZone) -> anyhow::Result<String> {
    let event: Event = serde_json::from_value(event)
        .context("an event cannot be read: is the daemon another version? try --json")?;
    let Event { seq, at, what, .. } = event;
    let (at, kind, detail) = (local(at, zone), what.kind, what.detail());
    let subject = what.subject.as_deref().unwrap_or("-");
    let line = format!("{at}  {seq:>4}  {kind:<12}  {subject:<12}  {detail}");
    Ok(line.trim_end().to_owned())
}

fn local(at: Timestamp, zone: &TimeZone) -> String {
    at.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S%.3f").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_event_is_one_line_in_local_time() {
        let event = serde_json::json!({
            "seq": 57, "at": "2026-03-01T12:00:00.25Z", "kind": "+failover", "subject": "node2",
            "reason": "node2 is down (refused)", "grave": false, "answers_omitted": 0,
            "answers": [{"name": "node2.demo.example.com.", "old": ["192.0.2.12"], "new": ["192.0.2.13"]}],
        });
        let zone = TimeZone::fixed(jiff::tz::offset(1));
        let expected = "2026-03-01 13:00:00.250    57  +failover     node2         node2 is down (refused); \
                        node2.demo.example.com. 192.0.2.12 -> 192.0.2.13";
        assert_eq!(readable(event.clone(), &zone).unwrap(), expected);
        let mut strange = event;
        strange["kind"] = "+explosion".into();
        let error = readable(strange, &zone).unwrap_err().to_string();
        assert!(error.contains("try --json"), "{error}");
    }

    #[test]
    fn since_is_a_number_or_a_duration() {
        assert_eq!(since("57"), Ok(Since::Seq(57)));
        assert_eq!(since("1h 30m"), Ok(Since::Ago(Duration::from_secs(5400))));
        assert!(since("yesterday").is_err() && since("-1").is_err());
    }
}
