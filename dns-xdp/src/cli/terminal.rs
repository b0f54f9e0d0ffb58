//! A terminal that this process takes over for a while. It delivers keys and signals, shows frames, and is always
//! restored.
use std::io::{self, IsTerminal as _};
use std::thread;

use anyhow::Context as _;
use ratatui::crossterm::event::{self, Event, KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use ratatui::style::Color;
use ratatui::{DefaultTerminal, Frame};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::mpsc;

/// The whole terminal. Dropping it restores the terminal's state. A panic restores the state before the message of the
/// panic is written.
#[derive(Debug)]
pub(super) struct Terminal {
    terminal: DefaultTerminal,
    events: mpsc::UnboundedReceiver<io::Result<Event>>,
    signals: [Signal; 3],
    colour: bool,
}

/// An operator's input at a terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// `q`, Ctrl-C, a signal, or a terminal that is gone.
    Quit,
    /// Another key.
    Key(KeyCode),
    /// The size has changed, or the screen was disturbed.
    Redraw,
}

/// Whether a screen can be shown and keys can be read.
pub(super) fn is_there() -> bool {
    io::stdout().is_terminal() && io::stdin().is_terminal()
}

/// Whether to colour stdout. This depends on the kind of stdout, and on `NO_COLOR`, `CLICOLOR` and `CLICOLOR_FORCE`.
pub(super) fn has_colour() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

impl Terminal {
    /// Takes the terminal over. Needs a tokio runtime.
    pub(super) fn open() -> anyhow::Result<Self> {
        let catch = |kind| signal(kind).context("cannot listen for signals");
        let kinds = [SignalKind::terminate(), SignalKind::interrupt(), SignalKind::hangup()];
        let signals = [catch(kinds[0])?, catch(kinds[1])?, catch(kinds[2])?];
        let colour = has_colour();
        let terminal = ratatui::try_init().context("cannot take the terminal over: is TERM right?")?;
        let (sender, events) = mpsc::unbounded_channel();
        // The thread waits for keys without a limit, and ends with the process.
        thread::spawn(move || {
            loop {
                let event = event::read();
                let failed = event.is_err();
                if sender.send(event).is_err() || failed {
                    return;
                }
            }
        });
        Ok(Terminal { terminal, events, signals, colour })
    }

    /// Shows a frame. Writes only the differences from the previous frame.
    pub(super) fn draw(&mut self, draw: impl FnOnce(&mut Frame<'_>)) -> anyhow::Result<()> {
        let colour = self.colour;
        let drawn = self.terminal.draw(|frame| {
            draw(frame);
            if !colour {
                for cell in &mut frame.buffer_mut().content {
                    (cell.fg, cell.bg) = (Color::Reset, Color::Reset);
                }
            }
        });
        drawn.map(drop).context("cannot write to the terminal")
    }

    /// Waits for the operator. Cancel safe.
    pub(super) async fn input(&mut self) -> Input {
        let [terminate, interrupt, hangup] = &mut self.signals;
        loop {
            let event = tokio::select! {
                event = self.events.recv() => event,
                _ = terminate.recv() => return Input::Quit,
                _ = interrupt.recv() => return Input::Quit,
                _ = hangup.recv() => return Input::Quit,
            };
            match event {
                None | Some(Err(_)) => return Input::Quit,
                Some(Ok(event)) => {
                    if let Some(input) = input(&event) {
                        return input;
                    }
                }
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        ratatui::restore();
        // Otherwise a hidden cursor would stay hidden.
        self.terminal.show_cursor().ok();
    }
}

fn input(event: &Event) -> Option<Input> {
    match event {
        Event::Resize(..) => Some(Input::Redraw),
        Event::Key(KeyEvent { kind: KeyEventKind::Release, .. }) => None,
        Event::Key(key) => Some(match (key.code, key.modifiers.contains(KeyModifiers::CONTROL)) {
            (KeyCode::Char('c'), true) | (KeyCode::Char('q'), false) => Input::Quit,
            (KeyCode::Char('l'), true) => Input::Redraw,
            (code, _) => Input::Key(code),
        }),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn q_and_ctrl_c_quit_and_other_keys_are_passed_on() {
        let key = |code, modifiers| input(&Event::Key(KeyEvent::new(code, modifiers)));
        let (none, control) = (KeyModifiers::NONE, KeyModifiers::CONTROL);
        assert_eq!(key(KeyCode::Char('q'), none), Some(Input::Quit));
        assert_eq!(key(KeyCode::Char('c'), control), Some(Input::Quit));
        assert_eq!(key(KeyCode::Char('c'), none), Some(Input::Key(KeyCode::Char('c'))));
        assert_eq!(input(&Event::Resize(80, 24)), Some(Input::Redraw));
        assert_eq!(input(&Event::FocusGained), None);
    }
}
