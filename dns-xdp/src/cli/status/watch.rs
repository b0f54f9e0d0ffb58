//! `status --watch`: refreshes the screen.
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use ratatui::Frame;
use ratatui::crossterm::event::KeyCode;
use ratatui::layout::{Constraint, Layout};
use ratatui::style::Stylize as _;
use ratatui::text::{Line, Text};
use ratatui::widgets::Paragraph;

use super::super::refresh::{self, STATUS_TIMEOUT};
use super::super::terminal::{self, Input, Terminal};
use super::super::words::{cut, harmless};
use super::screen::screen;
use crate::control::api::Status;
use crate::control::{CallError, Client, Command};

type Answer = Result<Status, CallError>;

/// The state of the screen.
#[derive(Debug, Default)]
struct Watch {
    status: Option<Status>,
    /// Since when the daemon has not answered, and why.
    gone: Option<(Timestamp, String)>,
    /// Lines above the screen's first.
    scrolled: u16,
}

/// Shows the screen until the operator ends it: in place on a terminal, elsewhere one screen below the other.
pub(super) async fn watch(client: &Client, every: Duration) -> anyhow::Result<()> {
    let client = client.clone().with_patience(STATUS_TIMEOUT);
    let mut answers = refresh::every(every, move || {
        let client = client.clone();
        async move { client.ask(&Command::Status).await }
    });
    let mut watch = Watch::default();
    if !terminal::is_there() {
        let printed = async {
            while let Some(answer) = answers.recv().await {
                watch.take(answer, Timestamp::now())?;
                if !super::print(&watch.text(Timestamp::now(), super::columns()))? {
                    break;
                }
            }
            Ok(())
        };
        return tokio::select! {
            printed = printed => printed,
            interrupted = tokio::signal::ctrl_c() => interrupted.context("cannot listen for Ctrl-C"),
        };
    }
    let mut terminal = Terminal::open()?;
    loop {
        tokio::select! {
            Some(answer) = answers.recv() => watch.take(answer, Timestamp::now())?,
            input = terminal.input() => match input {
                Input::Quit => return Ok(()),
                Input::Key(key) => watch.key(key),
                Input::Redraw => {}
            },
        }
        terminal.draw(|frame| watch.draw(frame, Timestamp::now()))?;
    }
}

impl Watch {
    fn take(&mut self, answer: Answer, now: Timestamp) -> Result<(), CallError> {
        match answer {
            Ok(status) => (self.status, self.gone) = (Some(status), None),
            Err(error) if refresh::is_passing(&error) => {
                let since = self.gone.as_ref().map_or(now, |(since, _)| *since);
                self.gone = Some((since, error.to_string()));
            }
            Err(error) => return Err(error),
        }
        Ok(())
    }

    fn key(&mut self, key: KeyCode) {
        self.scrolled = match key {
            KeyCode::Up | KeyCode::Char('k') => self.scrolled.saturating_sub(1),
            KeyCode::Down | KeyCode::Char('j') => self.scrolled.saturating_add(1),
            KeyCode::PageUp => self.scrolled.saturating_sub(10),
            KeyCode::PageDown => self.scrolled.saturating_add(10),
            KeyCode::Home => 0,
            _ => self.scrolled,
        };
    }

    /// Returns the screen. While the daemon does not answer, a message stands above its last answer.
    fn text(&self, now: Timestamp, width: usize) -> Text<'static> {
        let mut text = Text::default();
        if let Some((since, why)) = &self.gone {
            let seconds = now.as_second().saturating_sub(since.as_second());
            let line = format!("NO ANSWER for {seconds}s: {}", harmless(why));
            text.push_line(Line::from(cut(&line, width)).red().bold());
            let rest = if self.status.is_some() { "; its last answer is below" } else { "" };
            text.push_line(format!("waiting for the daemon{rest}"));
            text.push_line("");
        }
        if let Some(status) = &self.status {
            // The screen counts ages from the times in the last answer, so they stay right while the daemon is gone.
            text.extend(screen(status, now, width));
        }
        text
    }

    fn draw(&mut self, frame: &mut Frame<'_>, now: Timestamp) {
        let [top, body, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)])
                .areas(frame.area());
        let text = self.text(now, body.width.into());
        let height = u16::try_from(text.height()).unwrap_or(u16::MAX);
        self.scrolled = self.scrolled.min(height.saturating_sub(body.height));
        let below = height.saturating_sub(self.scrolled).saturating_sub(body.height);
        let time = now.to_zoned(jiff::tz::TimeZone::system()).strftime("%H:%M:%S").to_string();
        frame.render_widget(Line::from(vec!["dns-xdp status".bold(), format!("  {time}").into()]), top);
        frame.render_widget(Paragraph::new(text).scroll((self.scrolled, 0)), body);
        let more = if below > 0 { format!("  ({below} more lines)") } else { String::new() };
        frame.render_widget(Line::from(format!(" q quit  ↑↓ scroll{more}")).dim(), foot);
    }
}

#[cfg(test)]
mod tests {
    use ratatui::backend::TestBackend;

    use super::super::screen::tests::status;
    use super::*;

    fn shown(watch: &mut Watch, now: Timestamp, height: u16) -> String {
        let mut terminal = ratatui::Terminal::new(TestBackend::new(80, height)).unwrap();
        terminal.draw(|frame| watch.draw(frame, now)).unwrap();
        terminal.backend().to_string()
    }

    #[test]
    fn a_daemon_that_is_gone_is_said_to_be_and_its_last_words_stay() {
        let start = Timestamp::UNIX_EPOCH;
        let gone = || CallError::NoDaemon { socket: "/run/s".into() };
        let mut watch = Watch::default();
        watch.take(Err(gone()), start).unwrap();
        watch.take(Err(gone()), start + Duration::from_secs(5)).unwrap();
        let screen = shown(&mut watch, start + Duration::from_secs(7), 30);
        assert!(screen.contains("NO ANSWER for 7s: no dns-xdp answers on /run/s"), "{screen}");
        watch.take(Ok(status()), start).unwrap();
        assert!(!shown(&mut watch, start, 30).contains("NO ANSWER"));
        watch.take(Err(gone()), start).unwrap();
        let screen = shown(&mut watch, start, 30);
        assert!(screen.contains("NO ANSWER for 0s") && screen.contains("node2"), "{screen}");
    }

    #[test]
    fn who_may_not_ask_is_told_so_at_once() {
        let denied = CallError::Denied { socket: "/run/s".into() };
        assert!(Watch::default().take(Err(denied), Timestamp::UNIX_EPOCH).is_err());
    }

    #[test]
    fn what_does_not_fit_can_be_scrolled_to_and_no_further() {
        let now = Timestamp::UNIX_EPOCH;
        let mut watch = Watch { status: Some(status()), ..Watch::default() };
        let screen = shown(&mut watch, now, 12);
        assert!(screen.contains("more lines") && !screen.contains("node1"), "{screen}");
        (0..100).for_each(|_| watch.key(KeyCode::Down));
        let screen = shown(&mut watch, now, 12);
        assert!(!screen.contains("more lines") && screen.contains("node1"), "{screen}");
        watch.key(KeyCode::Home);
        assert!(shown(&mut watch, now, 12).contains("FROZEN"));
    }
}
