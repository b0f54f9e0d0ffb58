//! `--wait`: waits until no cache holds a node that has left the answers.
use std::pin::pin;
use std::time::Duration;

use anyhow::{anyhow, bail};
use indicatif::{ProgressBar, ProgressFinish, ProgressStyle};
use tokio::time::{Instant, sleep_until};

use crate::cluster::Admin;
use crate::control::api::Status;
use crate::control::{Client, Command};
use crate::intent::in_words;
use crate::log;

/// Interval between two requests to the daemon.
const LOOK: Duration = Duration::from_millis(500);
/// The longest wait for an answer. The command does not wait for a daemon that restarts.
const STATUS_TIMEOUT: Duration = Duration::from_secs(1);

/// A node that has left the answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Awaited {
    node: String,
    removed: bool,
}

impl Awaited {
    /// Waits for a node that an operator takes out.
    pub(super) fn out(node: &str) -> Self {
        Awaited { node: node.to_ascii_lowercase(), removed: false }
    }

    /// Waits for a node that is no longer in the configuration.
    pub(super) fn removed(node: &str) -> Self {
        Awaited { removed: true, ..Awaited::out(node) }
    }

    /// Waits until `left` has passed. `None` means that the wait would not end. The daemon may be absent meanwhile.
    pub(super) async fn wait(&self, client: &Client, left: Option<Duration>) -> anyhow::Result<()> {
        let node = &self.node;
        let Some(left) = left else {
            // No cache holds a node that was not configured. The daemon's note has said so.
            return if self.removed { Ok(()) } else { Err(anyhow!(self.answered())) };
        };
        let client = client.clone().with_patience(STATUS_TIMEOUT);
        let start = Instant::now();
        let bar = progress_bar(left);
        if bar.is_hidden() && !left.is_zero() {
            log::tell(format_args!("waiting {} until no cache holds `{node}`", seconds(left)));
        }
        let mut interrupt = pin!(tokio::signal::ctrl_c());
        let mut heard = true;
        while start.elapsed() < left {
            let passed = start.elapsed();
            bar.set_message(format!("no cache holds `{node}` in {}", seconds(left - passed)));
            bar.set_position(passed.as_millis() as u64);
            tokio::select! {
                () = sleep_until(start + left.min(passed + LOOK)) => {}
                _ = &mut interrupt => bail!(self.interrupted(left.saturating_sub(start.elapsed()))),
            }
            let status = client.ask::<Status>(&Command::Status).await;
            match &status {
                Ok(status) => self.look(status).map_err(anyhow::Error::msg)?,
                Err(error) if heard => {
                    bar.suspend(|| log::tell(format_args!("{error}; the wait continues without the daemon")));
                }
                Err(_) => {}
            }
            heard = status.is_ok();
        }
        bar.finish_and_clear();
        log::tell(format_args!("no cache that keeps to the TTL holds an address of `{node}`"));
        Ok(())
    }

    /// Checks that the node is still out of the answers. The error says why it is not.
    fn look(&self, status: &Status) -> Result<(), String> {
        let name = &self.node;
        let Some(node) = status.nodes.iter().find(|node| node.name == *name) else {
            return Ok(());
        };
        if self.removed {
            return Err(format!("`{name}` was added again: it is in the answers"));
        }
        if !matches!(node.admin, Admin::Drain | Admin::Down) {
            let by = in_words(None, node.by.as_deref(), None);
            let space = if by.is_empty() { "" } else { " " };
            return Err(format!(
                "`{name}` is {} again{space}{by}: it is in the answers, there is nothing to wait for",
                node.admin
            ));
        }
        if node.cached_ms.is_none() { Err(self.answered()) } else { Ok(()) }
    }

    fn answered(&self) -> String {
        format!(
            "the addresses of `{}` are still answered, because too few other nodes are up or the answers are frozen: there is \
             no end to wait for; see `dns-xdp status`",
            self.node
        )
    }

    fn interrupted(&self, left: Duration) -> String {
        let what = if self.removed { "is removed" } else { "stays out of the answers" };
        format!(
            "no longer waiting: `{}` {what}, and caches may hold its addresses for another {}",
            self.node,
            seconds(left)
        )
    }
}

/// Returns the duration in whole seconds, rounded up.
fn seconds(duration: Duration) -> String {
    let up = duration + Duration::from_millis(999);
    humantime::format_duration(Duration::from_secs(up.as_secs())).to_string()
}

/// Returns a progress bar on stderr, which is hidden unless stderr is a terminal.
fn progress_bar(time: Duration) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg} {bar:40} {percent:>3} %");
    ProgressBar::new(time.as_millis() as u64)
        .with_style(style.expect("the template is valid"))
        .with_finish(ProgressFinish::AndClear)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn status(node: &str, admin: &str, cached_ms: Option<u64>) -> Status {
        let json = serde_json::json!({
            "zone": "demo.example.com.", "epoch": 7, "version": "0.1.0", "pid": 42, "uptime_seconds": 61,
            "config": "f", "fail_open": false, "interfaces": [],
            "quorum": {"visible": 2, "needed": 2, "ok": true}, "promise": {"detect_ms": 2000, "ttl_seconds": 5},
            "lease": {}, "alarms": [],
            "nodes": [{"name": node, "admin": admin, "health": "up", "effective": "drain", "answers": [],
                "since": "2024-05-01T10:00:00Z", "by": "bob", "cached_ms": cached_ms}],
        });
        serde_json::from_value(json).unwrap()
    }

    #[test]
    fn a_node_that_comes_back_ends_the_wait_with_the_name_of_who_wanted_it() {
        let awaited = Awaited::out("Node2");
        assert_eq!(awaited.look(&status("node2", "drain", Some(4000))), Ok(()));
        assert_eq!(awaited.look(&status("node2", "down", Some(0))), Ok(()));
        assert_eq!(awaited.look(&status("node1", "auto", None)), Ok(()), "somebody has removed it");
        let told = awaited.look(&status("node2", "auto", None)).unwrap_err();
        assert_eq!(told, "`node2` is auto again by bob: it is in the answers, there is nothing to wait for");
        let told = awaited.look(&status("node2", "drain", None)).unwrap_err();
        assert!(told.contains("too few other nodes are up"), "{told}");
    }

    #[test]
    fn a_removed_node_that_is_added_again_ends_the_wait() {
        let awaited = Awaited::removed("node2");
        assert_eq!(awaited.look(&status("node1", "auto", None)), Ok(()));
        assert!(awaited.look(&status("node2", "auto", None)).is_err());
    }

    #[tokio::test]
    async fn the_wait_counts_on_while_there_is_no_daemon() {
        let nobody = Client::new("/nonexistent/control.sock".as_ref());
        let start = Instant::now();
        Awaited::out("node2").wait(&nobody, Some(Duration::from_millis(700))).await.unwrap();
        assert!(start.elapsed() >= Duration::from_millis(700));
        Awaited::removed("node2").wait(&nobody, None).await.unwrap();
        assert!(Awaited::out("node2").wait(&nobody, None).await.is_err());
    }

    #[test]
    fn what_is_left_is_told_in_whole_seconds() {
        assert_eq!(seconds(Duration::from_millis(1)), "1s");
        assert_eq!(seconds(Duration::from_millis(4000)), "4s");
        assert_eq!(seconds(Duration::from_millis(61_100)), "1m 2s");
    }
}
