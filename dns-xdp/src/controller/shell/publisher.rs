//! The thread that owns the program. It derives the zone, publishes it to the kernel and to the responder, renews the
//! lease, follows the network and reads counters. The core does not wait for any of these.
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, oneshot, watch};

use super::Done;
use super::network::ServedNetwork;
use super::systemd;
use crate::config::Config;
use crate::control::Command;
use crate::controller::core::{Input, Publication, Published, Purpose, Readings};
use crate::datapath::{self, Attached, Datapath, InterfaceState};
use crate::metrics::Recorder;
use crate::network::Listener;
use crate::privileges;
use crate::responder::{self, Lease};
use crate::zone::Zone;

/// An order to the thread.
#[derive(Debug)]
pub(super) enum Order {
    /// Publish the first zone, give the program its lease and attach it.
    Open(Published),
    /// Publish a zone.
    Publish(Published),
    /// Renew the lease of a program that answers.
    Renew,
    /// Renew the watchdog of the service manager, and say that the daemon runs.
    Alive,
    /// Give up the privileges that only a start needs.
    DropPrivileges(oneshot::Sender<()>),
    /// Prepare the table's standby bank for the next zone: [`Datapath::prefill_standby`].
    PrefillStandby,
    /// Read the network, and attach the program to the present interfaces.
    Follow,
    /// Read counters and states; the shell has already filled in its own.
    Read(Purpose, Box<Readings>),
    /// Set the sampling rate: [`Datapath::sample`].
    Sample(u64),
    /// End the thread, and report when it is done.
    End(Ending, oneshot::Sender<anyhow::Result<()>>),
}

/// The treatment of the program at the end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Ending {
    /// It answers for `stop-grace`, and nothing is removed.
    Leave,
    /// It answers for a whole lease. A successor takes the program over in this time.
    HandOver,
    /// It is detached, and everything unpinned.
    Detach,
    /// The start is abandoned: everything of this daemon is removed, and a predecessor's program answers for
    /// `stop-grace`.
    Abandon,
}

/// The shell's handle of the thread.
#[derive(Debug)]
pub(super) struct Publisher {
    orders: mpsc::UnboundedSender<Order>,
    zone: responder::Published,
    /// Whether an [`Order::Follow`] waits.
    follows: Arc<AtomicBool>,
    lease: Lease,
}

impl Publisher {
    /// Starts the thread, which loads the program. It publishes nothing yet. A predecessor's program that still answers
    /// continues to do so.
    ///
    /// # Errors
    /// A thread cannot be started, or an error of [`Datapath::load`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub(super) async fn start(
        config: Config,
        network: ServedNetwork,
        recorder: Recorder,
        done: mpsc::UnboundedSender<Done>,
    ) -> anyhow::Result<Publisher> {
        let (orders, waiting) = mpsc::unbounded_channel();
        let (zone, published) = watch::channel(None);
        let (follows, lease) = (Arc::new(AtomicBool::new(false)), Lease::default());
        let (loaded, loads) = oneshot::channel();
        let (follow_waits, responder_lease) = (Arc::clone(&follows), lease.clone());
        // The task that passes on the program's log runs in the runtime.
        let runtime = Handle::current();
        let run = move || {
            let _entered = runtime.enter();
            let datapath = match Datapath::load(&config) {
                Ok(datapath) => datapath,
                Err(error) => return drop(loaded.send(Err(error))),
            };
            let mut work = Work {
                is_answering: datapath.answers(),
                datapath,
                network,
                stale_after: config.xdp.stale_after,
                stop_grace: config.xdp.stop_grace,
                zone,
                retired: None,
                recorder,
                attachment_trouble: None,
                pin_trouble: None,
                follows: follow_waits,
                lease: responder_lease,
                done,
            };
            // From now on this daemon renews a predecessor's lease.
            drop(work.renew());
            loaded.send(Ok(())).ok();
            work.run(waiting);
        };
        let thread = thread::Builder::new().name("publisher".to_owned());
        drop(thread.spawn(run).context("cannot start a thread")?);
        loads.await.context("the publisher has ended by a defect of dns-xdp")??;
        Ok(Publisher { orders, zone: published, follows, lease })
    }

    /// Gives the thread an order. After the thread's end the order has no effect.
    pub(super) fn order(&self, order: Order) {
        self.orders.send(order).ok();
    }

    /// Orders the thread to follow the network, unless such an order already waits.
    pub(super) fn follow(&self) {
        if !self.follows.swap(true, Ordering::AcqRel) {
            self.order(Order::Follow);
        }
    }

    /// Whether the thread has ended, which only a defect does.
    pub(super) fn is_ended(&self) -> bool {
        self.orders.is_closed()
    }

    /// Makes the thread give up the privileges that only a start needs.
    pub(super) async fn drop_privileges(&self) {
        let (dropped, drops) = oneshot::channel();
        self.order(Order::DropPrivileges(dropped));
        drops.await.ok();
    }

    /// The published zone that the responder reads.
    pub(super) fn subscribe(&self) -> responder::Published {
        self.zone.clone()
    }

    /// The lease of the responder: how long it answers.
    pub(super) fn lease(&self) -> Lease {
        self.lease.clone()
    }

    /// Ends the thread.
    pub(super) async fn end(&self, ending: Ending) -> anyhow::Result<()> {
        let (ended, end) = oneshot::channel();
        self.order(Order::End(ending, ended));
        end.await.unwrap_or_else(|_| Err(anyhow::anyhow!("the publisher has ended by a defect of dns-xdp")))
    }
}

struct Work {
    datapath: Datapath,
    network: ServedNetwork,
    stale_after: Option<Duration>,
    stop_grace: Duration,
    zone: watch::Sender<Option<Arc<Zone>>>,
    /// The previous zone. This thread drops it at the next publication. Dropping takes milliseconds, for which the loop
    /// must not wait.
    retired: Option<Arc<Zone>>,
    recorder: Recorder,
    attachment_trouble: Option<String>,
    pin_trouble: Option<String>,
    /// Whether a program answers: this daemon's or a predecessor's.
    is_answering: bool,
    follows: Arc<AtomicBool>,
    /// The responder's lease, which is renewed with the program's lease.
    lease: Lease,
    done: mpsc::UnboundedSender<Done>,
}

impl Work {
    fn run(mut self, mut orders: mpsc::UnboundedReceiver<Order>) {
        while let Some(order) = orders.blocking_recv() {
            match order {
                Order::Open(published) => {
                    let opened = self.open(&published);
                    self.tell(match opened {
                        Ok(publication) => Done::Input(Input::Opened(Box::new(publication))),
                        Err(error) => Done::StartFailed(error),
                    });
                }
                Order::Publish(published) => {
                    let result = self.publish(&published).map(Box::new).map_err(|error| format!("{error:#}"));
                    self.tell(Done::Input(Input::Published(result)));
                }
                Order::Renew => {
                    if let Some(result) = self.renew() {
                        let result = result.map_err(|error| format!("{error:#}"));
                        self.tell(Done::Input(Input::LeaseRenewed(result)));
                    }
                }
                Order::Alive => {
                    self.recorder.beat();
                    systemd::alive();
                }
                Order::DropPrivileges(dropped) => {
                    privileges::drop_thread_privileges();
                    dropped.send(()).ok();
                }
                Order::PrefillStandby => self.prefill_standby(),
                Order::Follow => {
                    self.follows.store(false, Ordering::Release);
                    self.follow();
                }
                Order::Read(what, readings) => self.read(what, readings),
                Order::Sample(one_of) => {
                    if let Err(error) = self.datapath.sample(one_of) {
                        tracing::warn!(
                            "cannot have the program sample names: {:#}",
                            anyhow::Error::new(error)
                        );
                    }
                }
                Order::End(ending, ended) => {
                    ended.send(self.end(ending)).ok();
                    return;
                }
            }
        }
    }

    fn tell(&self, done: Done) {
        // The shell may have ended.
        self.done.send(done).ok();
    }

    /// Publishes the first zone, renews the lease and attaches the program, in this order. A program with new maps in a
    /// predecessor's place would otherwise pass every query up until it has its lease.
    fn open(&mut self, published: &Published) -> anyhow::Result<Publication> {
        let publication = self.publish(published)?;
        self.datapath.renew(self.stale_after).context("cannot give the program its lease")?;
        self.lease.renew(self.stale_after);
        self.datapath.attach(self.network.serving(), self.network.network())?;
        self.is_answering = true;
        self.note_lease();
        self.datapath.interfaces().iter().for_each(log_mode);
        Ok(publication)
    }

    /// Publishes a zone unless it is published already. After an error, kernel and responder have the previous zone.
    fn publish(&mut self, published: &Published) -> anyhow::Result<Publication> {
        let began = Instant::now();
        let before = self.zone.borrow().clone();
        let zone = Arc::new(published.zone());
        if before.as_deref() == Some(&*zone) {
            return Ok(Publication::new(published, before.as_deref(), zone, None));
        }
        self.replace(before.clone(), &zone).context("cannot publish the zone to the kernel")?;
        let publication = Publication::new(published, before.as_deref(), zone, Some(began.elapsed()));
        self.retired = before;
        Ok(publication)
    }

    /// Gives the new zone to the responder right before the kernel replaces its pointer to the zone. The replacement
    /// takes effect at once, but the call returns some milliseconds later. If the responder got the zone after the
    /// call, both would differ during that time.
    fn replace(&mut self, before: Option<Arc<Zone>>, zone: &Arc<Zone>) -> Result<(), datapath::Error> {
        let published = before.as_deref().map(|zone| (zone, self.stale_after));
        let (serving, network) = (self.network.serving(), self.network.network());
        self.datapath.make_room(zone.names().len(), published, serving, network)?;
        let staged = self.datapath.stage(zone)?;
        self.zone.send_replace(Some(Arc::clone(zone)));
        let committed = self.datapath.commit(staged.as_ref());
        if committed.is_err() {
            self.zone.send_replace(before);
        }
        committed
    }

    /// Renews the lease of a program that answers; `None`: there is none.
    fn renew(&mut self) -> Option<Result<(), anyhow::Error>> {
        if !self.is_answering {
            return None;
        }
        let renewed = self.datapath.renew(self.stale_after);
        // If the kernel refuses the renewal, the responder still answers: this daemon still probes the nodes.
        self.lease.renew(self.stale_after);
        if renewed.is_ok() {
            self.note_lease();
        }
        Some(renewed.map_err(anyhow::Error::new))
    }

    fn note_lease(&self) {
        self.recorder.leased(self.stale_after.map(|lease| tokio::time::Instant::now() + lease));
    }

    fn prefill_standby(&mut self) {
        let Some(zone) = self.zone.borrow().clone() else { return };
        if let Err(error) = self.datapath.prefill_standby(&zone) {
            tracing::warn!(
                "the next change of the answers will take longer: {:#}",
                anyhow::Error::new(error)
            );
        }
    }

    fn follow(&mut self) {
        self.network.refresh();
        let listeners: Vec<Listener> = self.network.serving().listeners().to_vec();
        self.tell(Done::Followed(listeners));
        let Some(zone) = self.zone.borrow().clone() else { return };
        let before = self.datapath.interfaces();
        let (serving, network) = (self.network.serving(), self.network.network());
        let followed = self.datapath.follow(serving, network, &zone, self.stale_after);
        match followed.context("the program is not attached as it was to be") {
            Ok(changed) => {
                self.attachment_trouble = None;
                if changed {
                    self.prefill_standby();
                }
            }
            Err(error) => {
                let trouble = format!("{error:#}");
                if self.attachment_trouble.as_ref() != Some(&trouble) {
                    tracing::error!("{trouble}");
                }
                self.attachment_trouble = Some(trouble);
            }
        }
        self.look_at_pins();
        let now = self.datapath.interfaces();
        now.iter().filter(|interface| !before.contains(interface)).for_each(log_mode);
    }

    /// Checks the pin directory, into which other programs may put entries at any time. The daemon continues; only its
    /// next start would be refused.
    fn look_at_pins(&mut self) {
        let trouble = self.datapath.foreign_pins();
        let trouble = trouble.map(|unfit| format!("the next start would be refused: [xdp] pin {unfit}"));
        if let Some(trouble) = trouble.as_ref().filter(|trouble| Some(*trouble) != self.pin_trouble.as_ref())
        {
            tracing::warn!("{trouble}");
        }
        self.pin_trouble = trouble;
    }

    fn read(&mut self, what: Purpose, mut readings: Box<Readings>) {
        let counters = self.datapath.counters().context("cannot read the program's counters");
        readings.xdp = counters.map_err(|error| format!("{error:#}"));
        readings.interfaces = self.datapath.interfaces();
        readings.transmit_errors = self.datapath.transmit_errors();
        readings.addresses = self.network.serving().addresses.clone();
        if matches!(what, Purpose::Command { command: Command::Names, .. }) {
            readings.sampled_names = self.datapath.asked_names();
        }
        let own = [&self.attachment_trouble, &self.pin_trouble].into_iter().flatten().cloned();
        let alarms: BTreeSet<&String> = readings.alarms.iter().collect();
        let own = own.chain(self.network.alarms()).filter(|alarm| !alarms.contains(alarm));
        let own: Vec<String> = own.collect();
        readings.alarms.splice(0..0, own);
        self.tell(Done::Input(Input::Read { what, readings }));
    }

    fn end(mut self, ending: Ending) -> anyhow::Result<()> {
        let lease = match ending {
            Ending::Detach => return self.datapath.detach().context("cannot detach everything"),
            Ending::Abandon if !self.is_answering => {
                self.datapath.leave();
                return Ok(());
            }
            Ending::HandOver => self.stale_after,
            Ending::Leave | Ending::Abandon => Some(self.stop_grace),
        };
        let renewed = self.datapath.renew(lease);
        self.datapath.leave();
        renewed.context("cannot set the program's last lease; end it with `dns-xdp unload`")
    }
}

fn log_mode(InterfaceState { name, mode, reason }: &InterfaceState) {
    let reason = reason.as_ref().map(|reason| format!(" ({reason})")).unwrap_or_default();
    match mode {
        Attached::Native => tracing::info!("{name}: XDP is {mode}"),
        Attached::Generic => {
            tracing::warn!(
                "{name}: XDP is {mode}: queries are answered after the kernel has made an skb{reason}"
            );
        }
        Attached::Off => {
            tracing::warn!("{name}: XDP is {mode}: every query is answered in userspace{reason}");
        }
    }
}
