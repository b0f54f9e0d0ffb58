//! The zone on its way to its two readers, and the lease under which the program answers.
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use tokio::sync::watch;
use tokio::time::Instant;

use super::caches::Caches;
use super::event;
use super::events::Events;
use crate::config::Xdp;
use crate::datapath::{self, Attached, Datapath, InterfaceState};
use crate::metrics::Recorder;
use crate::network::{Network, Serving};
use crate::responder::Published;
use crate::zone::Zone;

/// The lease is renewed at least this often, so that its end is never far from the daemon's.
const LONGEST_BEAT: Duration = Duration::from_secs(1);
/// Renewals within one lease: three may be late.
const BEATS: u32 = 4;

/// The published zone and the program.
#[derive(Debug)]
pub(super) struct Publication {
    datapath: Datapath,
    stale_after: Option<Duration>,
    stop_grace: Duration,
    zone: watch::Sender<Option<Arc<Zone>>>,
    /// When the zone was last replaced.
    pub(super) at: Timestamp,
    /// How long that took.
    pub(super) took: Duration,
    /// What resolvers may remember of the zones before.
    pub(super) caches: Caches,
    /// Zones published.
    pub(super) count: u64,
    /// Zones that could not be.
    pub(super) failures: u64,
    trouble: Option<String>,
    lease_trouble: Option<String>,
    attachment_trouble: Option<String>,
    pin_trouble: Option<String>,
    events: Events,
    recorder: Recorder,
    /// The program answers, ours or a predecessor's.
    answering: bool,
    renewed: Instant,
}

impl Publication {
    /// Nothing is published. A predecessor's program that still answers goes on doing so.
    pub(super) fn new(datapath: Datapath, xdp: &Xdp, events: Events, recorder: Recorder) -> Self {
        let answering = datapath.answers();
        let mut publication = Publication {
            datapath,
            stale_after: xdp.stale_after,
            stop_grace: xdp.stop_grace,
            zone: watch::Sender::new(None),
            at: Timestamp::now(),
            took: Duration::ZERO,
            caches: Caches::default(),
            count: 0,
            failures: 0,
            trouble: None,
            lease_trouble: None,
            attachment_trouble: None,
            pin_trouble: None,
            events,
            recorder,
            answering,
            renewed: Instant::now(),
        };
        publication.renew();
        publication
    }

    /// What the responder reads.
    pub(super) fn subscribe(&self) -> Published {
        self.zone.subscribe()
    }

    /// What is answered now.
    pub(super) fn zone(&self) -> Option<Arc<Zone>> {
        self.zone.borrow().clone()
    }

    /// Publishes the first zone, gives the program its lease and attaches it: in this order, for a program that takes a
    /// predecessor's place over maps of its own would pass every query up until its lease came. `past`: what the
    /// predecessor may have answered up to now.
    pub(super) fn open(
        &mut self,
        zone: Zone,
        past: &Zone,
        (serving, network): (&Serving, &Network),
    ) -> anyhow::Result<()> {
        self.caches.replaced(past, &zone, Instant::now());
        self.publish(zone)?;
        self.datapath.renew(self.stale_after).context("cannot give the program its lease")?;
        self.datapath.attach(serving, network)?;
        self.answering = true;
        self.note_lease();
        self.datapath.interfaces().iter().for_each(log_mode);
        Ok(())
    }

    /// Publishes a zone unless it is the published one. After an error both readers have the old one, and
    /// [`Publication::pending`] holds.
    pub(super) fn publish(&mut self, zone: Zone) -> anyhow::Result<()> {
        let before = self.zone();
        if before.as_deref() == Some(&zone) {
            self.untroubled();
            return Ok(());
        }
        let zone = Arc::new(zone);
        let start = Instant::now();
        let replaced = self.replace(before.clone(), &zone);
        if let Err(error) = replaced.context("cannot publish the zone to the kernel") {
            self.failures += 1;
            self.troubled(&error);
            return Err(error);
        }
        let now = Instant::now();
        self.took = now - start;
        self.recorder.published(self.took);
        if let Some(before) = before {
            self.caches.replaced(&before, &zone, now);
        }
        self.untroubled();
        self.at = Timestamp::now();
        self.count += 1;
        Ok(())
    }

    fn troubled(&mut self, error: &anyhow::Error) {
        let trouble = format!("the answers are not up to date: {error:#}");
        if self.trouble.replace(trouble).is_none() {
            self.events.tell(event::unpublished(&format!("{error:#}; the old zone is answered")));
        }
    }

    fn untroubled(&mut self) {
        if self.trouble.take().is_some() {
            self.events.tell(event::published());
        }
    }

    /// The responder turns to the new zone when all that is left in the kernel is to replace one pointer: that takes
    /// effect at once, but the kernel returns from it some milliseconds later, for which the two would differ.
    fn replace(&mut self, before: Option<Arc<Zone>>, zone: &Arc<Zone>) -> Result<(), datapath::Error> {
        let prepared = self.datapath.prepare(zone)?;
        self.zone.send_replace(Some(Arc::clone(zone)));
        let switched = self.datapath.switch(prepared.as_ref());
        if switched.is_err() {
            self.zone.send_replace(before);
        }
        switched
    }

    /// A zone could not be published, and has to be tried again.
    pub(super) fn pending(&self) -> bool {
        self.trouble.is_some()
    }

    /// How often to call [`Publication::renew`].
    pub(super) fn beat(&self) -> Duration {
        self.stale_after.map_or(LONGEST_BEAT, |lease| (lease / BEATS).min(LONGEST_BEAT))
    }

    /// Renews the lease of a program that answers.
    pub(super) fn renew(&mut self) {
        if !self.answering {
            return;
        }
        let renewed = self.datapath.renew(self.stale_after);
        match renewed.context("the lease cannot be renewed and will run out") {
            Ok(()) => {
                self.note_lease();
                self.lease_trouble = None;
            }
            Err(error) => {
                let trouble = format!("{error:#}");
                if self.lease_trouble.as_ref() != Some(&trouble) {
                    tracing::error!("{trouble}");
                }
                self.lease_trouble = Some(trouble);
            }
        }
    }

    /// Has the table ready for the next zone. [`Datapath::level`]
    pub(super) fn level(&mut self) {
        let Some(zone) = self.zone() else { return };
        if let Err(error) = self.datapath.level(&zone) {
            tracing::warn!(
                "the next change of the answers will take longer: {:#}",
                anyhow::Error::new(error)
            );
        }
    }

    /// Has the program attached and answering as the network is now.
    pub(super) fn follow(&mut self, serving: &Serving, network: &Network) {
        let Some(zone) = self.zone() else { return };
        let before = self.datapath.interfaces();
        let followed = self.datapath.follow(serving, network, &zone, self.stale_after);
        match followed.context("the program is not attached as it was to be") {
            Ok(changed) => {
                self.attachment_trouble = None;
                if changed {
                    self.level();
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

    /// Others may put entries into the pin directory at any time. The daemon goes on; its next start would be refused.
    fn look_at_pins(&mut self) {
        let trouble = self.datapath.foreign_pins();
        let trouble = trouble.map(|unfit| format!("the next start would be refused: [xdp] pin {unfit}"));
        if let Some(trouble) = trouble.as_ref().filter(|trouble| Some(*trouble) != self.pin_trouble.as_ref())
        {
            tracing::warn!("{trouble}");
        }
        self.pin_trouble = trouble;
    }

    fn note_lease(&mut self) {
        self.renewed = Instant::now();
        self.recorder.leased(self.stale_after.map(|lease| self.renewed + lease));
    }

    /// What is left of the lease; `None`: it is for ever.
    pub(super) fn lease_left(&self) -> Option<Duration> {
        self.stale_after.map(|lease| lease.saturating_sub(self.renewed.elapsed()))
    }

    pub(super) fn alarms(&self) -> Vec<String> {
        let all = [&self.trouble, &self.lease_trouble, &self.attachment_trouble, &self.pin_trouble];
        all.into_iter().flatten().cloned().collect()
    }

    pub(super) fn interfaces(&self) -> Vec<InterfaceState> {
        self.datapath.interfaces()
    }

    /// [`Datapath::transmit_errors`]
    pub(super) fn transmit_errors(&self) -> BTreeMap<String, u64> {
        self.datapath.transmit_errors()
    }

    /// The counters of the program by their text.
    pub(super) fn counters(&self) -> anyhow::Result<BTreeMap<&'static str, u64>> {
        self.datapath.counters().context("cannot read the program's counters")
    }

    /// [`Datapath::asked_names`]
    pub(super) fn asked_names(&mut self) -> Vec<String> {
        self.datapath.asked_names()
    }

    /// [`Datapath::sample`]
    pub(super) fn sample(&mut self, one_of: u64) -> anyhow::Result<()> {
        self.datapath.sample(one_of).context("cannot have the program sample names")
    }

    /// Lets the program answer for the grace and ends nothing.
    pub(super) fn leave(self) -> anyhow::Result<()> {
        let grace = Some(self.stop_grace);
        self.leave_for(grace)
    }

    /// Lets the program answer for a whole lease, in which a successor takes it over.
    pub(super) fn hand_over(self) -> anyhow::Result<()> {
        let lease = self.stale_after;
        self.leave_for(lease)
    }

    fn leave_for(mut self, lease: Option<Duration>) -> anyhow::Result<()> {
        let renewed = self.datapath.renew(lease);
        self.datapath.leave();
        renewed.context("cannot set the program's last lease; end it with `dns-xdp unload`")
    }

    /// Detaches and unpins everything.
    pub(super) fn detach(self) -> anyhow::Result<()> {
        self.datapath.detach().context("cannot detach everything")
    }

    /// Gives a start up: nothing of ours is left, and a predecessor's program keeps its grace.
    pub(super) fn abandon(self) -> anyhow::Result<()> {
        if self.answering {
            return self.leave();
        }
        self.datapath.leave();
        Ok(())
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
