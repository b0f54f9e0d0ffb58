//! The store in etcd. It uses one member at a time, limits the time of every call, and words errors for operators.
//!
//! `rpc` makes the calls; `messages` has their requests and responses.
mod messages;
pub(super) mod rpc;

use std::collections::BTreeMap;
use std::error::Error as _;
use std::io;
use std::path::PathBuf;
use std::time::Duration;

use tokio::task::JoinSet;
use tonic::Code;

use messages::{
    Compare, CompareTarget, DeleteRangeRequest, EventType, KeyValue, Operation, PutRequest, RangeRequest,
    RequestOp, SortOrder, SortTarget, TxnRequest, WatchCreateRequest,
};
use rpc::{Client, RpcError, WatchStream};

use super::client::watch_lag::Extent;
use super::credentials::Credentials;
use super::{Batch, Entry, Error, Lease, Listing, Revision, Store, Swap, Watch};
use crate::authorities::NoAuthorities;
use crate::config::{self, SharedStore};

/// The time between asking one member and the next, when any member can answer.
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
        let connecting = Client::connect(endpoint, self.credentials.options().await);
        let client = within(self.timeout, connecting).await.map_err(|error| at(endpoint, error))?;
        let etcd =
            Etcd { client, endpoint: endpoint.clone(), prefix: self.prefix.clone(), timeout: self.timeout };
        Ok(etcd)
    }

    /// Returns the listing of the first member that answers, and a connection to it. All members are asked, each 250 ms
    /// after the previous one, so that a silent member costs only this time.
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

    async fn call<T>(&self, call: impl Future<Output = Result<T, RpcError>>) -> Result<T, Error> {
        within(self.timeout, call).await.map_err(|error| at(&self.endpoint, error))
    }

    fn compares(&self, expected: &BTreeMap<String, Revision>) -> Vec<Compare> {
        let compare = |(key, expected): (&String, &Revision)| {
            let expected = i64::try_from(*expected).unwrap_or(i64::MAX);
            Compare {
                target: CompareTarget::ModRevision.into(),
                key: self.key(key).into_bytes(),
                mod_revision: Some(expected),
            }
        };
        expected.iter().map(compare).collect()
    }

    /// A request for everything below the prefix.
    fn everything(&self) -> RangeRequest {
        let key = self.prefix.clone().into_bytes();
        RangeRequest { range_end: after_prefix(&key), key, ..RangeRequest::default() }
    }

    /// Writes a key, under a lease unless `lease` is 0.
    fn write(&self, key: &str, value: Vec<u8>, lease: i64) -> Operation {
        Operation::Put(PutRequest { key: self.key(key).into_bytes(), value, lease })
    }

    /// Makes a transaction; `None`: a key that it depends on has changed.
    async fn commit(
        &self,
        compare: Vec<Compare>,
        operations: impl Iterator<Item = Operation>,
    ) -> Result<Option<Revision>, Error> {
        let success = operations.map(|operation| RequestOp { request: Some(operation) }).collect();
        let response = self.call(self.client.txn(TxnRequest { compare, success })).await?;
        Ok(response.succeeded.then(|| revision(response.header.map_or(0, |header| header.revision))))
    }
}

impl Store for Etcd {
    type Watch = Watching;

    async fn list(&self) -> Result<Listing, Error> {
        let response = self.call(self.client.range(self.everything())).await?;
        let header = response.header.unwrap_or_default();
        let cluster = Some(header.cluster_id).filter(|cluster| *cluster != 0);
        let entries = response.kvs.into_iter().filter_map(|found| entry(&self.prefix, found));
        Ok(Listing { revision: revision(header.revision), cluster, entries: entries.collect() })
    }

    async fn extent(&self) -> Result<Extent, Error> {
        let newest_first = RangeRequest {
            limit: 1,
            sort_order: SortOrder::Descend.into(),
            sort_target: SortTarget::ModRevision.into(),
            keys_only: true,
            ..self.everything()
        };
        let response = self.call(self.client.range(newest_first)).await?;
        let newest = response.kvs.first().map_or(0, |found| found.mod_revision);
        Ok(Extent { newest: revision(newest), keys: usize::try_from(response.count).unwrap_or(0) })
    }

    async fn had(&self, key: &str, revision: Revision) -> Result<Option<bool>, Error> {
        let at = i64::try_from(revision).unwrap_or(i64::MAX);
        let request = RangeRequest {
            key: self.key(key).into_bytes(),
            revision: at,
            keys_only: true,
            ..RangeRequest::default()
        };
        match self.call(self.client.range(request)).await {
            Ok(response) => Ok(Some(response.kvs.first().is_some_and(|found| found.mod_revision == at))),
            Err(Error::Compacted(text)) => Ok(text.contains("future revision").then_some(false)),
            Err(error) => Err(error),
        }
    }

    async fn watch(&self, from: Revision) -> Result<Watching, Error> {
        let RangeRequest { key, range_end, .. } = self.everything();
        let start_revision = i64::try_from(from).unwrap_or(i64::MAX);
        let request = WatchCreateRequest { key, range_end, start_revision };
        let stream = self.call(self.client.watch(request)).await?;
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
            Some(value) => self.write(&key, value, 0),
            None => Operation::Delete(DeleteRangeRequest { key: self.key(&key).into_bytes() }),
        });
        let committed = self.commit(self.compares(&expected), operations).await?;
        committed.ok_or(Error::Conflict)
    }

    async fn lease(&self, time: Duration) -> Result<Lease, Error> {
        let seconds = i64::try_from(time.as_secs().max(1)).unwrap_or(i64::MAX);
        let granted = self.call(self.client.grant_lease(seconds)).await?;
        // A store with long elections grants only leases that outlast an election.
        let lives = u64::try_from(granted.ttl_seconds).ok().filter(|ttl| *ttl > 0).map(Duration::from_secs);
        Ok(Lease { id: granted.id, time: lives.unwrap_or(time) })
    }

    async fn keep_alive(&self, lease: i64) -> Result<(), Error> {
        match self.call(self.client.keep_lease_alive(lease)).await {
            Err(Error::Unreachable(text)) if text.contains("lease not found") => Err(Error::LeaseLost),
            kept => kept,
        }
    }

    async fn revoke(&self, lease: i64) -> Result<(), Error> {
        self.call(self.client.revoke_lease(lease)).await.map(drop)
    }

    async fn put(
        &self,
        expected: BTreeMap<String, Revision>,
        writes: BTreeMap<String, Vec<u8>>,
        lease: i64,
    ) -> Result<Revision, Error> {
        let puts = writes.into_iter().map(|(key, value)| self.write(&key, value, lease));
        match self.commit(self.compares(&expected), puts).await {
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
            let message =
                self.stream.message().await.map_err(|error| at(&self.endpoint, Fault::Said(error.into())))?;
            let ended = || Error::Unreachable(format!("{}: the watch has ended", self.endpoint));
            let message = message.ok_or_else(ended)?;
            if message.compact_revision != 0 {
                let text = format!("compacted up to revision {}", message.compact_revision);
                return Err(Error::Compacted(text));
            }
            if message.canceled {
                return Err(Error::Unreachable(format!("{}: {}", self.endpoint, message.cancel_reason)));
            }
            let mut batch = Batch { revision: 0, changes: Vec::new() };
            for event in message.events {
                let is_put = event.r#type() == EventType::Put;
                let Some(pair) = event.kv else { continue };
                batch.revision = batch.revision.max(revision(pair.mod_revision));
                let Some((key, value)) = entry(&self.prefix, pair) else { continue };
                batch.changes.push((key, is_put.then_some(value)));
            }
            if !batch.changes.is_empty() {
                return Ok(batch);
            }
        }
    }
}

fn entry(prefix: &str, pair: KeyValue) -> Option<(String, Entry)> {
    let key = text_of(pair.key.strip_prefix(prefix.as_bytes())?);
    Some((key, Entry { value: pair.value, revision: revision(pair.mod_revision) }))
}

/// Returns the first key after all keys that begin with a prefix.
fn after_prefix(prefix: &[u8]) -> Vec<u8> {
    let mut end = prefix.to_vec();
    while let Some(last) = end.pop() {
        if let Some(next) = last.checked_add(1) {
            end.push(next);
            return end;
        }
    }
    // No key comes after the prefix. A single NUL means the end of the key space in etcd.
    vec![0]
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

/// Converts a revision of etcd, which counts in signed numbers from 1.
fn revision(number: i64) -> Revision {
    Revision::try_from(number).unwrap_or(0)
}

/// The failure of a call.
enum Fault {
    Slow(Duration),
    Said(RpcError),
}

async fn within<T>(time: Duration, call: impl Future<Output = Result<T, RpcError>>) -> Result<T, Fault> {
    match tokio::time::timeout(time, call).await {
        Ok(said) => said.map_err(Fault::Said),
        Err(_elapsed) => Err(Fault::Slow(time)),
    }
}

/// Turns a failure into an error, by gRPC's codes as etcd uses them.
fn at(endpoint: &str, fault: Fault) -> Error {
    match fault {
        Fault::Slow(time) => {
            Error::Unreachable(format!("{endpoint}: no answer within {} ms", time.as_millis()))
        }
        Fault::Said(RpcError::Status(status)) => {
            let cause = status.source().map(|_| format!(": {}", root(&status))).unwrap_or_default();
            let text = format!("{endpoint}: {}{cause}", status.message());
            match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => Error::Denied(text),
                Code::InvalidArgument if text.contains("auth") || text.contains("password") => {
                    Error::Denied(text)
                }
                Code::InvalidArgument if text.contains("request is too large") => Error::TooLarge(text),
                Code::NotFound if text.contains("lease") => Error::LeaseLost,
                Code::OutOfRange => Error::Compacted(text),
                _ => unreachable(endpoint, text),
            }
        }
        Fault::Said(error) => {
            let text = match &error {
                RpcError::Transport(transport) => format!("{transport}: {}", root(transport)),
                other => other.to_string(),
            };
            unreachable(endpoint, format!("{endpoint}: {text}"))
        }
    }
}

/// Adds a remedy to errors about certificates. A member that refuses this client's certificate sends a TLS alert, or
/// closes the established connection. In TLS 1.3 the client's handshake ends before the server has seen the certificate
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
    fn a_request_that_is_too_large_is_no_silence_of_the_store() {
        let status = tonic::Status::invalid_argument("etcdserver: request is too large");
        let error = at("http://192.0.2.61:2379", Fault::Said(RpcError::Status(status)));
        let text =
            "a document is too large for the store: http://192.0.2.61:2379: etcdserver: request is too large";
        assert!(error.to_string().starts_with(text), "{error}");
    }

    #[test]
    fn a_key_that_is_text_stays_as_it_is() {
        assert_eq!(text_of("verdicts/n\u{f6}de1".as_bytes()), "verdicts/n\u{f6}de1");
        assert_eq!(text_of(b"a\xff\xfeb"), "a\u{fffd}ff\u{fffd}feb");
    }

    #[test]
    fn the_end_of_a_prefix_is_after_all_keys_that_begin_with_it() {
        assert_eq!(after_prefix(b"/dns-xdp/"), b"/dns-xdp0");
        assert_eq!(after_prefix(b"a\xff\xff"), b"b");
        assert_eq!(after_prefix(b"\xff"), [0]);
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
