//! `top`: shows the present answers on one screen, until `q`.
mod model;
mod view;

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use self::model::{Model, Snapshot};
use super::refresh::{self, STATUS_TIMEOUT};
use super::terminal::{self, Input, Terminal};
use crate::control::api::{Names, Stats, Status};
use crate::control::{CallError, Client, Command};
use crate::event::Page;

pub(super) const EXAMPLE: &str = "Example: dns-xdp top\n\n\
    While it runs, the program samples the names that are asked. --no-names turns that off.";

const INTERVAL: Duration = Duration::from_secs(1);
/// Number of newest events, enough for any screen.
const EVENTS: u64 = 64;

#[derive(Debug, clap::Args)]
pub(super) struct Top {
    /// Do not sample the names that are asked
    #[arg(long)]
    no_names: bool,
}

impl Top {
    pub(super) async fn run(&self, client: &Client) -> anyhow::Result<()> {
        if !terminal::is_there() {
            anyhow::bail!(
                "top needs a terminal: elsewhere use 'dns-xdp status --watch', 'dns-xdp stats' or 'dns-xdp events --follow'"
            );
        }
        let client = client.clone().with_patience(STATUS_TIMEOUT);
        let (want_names, names) = tokio::sync::watch::channel(!self.no_names);
        let mut snapshots = refresh::every(INTERVAL, move || {
            let (client, with_names) = (client.clone(), *names.borrow());
            async move { ask(&client, with_names).await }
        });
        let mut model = Model::new(!self.no_names);
        let mut terminal = Terminal::open()?;
        loop {
            tokio::select! {
                Some(snapshot) = snapshots.recv() => match snapshot {
                    Ok(snapshot) => model.take(*snapshot),
                    Err(error) if refresh::is_passing(&error) => {
                        model.nobody_answers(Timestamp::now(), &error.to_string());
                    }
                    Err(error) => return Err(error.into()),
                },
                input = terminal.input() => match input {
                    Input::Quit => return Ok(()),
                    Input::Key(key) => {
                        model.key(key);
                        want_names.send_replace(model.wants_names());
                    }
                    Input::Redraw => {}
                },
            }
            terminal.draw(|frame| view::draw(frame, &mut model, Timestamp::now()))?;
        }
    }
}

async fn ask(client: &Client, with_names: bool) -> Result<Box<Snapshot>, CallError> {
    let status: Status = client.ask(&Command::Status).await?;
    let stats: Stats = client.ask(&Command::Stats).await?;
    let at = Instant::now();
    let events =
        |after, limit: u64| Command::Events { after, started: None, limit: Some(limit as usize), wait_ms: 0 };
    let Page { newest, .. } = client.ask(&events(0, 0)).await?;
    let page: Page = client.ask(&events(newest.saturating_sub(EVENTS), EVENTS)).await?;
    let names: Option<Names> = if with_names { Some(client.ask(&Command::Names).await?) } else { None };
    Ok(Box::new(Snapshot { at, status, stats, events: page.events, names }))
}
