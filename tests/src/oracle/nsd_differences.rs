//! The intended differences between the responder's answers and NSD's, each with its reason.
//!
//! The test that compares the two is `property_responder_equals_nsd` in `tests/tests/net`.
mod normalize;
mod query;
mod served;

use crate::oracle::meaning::Meaning;

pub use query::{Path, Query};
pub use served::Served;

/// Name servers of the packet table's zone: with their glue they exceed 512 octets, but not 1232.
pub const NAME_SERVERS: u8 = 14;

/// An intended difference.
pub struct Choice {
    /// The difference.
    pub what: &'static str,
    /// Why the responder's answer is as good, or better.
    pub reason: &'static str,
    /// How the difference shows.
    pub difference: Difference,
}

/// How a difference shows.
pub enum Difference {
    /// The answers differ. The function removes the difference from them, and returns whether it was there.
    Answers(fn(&Query, &mut Meaning, &mut Meaning) -> bool),
    /// The responder ignores parts of such a query, and NSD gets the query without these parts. The function returns
    /// whether this applies.
    Instead(fn(&Query, &Meaning, &Meaning) -> bool),
    /// NSD does not answer such a query.
    Silence(fn(&Query) -> bool),
    /// NSD's answer to such a query cannot be read.
    Unreadable(fn(&Query) -> bool),
}

use Difference::{Answers, Instead, Silence, Unreadable};

/// All differences, in the order of their normalization. A difference that never occurs makes the test fail.
pub const CHOICES: &[Choice] = &[
    // The header.
    Choice {
        what: "we copy CD",
        reason: "RFC 4035 has both: section 3 copies it, section 3.1.6 clears it; the program copies it too",
        difference: Answers(normalize::checking_disabled),
    },
    Choice {
        what: "NSD sends AA, TC and RA of the query back in errors",
        reason: "they say something about the answer and the server (RFC 1035, section 4.1.1)",
        difference: Answers(normalize::flags_of_errors),
    },
    Choice {
        what: "NSD forgets RD where the counts are not to its liking",
        reason: "it has to be copied (RFC 1035, section 4.1.1)",
        difference: Answers(normalize::recursion_desired),
    },
    Choice {
        what: "NSD sends errors without the question",
        reason: "by the question a client tells what was answered (RFC 5452, section 9.1)",
        difference: Answers(normalize::question_of_errors),
    },
    Choice {
        what: "NSD does not answer a message too short for a question",
        reason: "a query that has its header is not to be met with silence (RFC 8906, section 3)",
        difference: Silence(|query| (12..17).contains(&query.length)),
    },
    // EDNS.
    Choice {
        what: "NSD explains other errors than we do, and in words",
        reason: "extended errors are optional (RFC 8914); we explain every refusal, by its code alone",
        difference: Answers(normalize::extended_errors),
    },
    Choice {
        what: "we say over TCP how long a connection may be idle",
        reason: "a client that asks keeps its connection (RFC 7828); NSD does not have the option",
        difference: Answers(normalize::idle_timeout),
    },
    Choice {
        what: "NSD does not copy DO into BADVERS",
        reason: "it has to be copied (RFC 3225, section 3)",
        difference: Answers(normalize::dnssec_ok),
    },
    Choice {
        what: "NSD sends errors without the OPT that the query had",
        reason: "it has to be there (RFC 6891, section 6.1.1)",
        difference: Answers(normalize::opt_of_errors),
    },
    Choice {
        what: "NSD sends two NSIDs to a client that asks twice, in an OPT of a wrong length",
        reason: "it cannot be read",
        difference: Unreadable(|query| query.nsids() > 1),
    },
    Choice {
        what: "an OPT of another version that is longer than the message is BADVERS to NSD, FORMERR to dns-xdp",
        reason: "both are true",
        difference: Answers(normalize::version_of_a_broken_opt),
    },
    // Form.
    Choice {
        what: "we pass over records that mean nothing in a query, NSD does not know the form",
        reason: "no RFC forbids them, and what a later one puts there is then no error",
        difference: Instead(normalize::meaningless_records),
    },
    Choice {
        what: "we pass over a TSIG, NSD does not know its key",
        reason: "dns-xdp has no keys, so it is one of those records (RFC 8945, section 5.2 is for servers with keys)",
        difference: Instead(normalize::signature),
    },
    Choice {
        what: "we pass over the rcode of a query, NSD does not know the form",
        reason: "it has no meaning in a query (RFC 1035, section 4.1.1)",
        difference: Instead(normalize::rcode_of_the_query),
    },
    Choice {
        what: "we refuse NOTIFY and UPDATE",
        reason: "no client may change the zone (RFC 2136, section 2.2); NOTIMP or NOTAUTH would be as right",
        difference: Answers(normalize::opcodes),
    },
    // Types and classes.
    Choice {
        what: "we do not implement meta-queries, NSD takes them for types that are not there",
        reason: "RFC 8906, section 3.1.2 has both",
        difference: Answers(normalize::meta_queries),
    },
    Choice {
        what: "we refuse every zone transfer, NSD has other ways to say no",
        reason: "zone transfers are offered to no client (RFC 5936, section 5), over no transport and for no name",
        difference: Answers(normalize::transfers),
    },
    Choice {
        what: "we refuse class ANY, NSD answers without authority",
        reason: "no resolver asks for it, and no answer to it is authoritative (RFC 1034, section 3.7.1)",
        difference: Answers(normalize::class_any),
    },
    Choice {
        what: "in class CH we have authority",
        reason: "the server knows its own identity; BIND answers so too",
        difference: Answers(normalize::authority_over_chaos),
    },
    Choice {
        what: "in class CH we answer TXT alone, NSD also ANY",
        reason: "RFC 4892, section 2.1 has TXT; ANY is not answered with all there is (RFC 8482)",
        difference: Answers(normalize::any_of_chaos),
    },
    // The zone's data.
    Choice {
        what: "we answer so many addresses of a large RRset, NSD all of them",
        reason: "`answers-max`, which a zone file cannot say: an answer of a size that suits clients, in turn",
        difference: Answers(normalize::answers_max),
    },
    Choice {
        what: "NSD leaves the aliases in an answer that is truncated",
        reason: "the client asks again over TCP in any case (RFC 2181, section 9), and a small answer is no use to an attacker",
        difference: Answers(normalize::aliases_of_truncated),
    },
    Choice {
        what: "NSD spells names within data as the question does",
        reason: "it compresses them against the question; in any case they are the same names (RFC 4343, section 3)",
        difference: Answers(normalize::spelling),
    },
    Choice {
        what: "NSD adds the name servers to an answer, and what glue fits",
        reason: "extra information is left out, all of it (RFC 2181, section 9): a small answer is no use to an attacker",
        difference: Answers(normalize::name_servers),
    },
    Choice {
        what: "we answer ANY with the CNAME or a HINFO, NSD with all there is",
        reason: "RFC 8482, section 4.2: all there is would be a large answer",
        difference: Answers(normalize::any),
    },
    Choice {
        what: "we refuse addresses that are withheld",
        reason: "`all-down = \"refused\"`, which a zone file cannot say",
        difference: Answers(normalize::withheld),
    },
    Choice {
        what: "the absence of a family of a name that is failed over has the TTL of the name",
        reason: "it ends with the failover, and is not to be kept longer (RFC 2308, section 5); a zone file has one negative TTL",
        difference: Answers(normalize::absence_of_a_family),
    },
    Choice {
        what: "a negative answer that fits only with compression is truncated by dns-xdp",
        reason: "the program copies the SOA record as it is, without compression, and both paths truncate at the same size",
        difference: Answers(normalize::whole_soa),
    },
];
