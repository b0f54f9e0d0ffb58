//! The packet table: packets, their outcomes and answers. Host code and the kernel run the same rows.
mod answer;
mod answered;
mod edns;
mod flood_limits;
mod link;
mod question;
mod records;
mod suffixes;
pub mod zone;

use dns_xdp::program_features::ProgramFeatures;
use dns_xdp::zone::Zone;
use dns_xdp_ebpf::outcome::{Action, Outcome};

use self::zone::{COOKIES, NEW_SECRET};
use crate::oracle::frames::{Checksum, Datagram, TAG, message::Message, reply};

/// One row: a packet and its expected result.
#[derive(Debug, Clone)]
pub struct Row {
    /// The special property of the packet.
    pub what: String,
    /// The state that the server is in.
    pub state: State,
    /// The packet.
    pub frame: Vec<u8>,
    /// The expected outcome.
    pub outcome: Outcome,
    /// The answer; `None`: the packet stays unchanged.
    pub answer: Option<Answer>,
}

/// An expected answer.
#[derive(Debug, Clone)]
pub struct Answer {
    /// The query, whose addresses are swapped in the answer.
    pub query: Datagram,
    /// The DNS message.
    pub message: Vec<u8>,
}

/// The state of a server when a packet arrives. One server can go through the states in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Before the first zone is published.
    Unpublished,
    /// The zone has an SOA record that the program does not hold: [`zone::zone_with_long_soa`].
    LongSoa,
    /// The zone has wildcards: [`zone::zone_with_wildcards`].
    Wildcards,
    /// The zone has suffixes: [`zone::zone_with_suffixes`].
    Suffixes,
    /// The zone is published and the lease lives: [`zone::zone`].
    Serving,
    /// The same zone, with cookies: [`zone::COOKIES`].
    Cookies,
    /// The same with the longest SOA record that the program holds: [`zone::zone_with_longest_soa`].
    LongestSoa,
    /// With cookies and a new secret: [`zone::NEW_SECRET`].
    NewSecret,
    /// The client of each family has used up its answers for ever, and further answers slip:
    /// [`zone::zone_with_limits`].
    Slipping,
    /// The same, but nothing slips.
    Holding,
    /// The responder's limit is used up for ever.
    Flooded,
    /// The same, and a frame cannot be resized.
    FloodedNoRoom,
    /// The program runs in generic mode. The zone is the same as in [`State::Serving`].
    Generic,
    /// A frame cannot be resized.
    NoRoom,
    /// The lease has ended.
    LeaseExpired,
}

impl State {
    /// Every state. A server goes through the states in this order.
    pub const ALL: [State; 15] = [
        State::Unpublished,
        State::LongSoa,
        State::Wildcards,
        State::Suffixes,
        State::Serving,
        State::Cookies,
        State::LongestSoa,
        State::NewSecret,
        State::Slipping,
        State::Holding,
        State::Flooded,
        State::FloodedNoRoom,
        State::Generic,
        State::NoRoom,
        State::LeaseExpired,
    ];

    /// The zone that is published on entering the state, and the time of day; `None`: the zone before stays.
    pub fn publication(self) -> Option<(Zone, u32)> {
        match self {
            State::LongSoa => Some((zone::zone_with_long_soa(), 0)),
            State::Wildcards => Some((zone::zone_with_wildcards(), 0)),
            State::Suffixes => Some((zone::zone_with_suffixes(), 0)),
            State::Serving | State::Generic | State::NoRoom => Some((zone::zone(), 0)),
            State::Cookies => Some((zone::zone_with_cookies(COOKIES.1), COOKIES.0)),
            State::LongestSoa => Some((zone::zone_with_longest_soa(), COOKIES.0)),
            State::NewSecret => Some((zone::zone_with_cookies(NEW_SECRET.1), NEW_SECRET.0)),
            State::Slipping => Some((zone::zone_with_limits(1), COOKIES.0)),
            State::Holding => Some((zone::zone_with_limits(0), COOKIES.0)),
            State::Flooded | State::FloodedNoRoom => Some((zone::zone_with_fallback_limit(), 0)),
            State::Unpublished | State::LeaseExpired => None,
        }
    }

    /// Whether a frame has room for its answer.
    pub fn has_room(self) -> bool {
        !matches!(self, State::NoRoom | State::FloodedNoRoom)
    }

    /// The features that the program needs in this state.
    pub fn features(self) -> ProgramFeatures {
        self.publication().map(|(zone, _)| ProgramFeatures::of(&zone)).unwrap_or_default()
    }
}

impl Row {
    /// A packet that stays unchanged.
    fn untouched(what: impl Into<String>, outcome: Outcome, query: &Datagram) -> Row {
        Row { what: what.into(), state: State::Serving, frame: query.frame(), outcome, answer: None }
    }

    /// A message that stays unchanged.
    fn passed(what: impl Into<String>, outcome: Outcome, query: &Message) -> Row {
        Row::untouched(what, outcome, &zone::over_ipv4(query))
    }

    /// A packet that is answered.
    fn answered(what: impl Into<String>, outcome: Outcome, query: Datagram, message: Vec<u8>) -> Row {
        let answer = Some(Answer { message, query });
        let frame = answer.iter().flat_map(|answer| answer.query.frame()).collect();
        Row { what: what.into(), state: State::Serving, frame, outcome, answer }
    }

    /// The same row for a server in another state.
    fn in_state(self, state: State) -> Row {
        Row { state, what: format!("{} ({state:?})", self.what), ..self }
    }

    /// Checks the actual result of the row.
    ///
    /// # Errors
    /// The difference from the expected result.
    pub fn check(&self, action: Action, after: &[u8]) -> Result<(), String> {
        if action != self.outcome.action() {
            return Err(format!("{action:?} instead of {:?}", self.outcome.action()));
        }
        match &self.answer {
            None if after == self.frame => Ok(()),
            None => Err(format!("the packet was changed to {after:02x?}")),
            Some(Answer { query, message }) => match reply::message(query, after)? {
                answer if answer == *message => Ok(()),
                answer => Err(format!("the answer is\n{answer:02x?} instead of\n{message:02x?}")),
            },
        }
    }
}

/// Every row.
pub fn rows() -> Vec<Row> {
    let rows = [answered::rows(), link::rows(), question::rows(), records::rows(), edns::rows()];
    [rows.concat(), suffixes::rows(), flood_limits::rows(), states()].concat()
}

/// The rows that depend on the server's state.
fn states() -> Vec<Row> {
    let found = zone::ask("node1", 1);
    let missing = zone::ask("node9", 1);
    let response = Message { flags: 0x8000, ..found.clone() };
    let positive = answer::positive(&found, &[answer::a(zone::ipv4(1))]);
    let mut rows = Vec::new();
    for query in [zone::over_ipv4(&found), zone::over_ipv6(&found)] {
        for tags in [vec![], vec![(TAG, 5)]] {
            let query = Datagram { tags, ..query.clone() };
            let partial = Datagram { checksum: Checksum::Partial, ..query.clone() };
            let what = "a checksum that is not complete";
            rows.push(Row::untouched(what, Outcome::PartialChecksum, &partial).in_state(State::Generic));
            let whole = Row::answered("a whole checksum", Outcome::Answered, query, positive.clone());
            rows.push(whole.in_state(State::Generic));
        }
    }
    rows.extend([
        Row::passed("a query", Outcome::NoZone, &found).in_state(State::Unpublished),
        Row::passed("a response", Outcome::Response, &response).in_state(State::Unpublished),
        Row::answered("a query", Outcome::Answered, zone::over_ipv4(&found), positive)
            .in_state(State::LongSoa),
        Row::passed("a name that does not exist", Outcome::Reserved, &missing).in_state(State::LongSoa),
        Row::passed("no such type", Outcome::Reserved, &zone::ask("node1", 16)).in_state(State::LongSoa),
        Row::passed("a query", Outcome::NoRoom, &found).in_state(State::NoRoom),
        Row::passed("a name that does not exist", Outcome::NoRoom, &missing).in_state(State::NoRoom),
        Row::passed("a query", Outcome::LeaseExpired, &found).in_state(State::LeaseExpired),
        Row::passed("a foreign name", Outcome::LeaseExpired, &Message::query(&[0], 1, 1))
            .in_state(State::LeaseExpired),
        Row::passed("a response", Outcome::Response, &response).in_state(State::LeaseExpired),
    ]);
    rows
}
