//! `dns`: the node's name server answers for the zone, with authority.
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use hickory_proto::op::{Message, MessageType, OpCode, Query, ResponseCode};
use hickory_proto::rr::RecordType;
use tokio::net::UdpSocket;
use tokio::time::Instant;

use super::icmp_errors::IcmpErrors;
use super::{Fault, cannot_open, datagram, judge, wrong};
use crate::cluster::Dns;

pub(super) async fn ask(dns: &Dns, address: IpAddr, deadline: Instant) -> Result<(), Fault> {
    let mut query = Message::query();
    query.add_query(Query::query(dns.name.clone(), RecordType::SOA));
    let packet = query.to_vec().map_err(|error| Fault::Ours(format!("cannot write the query: {error}")))?;
    let ours: IpAddr =
        if address.is_ipv4() { Ipv4Addr::UNSPECIFIED.into() } else { Ipv6Addr::UNSPECIFIED.into() };
    let socket = UdpSocket::bind((ours, 0)).await.map_err(|error| cannot_open(&error))?;
    let errors = IcmpErrors::of(&socket, address).map_err(|error| cannot_open(&error))?;
    // A connected socket gets no datagrams from other hosts, but it gets ICMP errors.
    socket.connect((address, dns.port)).await.map_err(|error| judge(&error))?;
    socket.send(&packet).await.map_err(|error| judge(&error))?;
    datagram(&socket, deadline, |error| errors.judge(error), |packet| read(packet, &query)).await
}

/// Judges a packet; `None`: it does not answer this query (RFC 5452, section 9.1).
fn read(packet: &[u8], query: &Message) -> Option<Result<(), Fault>> {
    let response = Message::from_vec(packet).ok()?;
    let metadata = &response.metadata;
    let answers = metadata.message_type == MessageType::Response
        && metadata.op_code == OpCode::Query
        && metadata.id == query.metadata.id;
    // A server that cannot read the question sends no question back.
    let asked = response.queries == query.queries || response.queries.is_empty();
    if !answers || !asked {
        return None;
    }
    Some(match metadata.response_code {
        ResponseCode::NoError if response.queries.is_empty() => Err(wrong("answer without the question")),
        ResponseCode::NoError if !metadata.authoritative => Err(wrong("not authoritative")),
        ResponseCode::NoError => Ok(()),
        code => Err(wrong(code.to_str().to_lowercase())),
    })
}

#[cfg(test)]
mod tests {
    use super::super::unseen;
    use super::*;
    use hickory_proto::rr::Name;
    use std::time::Duration;

    fn apex(name: &str) -> Name {
        Name::from_ascii(name).unwrap()
    }

    /// The result of a probe of a server that answers a query with these packets.
    async fn verdict(answers: impl Fn(Message) -> Vec<Message> + Send + 'static) -> Result<(), Fault> {
        let server = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let port = server.local_addr().unwrap().port();
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            let (length, from) = server.recv_from(&mut buffer).await.unwrap();
            server.send_to(b"no DNS", from).await.unwrap();
            for answer in answers(Message::from_vec(&buffer[..length]).unwrap()) {
                server.send_to(&answer.to_vec().unwrap(), from).await.unwrap();
            }
        });
        let dns = Dns { port, name: apex("demo.example.com.") };
        let deadline = Instant::now() + Duration::from_millis(500);
        let verdict = ask(&dns, Ipv4Addr::LOCALHOST.into(), deadline).await;
        serving.await.unwrap();
        verdict
    }

    fn good(query: Message) -> Message {
        let mut answer = query.into_response();
        answer.metadata.authoritative = true;
        answer
    }

    #[tokio::test]
    async fn an_authoritative_answer_to_the_question_is_a_success() {
        let served = verdict(|query| {
            assert_eq!(query.queries, [Query::query(apex("demo.example.com."), RecordType::SOA)]);
            assert!(!query.metadata.recursion_desired);
            vec![good(query)]
        });
        assert_eq!(served.await, Ok(()));
    }

    #[tokio::test]
    async fn a_server_without_authority_or_with_an_error_is_a_failure_of_a_visible_host() {
        let lame = verdict(|query| vec![query.into_response()]);
        assert_eq!(lame.await, Err(wrong("not authoritative")));
        let refusing = verdict(|query| {
            let mut answer = good(query);
            answer.metadata.response_code = ResponseCode::ServFail;
            answer.queries.clear();
            vec![answer]
        });
        assert_eq!(refusing.await, Err(wrong("server failure")));
    }

    #[tokio::test]
    async fn what_does_not_answer_the_query_is_passed_over() {
        let others = |query: &Message| {
            let mut other_id = good(query.clone());
            other_id.metadata.id ^= 1;
            let mut other_name = good(query.clone());
            other_name.queries = vec![Query::query(apex("other.example."), RecordType::SOA)];
            vec![query.clone(), other_id, other_name]
        };
        assert_eq!(verdict(move |query| others(&query)).await, Err(unseen("timeout")));
        let late = verdict(move |query| others(&query).into_iter().chain([good(query)]).collect());
        assert_eq!(late.await, Ok(()));
    }

    #[tokio::test]
    async fn a_closed_port_is_refused_and_visible() {
        let closed = std::net::UdpSocket::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
        let dns = Dns { port: closed.port(), name: apex("demo.example.com.") };
        let deadline = Instant::now() + Duration::from_secs(1);
        assert_eq!(ask(&dns, closed.ip(), deadline).await, Err(wrong("refused")));
    }
}
