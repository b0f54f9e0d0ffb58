//! The steps of a start, each with its own way to refuse.
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::time::{Instant, MissedTickBehavior, sleep};

use super::events::Events;
use super::network::ServedNetwork;
use super::publication::Publication;
use super::sharing::Sharing;
use super::signals::{Signal, Signals};
use super::told::Told;
use super::watch::Watch;
use super::{event, service};
use crate::config::{Config, Listen};
use crate::control::{BindError, Client, Command, Server};
use crate::failover;
use crate::intent::{self, Intents};
use crate::metrics::Recorder;
use crate::network::{self, Listener, Network};
use crate::responder::{self, Sockets};
use crate::store::etcd::Members;
use crate::store::mirror::{Mirror, Settings};
use crate::store::{Documents, Revision, copy};

/// A predecessor answers its open queries before it ends.
const HANDOVER: Duration = Duration::from_secs(10);
/// A store that is there is seen within this.
const FIRST_VIEW: Duration = Duration::from_secs(1);
const HANDOVER_POLL: Duration = Duration::from_millis(20);
/// A daemon that was told to stop holds the port while it answers the last queries, without a control socket.
const ENDING: Duration = Duration::from_millis(2500);
const ENDING_POLL: Duration = Duration::from_millis(100);

/// Binds the control socket; `replace`: asks a daemon that holds it to give way, and waits until it has. Returns the
/// process of that daemon too.
pub(super) async fn control_socket(path: &Path, replace: bool) -> anyhow::Result<(Server, Option<u32>)> {
    let deadline = Instant::now() + HANDOVER;
    let mut predecessor = None;
    loop {
        match Server::bind(path) {
            Err(BindError::Busy { pid, .. }) if replace && Instant::now() < deadline => {
                if predecessor.is_none() {
                    let client = Client::new(path).with_patience(HANDOVER);
                    let answer = client.call(&Command::Handover).await;
                    answer.with_context(|| format!("the running dns-xdp (pid {pid}) did not give way"))?;
                    tracing::info!("taking over from the dns-xdp with pid {pid}");
                    predecessor = Some(pid.unsigned_abs());
                }
                sleep(HANDOVER_POLL).await;
            }
            bound => return Ok((bound?, predecessor)),
        }
    }
}

/// Binds the addresses, once nobody but `predecessor` holds the port on one of them. One that cannot be bound for
/// another reason is bound later.
pub(super) async fn sockets(
    listeners: &[Listener],
    port: u16,
    predecessor: Option<u32>,
) -> anyhow::Result<Sockets> {
    let deadline = Instant::now() + ENDING;
    while let Err(error) = responder::probe(listeners, port) {
        let responder::BindError::Taken { address, port, transport, .. } = error else { break };
        let others: Vec<_> = network::holders(port)
            .into_iter()
            .filter(|holder| holder.protocol == transport)
            .filter(|holder| holder.address == address || holder.address.is_unspecified())
            .map(|holder| holder.process)
            .filter(|process| predecessor.is_none() || process.as_ref().map(|(pid, _)| *pid) != predecessor)
            .collect();
        if predecessor.is_some() && others.is_empty() {
            break;
        }
        let holder = others.into_iter().flatten().next();
        let may_be_ending = holder.as_ref().is_none_or(|(_, name)| name == responder::DAEMON);
        if !may_be_ending || Instant::now() > deadline {
            return Err(responder::BindError::Taken { address, port, transport, holder }.into());
        }
        sleep(ENDING_POLL).await;
    }
    let mut sockets = Sockets::new(port);
    for listener in listeners {
        match sockets.add(listener) {
            Ok(()) => {}
            Err(
                error @ responder::BindError::Other { .. } | error @ responder::BindError::Missing { .. },
            ) => {
                tracing::warn!("{:#}: it is tried again", anyhow::Error::new(error));
            }
            Err(error) => return Err(error.into()),
        }
    }
    Ok(sockets)
}

/// The admin intent as the last daemon left it, without what has ended since.
pub(super) fn intents(path: &Path, events: &Events) -> Result<Intents, intent::Error> {
    let intents = intent::load(path)?;
    let Some((left, over)) = intent::expire(&intents, Timestamp::now()) else {
        return Ok(intents);
    };
    over.iter().for_each(|(node, intent)| events.tell(event::expired(node, intent)));
    if let Err(error) = intent::store(path, &left) {
        tracing::warn!("{error}");
    }
    Ok(left)
}

/// Those of the configuration, or else those of the interfaces; the error says why there are none.
pub(crate) fn served_addresses(listen: &Listen) -> anyhow::Result<Vec<IpAddr>> {
    if !listen.addresses.is_empty() {
        return Ok(listen.addresses.clone());
    }
    let network = Network::read().context("cannot ask the kernel about interfaces and addresses")?;
    let serving = network::serving(listen, &network);
    let served = serving.served();
    anyhow::ensure!(!served.is_empty(), "{}", serving.alarms().join("; "));
    Ok(served)
}

/// The name of the node that has one of the served addresses; else the machine's.
pub(super) fn identity(config: &Config, served: &[IpAddr]) -> String {
    let nodes = &config.cluster.nodes;
    let ours = nodes.iter().find(|node| node.addresses().any(|address| served.contains(&address)));
    match ours {
        Some(node) => node.name.clone(),
        None => std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned(),
    }
}

/// The rhythm of lease and watchdog.
pub(super) fn beat(publication: &Publication) -> tokio::time::Interval {
    let watchdog = service::watchdog_interval().unwrap_or(Duration::MAX);
    let mut beat = tokio::time::interval(publication.beat().min(watchdog));
    beat.set_missed_tick_behavior(MissedTickBehavior::Delay);
    beat
}

/// The daemon's place among the servers of its store; `None`: it has none.
pub(super) fn sharing(
    config: &Config,
    shared: Option<(Documents, Revision)>,
    identity: &str,
) -> anyhow::Result<Option<Sharing>> {
    let (Some(store), Some(known)) = (&config.store, shared) else { return Ok(None) };
    let server = store.server.clone().unwrap_or_else(|| identity.to_owned());
    let settings = Settings { server: server.clone(), lease: store.lease };
    let members = Members::new(store, store.lease / 5)?;
    let members = Arc::new(members);
    keep_copy(&store.copy, &known.0, known.1);
    let mirror = Mirror::start(settings, known, move |number| {
        let members = Arc::clone(&members);
        async move { members.connect(number).await }
    });
    Ok(Some(Sharing::new(mirror, server)))
}

/// The documents in force are what the next start is from, should the store be away then.
pub(super) fn keep_copy(path: &Path, documents: &Documents, revision: Revision) {
    if let Err(error) = copy::store(path, documents, revision) {
        tracing::warn!("cannot keep a copy of the store in {}: {error}", path.display());
    }
}

/// Waits a moment for the store, so that the first answers are those that the others give.
pub(super) async fn join(watch: &mut Watch, sharing: &mut Sharing) {
    sharing.settle(FIRST_VIEW).await;
    watch.state.hear(sharing.concert());
}

/// Waits until every node and witness has been probed once, which their timeouts bound. `Some`: a signal asked
/// for an end before that.
pub(super) async fn first_round(
    watch: &mut Watch,
    publication: &mut Publication,
    signals: &mut Signals,
    recorder: &Recorder,
) -> Option<Signal> {
    let mut beat = beat(publication);
    while !watch.state.round_complete() {
        tokio::select! {
            report = watch.next() => {
                watch.observe(&report);
            }
            _ = beat.tick() => {
                publication.renew();
                recorder.beat();
                service::alive();
            }
            signal = signals.next() => if signal != Signal::Hangup {
                return Some(signal);
            }
        }
    }
    None
}

/// Decides for the first time, answers by it, and tells what this is.
pub(super) fn go_live(
    watch: &mut Watch,
    publication: &mut Publication,
    network: &ServedNetwork,
    events: &Events,
    server: &str,
) -> anyhow::Result<Option<Told>> {
    watch.state.decide();
    if let Some(zone) = watch.state.zone() {
        let past = failover::healthy_zone(watch.state.config());
        publication.open(zone, &past, (network.serving(), network.network()))?;
    }
    let told = publication.zone().and_then(|zone| Told::new(&watch.state, zone));
    if let Some(told) = &told {
        told.at_the_start(&watch.state, server).into_iter().for_each(|what| events.tell(what));
    }
    Ok(told)
}

#[cfg(test)]
mod tests {
    use super::super::state::tests::{TEXT, config};
    use super::*;

    #[test]
    fn a_server_is_called_after_the_node_whose_address_it_serves() {
        let config = config(TEXT);
        assert_eq!(identity(&config, &["2001:db8::1".parse().unwrap(), [192, 0, 2, 12].into()]), "node2");
        assert!(!identity(&config, &[[192, 0, 2, 99].into()]).is_empty());
    }

    #[tokio::test]
    async fn a_port_that_another_process_holds_is_refused_and_a_predecessors_is_shared() {
        let loopback = [Listener::from(IpAddr::from([127, 0, 0, 1]))];
        let running = responder::bind(&loopback, 0).unwrap();
        let port = running.addresses().unwrap()[0].port();
        let own = std::process::id();
        assert!(sockets(&loopback, port, Some(own)).await.is_ok());
        for predecessor in [None, Some(1)] {
            let message = sockets(&loopback, port, predecessor).await.unwrap_err().to_string();
            assert!(message.contains(&format!("(pid {own})")), "{message}");
        }
        drop(running);
        assert!(sockets(&loopback, port, None).await.is_ok());
    }

    #[tokio::test]
    async fn a_running_daemon_is_named_and_left_alone_unless_it_is_to_be_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("control.sock");
        let (running, _) = control_socket(&path, false).await.unwrap();
        let message = control_socket(&path, false).await.unwrap_err().to_string();
        assert!(message.contains(&format!("pid {}", std::process::id())), "{message}");

        let (calls, mut inbox) = tokio::sync::mpsc::channel::<crate::control::Call>(1);
        let stop = tokio_util::sync::CancellationToken::new();
        let journal = Arc::new(crate::event::Journal::new(Timestamp::UNIX_EPOCH));
        let serving = tokio::spawn(running.serve(calls, journal, stop.clone()));
        let gives_way = tokio::spawn(async move {
            let call = inbox.recv().await.unwrap();
            assert_eq!(call.command, Command::Handover);
            call.reply.send(Ok(serde_json::json!({"notes": []}))).unwrap();
            sleep(Duration::from_millis(100)).await;
            stop.cancel();
        });
        let (successor, predecessor) = control_socket(&path, true).await.unwrap();
        assert_eq!(predecessor, Some(std::process::id()));
        gives_way.await.unwrap();
        serving.await.unwrap();
        assert!(path.exists());
        drop(successor);
    }
}
