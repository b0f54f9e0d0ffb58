//! DNS UPDATE (RFC 2136): a message becomes an [`Update`], which the controller makes, and its result an answer.
//!
//! The message is verified first (`tsig`), and then read (`message`). Both are pure. The answers to signed queries are
//! signed too. `replays` remembers the signatures
//! of the last minutes, so that no update is made twice.
mod message;
mod replays;

use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime};

use hickory_proto::op::{Metadata, ResponseCode};
use hickory_proto::rr::Name;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot, watch};
use tokio::time::timeout;

use self::replays::{Memory, Replays};
use super::counters::{Rcode, Transport};
use super::extended_error::{self, ExtendedError};
use super::request::{RECORDS_MAX, Request, UPDATE_RECORDS_MAX};
use super::response::udp_limit;
use super::tsig::{Search, Signature, TsigError, Unverified, search, sign};
use super::wire::{Outgoing, OutgoingOpt, Records};
use crate::update::{Access, Failure, Key, SignedUpdate, Update};
use dns_xdp_ebpf::table::UDP_SIZE;

/// The most updates under way. Further ones get SERVFAIL.
pub const UPDATES_MAX: usize = 32;
/// How long an update may take. The controller gives up earlier.
const UPDATE_TIMEOUT: Duration = Duration::from_secs(40);
/// The pause between two log lines about messages that are not verified: anybody can send such a message.
const UNVERIFIED_PAUSE: Duration = Duration::from_secs(10);

/// An update for the controller. The result goes back through `reply`.
#[derive(Debug)]
pub struct Order {
    /// The update.
    pub update: SignedUpdate,
    /// Takes the result, once the update is in the answers.
    pub reply: oneshot::Sender<Result<(), Failure>>,
}

/// The responder's side of updates: the keys, and the channel to the controller.
#[derive(Debug, Clone)]
pub struct UpdateChannel {
    /// The keys that count now.
    pub access: watch::Receiver<Arc<Access>>,
    /// Takes the updates.
    pub orders: mpsc::Sender<Order>,
}

impl UpdateChannel {
    /// A channel without keys: every update is refused.
    pub fn closed() -> Self {
        let (_, access) = watch::channel(Arc::default());
        UpdateChannel { access, orders: mpsc::channel(1).0 }
    }
}

/// What the transports share about updates.
#[derive(Debug)]
pub(super) struct Updates {
    channel: UpdateChannel,
    replays: Arc<Replays>,
    under_way: Arc<Semaphore>,
    /// When a message that is not verified was last logged.
    logged: Mutex<Option<Instant>>,
}

/// What follows from a message.
#[derive(Debug)]
pub(super) enum Step {
    /// It is no update that any key could have signed. It gets the same answer as without keys.
    Unsigned,
    /// It gets this answer now. `verified`: whether a key has signed it.
    Answer { rcode: Rcode, message: Vec<u8>, verified: bool },
    /// Its answer follows when the controller is done.
    Pending(Box<Pending>),
    /// It is a repetition of an update that is under way, and gets no answer of its own.
    Repeated,
}

/// An update that the controller makes.
#[derive(Debug)]
pub(super) struct Pending {
    signed: Signed,
    result: oneshot::Receiver<Result<(), Failure>>,
    remembered: Remembered,
    _permit: OwnedSemaphorePermit,
}

/// A message of a known key, as far as its answer depends on it.
#[derive(Debug)]
pub(super) struct Signed {
    request: Request,
    key: Arc<Key>,
    mac: Vec<u8>,
    client: IpAddr,
}

/// The result of verifying a message.
#[derive(Debug)]
pub(super) enum Verification {
    /// No key can have signed it.
    Unsigned,
    /// It is answered at once. The answer is not signed, or says only that the time is wrong.
    Unverified { rcode: Rcode, message: Vec<u8>, why: String },
    /// A key has signed it, and it is accepted until this second.
    Verified { signed: Signed, expires: u64 },
}

/// What follows from a signed query.
#[derive(Debug)]
pub(super) enum Query {
    /// It is answered as if it were not signed.
    Plain,
    /// Its answer is to be signed.
    Signed(Signed),
    /// It gets this answer.
    Answer { rcode: Rcode, message: Vec<u8> },
}

/// Whether a message is an UPDATE, and no response.
pub(super) fn is_update(message: &[u8]) -> bool {
    const QR_AND_OPCODE: u8 = 0xf8;
    const UPDATE: u8 = 5 << 3;
    message.get(2).is_some_and(|octet| octet & QR_AND_OPCODE == UPDATE)
}

/// Verifies a message. `now` is in seconds since 1970.
pub(super) fn verify(message: &[u8], client: IpAddr, access: &Access, now: u64) -> Verification {
    if access.keys.is_empty() {
        return Verification::Unsigned;
    }
    let records_max = if is_update(message) { UPDATE_RECORDS_MAX } else { RECORDS_MAX };
    let signature = match search(message, records_max) {
        Search::Unsigned => return Verification::Unsigned,
        Search::Malformed => None,
        Search::Signed(signature) => Some(signature),
    };
    let Some(request) = Request::read_up_to(message, records_max) else { return Verification::Unsigned };
    let unverified = |rcode: Rcode, error: Option<TsigError>| {
        let mut answer = answer(&request, rcode, None);
        let mut why = "FORMERR: its TSIG record is malformed".to_owned();
        if let (Some(error), Some(signature)) = (error, &signature) {
            signature.append_unsigned(&mut answer, error);
            why = format!("{}: {}", error.text(), reason(error, signature));
        }
        Verification::Unverified { rcode, message: answer, why }
    };
    let Some(signature) = &signature else { return unverified(Rcode::FormErr, None) };
    match signature.verify(message, access, now) {
        Ok(key) => {
            let (expires, mac) = (signature.expires(), signature.mac.to_vec());
            Verification::Verified { signed: Signed { request, key, mac, client }, expires }
        }
        Err(Unverified::Malformed) => unverified(Rcode::FormErr, None),
        Err(Unverified::Unsigned(error)) => unverified(Rcode::NotAuth, Some(error)),
        Err(Unverified::BadTime(key)) => {
            let mut answer = answer(&request, Rcode::NotAuth, None);
            signature.sign_bad_time(&mut answer, &key, now);
            let why = format!("BADTIME: {}", reason(TsigError::Time, signature));
            Verification::Unverified { rcode: Rcode::NotAuth, message: answer, why }
        }
    }
}

/// Returns what an operator does about an error.
fn reason(error: TsigError, signature: &Signature<'_>) -> String {
    let name = signature.key_name();
    match error {
        TsigError::Key => format!("there is no [[key]] `{name}` with the client's algorithm"),
        TsigError::Signature => format!("the client's secret of `{name}` is not the one in [[key]]"),
        TsigError::Time => {
            format!("the client's clock (key `{name}`) is not this server's; set both by NTP")
        }
        TsigError::Truncation => {
            format!("the client truncates the MAC of `{name}`; let it send the whole MAC")
        }
    }
}

/// Returns an answer that is not signed yet: the header, the zone section, and an OPT if the message has one.
fn answer(request: &Request, rcode: Rcode, failure: Option<&Failure>) -> Vec<u8> {
    let mut metadata = Metadata::response_from_request(&request.metadata);
    let code: ResponseCode = rcode.into();
    metadata.response_code = code;
    let opt = request.opt.map(|opt| {
        let option = failure.map(|failure| {
            let error = match rcode {
                Rcode::Refused => ExtendedError::Prohibited,
                _ => ExtendedError::Other,
            };
            (extended_error::OPTION, error.octets_with(&failure.reason))
        });
        OutgoingOpt {
            payload_size: UDP_SIZE,
            rcode_high: code.high(),
            dnssec_ok: opt.dnssec_ok,
            options: option.into_iter().collect(),
        }
    });
    let outgoing = Outgoing { metadata, question: request.question.clone(), records: Records::NONE, opt };
    outgoing.write(usize::from(u16::MAX))
}

impl Signed {
    /// Signs the answer to a query. Over UDP, an answer that has no room for the signature is truncated.
    pub(super) fn sign(&self, answer: &mut Vec<u8>, transport: Transport) {
        let limit = match transport {
            Transport::Udp => udp_limit(self.request.opt),
            Transport::Tcp => u16::MAX,
        };
        let unsigned = answer.clone();
        sign(answer, &self.key, &self.mac, seconds(), None, &[]);
        if answer.len() > usize::from(limit) {
            *answer = truncated(&self.request, &unsigned);
            sign(answer, &self.key, &self.mac, seconds(), None, &[]);
        }
    }

    /// Returns the signed answer with this result.
    fn answer(&self, result: &Result<(), Failure>, now: u64) -> (Rcode, Vec<u8>) {
        let rcode = rcode(result);
        let mut message = answer(&self.request, rcode, result.as_ref().err());
        sign(&mut message, &self.key, &self.mac, now, None, &[]);
        (rcode, message)
    }

    fn log(&self, result: &Result<(), Failure>) {
        let (key, client) = (&self.key.name, self.client);
        match result {
            Ok(()) => tracing::info!("an update by the key `{key}` from {client} is in force"),
            Err(failure) => {
                let rcode = rcode(result).text();
                tracing::warn!("an update by the key `{key}` from {client} got {rcode}: {}", failure.reason);
            }
        }
    }
}

/// Returns an answer with its header, TC set, and no records.
fn truncated(request: &Request, whole: &[u8]) -> Vec<u8> {
    const TC: u8 = 2;
    let mut empty = answer(request, Rcode::NoError, None);
    let flags = 2..4;
    if let (Some(place), Some(flags)) = (empty.get_mut(flags.clone()), whole.get(flags)) {
        place.copy_from_slice(flags);
        place.iter_mut().take(1).for_each(|octet| *octet |= TC);
    }
    empty
}

fn rcode(result: &Result<(), Failure>) -> Rcode {
    let Err(failure) = result else { return Rcode::NoError };
    let is_it = |rcode: &Rcode| Into::<ResponseCode>::into(*rcode) == failure.rcode;
    Rcode::ALL.into_iter().find(is_it).unwrap_or(Rcode::ServFail)
}

impl Updates {
    pub(super) fn new(channel: UpdateChannel) -> Self {
        let under_way = Arc::new(Semaphore::new(UPDATES_MAX));
        Updates { channel, replays: Arc::default(), under_way, logged: Mutex::default() }
    }

    /// Takes a message that has just arrived.
    pub(super) fn arrive(&self, message: &[u8], client: SocketAddr) -> Step {
        let access = Arc::clone(&self.channel.access.borrow());
        let (now, client) = (seconds(), client.ip().to_canonical());
        match verify(message, client, &access, now) {
            Verification::Unsigned => Step::Unsigned,
            Verification::Unverified { rcode, message, why } => {
                self.log_unverified(client, &why);
                // An old message that somebody has captured is no reason for answers without a limit.
                Step::Answer { rcode, message, verified: false }
            }
            Verification::Verified { signed, expires } => {
                self.take(signed, expires, message::update(message, &access.apex), now)
            }
        }
    }

    /// Looks at the signature of a message that is no update. Some clients sign their queries for the zone's SOA, too.
    pub(super) fn query(&self, message: &[u8], client: SocketAddr) -> Query {
        let access = {
            let access = self.channel.access.borrow();
            if access.keys.is_empty() {
                return Query::Plain;
            }
            Arc::clone(&access)
        };
        let client = client.ip().to_canonical();
        match verify(message, client, &access, seconds()) {
            Verification::Unsigned => Query::Plain,
            Verification::Unverified { rcode, message, why, .. } => {
                self.log_unverified(client, &why);
                Query::Answer { rcode, message }
            }
            Verification::Verified { signed, .. } => Query::Signed(signed),
        }
    }

    fn take(&self, signed: Signed, expires: u64, update: Result<Update, Failure>, now: u64) -> Step {
        let at_once = |result: &Result<(), Failure>| {
            let (rcode, message) = signed.answer(result, now);
            Step::Answer { rcode, message, verified: true }
        };
        let busy = |what: &str| {
            let failure = Failure::new(ResponseCode::ServFail, format!("{what}: repeat it later"));
            signed.log(&Err(failure.clone()));
            at_once(&Err(failure))
        };
        let update = match update {
            Ok(update) => update,
            Err(failure) => {
                signed.log(&Err(failure.clone()));
                return at_once(&Err(failure));
            }
        };
        match self.replays.begin(&signed.key.name, &signed.mac, expires, now) {
            Memory::New => {}
            Memory::UnderWay => return Step::Repeated,
            Memory::Done(result) => return at_once(&result),
            Memory::Full => return busy("too many updates of this key have come in the last minutes"),
        }
        let (key, mac) = (signed.key.name.clone(), signed.mac.clone());
        let remembered = Remembered { replays: Arc::clone(&self.replays), key, mac, is_ended: false };
        let Ok(permit) = Arc::clone(&self.under_way).try_acquire_owned() else {
            return busy("too many updates are under way");
        };
        let (reply, result) = oneshot::channel();
        let (key, client) = (Arc::clone(&signed.key), signed.client);
        let order = Order { update: SignedUpdate { key, client, update }, reply };
        if self.channel.orders.try_send(order).is_err() {
            return busy("this server is starting or stopping, or has too many updates");
        }
        Step::Pending(Box::new(Pending { signed, result, remembered, _permit: permit }))
    }

    fn log_unverified(&self, client: IpAddr, why: &str) {
        let mut logged = self.logged.lock().unwrap_or_else(PoisonError::into_inner);
        if logged.is_none_or(|at| at.elapsed() >= UNVERIFIED_PAUSE) {
            *logged = Some(Instant::now());
            tracing::warn!("an update from {client} was not accepted: {why}");
        }
    }
}

/// The place of an update under way in the memory. An update that is given up without a result leaves it, so that its
/// client may repeat it.
#[derive(Debug)]
struct Remembered {
    replays: Arc<Replays>,
    key: Name,
    mac: Vec<u8>,
    is_ended: bool,
}

impl Remembered {
    fn end(&mut self, result: &Result<(), Failure>) {
        self.is_ended = true;
        self.replays.end(&self.key, &self.mac, result);
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        if !self.is_ended {
            self.replays.forget(&self.key, &self.mac);
        }
    }
}

impl Pending {
    /// Waits for the controller. Returns the rcode and the signed answer.
    pub(super) async fn finish(mut self) -> (Rcode, Vec<u8>) {
        let failed = |reason: &str| Failure::new(ResponseCode::ServFail, reason);
        let result = match timeout(UPDATE_TIMEOUT, self.result).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) => Err(failed("this server is starting or stopping: repeat it later")),
            Err(_) => Err(failed("the update has not ended in time; it may be in force later")),
        };
        self.signed.log(&result);
        self.remembered.end(&result);
        self.signed.answer(&result, seconds())
    }
}

/// Seconds since 1970.
fn seconds() -> u64 {
    SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs())
}

/// Reads any octets as an update, as the fuzzer does. Returns the rcode and the answer; `None`: no key can have signed
/// the message, which gets the answer of [`super::respond`]. A verified update without a fault gets NOERROR.
pub fn answer_of_update(message: &[u8], access: &Access, now: u64) -> Option<(Rcode, Vec<u8>)> {
    if !is_update(message) {
        return None;
    }
    match verify(message, IpAddr::from([192, 0, 2, 1]), access, now) {
        Verification::Unsigned => None,
        Verification::Unverified { rcode, message, .. } => Some((rcode, message)),
        Verification::Verified { signed, .. } => {
            let update = message::update(message, &access.apex);
            Some(signed.answer(&update.map(drop), now))
        }
    }
}

/// Signs a message as a client does (RFC 8945, section 5.1). For tests of other crates.
pub fn sign_request(message: &mut Vec<u8>, key: &Key, time: u64) {
    super::tsig::sign_request(message, key, time);
}

#[cfg(test)]
mod tests;
