//! Names for the shell's completion: the running daemon's, or none.
use std::path::PathBuf;
use std::time::Duration;

use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};

use super::briefly;
use crate::config::DEFAULT_SOCKET;
use crate::control::api::NodeEntry;
use crate::control::{Client, Command};

/// Somebody holds the tabulator key.
const COMPLETION_TIMEOUT: Duration = Duration::from_millis(500);

/// The names of the nodes, with their addresses.
pub(super) fn nodes() -> ArgValueCandidates {
    ArgValueCandidates::new(|| candidates().unwrap_or_default())
}

/// Silent in any trouble: a message would land in the middle of the line that is being typed.
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

/// The words of the line being typed are our arguments.
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
