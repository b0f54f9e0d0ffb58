//! The steps of a start, each with its own refusal.
use std::collections::HashMap;
use std::net::IpAddr;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep};

use super::event_sink::EventSink;
use super::files::{Files, keep_copy};
use super::last_answers;
use super::listeners::{Listeners, Places};
use super::network::{Bindings, ServedNetwork, UNHEARD};
use super::publisher::{Ending, Publisher};
use super::signals::Signals;
use super::skydns::SkyDns;
use super::store_session::StoreSession;
use super::updates::Updates;
use super::{End, Shell};
use crate::config::{Config, Listen};
use crate::control::{BindError, Client, Command, Server};
use crate::controller::core::{Beginning, Core, Now, Source, occurrences};
use crate::health::Prober;
use crate::intent::{self, Intents, Local};
use crate::metrics::{self, Recorder};
use crate::network::{self, Listener, Monitor, Network};
use crate::privileges;
use crate::responder::{self, Sockets};
use crate::store::{Loaded, last_good};

/// The most commands that wait for the loop. Further clients wait until there is room.
const CALLS: usize = 16;
/// The most reports that wait for the loop. Further probes wait until there is room.
const REPORTS: usize = 256;
/// The longest time for a predecessor to answer its open queries and end.
const HANDOVER: Duration = Duration::from_secs(10);
const HANDOVER_POLL: Duration = Duration::from_millis(20);
/// How long a stopping daemon may keep the port without a control socket, while it answers the last queries.
const ENDING: Duration = Duration::from_millis(2500);
const ENDING_POLL: Duration = Duration::from_millis(100);

/// Binds the control socket. With `replace`, asks a daemon that holds the socket to end, and waits for its end. Also
/// returns the process number of that daemon.
async fn control_socket(path: &Path, replace: bool) -> anyhow::Result<(Server, Option<u32>)> {
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

/// Binds the addresses. First waits until no process except `predecessor` holds the port on one of them. An address
/// that cannot be bound for another reason is bound later.
async fn sockets(listeners: &[Listener], port: u16, predecessor: Option<u32>) -> anyhow::Result<Sockets> {
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

/// Reads the intents that the last daemon left, without intents that have ended since.
fn intents(path: &Path, events: &EventSink) -> Result<Intents, intent::Error> {
    let intents = intent::load(path)?;
    let Some((left, over)) = intent::expire(&intents, Timestamp::now()) else {
        return Ok(intents);
    };
    over.iter().for_each(|(node, intent)| events.tell(occurrences::expired(node, intent)));
    if let Err(error) = intent::store(path, &left) {
        tracing::warn!("{error}");
    }
    Ok(left)
}

/// The addresses to serve: the configured addresses, or else the addresses of the interfaces. The error says why there
/// are none.
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

/// The name of the node that has one of the served addresses; otherwise the machine's name.
fn identity(config: &Config, served: &[IpAddr]) -> String {
    let nodes = &config.cluster.nodes;
    let ours = nodes.iter().find(|node| node.addresses().any(|address| served.contains(&address)));
    match ours {
        Some(node) => node.name.clone(),
        None => hostname(),
    }
}

/// The host and address of this daemon, for operators of other servers.
fn place(served: &[IpAddr]) -> String {
    let host = hostname();
    match served.first() {
        Some(address) => format!("{host} ({address})"),
        None => host,
    }
}

fn hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default().trim().to_owned()
}

/// Checks a start before a predecessor ends for it. Refuses a start that would fail.
fn check(config: &Config, shares: bool) -> anyhow::Result<()> {
    privileges::check(config.xdp.mode)?;
    config.check_pin()?;
    let impossible = network::impossible(&config.listen);
    anyhow::ensure!(impossible.is_empty(), "{}", impossible.join("; "));
    if shares {
        intent::load_local(&config.control.local())?;
    } else {
        intent::load(&config.control.state)?;
    }
    Ok(())
}

fn announce(config: &Config, alarms: &[String], identity: &str, trouble: Option<&str>) {
    alarms.iter().for_each(|alarm| tracing::warn!("{alarm}"));
    config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let (version, zone) = (env!("CARGO_PKG_VERSION"), &config.zone.apex);
    tracing::info!("dns-xdp {version} starts as {identity} for {zone}, {} nodes", config.cluster.nodes.len());
    if let Some(trouble) = trouble {
        tracing::warn!("this start is from the last good copy of the store: {trouble}");
    }
}

/// Moves an unreadable last good copy aside for the operator, and warns of what its loss means.
fn set_copy_aside(copy: &Path, unread: &str) {
    tracing::warn!(
        "{unread}; this start trusts the store as it is, and cannot know whether it was restored from an older backup: \
         look at it with `dns-xdp cluster show`"
    );
    match last_good::set_aside(copy) {
        Ok(aside) => tracing::warn!("the copy that cannot be read is kept as {}", aside.display()),
        Err(error) => {
            tracing::warn!("cannot keep {}, which the next copy replaces: {error}", copy.display());
        }
    }
}

/// Runs the daemon until a signal or a command stops it. `replace`: whether to take over from a running daemon.
///
/// # Errors
/// The daemon cannot start: the error names the remedy, and nothing stays attached or bound. A second signal during the
/// stop is an error too.
pub(in crate::controller) async fn run(loaded: Loaded, replace: bool) -> anyhow::Result<()> {
    let Loaded { config, text, shared, trouble, unread } = loaded;
    check(&config, shared.is_some())?;
    let (control, predecessor) = control_socket(&config.control.socket, replace).await?;
    let signals = Signals::new().context("cannot listen for signals")?;
    let metrics = config.metrics.map(metrics::bind).transpose()?;
    let documents = shared.as_ref().map(|known| known.documents.clone());
    let (source, config) = Source::new(&config.path, &config.control.socket, text.clone(), documents)?;
    let events = EventSink::new(&config.events);
    let intents = match &shared {
        Some(known) => known.documents.intents.clone(),
        None => intents(&config.control.state, &events)?,
    };
    let local = match &shared {
        Some(_) => intent::load_local(&config.control.local())?,
        None => Local::default(),
    };
    // The monitor starts before the network is read, so that no change is missed between the two.
    let monitor = Monitor::new().context(UNHEARD)?;
    let served = ServedNetwork::new(&config.listen)?;
    let sockets = sockets(served.serving().listeners(), config.listen.port, predecessor).await?;
    let identity = identity(&config, &served.listened());
    let place = place(&served.listened());
    let alarms = served.alarms();
    let recorder = Recorder::default();
    let (tell, done) = mpsc::unbounded_channel();
    let files = Files::start(tell.clone())?;
    let publisher = Publisher::start(config.clone(), served, recorder.clone(), tell.clone()).await?;

    announce(&config, &alarms, &identity, trouble.as_deref());
    if let (Some(store), Some(unread)) = (&config.store, &unread) {
        set_copy_aside(&store.copy, unread);
    }
    // If the copy is newer than the store, the store is compared with it until an operator accepts the store.
    if let (Some(store), Some(known), None) = (&config.store, &shared, &trouble) {
        keep_copy(&store.copy, &store.prefix, known);
    }
    let at_the_store = || {
        let session = StoreSession::start(&config, shared, &identity, place)?;
        let skydns = SkyDns::start(&config, &text, session.as_ref(), publisher.subscribe())?;
        anyhow::Ok((session, skydns))
    };
    let (session, skydns) = match at_the_store() {
        Ok(started) => started,
        Err(error) => {
            publisher.end(Ending::Abandon).await?;
            return Err(error);
        }
    };
    let (calls, inbox) = mpsc::channel(CALLS);
    let places = Places {
        socket: config.control.socket.clone(),
        metrics: config.metrics,
        identity: identity.clone(),
        recorder: recorder.clone(),
        calls,
        journal: events.journal(),
    };
    let listeners = Listeners::start(control, metrics, places);
    let (reporter, reports) = mpsc::channel(REPORTS);
    let origin = Instant::now();
    let beginning = Beginning {
        config: config.clone(),
        source,
        intents,
        shared: session.as_ref().map(StoreSession::seen),
        local,
        identity: identity.clone(),
        last_answers: last_answers::load(&config.control.answers()),
    };
    let now = Now { elapsed: Duration::ZERO, wall: Timestamp::now() };
    let (mut core, effects) = Core::new(beginning, now);
    let mut shell = Shell {
        origin,
        config: config.into(),
        prober: Prober::new(origin, reporter),
        reports,
        publisher,
        files,
        monitor,
        bindings: Bindings::default(),
        sockets: Some(sockets),
        responder: None,
        identity,
        events,
        recorder,
        inbox,
        updates: Updates::default(),
        calls: HashMap::new(),
        next_call: 0,
        done,
        tell,
        file_watch: None,
        session,
        listeners,
        watches: false,
        restarts: HashMap::new(),
        skydns,
        signals,
    };
    match shell.run(&mut core, effects).await {
        End::Failed(error) => {
            // If the publisher has ended already, there is nothing to abandon.
            shell.publisher.end(Ending::Abandon).await.ok();
            Err(error)
        }
        End::Exit(exit) => {
            let mut ending = Signals::new().context("cannot listen for signals")?;
            tokio::select! {
                stopped = shell.stop(exit) => stopped,
                () = ending.end() => {
                    anyhow::bail!("ended at once by a second signal: queries under way were cut off")
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use crate::controller::core::state::tests::{TEXT, config};
    use std::sync::Arc;

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

        let (calls, mut inbox) = mpsc::channel::<crate::control::Call>(1);
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
