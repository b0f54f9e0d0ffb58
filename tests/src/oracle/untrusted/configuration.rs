//! The text of a configuration is either refused with its problems, or valid. A valid text stays valid when its nodes
//! are changed.
use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;

use dns_xdp::config::edit::{NodeKeys, add_node, remove_node, set_node};
use dns_xdp::config::{Config, differences};
use dns_xdp::failover;

/// The path of a file that does not exist, so that nothing beside it is read.
const PATH: &str = "/nonexistent/dns-xdp.toml";
/// Words that cause a look-up or the reading of other files.
const LOOKS_ELSEWHERE: [&str; 3] = ["target", "ca", "command"];
/// The node that is added.
const NODE: &str = "fuzzed-node";
const ADDRESS: Ipv4Addr = Ipv4Addr::new(203, 0, 113, 77);

/// Checks the property for one text. Returns `true` if the text is a valid configuration.
///
/// # Errors
/// The broken property.
pub fn hold(input: &[u8]) -> Result<bool, String> {
    let Ok(text) = std::str::from_utf8(input) else { return Ok(false) };
    if keys(text).any(|key| LOOKS_ELSEWHERE.contains(&key)) {
        return Ok(false);
    }
    let path = Path::new(PATH);
    let config = match Config::parse(text, path) {
        Ok(config) => config,
        Err(error) => {
            let message = error.to_string();
            return if message.trim().is_empty() {
                Err("it is refused without a word".to_owned())
            } else {
                Ok(false)
            };
        }
    };
    if config.epoch() == 0 {
        return Err("its epoch is 0".to_owned());
    }
    config.warnings();
    failover::healthy_zone(&config);
    if !differences(text, text).is_empty() {
        return Err("it differs from itself".to_owned());
    }
    if Config::parse(text, path).ok().as_ref() != Some(&config) {
        return Err("read again it is another".to_owned());
    }
    changed(text, &config).map(|()| true)
}

/// Adds, sets and removes a node. The other nodes must not change.
fn changed(text: &str, config: &Config) -> Result<(), String> {
    let parse =
        |text: &str| Config::parse(text, Path::new(PATH)).map_err(|error| format!("{error} in {text}"));
    let known = |config: &Config| {
        let mut nodes = config.cluster.nodes.iter();
        nodes.any(|node| node.name == NODE || node.addresses().any(|address| address == IpAddr::V4(ADDRESS)))
    };
    if known(config) {
        return Ok(());
    }
    let Ok(added) = add_node(text, NODE, Some(ADDRESS), None, &NodeKeys::default()) else { return Ok(()) };
    // One more node may be too many, or its name server's name may be taken.
    let Ok(with) = Config::parse(&added.text, Path::new(PATH)) else { return Ok(()) };
    if !known(&with) || with.cluster.nodes.len() != config.cluster.nodes.len() + 1 {
        return Err(format!("the node is not in {}", added.text));
    }
    let set = set_node(&added.text, NODE, Some(Ipv4Addr::new(203, 0, 113, 78)), None, &NodeKeys::default());
    let set = set.map_err(|error| format!("{error} in {}", added.text))?;
    if let Ok(set) = Config::parse(&set.text, Path::new(PATH))
        && set.cluster.nodes.len() != with.cluster.nodes.len()
    {
        return Err("a node that is set is another node".to_owned());
    }
    let removed = remove_node(&added.text, NODE).map_err(|error| format!("{error} in {}", added.text))?;
    let back = parse(&removed.text)?;
    if back.cluster != config.cluster {
        return Err(format!("a node that was added and removed is left in {}", removed.text));
    }
    Ok(())
}

/// The words before equals signs and dots, roughly, ignoring quotes.
fn keys(text: &str) -> impl Iterator<Item = &str> {
    text.split(|letter: char| !letter.is_ascii_alphanumeric() && letter != '-' && letter != '_')
}
