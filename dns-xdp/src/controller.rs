//! The loop that joins probes, decisions, publication and the control socket; how it starts, and how it stops.
//!
//! ```text
//! start: control socket ─► sockets ─► program loaded, a predecessor's kept alive ─► a round of probes
//!        ─► decision ─► zone published ─► lease ─► program attached ─► privileges given up ─► responder ─► ready
//! stop:  lease cut, or program detached ─► control socket gone ─► open queries answered ─► end
//! ```
mod admin;
mod caches;
mod change;
mod command;
mod concert;
mod daemon;
mod edit;
mod event;
mod events;
mod file;
mod names;
mod network;
mod notify;
mod publication;
mod query;
mod rates;
mod repair;
mod roll;
mod servers;
mod service;
mod sharing;
mod signals;
#[cfg(test)]
mod simulation;
mod sky;
mod start;
mod state;
mod status;
mod told;
mod watch;

use anyhow::Context as _;
use tokio::sync::mpsc;

use self::change::Source;
use self::daemon::Daemon;
use self::events::Events;
use self::network::ServedNetwork;
use self::publication::Publication;
use self::servers::Servers;
use self::signals::Signals;
use self::sky::Sky;
use self::state::State;
use self::watch::Watch;
use crate::datapath::Datapath;
use crate::metrics::{self, Recorder};
use crate::privileges;
use crate::responder::Responder;
use crate::store::Loaded;
pub(crate) use start::served_addresses;

/// Commands that wait for the loop; whoever asks then waits longer.
const CALLS: usize = 16;

/// How a daemon ends that `dns-xdp unload` has ended. It is an error for its exit code alone, by which the unit of the
/// package tells it from a daemon that is to be started again.
#[derive(Debug, thiserror::Error)]
#[error("ended by dns-xdp unload")]
pub struct Unloaded;

impl Unloaded {
    /// The unit names it in `RestartPreventExitStatus`.
    pub const EXIT_CODE: u8 = 4;
}

/// Runs the daemon until it is told to stop; `replace`: takes over from the one that runs.
///
/// # Errors
/// What keeps it from starting, with the remedy; nothing is left attached or bound then. A second signal while
/// it stops is an error too. [`Unloaded`] is the reason where `dns-xdp unload` has ended it.
pub async fn run(loaded: Loaded, replace: bool) -> anyhow::Result<()> {
    let Loaded { config, text, shared, trouble } = loaded;
    privileges::check(config.xdp.mode)?;
    // Before a predecessor gives way: it shall not end for a start that is refused.
    config.check_pin()?;
    let (control, predecessor) = start::control_socket(&config.control.socket, replace).await?;
    let mut signals = Signals::new().context("cannot listen for signals")?;
    let metrics = config.metrics.map(metrics::bind).transpose()?;
    let documents = shared.as_ref().map(|(documents, _)| documents.clone());
    let (source, config) = Source::new(&config.path, &config.control.socket, text.clone(), documents)?;
    let events = Events::new(&config.events);
    let intents = match &shared {
        Some((documents, _)) => documents.intents.clone(),
        None => start::intents(&config.control.state, &events)?,
    };
    let impossible = crate::network::impossible(&config.listen);
    anyhow::ensure!(impossible.is_empty(), "{}", impossible.join("; "));
    let network = ServedNetwork::new(&config.listen)?;
    let sockets = start::sockets(network.serving().listeners(), config.listen.port, predecessor).await?;
    let datapath = Datapath::load(&config)?;

    let identity = start::identity(&config, &network.listened());
    network.alarms().iter().for_each(|alarm| tracing::warn!("{alarm}"));
    config.warnings().iter().for_each(|warning| tracing::warn!("{warning}"));
    let (version, zone) = (env!("CARGO_PKG_VERSION"), &config.zone.apex);
    tracing::info!("dns-xdp {version} starts as {identity} for {zone}, {} nodes", config.cluster.nodes.len());
    if let Some(trouble) = &trouble {
        tracing::warn!("this start is from the last good copy of the store: {trouble}");
    }
    let mut sharing = start::sharing(&config, shared, &identity)?;
    let recorder = Recorder::default();
    let mut publication = Publication::new(datapath, &config.xdp, events.clone(), recorder.clone());
    let sky = Sky::start(&config, &text, sharing.as_ref(), publication.subscribe())?;
    let mut watch = Watch::new(State::new(config, intents), events.clone(), recorder.clone());
    let (calls, inbox) = mpsc::channel(CALLS);
    let metrics = metrics.map(|listener| (listener, identity.clone(), recorder.clone()));
    let servers = Servers::start(control, metrics, calls, events.journal());
    if let Some(signal) = start::first_round(&mut watch, &mut publication, &mut signals, &recorder).await {
        tracing::info!("stopped by {signal:?} before the first round of probes was over");
        return publication.abandon();
    }
    if let Some(sharing) = &mut sharing {
        start::join(&mut watch, sharing).await;
    }
    let told = match start::go_live(&mut watch, &mut publication, &network, &events, &identity) {
        Ok(told) => told,
        Err(error) => {
            publication.abandon()?;
            return Err(error);
        }
    };
    privileges::settle(watch.state.config()).await;
    let responder = Responder::start(sockets, publication.subscribe(), &identity, privileges::settle_thread);
    let responder = match responder.context("cannot serve the sockets of [listen]") {
        Ok(responder) => responder,
        Err(error) => {
            publication.detach()?;
            return Err(error);
        }
    };
    service::ready();
    publication.level();
    let serving = (responder, network);
    let mut daemon = Daemon::new(watch, publication, source, serving, (events, told), recorder, sharing);
    daemon.sky = sky;
    let stop = daemon.serve(inbox, &mut signals).await;
    tokio::select! {
        stopped = daemon.stop(stop, servers) => stopped,
        () = signals.end() => anyhow::bail!("ended at once by a second signal: queries under way were cut off"),
    }
}
