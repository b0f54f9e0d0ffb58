//! The kinds of query for a zone, each with the names that get an answer of that kind.
use std::hash::{BuildHasher, RandomState};

use hickory_proto::rr::{Name, RecordType};

use super::query::{Edns, Query, Route};

/// A kind of query.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Kind {
    /// For the operator: `A, OPT, over IPv6`.
    pub text: String,
    /// One query for each name; not empty.
    pub frames: Vec<Vec<u8>>,
}

/// The routes to the server: the first for every kind of query, and a second one if the server has both families.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Routes {
    /// Over IPv4, unless the server has only IPv6.
    pub first: Route,
    /// Over IPv6.
    pub second: Option<Route>,
}

/// The form of a kind of query, and the expected answer.
struct Form {
    text: &'static str,
    qtype: RecordType,
    edns: Edns,
    answer: Expected,
    /// Whether the query is sent over the second route too.
    twice: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    Record,
    Records,
    NoData,
    NxDomain,
}

const FORMS: [Form; 9] = [
    form("A", RecordType::A, Edns::None, Expected::Record),
    Form { twice: true, ..form("A, OPT", RecordType::A, Edns::Opt, Expected::Record) },
    form("A, OPT with a cookie", RecordType::A, Edns::Cookie, Expected::Record),
    form("A of several addresses", RecordType::A, Edns::None, Expected::Records),
    form("AAAA", RecordType::AAAA, Edns::None, Expected::Record),
    Form { twice: true, ..form("AAAA, OPT", RecordType::AAAA, Edns::Opt, Expected::Record) },
    form("NODATA", RecordType::HTTPS, Edns::None, Expected::NoData),
    form("NXDOMAIN", RecordType::A, Edns::None, Expected::NxDomain),
    form("NXDOMAIN, OPT with a cookie", RecordType::A, Edns::Cookie, Expected::NxDomain),
];

const fn form(text: &'static str, qtype: RecordType, edns: Edns, answer: Expected) -> Form {
    Form { text, qtype, edns, answer, twice: false }
}

/// The least number of missing names. A zone with more names than this gets as many missing names as it has names.
const MISSING_MIN: usize = 16;

/// The kinds of query that have an answer. `ask` sends a query to the program and returns its answer, or `None` if the
/// program passes the query up. Leaves out names that the running program answers differently from the configuration.
///
/// # Errors
/// The errors of `ask`.
pub fn kinds<E>(
    apex: &Name,
    names: &[Name],
    routes: &Routes,
    mut ask: impl FnMut(&[u8]) -> Result<Option<Vec<u8>>, E>,
) -> Result<Vec<Kind>, E> {
    let missing = missing(apex, names.len().max(MISSING_MIN));
    let second = FORMS.iter().filter(|form| form.twice).zip(std::iter::repeat(routes.second));
    let first = FORMS.iter().zip(std::iter::repeat(Some(routes.first)));
    let mut kinds = Vec::new();
    for (form, route) in first.chain(second) {
        let Some(route) = route else { continue };
        let asked = if form.answer == Expected::NxDomain { &missing } else { names };
        let mut frames = Vec::new();
        for qname in asked {
            let frame = Query { qname, qtype: form.qtype, edns: form.edns }.frame(&route);
            let answer = ask(&frame)?;
            if answer.is_some_and(|answer| form.answer.is(&answer, &route)) {
                frames.push(frame);
            }
        }
        if !frames.is_empty() {
            kinds.push(Kind { text: format!("{}{}", form.text, route.text()), frames });
        }
    }
    Ok(kinds)
}

impl Expected {
    /// Whether a frame holds this answer, judged by the response code, TC and the count of records in its header.
    fn is(self, frame: &[u8], route: &Route) -> bool {
        let message = frame.get(route.headers()..).and_then(|message| message.first_chunk::<12>());
        let Some(&[_, _, flags, rcode, _, _, high, low, ..]) = message else { return false };
        match (self, flags & 2, rcode & 0xf, u16::from_be_bytes([high, low])) {
            (Expected::Record, 0, 0, records) => records == 1,
            (Expected::Records, 0, 0, records) => records > 1,
            (Expected::NoData, 0, 0, records) => records == 0,
            (Expected::NxDomain, 0, rcode, _) => rcode == 3,
            _ => false,
        }
    }
}

/// Names below the apex that do not exist; none if the apex leaves no room for a label.
fn missing(apex: &Name, count: usize) -> Vec<Name> {
    let random = RandomState::new();
    let label = |nth: usize| format!("nx-{:08x}", random.hash_one(nth) >> 32);
    (0..count)
        .filter_map(|nth| Name::from_ascii(label(nth)).and_then(|name| name.append_domain(apex)).ok())
        .collect()
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::super::query::Between;
    use super::*;

    fn routes() -> Routes {
        let between = Between::Ipv4([Ipv4Addr::new(192, 0, 2, 1), Ipv4Addr::new(192, 0, 2, 2)]);
        let first = Route { between, mac: [2, 0, 0, 0, 0, 1], port: 53 };
        let second =
            Route { between: Between::Ipv6([Ipv6Addr::from_bits(1), Ipv6Addr::from_bits(2)]), ..first };
        Routes { first, second: Some(second) }
    }

    /// A program that has one A record for every name, and no other type. Names that begin with `nx` do not exist.
    fn ask(frame: &[u8]) -> Result<Option<Vec<u8>>, ()> {
        let message = if frame[12] == 8 { 42 } else { 62 };
        let mut answer = frame.to_vec();
        let is_missing = frame[message + 13..].starts_with(b"nx");
        let qtype = &frame[message + 12 + b"\x02??\x07example\x00".len() + if is_missing { 9 } else { 0 }..];
        answer[message + 3] = if is_missing { 3 } else { 0 };
        answer[message + 7] = u8::from(!is_missing && qtype.starts_with(&[0, 1]));
        Ok(Some(answer))
    }

    #[test]
    fn only_kinds_that_the_zone_can_answer_are_asked() {
        let apex = Name::from_ascii("example.").unwrap();
        let names = ["n1", "n2"].map(|label| Name::from_ascii(label).unwrap().append_domain(&apex).unwrap());
        let kinds = kinds(&apex, &names, &routes(), ask).unwrap();
        let found: Vec<(&str, usize)> =
            kinds.iter().map(|kind| (kind.text.as_str(), kind.frames.len())).collect();
        let expected = [
            ("A", 2),
            ("A, OPT", 2),
            ("A, OPT with a cookie", 2),
            ("NODATA", 2),
            ("NXDOMAIN", 16),
            ("NXDOMAIN, OPT with a cookie", 16),
            ("A, OPT, over IPv6", 2),
        ];
        assert_eq!(found, expected);
    }

    #[test]
    fn a_query_that_the_program_leaves_alone_is_not_timed() {
        let apex = Name::from_ascii("example.").unwrap();
        let kinds = kinds(&apex, std::slice::from_ref(&apex), &routes(), |_| Ok::<_, ()>(None)).unwrap();
        assert_eq!(kinds, []);
    }
}
