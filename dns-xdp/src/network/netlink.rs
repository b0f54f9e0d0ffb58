//! Questions to rtnetlink: dumps of links and addresses, and one link of another network namespace.
use std::io;

use netlink_packet_core::{
    NLM_F_DUMP, NLM_F_DUMP_INTR, NLM_F_REQUEST, NLMSG_DONE, NLMSG_ERROR, NetlinkBuffer, NetlinkHeader,
    NetlinkMessage, NetlinkPayload, parse_i32,
};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::address::AddressMessage;
use netlink_packet_route::link::{LinkAttribute, LinkExtentMask, LinkMessage};
use netlink_sys::protocols::NETLINK_ROUTE;
use netlink_sys::{Socket, SocketAddr};
use nix::sys::socket::{setsockopt, sockopt};
use nix::sys::time::{TimeVal, TimeValLike};

use super::{Address, Link};

/// Octets of the buffer. A datagram of a dump has at most 32 KiB, or the length of the longest description of a link.
const BUFFER: usize = 64 * 1024;
/// The longest datagram that is accepted.
const BUFFER_MAX: usize = 4 * 1024 * 1024;
/// The most attempts at a dump, if the network changes during it or the buffer is too short.
const ATTEMPTS: usize = 10;
/// The most datagrams of one answer. Each has at least one link or address, and no machine has so many.
const DATAGRAMS_MAX: usize = 1 << 20;
/// The time limit for an answer. The kernel normally answers at once.
const TIMEOUT_SECONDS: i64 = 2;

/// Returns every link of this network namespace.
pub(super) fn links() -> io::Result<Vec<Link>> {
    dump(&RouteNetlinkMessage::GetLink(without_statistics()), libc::RTM_NEWLINK, Link::parse)
}

/// Returns every address of this network namespace, of both families.
pub(super) fn addresses() -> io::Result<Vec<Address>> {
    let request = RouteNetlinkMessage::GetAddress(AddressMessage::default());
    dump(&request, libc::RTM_NEWADDR, Address::parse)
}

/// Whether the driver of a veth's other end runs an XDP program. Without a program, that end takes no native answers.
/// `None`: the link is not a veth, or its other end cannot be read. Reading it in another network namespace needs
/// CAP_NET_ADMIN.
pub fn peer_has_native_program(link: &Link) -> Option<bool> {
    Some(peer(link)?.has_native_program())
}

/// Returns the other end of this veth. `None`: as for [`peer_has_native_program`].
pub fn peer(link: &Link) -> Option<Link> {
    let peer = link.peer?;
    let mut message = without_statistics();
    message.header.index = peer.index;
    // A negative number means that the kernel has no number for the namespace.
    match peer.namespace_id {
        Some(id) if id < 0 => return None,
        Some(id) => message.attributes.push(LinkAttribute::IfNetnsId(id)),
        None => {}
    }
    let asked = exchange(
        &RouteNetlinkMessage::GetLink(message),
        NLM_F_REQUEST,
        BUFFER,
        libc::RTM_NEWLINK,
        Link::parse,
    );
    let Ok(Answer::Whole(links)) = asked else { return None };
    links.into_iter().next().filter(|found| found.index == peer.index && found.is("veth"))
}

fn without_statistics() -> LinkMessage {
    let mut message = LinkMessage::default();
    message.attributes.push(LinkAttribute::ExtMask(vec![LinkExtentMask::SkipStats]));
    message
}

/// The result of a question.
#[derive(Debug, PartialEq, Eq)]
enum Answer<T> {
    Whole(Vec<T>),
    /// The objects changed meanwhile, so entries may be missing.
    Interrupted,
    /// A datagram was longer than the buffer, in octets.
    Truncated(usize),
}

/// Asks for all objects of a kind, until an answer is complete.
fn dump<T>(
    request: &RouteNetlinkMessage,
    wanted: u16,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Vec<T>> {
    let mut room = BUFFER;
    for _attempt in 0..ATTEMPTS {
        match exchange(request, NLM_F_REQUEST | NLM_F_DUMP, room, wanted, &parse)? {
            Answer::Whole(all) => return Ok(all),
            Answer::Interrupted => {}
            Answer::Truncated(octets) if octets <= BUFFER_MAX => room = octets,
            Answer::Truncated(octets) => {
                return Err(io::Error::other(format!("a netlink datagram of {octets} octets")));
            }
        }
    }
    Err(io::Error::new(
        io::ErrorKind::Interrupted,
        format!("the network changed during each of {ATTEMPTS} netlink dumps"),
    ))
}

/// Asks over a socket of its own, so that the rest of an answer does not disturb another question.
fn exchange<T>(
    request: &RouteNetlinkMessage,
    flags: u16,
    room: usize,
    wanted: u16,
    parse: impl Fn(&[u8]) -> Option<T>,
) -> io::Result<Answer<T>> {
    let socket = ask(request.clone(), flags)?;
    let mut buffer = vec![0; room];
    let mut reader =
        Reader { wanted, parse, is_dump: flags & NLM_F_DUMP != 0, found: Vec::new(), interrupted: false };
    for _datagram in 0..DATAGRAMS_MAX {
        let length = match socket.recv(&mut &mut buffer[..], libc::MSG_TRUNC) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => continue,
            length => length?,
        };
        let Some(datagram) = buffer.get(..length) else { return Ok(Answer::Truncated(length)) };
        if reader.read(datagram)? {
            let answer = if reader.interrupted { Answer::Interrupted } else { Answer::Whole(reader.found) };
            return Ok(answer);
        }
    }
    Err(io::Error::other("a netlink dump that does not end"))
}

fn ask(request: RouteNetlinkMessage, flags: u16) -> io::Result<Socket> {
    let mut header = NetlinkHeader::default();
    header.flags = flags;
    let mut message = NetlinkMessage::new(header, NetlinkPayload::InnerMessage(request));
    message.finalize();
    let mut octets = vec![0; message.buffer_len()];
    message.serialize(&mut octets);

    let mut socket = Socket::new(NETLINK_ROUTE)?;
    setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(TIMEOUT_SECONDS))?;
    socket.bind_auto()?;
    // From now on only the kernel's messages are accepted.
    socket.connect(&SocketAddr::new(0, 0))?;
    socket.send(&octets, 0)?;
    Ok(socket)
}

/// Collects the messages of an answer.
struct Reader<T, P> {
    wanted: u16,
    parse: P,
    is_dump: bool,
    found: Vec<T>,
    interrupted: bool,
}

impl<T, P: Fn(&[u8]) -> Option<T>> Reader<T, P> {
    /// Reads the messages of a datagram. Returns whether the answer is complete.
    fn read(&mut self, mut datagram: &[u8]) -> io::Result<bool> {
        while let Ok(message) = NetlinkBuffer::new_checked(datagram) {
            self.interrupted |= message.flags() & NLM_F_DUMP_INTR != 0;
            let payload = message.payload();
            match message.message_type() {
                // The end of a dump also begins with an error code; 0: no error.
                NLMSG_DONE | NLMSG_ERROR => {
                    let code = payload.get(..4).and_then(|code| parse_i32(code).ok()).unwrap_or(0);
                    if code < 0 {
                        return Err(io::Error::from_raw_os_error(code.saturating_neg()));
                    }
                    return Ok(true);
                }
                kind if kind == self.wanted => {
                    self.found.extend((self.parse)(payload));
                    if !self.is_dump {
                        return Ok(true);
                    }
                }
                _ => {}
            }
            // Each message begins at a multiple of 4 octets.
            let length = (message.length() as usize).next_multiple_of(4);
            datagram = datagram.get(length..).unwrap_or_default();
        }
        Ok(false)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(kind: u16, flags: u16, payload: &[u8]) -> Vec<u8> {
        let length = 16 + payload.len();
        let mut octets = vec![0; length.next_multiple_of(4)];
        let mut header = NetlinkBuffer::new(&mut octets);
        header.set_length(length as u32);
        header.set_message_type(kind);
        header.set_flags(flags);
        octets[16..length].copy_from_slice(payload);
        octets
    }

    fn reader(is_dump: bool) -> Reader<Vec<u8>, impl Fn(&[u8]) -> Option<Vec<u8>>> {
        let parse = |payload: &[u8]| Some(payload.to_vec());
        Reader { wanted: 16, parse, is_dump, found: Vec::new(), interrupted: false }
    }

    #[test]
    fn an_answer_of_several_datagrams_is_read_to_its_end() {
        let mut reader = reader(true);
        let first = [message(16, 0, b"12345"), message(99, 0, b"x"), message(16, 0, b"")].concat();
        assert!(!reader.read(&first).unwrap());
        assert!(!reader.read(&[]).unwrap());
        let last = [message(16, 0, b"67"), message(NLMSG_DONE, 0, &[0; 4]), message(16, 0, b"8")].concat();
        assert!(reader.read(&last).unwrap());
        assert_eq!(reader.found, [&b"12345"[..], b"", b"67"]);
        assert!(!reader.interrupted);
    }

    #[test]
    fn a_change_during_a_dump_is_seen_in_any_message_of_it() {
        for flagged in 0..2 {
            let flags = |message| if message == flagged { NLM_F_DUMP_INTR } else { 0 };
            let datagram = [message(16, flags(0), b""), message(NLMSG_DONE, flags(1), &[])].concat();
            let mut reader = reader(true);
            assert!(reader.read(&datagram).unwrap());
            assert!(reader.interrupted);
        }
    }

    #[test]
    fn what_the_kernel_refuses_is_an_error() {
        let code = (-libc::ENODEV).to_ne_bytes();
        let refused = [code.as_slice(), &[0; 16]].concat();
        for datagram in [message(NLMSG_ERROR, 0, &refused), message(NLMSG_DONE, 0, &code)] {
            let error = reader(false).read(&datagram).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ENODEV));
        }
    }

    #[test]
    fn one_message_is_the_whole_answer_to_a_question_about_one_link() {
        assert!(reader(false).read(&message(16, 0, b"eth0")).unwrap());
    }

    #[test]
    fn octets_that_are_no_messages_are_passed_over() {
        for datagram in [&[0; 15][..], &[0; 64], &[0xff; 64]] {
            assert!(!reader(true).read(datagram).unwrap());
        }
    }

    #[test]
    fn a_dump_that_does_not_fit_tells_its_length() {
        let request = RouteNetlinkMessage::GetLink(without_statistics());
        let asked = exchange(&request, NLM_F_REQUEST | NLM_F_DUMP, 16, libc::RTM_NEWLINK, Link::parse);
        assert!(matches!(asked, Ok(Answer::Truncated(octets)) if octets > 16), "{asked:?}");
    }

    #[test]
    fn only_a_veth_has_a_peer() {
        assert_eq!(peer_has_native_program(&Link::default()), None);
    }
}
