//! The store in etcd. It uses one member at a time, limits the time of every call, and words errors for operators.
use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use etcd_client::{
    Client, Compare, CompareOp, EventType, GetOptions, KeyValue, PutOptions, SortOrder, SortTarget, Txn,
    TxnOp, WatchOptions, WatchStream,
};

use tokio::task::JoinSet;

use super::client::watch_lag::Extent;
use super::credentials::Credentials;
use super::{Batch, Entry, Error, Lease, Listing, Revision, Store, Swap, Watch};
use crate::authorities::NoAuthorities;
use crate::config::{self, SharedStore};

/// The largest message of a member, in octets: all keys below the prefix of a cluster of any size. The library's own
/// limit is 4 MiB.
const LARGEST_MESSAGE: usize = 256 * 1024 * 1024;
/// The time between asking one member and the next, if any member will do.
const STAGGER: Duration = Duration::from_millis(250);

/// How to reach the members. The files of `[cluster]` are read again for each connection.
#[derive(Clone)]
pub struct Members {
    endpoints: Vec<String>,
    prefix: String,
    credentials: Credentials,
    /// The longest time of a single call.
    timeout: Duration,
}

impl std::fmt::Debug for Members {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The credentials hold the password and the key.
        f.debug_struct("Members")
            .field("endpoints", &self.endpoints)
            .field("prefix", &self.prefix)
            .finish_non_exhaustive()
    }
}

/// Why no member of a store can be asked at all.
#[derive(Debug, thiserror::Error)]
pub enum MembersError {
    /// A file that `[cluster]` names cannot be read.
    #[error("cannot read {path}, the {what} of [cluster]: {why}", path = path.display(), why = config::unreadable(source))]
    Unreadable {
        /// The key of `[cluster]`.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// `[cluster]` has no `ca`, and this machine has no authorities.
    #[error("[cluster] has `endpoints` over https and no `ca`")]
    NoAuthorities(#[from] NoAuthorities),
}

impl Members {
    /// Reads the files that the configuration names.
    ///
    /// # Errors
    /// A file cannot be read, or no certificate of a member would be accepted.
    pub fn new(config: &SharedStore, timeout: Duration) -> Result<Members, MembersError> {
        Ok(Members {
            endpoints: config.endpoints.clone(),
            prefix: format!("{}/", config.prefix.trim_end_matches('/')),
            credentials: Credentials::read(config, timeout)?,
            timeout,
        })
    }

    /// The same members, with the keys below another path.
    #[must_use]
    pub fn below(&self, path: &str) -> Members {
        Members { prefix: format!("{}/", path.trim_end_matches('/')), ..self.clone() }
    }

    /// The number of members.
    pub fn count(&self) -> usize {
        self.endpoints.len()
    }

    /// Connects to a member; `number` may be larger than the number of members.
    ///
    /// # Errors
    /// The member cannot be reached, or refuses the credentials.
    pub async fn connect(&self, number: usize) -> Result<Etcd, Error> {
        let endpoint = &self.endpoints[number % self.endpoints.len()];
        let connecting = Client::connect([endpoint], Some(self.credentials.options().await));
        let client = within(self.timeout, connecting).await.map_err(|error| at(endpoint, error))?;
        let etcd =
            Etcd { client, endpoint: endpoint.clone(), prefix: self.prefix.clone(), timeout: self.timeout };
        Ok(etcd)
    }

    /// Returns the listing of the first member that answers, and a connection to it. All members are asked, each
    /// [`STAGGER`] after the one before, so that a silent member costs only this time.
    ///
    /// # Errors
    /// No member has answered: the error of the last one.
    pub async fn list(&self) -> Result<(Etcd, Listing), Error> {
        let mut asked = JoinSet::new();
        for number in 0..self.count() {
            let members = self.clone();
            asked.spawn(async move {
                tokio::time::sleep(STAGGER * u32::try_from(number).unwrap_or(u32::MAX)).await;
                let etcd = members.connect(number).await?;
                let listing = etcd.list().await?;
                Ok((etcd, listing))
            });
        }
        let mut last = Error::Unreachable("there are no endpoints".to_owned());
        while let Some(answer) = asked.join_next().await {
            match answer {
                Ok(Ok(found)) => return Ok(found),
                // A refusal tells more than a silence.
                Ok(Err(error)) => last = if matches!(last, Error::Denied(_)) { last } else { error },
                Err(_cancelled) => {}
            }
        }
        Err(last)
    }
}

/// A connection to one member.
#[derive(Clone)]
pub struct Etcd {
    client: Client,
    endpoint: String,
    prefix: String,
    timeout: Duration,
}

impl std::fmt::Debug for Etcd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Etcd").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Etcd {
    /// The address of the member.
    pub fn endpoint(&self) -> &str {
        &self.endpoint
    }

    fn key(&self, key: &str) -> String {
        format!("{}{key}", self.prefix)
    }

    async fn call<T>(&self, call: impl Future<Output = Result<T, etcd_client::Error>>) -> Result<T, Error> {
        within(self.timeout, call).await.map_err(|error| at(&self.endpoint, error))
    }

    fn compares(&self, expected: &BTreeMap<String, Revision>) -> Vec<Compare> {
        let compare = |(key, expected): (&String, &Revision)| {
            let expected = i64::try_from(*expected).unwrap_or(i64::MAX);
            Compare::mod_revision(self.key(key), CompareOp::Equal, expected)
        };
        expected.iter().map(compare).collect()
    }

    /// Makes a transaction; `None`: a key that it depends on has changed.
    async fn commit(
        &self,
        compares: Vec<Compare>,
        operations: Vec<TxnOp>,
    ) -> Result<Option<Revision>, Error> {
        let transaction = Txn::new().when(compares).and_then(operations);
        let mut client = self.client.kv_client();
        let response = self.call(client.txn(transaction)).await?;
        Ok(response.succeeded().then(|| revision(response.header().map_or(0, |header| header.revision()))))
    }
}

impl Store for Etcd {
    type Watch = Watching;

    async fn list(&self) -> Result<Listing, Error> {
        let mut client = self.client.kv_client().max_decoding_message_size(LARGEST_MESSAGE);
        let options = GetOptions::new().with_prefix();
        let mut response = self.call(client.get(self.prefix.as_str(), Some(options))).await?;
        let at = response.header().map_or(0, |header| header.revision());
        let cluster = response.header().map(|header| header.cluster_id()).filter(|cluster| *cluster != 0);
        let entries = response.take_kvs().into_iter().filter_map(|found| entry(&self.prefix, &found));
        Ok(Listing { revision: revision(at), cluster, entries: entries.collect() })
    }

    async fn extent(&self) -> Result<Extent, Error> {
        let mut client = self.client.kv_client();
        let newest_first = GetOptions::new().with_sort(SortTarget::Mod, SortOrder::Descend);
        let options = newest_first.with_prefix().with_limit(1).with_keys_only();
        let response = self.call(client.get(self.prefix.as_str(), Some(options))).await?;
        let newest = response.kvs().first().map_or(0, KeyValue::mod_revision);
        Ok(Extent { newest: revision(newest), keys: usize::try_from(response.count()).unwrap_or(0) })
    }

    async fn had(&self, key: &str, revision: Revision) -> Result<Option<bool>, Error> {
        let mut client = self.client.kv_client();
        let at = i64::try_from(revision).unwrap_or(i64::MAX);
        let options = GetOptions::new().with_revision(at).with_keys_only();
        match self.call(client.get(self.key(key), Some(options))).await {
            Ok(response) => Ok(Some(response.kvs().first().is_some_and(|found| found.mod_revision() == at))),
            Err(Error::Compacted(text)) => Ok(text.contains("future revision").then_some(false)),
            Err(error) => Err(error),
        }
    }

    async fn watch(&self, from: Revision) -> Result<Watching, Error> {
        let mut client = self.client.watch_client().max_decoding_message_size(LARGEST_MESSAGE);
        let from = i64::try_from(from).unwrap_or(i64::MAX);
        let options = WatchOptions::new().with_prefix().with_start_revision(from);
        let stream = self.call(client.watch(self.prefix.as_str(), Some(options))).await?;
        Ok(Watching { stream, endpoint: self.endpoint.clone(), prefix: self.prefix.clone() })
    }

    async fn swap(&self, swap: Swap) -> Result<Revision, Error> {
        self.change(swap.expected, swap.writes.into_iter().map(|(key, value)| (key, Some(value))).collect())
            .await
    }

    async fn change(
        &self,
        expected: BTreeMap<String, Revision>,
        changes: BTreeMap<String, Option<Vec<u8>>>,
    ) -> Result<Revision, Error> {
        let operations = changes.into_iter().map(|(key, value)| match value {
            Some(value) => TxnOp::put(self.key(&key), value, None),
            None => TxnOp::delete(self.key(&key), None),
        });
        let committed = self.commit(self.compares(&expected), operations.collect()).await?;
        committed.ok_or(Error::Conflict)
    }

    async fn lease(&self, time: Duration) -> Result<Lease, Error> {
        let mut client = self.client.lease_client();
        let seconds = i64::try_from(time.as_secs().max(1)).unwrap_or(i64::MAX);
        let granted = self.call(client.grant(seconds, None)).await?;
        // A store with long elections grants only leases that outlast an election.
        let lives = u64::try_from(granted.ttl()).ok().filter(|ttl| *ttl > 0).map(Duration::from_secs);
        Ok(Lease { id: granted.id(), time: lives.unwrap_or(time) })
    }

    async fn keep_alive(&self, lease: i64) -> Result<(), Error> {
        let mut client = self.client.lease_client();
        match self.call(client.keep_alive(lease)).await {
            Err(Error::Unreachable(text)) if text.contains("lease not found") => Err(Error::LeaseLost),
            kept => kept.map(drop),
        }
    }

    async fn revoke(&self, lease: i64) -> Result<(), Error> {
        let mut client = self.client.lease_client();
        self.call(client.revoke(lease)).await.map(drop)
    }

    async fn put(
        &self,
        expected: BTreeMap<String, Revision>,
        writes: BTreeMap<String, Vec<u8>>,
        lease: i64,
    ) -> Result<Revision, Error> {
        let under = Some(PutOptions::new().with_lease(lease));
        let puts = writes.iter().map(|(key, value)| TxnOp::put(self.key(key), value.clone(), under.clone()));
        match self.commit(self.compares(&expected), puts.collect()).await {
            Err(Error::Unreachable(text)) if text.contains("lease not found") => Err(Error::LeaseLost),
            committed => committed?.ok_or(Error::Conflict),
        }
    }
}

/// The stream of changes from a member.
pub struct Watching {
    stream: WatchStream,
    endpoint: String,
    prefix: String,
}

impl std::fmt::Debug for Watching {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watching").field("endpoint", &self.endpoint).finish_non_exhaustive()
    }
}

impl Watch for Watching {
    async fn next(&mut self) -> Result<Batch, Error> {
        loop {
            let message = self.stream.message().await.map_err(|error| at(&self.endpoint, error.into()))?;
            let ended = || Error::Unreachable(format!("{}: the watch has ended", self.endpoint));
            let message = message.ok_or_else(ended)?;
            if message.compact_revision() != 0 {
                let text = format!("compacted up to revision {}", message.compact_revision());
                return Err(Error::Compacted(text));
            }
            if message.canceled() {
                return Err(Error::Unreachable(format!("{}: {}", self.endpoint, message.cancel_reason())));
            }
            let mut batch = Batch { revision: 0, changes: Vec::new() };
            for event in message.events() {
                let Some(pair) = event.kv() else { continue };
                batch.revision = batch.revision.max(revision(pair.mod_revision()));
                let Some((key, value)) = entry(&self.prefix, pair) else { continue };
                batch.changes.push((key, (event.event_type() == EventType::Put).then_some(value)));
            }
            if !batch.changes.is_empty() {
                return Ok(batch);
            }
        }
    }
}

fn entry(prefix: &str, pair: &KeyValue) -> Option<(String, Entry)> {
    let key = text_of(pair.key().strip_prefix(prefix.as_bytes())?);
    Some((key, Entry { value: pair.value().to_vec(), revision: revision(pair.mod_revision()) }))
}

/// Marks an octet of a key that is not UTF-8. A mark in a key itself is doubled.
const NO_TEXT: char = char::REPLACEMENT_CHARACTER;

/// Returns the text of a key. Keys that are not UTF-8 are not used but are counted, so each key gets its own text.
fn text_of(key: &[u8]) -> String {
    let mut text = String::with_capacity(key.len());
    for chunk in key.utf8_chunks() {
        for character in chunk.valid().chars() {
            text.push(character);
            text.extend((character == NO_TEXT).then_some(NO_TEXT));
        }
        for octet in chunk.invalid() {
            text.push(NO_TEXT);
            text.push_str(&format!("{octet:02x}"));
        }
    }
    text
}

/// etcd counts in signed numbers, from 1.
fn revision(number: i64) -> Revision {
    Revision::try_from(number).unwrap_or(0)
}

/// The failure of a call.
enum Fault {
    Slow(Duration),
    Said(etcd_client::Error),
}

impl From<etcd_client::Error> for Fault {
    fn from(error: etcd_client::Error) -> Self {
        Fault::Said(error)
    }
}

async fn within<T>(
    time: Duration,
    call: impl Future<Output = Result<T, etcd_client::Error>>,
) -> Result<T, Fault> {
    match tokio::time::timeout(time, call).await {
        Ok(said) => said.map_err(Fault::Said),
        Err(_elapsed) => Err(Fault::Slow(time)),
    }
}

/// Turns a failure into an error, by gRPC's codes as etcd uses them.
fn at(endpoint: &str, fault: Fault) -> Error {
    use tonic_code::{INVALID_ARGUMENT, NOT_FOUND, OUT_OF_RANGE, PERMISSION_DENIED, UNAUTHENTICATED};
    match fault {
        Fault::Slow(time) => {
            Error::Unreachable(format!("{endpoint}: no answer within {} ms", time.as_millis()))
        }
        Fault::Said(etcd_client::Error::GRpcStatus(status)) => {
            let cause = status.source().map(|_| format!(": {}", root(&status))).unwrap_or_default();
            let text = format!("{endpoint}: {}{cause}", status.message());
            match i32::from(status.code()) {
                UNAUTHENTICATED | PERMISSION_DENIED => Error::Denied(text),
                INVALID_ARGUMENT if text.contains("auth") || text.contains("password") => Error::Denied(text),
                NOT_FOUND if text.contains("lease") => Error::LeaseLost,
                OUT_OF_RANGE => Error::Compacted(text),
                _ => unreachable(endpoint, text),
            }
        }
        Fault::Said(error) => {
            let text = match &error {
                etcd_client::Error::TransportError(transport) => format!("{transport}: {}", root(transport)),
                other => other.to_string(),
            };
            unreachable(endpoint, format!("{endpoint}: {text}"))
        }
    }
}

/// Adds a remedy to errors about certificates. A member that refuses this client's certificate sends a TLS alert, or
/// closes the established connection: in TLS 1.3 the client's handshake ends before the server has seen the certificate
/// (RFC 8446, section 4.4.2.4).
fn unreachable(endpoint: &str, text: String) -> Error {
    if text.contains("UnknownIssuer") {
        return Error::Denied(format!(
            "{text}: sign it by an authority in ca of [cluster], or without ca by one that this machine trusts"
        ));
    }
    if text.contains("ertificate") || text.contains("fatal alert") {
        return Error::Denied(text);
    }
    if endpoint.starts_with("https:") && text.contains("closed") {
        return Error::Unreachable(format!("{text}; does it take the certificate in cert of [cluster]?"));
    }
    Error::Unreachable(text)
}

/// gRPC's status codes (google.rpc.Code).
mod tonic_code {
    pub(super) const INVALID_ARGUMENT: i32 = 3;
    pub(super) const NOT_FOUND: i32 = 5;
    pub(super) const PERMISSION_DENIED: i32 = 7;
    pub(super) const OUT_OF_RANGE: i32 = 11;
    pub(super) const UNAUTHENTICATED: i32 = 16;
}

fn root(error: &dyn std::error::Error) -> String {
    let mut cause: &dyn std::error::Error = error;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    cause.to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_key_that_is_text_stays_as_it_is() {
        assert_eq!(text_of("verdicts/n\u{f6}de1".as_bytes()), "verdicts/n\u{f6}de1");
        assert_eq!(text_of(b"a\xff\xfeb"), "a\u{fffd}ff\u{fffd}feb");
    }

    proptest! {
        #[test]
        fn two_keys_have_two_texts(
            keys in [(); 2].map(|()| proptest::collection::vec(prop_oneof![
                Just(&b"\xff"[..]), Just(&b"\xef\xbf\xbd"[..]), Just(&b"\xef"[..]), Just(&b"ff"[..]), Just(&b"\xbf"[..])
            ], 0..5)),
        ) {
            let [a, b] = keys.map(|key| key.concat());
            prop_assert_eq!(a == b, text_of(&a) == text_of(&b));
        }
    }
}
