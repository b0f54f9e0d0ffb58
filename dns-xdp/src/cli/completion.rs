//! Names for the shell's completion. The names come from the running daemon; without a daemon there are no names.
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::briefly;
use crate::config::DEFAULT_SOCKET;
use crate::control::api::NodeEntry;
use crate::control::{Client, Command};

/// The longest wait for the daemon, short enough for a user that holds the tabulator key.
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(500);

/// Completes the names of the nodes, with their addresses.
pub(super) fn nodes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates().unwrap_or_default())
}

/// Returns `None` on any error. A message would appear in the middle of the line that is being typed.
fn candidates() -> Option<Vec<CompletionCandidate>> {
    let socket = socket(std::env::args()).unwrap_or_else(|| DEFAULT_SOCKET.into());
    let client = Client::new(&socket).with_patience(COMPLETION_TIMEOUT);
    let nodes: Vec<NodeEntry> = briefly(async { Ok(client.ask(&Command::NodeList).await?) }).ok()?;
    let candidate = |node: NodeEntry| {
        let address = node.ipv4.map(|ipv4| ipv4.to_string()).or_else(|| Some(node.ipv6?.to_string()));
        CompletionCandidate::new(node.name).help(address.map(Into::into))
    };
    Some(nodes.into_iter().map(candidate).collect())
}

/// Returns the control socket that the line names. Its words are this program's arguments.
fn socket(words: impl Iterator<Item = String>) -> Option<PathBuf> {
    let mut words = words.skip_while(|word| word != "--socket" && !word.starts_with("--socket="));
    let word = words.next()?;
    word.strip_prefix("--socket=").map(PathBuf::from).or_else(|| words.next().map(PathBuf::from))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_socket_is_the_one_on_the_line() {
        let of = |line: &str| socket(line.split(' ').map(str::to_owned));
        assert_eq!(of("dns-xdp -- dns-xdp --socket /run/a node drain"), Some("/run/a".into()));
        assert_eq!(of("dns-xdp -- dns-xdp --socket=/run/a node drain"), Some("/run/a".into()));
        assert_eq!(of("dns-xdp -- dns-xdp node drain"), None);
    }
}
