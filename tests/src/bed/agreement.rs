//! Checks that servers that share a store agree: about the store, about each other, and in their answers.
use std::collections::BTreeMap;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde_json::Value;

use crate::bed::cluster::Cluster;
use crate::bed::node::Node;
use crate::bed::wait;
use crate::bed::watch::{Change, Question, Watch, all_answered, names};

/// The longest time to wait for the end of a lease or an election on a busy machine.
pub const SOON: Duration = Duration::from_secs(10);

/// `status --cluster --json`, as one server sees it.
///
/// # Errors
/// The daemon does not answer.
pub fn view(node: &Node) -> Result<Value> {
    Ok(serde_json::from_str(&node.cli_ok(&["status", "--cluster", "--json"])?)?)
}

/// Returns one server's state of the store: the `store` of its `status --json`.
///
/// # Errors
/// The daemon does not answer, or its status has no store.
pub fn store(node: &Node) -> Result<Value> {
    let status = node.status()?;
    let store = &status["store"];
    ensure!(store["kind"] == "etcd", "{} says of its store: {store}", node.name);
    Ok(store.clone())
}

/// Waits until a server has this mode (`joined`, `alone`, `frozen`). Returns the text of its trouble.
///
/// # Errors
/// It does not get the mode within [`SOON`].
pub fn wait_for_mode(node: &Node, mode: &str) -> Result<String> {
    let (trouble, _) = wait::until(&format!("{} is {mode}", node.name), SOON, || {
        let store = store(node)?;
        ensure!(store["mode"] == mode, "{store}");
        Ok(store["trouble"].as_str().unwrap_or_default().to_owned())
    })?;
    Ok(trouble)
}

/// Waits until these servers (from 0) have joined, see each other alive, and have one epoch and one digest.
///
/// # Errors
/// They do not agree within [`SOON`].
pub fn wait_for_agreement(cluster: &Cluster, servers: &[usize]) -> Result<u64> {
    let nodes: Vec<&Node> = servers.iter().map(|server| &cluster.nodes[*server]).collect();
    let (epoch, _) = wait::until("the servers are of one mind", SOON, || {
        let mut minds = Vec::new();
        for node in &nodes {
            let view = view(node)?;
            ensure!(view["mode"] == "joined", "{}: {view:#}", node.name);
            ensure!(view["disagreement"] == Value::Array(Vec::new()), "{}: {view:#}", node.name);
            let epoch = view["epoch"].as_u64().with_context(|| format!("no epoch: {view:#}"))?;
            for other in &nodes {
                minds.push((epoch, mind(&view, &other.name)?));
            }
        }
        let (epoch, first) = minds[0].clone();
        ensure!(minds.iter().all(|(seen, mind)| *mind == first && *seen == epoch), "{minds:?}");
        ensure!(first.0 == epoch && !first.1.is_empty(), "{minds:?}");
        Ok(epoch)
    })?;
    Ok(epoch)
}

/// Epoch and digest of a living server in a view.
fn mind(view: &Value, name: &str) -> Result<(u64, String)> {
    let servers = view["servers"].as_array().with_context(|| format!("no servers: {view:#}"))?;
    let Some(server) = servers.iter().find(|server| server["name"] == name) else {
        bail!("{name} is not seen: {view:#}");
    };
    ensure!(server["alive"] == true && server["mode"] == "joined", "{name}: {server}");
    let epoch = server["epoch"].as_u64().with_context(|| format!("no epoch: {server}"))?;
    Ok((epoch, server["digest"].as_str().unwrap_or_default().to_owned()))
}

/// Queries these servers from now on for every node's name, its name server's name and the apex.
///
/// # Errors
/// The sockets cannot be opened.
pub fn watch(cluster: &Cluster, servers: &[usize]) -> Result<Watch> {
    let servers: Vec<IpAddr> = servers.iter().map(|server| cluster.nodes[*server].ipv4()).collect();
    let mut labels: Vec<&str> = cluster.nodes.iter().map(|node| node.name.as_str()).collect();
    labels.push("@");
    Watch::start(&cluster.client, Question::all(&servers, &labels))
}

/// Ends the watch. Checks that every query was answered, and that each answer stayed the same. An answer with the dead
/// address is an exception: it has to change once, to one without that address. Returns how long after the death each
/// server still answered the dead address.
///
/// # Errors
/// An answer failed, changed without reason, or changed back.
pub fn steady_but_for(watch: Watch, dead: Option<(IpAddr, Instant)>) -> Result<BTreeMap<IpAddr, Duration>> {
    let (changes, _) = watch.finish()?;
    all_answered(&changes)?;
    let mut by_question: Vec<(&Question, Vec<&Change>)> = Vec::new();
    for change in &changes {
        match by_question.iter_mut().find(|(question, _)| **question == change.question) {
            Some((_, all)) => all.push(change),
            None => by_question.push((&change.question, vec![change])),
        }
    }
    let mut repaired = BTreeMap::new();
    for (question, all) in by_question {
        match (&all[..], dead) {
            ([_], None) => {}
            ([only], Some((dead, _))) => ensure!(!names(only, dead), "{only}: not repaired"),
            ([before, after], Some((dead, death))) if names(before, dead) && !names(after, dead) => {
                let took = after.at.saturating_duration_since(death);
                let worst = repaired.entry(question.server).or_insert(took);
                *worst = took.max(*worst);
            }
            _ => bail!("answers have changed for nothing: {all:?}"),
        }
    }
    Ok(repaired)
}
