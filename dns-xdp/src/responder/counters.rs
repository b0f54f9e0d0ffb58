//! Counts received messages by their result: one counter for each rcode and transport.
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};

use hickory_proto::op::ResponseCode;

/// The rcodes that the responder gives.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rcode {
    /// An answer, with data or without (RFC 2308, section 2.2).
    NoError,
    /// The message is not in the format of RFC 1035, section 4.1.
    FormErr,
    /// The name does not exist.
    NxDomain,
    /// An opcode or a meta-type that is not implemented.
    NotImp,
    /// Another zone or class, a zone transfer, an update that no key has signed or may make, a notification.
    Refused,
    /// An EDNS version above 0 (RFC 6891, section 6.1.3).
    BadVers,
    /// A query only for a cookie, with a server cookie that is not valid here (RFC 7873, section 5.4).
    BadCookie,
    /// An update was not made, because something else failed.
    ServFail,
    /// A name of an update's prerequisites is in use, and should not be (RFC 2136, section 2.2).
    YxDomain,
    /// An RRset of an update's prerequisites exists, and should not.
    YxRrset,
    /// An RRset of an update's prerequisites does not exist, or has other data.
    NxRrset,
    /// An update is about another zone, or its signature is wrong (RFC 8945, section 5.2).
    NotAuth,
    /// A name of an update is outside the zone.
    NotZone,
}

impl Rcode {
    /// Every rcode.
    pub const ALL: [Rcode; 13] = [
        Rcode::NoError,
        Rcode::FormErr,
        Rcode::NxDomain,
        Rcode::NotImp,
        Rcode::Refused,
        Rcode::BadVers,
        Rcode::BadCookie,
        Rcode::ServFail,
        Rcode::YxDomain,
        Rcode::YxRrset,
        Rcode::NxRrset,
        Rcode::NotAuth,
        Rcode::NotZone,
    ];

    /// Returns the mnemonic of the IANA registry, in capitals.
    pub const fn text(self) -> &'static str {
        match self {
            Rcode::NoError => "NOERROR",
            Rcode::FormErr => "FORMERR",
            Rcode::NxDomain => "NXDOMAIN",
            Rcode::NotImp => "NOTIMP",
            Rcode::Refused => "REFUSED",
            Rcode::BadVers => "BADVERS",
            Rcode::BadCookie => "BADCOOKIE",
            Rcode::ServFail => "SERVFAIL",
            Rcode::YxDomain => "YXDOMAIN",
            Rcode::YxRrset => "YXRRSET",
            Rcode::NxRrset => "NXRRSET",
            Rcode::NotAuth => "NOTAUTH",
            Rcode::NotZone => "NOTZONE",
        }
    }
}

impl From<Rcode> for ResponseCode {
    fn from(rcode: Rcode) -> Self {
        match rcode {
            Rcode::NoError => ResponseCode::NoError,
            Rcode::FormErr => ResponseCode::FormErr,
            Rcode::NxDomain => ResponseCode::NXDomain,
            Rcode::NotImp => ResponseCode::NotImp,
            Rcode::Refused => ResponseCode::Refused,
            Rcode::BadVers => ResponseCode::BADVERS,
            Rcode::BadCookie => ResponseCode::BADCOOKIE,
            Rcode::ServFail => ResponseCode::ServFail,
            Rcode::YxDomain => ResponseCode::YXDomain,
            Rcode::YxRrset => ResponseCode::YXRRSet,
            Rcode::NxRrset => ResponseCode::NXRRSet,
            Rcode::NotAuth => ResponseCode::NotAuth,
            Rcode::NotZone => ResponseCode::NotZone,
        }
    }
}

/// The transport of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Transport {
    /// One message in a datagram.
    Udp,
    /// Messages with their length in front (RFC 7766, section 8).
    Tcp,
}

/// The name of the counter of messages without an answer.
pub const DROPPED: &str = "dropped";
/// The name of the counter of queries above the limit of their client prefix.
pub const RATE_LIMITED: &str = "rate-limited";

/// Whether the counter of this name counts answers.
pub fn is_answer(text: &str) -> bool {
    text != DROPPED && text != RATE_LIMITED
}

/// The counters; their sum is the number of messages received.
#[derive(Debug, Default)]
pub struct Counters {
    udp: PerTransport,
    tcp: PerTransport,
}

#[derive(Debug, Default)]
struct PerTransport {
    answered: [AtomicU64; Rcode::ALL.len()],
    dropped: AtomicU64,
    rate_limited: AtomicU64,
}

impl Counters {
    /// Returns the counts of one transport, by the text of the rcode, [`DROPPED`] and [`RATE_LIMITED`], including
    /// zeros.
    pub fn of(&self, transport: Transport) -> BTreeMap<&'static str, u64> {
        let counters = self.per_transport(transport);
        let answered =
            Rcode::ALL.map(|rcode| (rcode.text(), counters.answered[rcode as usize].load(Ordering::Relaxed)));
        let dropped = (DROPPED, counters.dropped.load(Ordering::Relaxed));
        let rate_limited = (RATE_LIMITED, counters.rate_limited.load(Ordering::Relaxed));
        answered.into_iter().chain([dropped, rate_limited]).collect()
    }

    /// Returns the sums of both transports, in the form of [`Counters::of`].
    pub fn total(&self) -> BTreeMap<&'static str, u64> {
        let mut total = self.of(Transport::Udp);
        for (text, count) in self.of(Transport::Tcp) {
            *total.entry(text).or_default() += count;
        }
        total
    }

    pub(super) fn count(&self, transport: Transport, rcode: Rcode) {
        self.per_transport(transport).answered[rcode as usize].fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_dropped(&self, transport: Transport) {
        self.per_transport(transport).dropped.fetch_add(1, Ordering::Relaxed);
    }

    pub(super) fn count_rate_limited(&self, transport: Transport) {
        self.per_transport(transport).rate_limited.fetch_add(1, Ordering::Relaxed);
    }

    fn per_transport(&self, transport: Transport) -> &PerTransport {
        match transport {
            Transport::Udp => &self.udp,
            Transport::Tcp => &self.tcp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_total_is_the_sum_of_both_transports() {
        let counters = Counters::default();
        counters.count(Transport::Udp, Rcode::Refused);
        counters.count(Transport::Tcp, Rcode::Refused);
        counters.count_dropped(Transport::Udp);
        assert_eq!(counters.of(Transport::Tcp)["REFUSED"], 1);
        assert_eq!(counters.total()["REFUSED"], 2);
        assert_eq!(counters.total()[DROPPED], 1);
        assert_eq!(counters.total()["NXDOMAIN"], 0);
    }

    #[test]
    fn every_rcode_has_its_own_counter() {
        let counters = Counters::default();
        for rcode in Rcode::ALL {
            counters.count(Transport::Udp, rcode);
        }
        assert!(Rcode::ALL.iter().all(|rcode| counters.total()[rcode.text()] == 1));
    }
}
