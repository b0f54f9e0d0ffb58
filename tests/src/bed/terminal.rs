//! A terminal with a shell: tmux on its own server. Tests read its screen and press its keys.
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use anyhow::{Result, ensure};

use crate::bed::process;
use crate::bed::wait;

/// The longest time until a program draws or obeys a key.
const SOON: Duration = Duration::from_secs(10);

/// The running terminal. A drop ends the terminal and its programs.
#[derive(Debug)]
pub struct Terminal {
    socket: PathBuf,
}

impl Terminal {
    /// Opens a terminal whose server listens on `socket`, with a shell that prints `$` when it is ready.
    ///
    /// # Errors
    /// tmux is not installed.
    pub fn open(socket: PathBuf, (columns, lines): (u16, u16)) -> Result<Self> {
        let terminal = Terminal { socket };
        let (columns, lines) = (columns.to_string(), lines.to_string());
        let shell = "env -i PATH=/usr/bin:/bin TERM=screen-256color PS1='$ ' sh";
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", &columns, "-y", &lines, shell])?;
        terminal.wait_for("$")?;
        Ok(terminal)
    }

    /// Types a line.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn line(&self, line: &str) -> Result<()> {
        self.tmux(&["send-keys", "-l", line])?;
        self.key("Enter")
    }

    /// Presses a key, as tmux calls it: `q`, `C-c`, `Down`.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn key(&self, key: &str) -> Result<()> {
        self.tmux(&["send-keys", key]).map(drop)
    }

    /// Gives the terminal another size.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn resize(&self, (columns, lines): (u16, u16)) -> Result<()> {
        let (columns, lines) = (columns.to_string(), lines.to_string());
        self.tmux(&["resize-window", "-x", &columns, "-y", &lines]).map(drop)
    }

    /// Returns the screen.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn screen(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-p"])
    }

    /// Returns the screen with the escape sequences of its colours.
    ///
    /// # Errors
    /// The terminal is gone.
    pub fn coloured(&self) -> Result<String> {
        self.tmux(&["capture-pane", "-e", "-p"])
    }

    /// Waits until a text is on the screen, and returns the screen.
    ///
    /// # Errors
    /// The text is not on the screen within 10 s. The error shows the screen.
    pub fn wait_for(&self, text: &str) -> Result<String> {
        let shown = wait::until(&format!("the terminal shows {text:?}"), SOON, || {
            let screen = self.screen()?;
            ensure!(screen.contains(text), "it shows\n{screen}");
            Ok(screen)
        });
        shown.map(|(screen, _)| screen)
    }

    fn tmux(&self, arguments: &[&str]) -> Result<String> {
        let mut command = Command::new("tmux");
        process::succeed(command.arg("-S").arg(&self.socket).args(arguments), "")
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // The server may have ended already, with its last session.
        self.tmux(&["kill-server"]).ok();
    }
}
