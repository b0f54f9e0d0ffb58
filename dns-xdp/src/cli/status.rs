//! `status`: shows one screen about the daemon and its nodes, once or repeatedly.
mod screen;
mod watch;

use std::io::{self, IsTerminal as _, Write as _};
use std::time::Duration;

use anstyle::{AnsiColor, Effects, Style};
use jiff::Timestamp;
use ratatui::crossterm::terminal;
use ratatui::style::{Color, Modifier};
use ratatui::text::Text;

use super::columns::columns as columns_of;
use super::words::ago;
use super::{Format, print_json};
use crate::control::api::{ClusterStatus, Status as Answer};
use crate::control::{Client, Command};
use crate::store::client::Mode;

#[cfg(test)]
pub(super) use screen::tests::status as sample;
pub(super) use screen::{colour_of, served_as};

pub(super) const EXAMPLE: &str = "Example: dns-xdp status --watch\n\n\
    Colours are shown on a terminal only, and never where NO_COLOR is set; CLICOLOR_FORCE=1 keeps them in a pipe.";

/// The number of columns if stdout is not a terminal.
const COLUMNS: usize = 80;
/// The narrowest and the widest screen, in columns.
const NARROWEST: usize = 40;
const WIDEST: usize = 160;

#[derive(Debug, clap::Args)]
pub(super) struct Status {
    #[command(flatten)]
    format: Format,
    /// Refresh the screen every SECONDS, by default every 2, until q
    #[arg(long, value_name = "SECONDS", num_args = 0..=1, default_missing_value = "2", value_parser = seconds)]
    #[arg(conflicts_with = "json")]
    watch: Option<Duration>,
    /// Show every server that shares the store, and whether they agree
    #[arg(long, conflicts_with = "watch")]
    cluster: bool,
}

fn seconds(text: &str) -> Result<Duration, String> {
    let seconds = text.parse().ok().filter(|seconds| (0.1..=3_600.0).contains(seconds));
    seconds.map(Duration::from_secs_f64).ok_or_else(|| "write seconds, from 0.1 to 3600".to_owned())
}

impl Status {
    pub(super) async fn run(&self, client: &Client) -> anyhow::Result<()> {
        let command = if self.cluster { Command::Cluster } else { Command::Status };
        if self.format.json {
            return print_json(&client.call(&command).await?);
        }
        if self.cluster {
            let cluster: ClusterStatus = client.ask(&command).await?;
            return super::print(&servers(&cluster, Timestamp::now()));
        }
        if let Some(every) = self.watch {
            return watch::watch(client, every).await;
        }
        let status: Answer = client.ask(&Command::Status).await?;
        print(&screen::screen(&status, Timestamp::now(), columns())).map(drop)
    }
}

/// Returns a line for each server, and the differences between the servers.
fn servers(cluster: &ClusterStatus, now: Timestamp) -> String {
    let ClusterStatus { epoch, revision, mode, servers, disagreement } = cluster;
    let mut rows = vec![
        ["SERVER", "MODE", "SEEN", "EPOCH", "ANSWERS", "QUORUM", "VERSION", "TROUBLE"].map(str::to_owned),
    ];
    for server in servers {
        let mode = match (server.alive, server.mode) {
            (false, _) => "not heard of",
            (true, Mode::Joined) => "joined",
            (true, Mode::Alone | Mode::Frozen) => "alone",
        };
        let quorum =
            server.quorum.map_or(String::new(), |quorum| format!("{} of {}", quorum.visible, quorum.needed));
        let number = |alive: bool| if alive { server.epoch.to_string() } else { String::new() };
        rows.push([
            server.name.clone(),
            mode.to_owned(),
            server.last_seen.map_or_else(|| "never".to_owned(), |seen| ago(seen, now)),
            number(server.alive),
            server.digest.chars().take(8).collect(),
            quorum,
            server.version.clone(),
            server.trouble.clone().unwrap_or_default(),
        ]);
    }
    let mode = match mode {
        Mode::Joined => "joined",
        Mode::Alone => "alone: the rows of other servers show their last known state",
        Mode::Frozen => "frozen: the store is older than the store seen before",
    };
    let mut text =
        format!("epoch {epoch}, store revision {revision}, this server is {mode}\n{}", columns_of(&rows));
    for line in disagreement {
        text += &format!("disagreement: {line}\n");
    }
    text
}

fn columns() -> usize {
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    let terminal = io::stdout().is_terminal().then(terminal::size).and_then(Result::ok);
    let columns = terminal.map(|(columns, _)| columns.into()).or_else(told).unwrap_or(COLUMNS);
    columns.clamp(NARROWEST, WIDEST)
}

/// Prints to stdout, with colours if wanted. Returns `false` if the reader is gone.
fn print(text: &Text<'_>) -> anyhow::Result<bool> {
    let mut octets = Vec::new();
    let colours = anstream::AutoStream::choice(&io::stdout());
    anstream::AutoStream::new(&mut octets, colours).write_all(escaped(text).as_bytes())?;
    super::print_if_read(&String::from_utf8_lossy(&octets))
}

/// Returns the text with the escape sequences of its styles.
fn escaped(text: &Text<'_>) -> String {
    let mut escaped = String::new();
    for line in &text.lines {
        for span in &line.spans {
            let style = style(line.style.patch(span.style));
            escaped.push_str(&format!("{style}{}{style:#}", span.content));
        }
        escaped.push('\n');
    }
    escaped
}

fn style(style: ratatui::style::Style) -> Style {
    let colour = match style.fg {
        Some(Color::Green) => Some(AnsiColor::Green),
        Some(Color::Yellow) => Some(AnsiColor::Yellow),
        Some(Color::Red) => Some(AnsiColor::Red),
        _ => None,
    };
    let mut effects = Effects::new();
    for (modifier, effect) in [(Modifier::BOLD, Effects::BOLD), (Modifier::DIM, Effects::DIMMED)] {
        if style.add_modifier.contains(modifier) {
            effects |= effect;
        }
    }
    Style::new().fg_color(colour.map(Into::into)).effects(effects)
}

#[cfg(test)]
mod tests {
    use ratatui::style::Stylize as _;

    use super::*;

    #[test]
    fn styles_become_escape_sequences_and_plain_text_has_none() {
        let text = Text::from(vec![vec!["a ".into(), "down".red().bold()].into(), "b".into()]);
        assert_eq!(escaped(&text), "a \x1b[1m\x1b[31mdown\x1b[0m\nb\n");
    }

    #[test]
    fn a_watch_has_a_sensible_interval() {
        assert_eq!(seconds("0.5"), Ok(Duration::from_millis(500)));
        for wrong in ["0", "-1", "inf", "NaN", "1e9", "soon"] {
            assert!(seconds(wrong).is_err(), "{wrong}");
        }
    }
}
