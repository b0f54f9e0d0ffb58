//! A raw client of the control socket: HTTP and JSON over one connection.
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::Value;

/// The longest time for an answer.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(5);

/// Returns the request with this body.
pub fn post(body: &[u8]) -> Vec<u8> {
    let head = format!("POST /command HTTP/1.1\r\nhost: localhost\r\ncontent-length: {}\r\n\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// One connection to the socket.
#[derive(Debug)]
pub struct Connection {
    /// The stream.
    pub stream: UnixStream,
    read: Vec<u8>,
}

impl Connection {
    /// Connects as the calling user.
    ///
    /// # Errors
    /// No daemon listens, or this user may not connect.
    pub fn open(socket: &Path) -> Result<Self> {
        let stream = UnixStream::connect(socket).context("no daemon listens on the control socket")?;
        stream.set_read_timeout(Some(ANSWER_TIMEOUT))?;
        stream.set_write_timeout(Some(ANSWER_TIMEOUT))?;
        Ok(Connection { stream, read: Vec::new() })
    }

    /// Sends one command and returns the answer with its code.
    ///
    /// # Errors
    /// No whole answer comes within 5 s.
    pub fn ask(&mut self, command: &str) -> Result<(u16, Value)> {
        self.stream.write_all(&post(command.as_bytes()))?;
        let (code, body) = self.response()?;
        Ok((code, serde_json::from_slice(&body).context("an answer is JSON")?))
    }

    /// Sends all these requests and returns the code of each answer.
    ///
    /// # Errors
    /// The same as for [`Connection::ask`].
    pub fn exchange(&mut self, requests: &[Vec<u8>]) -> Result<Vec<u16>> {
        self.stream.write_all(&requests.concat())?;
        requests.iter().map(|_| Ok(self.response()?.0)).collect()
    }

    fn response(&mut self) -> Result<(u16, Vec<u8>)> {
        loop {
            if let Some((code, head, length)) = head(&self.read)
                && self.read.len() >= head + length
            {
                let body = self.read[head..head + length].to_vec();
                self.read.drain(..head + length);
                return Ok((code, body));
            }
            let mut buffer = [0; 1 << 16];
            let length = self.stream.read(&mut buffer).context("no answer on the control socket")?;
            ensure!(length > 0, "the control socket was closed before its answer");
            self.read.extend(&buffer[..length]);
        }
    }
}

/// Returns the code, the length of the head and the length of the body; `None`: the head is not complete.
fn head(read: &[u8]) -> Option<(u16, usize, usize)> {
    let end = read.windows(4).position(|four| four == b"\r\n\r\n")? + 4;
    let text = std::str::from_utf8(&read[..end]).ok()?.to_ascii_lowercase();
    let code = text.split(' ').nth(1)?.parse().ok()?;
    let length = text.lines().find_map(|line| line.strip_prefix("content-length: ")?.parse().ok());
    Some((code, end, length.unwrap_or(0)))
}
