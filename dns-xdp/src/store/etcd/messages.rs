//! The protobuf messages of etcd's gRPC interface, with the fields that this program uses.
//!
//! They follow `rpc.proto` and `kv.proto` of etcd 3.5, so that a build needs no protobuf compiler. A decoder skips the
//! fields that a message does not declare. A field that is not sent has its default value: 0, false or empty.
use prost::{Enumeration, Message, Oneof};

/// The state of the store when it answered.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct ResponseHeader {
    #[prost(uint64, tag = "1")]
    pub(super) cluster_id: u64,
    #[prost(int64, tag = "3")]
    pub(super) revision: i64,
}

/// A key and its value.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct KeyValue {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    /// The revision of the last change.
    #[prost(int64, tag = "3")]
    pub(super) mod_revision: i64,
    #[prost(bytes = "vec", tag = "5")]
    pub(super) value: Vec<u8>,
}

/// The order of the keys in a [`RangeResponse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum SortOrder {
    None = 0,
    Descend = 2,
}

/// The sort field of the keys in a [`RangeResponse`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum SortTarget {
    Key = 0,
    ModRevision = 3,
}

/// Asks for the keys from `key` to before `range_end`, or for `key` alone.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct RangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
    /// The most keys that are returned; 0: all.
    #[prost(int64, tag = "3")]
    pub(super) limit: i64,
    /// The keys as they were at this revision; 0: the present keys.
    #[prost(int64, tag = "4")]
    pub(super) revision: i64,
    #[prost(enumeration = "SortOrder", tag = "5")]
    pub(super) sort_order: i32,
    #[prost(enumeration = "SortTarget", tag = "6")]
    pub(super) sort_target: i32,
    /// Whether the values are left out.
    #[prost(bool, tag = "8")]
    pub(super) keys_only: bool,
}

/// Answers a [`RangeRequest`].
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct RangeResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(message, repeated, tag = "2")]
    pub(super) kvs: Vec<KeyValue>,
    /// How many keys the range has, whatever the limit.
    #[prost(int64, tag = "4")]
    pub(super) count: i64,
}

/// Writes a key.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct PutRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) value: Vec<u8>,
    /// The key is deleted when this lease ends; 0: no lease.
    #[prost(int64, tag = "3")]
    pub(super) lease: i64,
}

/// Deletes a key.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct DeleteRangeRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
}

/// The field that a [`Compare`] compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum CompareTarget {
    Version = 0,
    ModRevision = 2,
}

/// A condition of a transaction: the last change of `key` was at `mod_revision`. 0 means that there is no key.
///
/// The field `result` (1) is not declared, because its default is `EQUAL`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Compare {
    #[prost(enumeration = "CompareTarget", tag = "2")]
    pub(super) target: i32,
    #[prost(bytes = "vec", tag = "3")]
    pub(super) key: Vec<u8>,
    /// A member of a `oneof`, which is sent even if it is 0.
    #[prost(int64, optional, tag = "6")]
    pub(super) mod_revision: Option<i64>,
}

/// One operation of a transaction.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct RequestOp {
    #[prost(oneof = "Operation", tags = "2, 3")]
    pub(super) request: Option<Operation>,
}

/// The kinds of operations.
#[derive(Clone, PartialEq, Eq, Oneof)]
pub(super) enum Operation {
    #[prost(message, tag = "2")]
    Put(PutRequest),
    #[prost(message, tag = "3")]
    Delete(DeleteRangeRequest),
}

/// Applies all operations of `success` if all of `compare` are true, and none otherwise.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct TxnRequest {
    #[prost(message, repeated, tag = "1")]
    pub(super) compare: Vec<Compare>,
    #[prost(message, repeated, tag = "2")]
    pub(super) success: Vec<RequestOp>,
}

/// Answers a [`TxnRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct TxnResponse {
    #[prost(message, optional, tag = "1")]
    pub(super) header: Option<ResponseHeader>,
    #[prost(bool, tag = "2")]
    pub(super) succeeded: bool,
}

/// A client's message in the stream of a watch.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct WatchRequest {
    /// A member of a `oneof`; the others are not used.
    #[prost(message, optional, tag = "1")]
    pub(super) create_request: Option<WatchCreateRequest>,
}

/// Asks for the changes from `start_revision` on, of the keys from `key` to before `range_end`.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct WatchCreateRequest {
    #[prost(bytes = "vec", tag = "1")]
    pub(super) key: Vec<u8>,
    #[prost(bytes = "vec", tag = "2")]
    pub(super) range_end: Vec<u8>,
    #[prost(int64, tag = "3")]
    pub(super) start_revision: i64,
}

/// A member's message in the stream of a watch.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct WatchResponse {
    /// Whether no more events follow.
    #[prost(bool, tag = "4")]
    pub(super) canceled: bool,
    /// The oldest revision that the store has, if the watch asked for an older one; otherwise 0.
    #[prost(int64, tag = "5")]
    pub(super) compact_revision: i64,
    #[prost(string, tag = "6")]
    pub(super) cancel_reason: String,
    #[prost(message, repeated, tag = "11")]
    pub(super) events: Vec<Event>,
}

/// A change of one key.
#[derive(Clone, PartialEq, Eq, Message)]
pub(super) struct Event {
    #[prost(enumeration = "EventType", tag = "1")]
    pub(super) r#type: i32,
    #[prost(message, optional, tag = "2")]
    pub(super) kv: Option<KeyValue>,
}

/// How a key has changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Enumeration)]
#[repr(i32)]
pub(super) enum EventType {
    Put = 0,
    Delete = 1,
}

/// Asks for a lease.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseGrantRequest {
    #[prost(int64, tag = "1")]
    pub(super) ttl_seconds: i64,
}

/// Answers a [`LeaseGrantRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseGrantResponse {
    #[prost(int64, tag = "2")]
    pub(super) id: i64,
    #[prost(int64, tag = "3")]
    pub(super) ttl_seconds: i64,
}

/// Renews a lease.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseKeepAliveRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

/// Answers a [`LeaseKeepAliveRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseKeepAliveResponse {
    /// 0: there is no such lease.
    #[prost(int64, tag = "3")]
    pub(super) ttl_seconds: i64,
}

/// Ends a lease.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseRevokeRequest {
    #[prost(int64, tag = "1")]
    pub(super) id: i64,
}

/// Answers a [`LeaseRevokeRequest`].
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub(super) struct LeaseRevokeResponse {}

/// Asks for a token. There is no `Debug`, because of the password.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub(super) struct AuthenticateRequest {
    #[prost(string, tag = "1")]
    pub(super) name: String,
    #[prost(string, tag = "2")]
    pub(super) password: String,
}

/// Answers an [`AuthenticateRequest`]. There is no `Debug`, because of the token.
#[derive(Clone, PartialEq, Eq, Message)]
#[prost(skip_debug)]
pub(super) struct AuthenticateResponse {
    #[prost(string, tag = "2")]
    pub(super) token: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_transaction_sends_revision_0_of_a_key_that_must_not_exist() {
        let put = PutRequest { key: b"k".to_vec(), value: b"v".to_vec(), lease: 7 };
        let delete = DeleteRangeRequest { key: b"d".to_vec() };
        let compare =
            Compare { target: CompareTarget::ModRevision.into(), key: b"k".to_vec(), mod_revision: Some(0) };
        let operations = [Operation::Put(put), Operation::Delete(delete)];
        let transaction = TxnRequest {
            compare: vec![compare],
            success: operations.map(|operation| RequestOp { request: Some(operation) }).to_vec(),
        };
        // A field is its tag times 8 plus 2 if a length follows, otherwise plus 0.
        let expected = [
            &[0x0a, 7, 0x10, 2, 0x1a, 1, b'k', 0x30, 0][..],
            &[0x12, 10, 0x12, 8, 0x0a, 1, b'k', 0x12, 1, b'v', 0x18, 7],
            &[0x12, 5, 0x1a, 3, 0x0a, 1, b'd'],
        ];
        assert_eq!(transaction.encode_to_vec(), expected.concat());
    }

    #[test]
    fn fields_that_are_not_declared_are_skipped() {
        // A header with cluster_id 1, member_id 2, revision 3 and raft_term 4, then a pair with its version and its
        // lease, then `more` and `count`.
        let octets = [
            &[0x0a, 8, 0x08, 1, 0x10, 2, 0x18, 3, 0x20, 4][..],
            &[0x12, 14, 0x0a, 1, b'k', 0x10, 1, 0x18, 3, 0x20, 1, 0x2a, 1, b'v', 0x30, 9],
            &[0x18, 1, 0x20, 5],
        ]
        .concat();
        let response = RangeResponse::decode(octets.as_slice()).unwrap();
        assert_eq!(response.header, Some(ResponseHeader { cluster_id: 1, revision: 3 }));
        assert_eq!(response.kvs, [KeyValue { key: b"k".to_vec(), mod_revision: 3, value: b"v".to_vec() }]);
        assert_eq!(response.count, 5);
    }
}
