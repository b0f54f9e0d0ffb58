//! Why a query was answered, passed up or dropped: the counter's index and its text, defined once.
use crate::verifier::{keep_branch, widen_offset};

/// The hook's instruction to the kernel about the frame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Action {
    /// Send the frame back through its interface: it now holds the answer.
    Transmit,
    /// Pass the frame to the network stack, unchanged.
    Pass,
    /// Drop the frame.
    Drop,
}

macro_rules! outcomes {
    ($($(#[doc = $doc:literal])+ $name:ident = $text:literal => $action:ident;)*) => {
        /// The result of processing one frame. The discriminant is the index of its counter.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
        #[repr(u32)]
        pub enum Outcome { $($(#[doc = $doc])+ $name),* }

        impl Outcome {
            /// Every outcome, in the order of the counters.
            pub const ALL: &[Outcome] = &[$(Outcome::$name),*];

            /// Returns the outcome's name in counters, logs, metrics and tests.
            pub const fn text(self) -> &'static str {
                match self { $(Outcome::$name => $text),* }
            }

            /// Returns this outcome as the error that ends the reading of a frame; see `verifier::keep_branch`.
            #[inline(always)]
            pub fn refuse<T>(self) -> Result<T, Outcome> {
                keep_branch(self as u64);
                Err(self)
            }

            /// Returns the same outcome, with a number that the verifier no longer knows. The verifier then follows the
            /// rest of the program once, instead of once for every outcome. `unknown` is as for
            /// [`verifier::widen`](crate::verifier::widen).
            #[inline(always)]
            #[expect(unsafe_code, reason = "the number was a discriminant of the enumeration before")]
            pub fn widened(self, unknown: u64) -> Outcome {
                let number = widen_offset(self as usize, unknown) as u32;
                // SAFETY: widening does not change the number.
                unsafe { core::mem::transmute::<u32, Outcome>(number) }
            }

            /// Returns what the hook does with the frame.
            #[inline(always)]
            pub const fn action(self) -> Action {
                match self { $(Outcome::$name => Action::$action),* }
            }
        }
    };
}

outcomes! {
    /// Not UDP to the served port, or a later fragment, which does not contain its port. Not counted.
    NotForUs = "not-for-us" => Pass;
    /// Answered with an A or AAAA RRset.
    Answered = "answered" => Transmit;
    /// Answered: the name exists, the type does not (RFC 2308, section 2.2).
    NoData = "nodata" => Transmit;
    /// Answered: the name does not exist (RFC 8020).
    NxDomain = "nxdomain" => Transmit;
    /// Answered with TC=1: the answer is larger than the client takes (RFC 2181, section 9).
    Truncated = "truncated" => Transmit;
    /// Answered with TC=1 and no records: the client's prefix is above its limit. A client that then uses TCP proves
    /// its address.
    Slipped = "slipped" => Transmit;
    /// Not answered: the client's prefix is above its limit.
    RateLimited = "rate-limited" => Drop;
    /// Not passed up: the queries for the responder are above their limit.
    FallbackLimited = "fallback-limited" => Drop;
    /// A response sent to a name server's port (RFC 1035, section 4.1.1): answering it could loop.
    Response = "response" => Drop;
    /// No daemon has renewed the lease.
    LeaseExpired = "lease-expired" => Pass;
    /// No zone has been published.
    NoZone = "no-zone" => Pass;
    /// To an address that is not served here: a DNS packet that passes through.
    ForeignAddress = "foreign-address" => Pass;
    /// To another station's MAC address: the interface is promiscuous.
    ForeignMac = "foreign-mac" => Pass;
    /// To a group's MAC address (broadcast or multicast). The stack delivers such a packet, if its IP address is served.
    GroupMac = "group-mac" => Pass;
    /// IPv4 options, IPv6 extension headers, or a version that is not the EtherType's.
    IpHeader = "ip-header" => Pass;
    /// The first part of a fragmented datagram.
    Fragment = "fragment" => Pass;
    /// A source that no query comes from: loopback, unspecified, multicast, broadcast, or the queried address itself.
    SourceAddress = "source-address" => Pass;
    /// Source port zero.
    SourcePort = "source-port" => Pass;
    /// The lengths of frame, IP and UDP contradict each other, or the message is too short or too long.
    Length = "length" => Pass;
    /// No UDP checksum over IPv6, which demands one (RFC 8200, section 8.1).
    Checksum = "checksum" => Pass;
    /// In generic mode, an incomplete UDP checksum: the frame comes from this machine.
    PartialChecksum = "partial-checksum" => Pass;
    /// An opcode other than QUERY.
    Opcode = "opcode" => Pass;
    /// TC, or a response code, in a query.
    Flags = "flags" => Pass;
    /// No question or more than one, or records that a query does not have.
    Counts = "counts" => Pass;
    /// A compressed, overlong or unterminated name.
    Name = "name" => Pass;
    /// A class other than IN.
    Class = "class" => Pass;
    /// A type that only the responder answers: 0, NS, SOA, OPT and 128 to 255 (RFC 6895, section 3.1).
    Type = "type" => Pass;
    /// The additional record is not an OPT record, or it is malformed (RFC 6891, section 6.1).
    Opt = "opt" => Pass;
    /// An EDNS version above 0.
    EdnsVersion = "edns-version" => Pass;
    /// The client asks which server answers (RFC 5001).
    Nsid = "nsid" => Pass;
    /// A cookie behind another option.
    Cookie = "cookie" => Pass;
    /// More EDNS options than the program reads.
    OptionCount = "option-count" => Pass;
    /// Octets behind the message.
    Trailing = "trailing" => Pass;
    /// A name outside the zone.
    ForeignName = "foreign-name" => Pass;
    /// A name in the zone, or a type of it, that only the responder answers.
    Reserved = "reserved" => Pass;
    /// The frame has no room for the answer, neither in front nor at its tail.
    NoRoom = "no-room" => Pass;
    /// The answer could not be finished after writing had begun. This cannot happen; the frame would be unusable.
    Spoiled = "spoiled" => Drop;
}

impl Outcome {
    /// Whether the responder reads the frame: it goes up, to the served port of a served address. The stack drops a
    /// frame to the MAC address of another station, so such a frame does not count.
    #[inline(always)]
    pub const fn is_for_the_responder(self) -> bool {
        const SET: u64 = {
            let (mut set, mut index) = (0, 0);
            while index < Outcome::ALL.len() {
                let outcome = Outcome::ALL[index];
                let is_foreign =
                    matches!(outcome, Outcome::NotForUs | Outcome::ForeignAddress | Outcome::ForeignMac);
                if matches!(outcome.action(), Action::Pass) && !is_foreign {
                    set |= 1 << index;
                }
                index += 1;
            }
            set
        };
        SET >> self as u32 & 1 != 0
    }
}

/// An [`Option`] whose absence ends the reading of a frame.
pub trait OrRefuse<T> {
    /// Returns the value, or [`Outcome::refuse`].
    fn or_refuse(self, outcome: Outcome) -> Result<T, Outcome>;
}

impl<T> OrRefuse<T> for Option<T> {
    #[inline(always)]
    fn or_refuse(self, outcome: Outcome) -> Result<T, Outcome> {
        match self {
            Some(value) => Ok(value),
            None => outcome.refuse(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_discriminant_is_the_index_and_the_text_is_unique() {
        for (index, outcome) in Outcome::ALL.iter().enumerate() {
            assert_eq!(*outcome as usize, index);
            assert!(Outcome::ALL[index + 1..].iter().all(|other| other.text() != outcome.text()));
        }
    }
}
