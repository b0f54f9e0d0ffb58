//! The responder in userspace. It answers every query that the program does not answer, over UDP and TCP.
//!
//! A message is read (`request`), answered from the zone (`response`) and counted (`counters`); these are pure. The
//! input and output are in the sockets (`sockets`) and in one loop for each transport (`udp`, `tcp`). `clients` limits
//! the answers to each client prefix. Names and records are hickory's types. The transport does not use hickory-server,
//! for several reasons. That server answers responses that it cannot parse, and parses EDNS options that a server has
//! to ignore. It also accepts connections without a limit, and drops exchanges under way when it stops.
mod clients;
mod counters;
mod descriptors;
mod extended_error;
mod lease;
mod request;
mod response;
mod sockets;
mod tcp;
mod tsig;
mod udp;
pub mod update;
mod wire;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::io;
use std::net::SocketAddr;
use std::num::NonZero;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use dns_xdp_ebpf::table::address_words;

use tokio::runtime::Runtime;
use tokio::sync::watch;
use tokio::task::{Id, JoinSet};
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use self::clients::{Clients, Verdict};
pub use self::counters::{Counters, DROPPED, RATE_LIMITED, Rcode, Transport, is_answer};
pub use self::lease::Lease;
pub use self::response::{Arrival, Response, answer, respond};
use self::sockets::Bound;
pub(crate) use self::sockets::DAEMON;
pub use self::sockets::{BindError, Sockets, bind, probe};
use self::tcp::Connections;
pub use self::update::UpdateChannel;
use self::update::{Pending, Query, Step, Updates, is_update};
use crate::network::Listener;
use crate::zone::Zone;

/// How long the sockets stay open after the stop begins, for queries that are still arriving.
const STOP_LINGER: Duration = Duration::from_millis(100);

/// How long an orderly stop waits in all for exchanges that are under way.
const STOP_TIMEOUT: Duration = Duration::from_secs(2);

/// The published zone; `None` before the first one. Until then every query of class IN is REFUSED, so that resolvers
/// ask another server.
pub type Published = watch::Receiver<Option<Arc<Zone>>>;

/// The running responder. Dropping it ends it at once; [`Responder::shutdown`] first answers the open queries.
#[derive(Debug)]
pub struct Responder {
    port: u16,
    exchange: Arc<Exchange>,
    connections: Arc<Connections>,
    /// The token that ends the tasks of each address.
    served: BTreeMap<Listener, CancellationToken>,
    tasks: JoinSet<()>,
    /// The address that each task serves.
    owners: HashMap<Id, Listener>,
    stop: CancellationToken,
    /// The runtime with the responder's own threads. Taken on drop.
    runtime: Option<Runtime>,
}

/// The server closes a TCP connection after this time without a whole message, or without its answer being read.
const IDLE_TIMEOUT: Duration = Duration::from_secs(10);

/// The number that is added to the nice value of the responder's threads.
const NICE: i32 = 5;

/// Lowers this thread's priority, so that probes and the lease do not wait for queries.
fn give_way() {
    // Linux has a nice value for each thread (setpriority(2)). If the call fails, the thread still answers queries.
    rustix::process::nice(NICE).ok();
}

impl Responder {
    /// Answers on `sockets` from the zone that `zone` holds at the time of each query. Answers nothing after the end of
    /// the `lease`. The responder has its own threads, one less than the cores but at least one, so that the caller's
    /// tasks have a core. `on_thread_start` runs first on each thread. `identity` names the node in NSID (RFC 5001) and
    /// `id.server` (RFC 4892); at most 255 bytes of it are used. Updates of the zone go through `updates`.
    ///
    /// # Errors
    /// A thread cannot be started, or a socket cannot be registered with the threads.
    pub fn start(
        sockets: Sockets,
        zone: Published,
        lease: Lease,
        identity: &str,
        on_thread_start: fn(),
        updates: UpdateChannel,
    ) -> io::Result<Responder> {
        let cores = std::thread::available_parallelism().map_or(1, NonZero::get);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(cores.saturating_sub(1).max(1))
            .thread_name("responder")
            .on_thread_start(move || {
                on_thread_start();
                give_way();
            })
            .enable_all()
            .build()?;
        let counters = Arc::new(Counters::default());
        let identity = identity.as_bytes().iter().copied().take(usize::from(u8::MAX)).collect();
        let clients = Clients::default();
        let mut responder = Responder {
            port: sockets.port,
            exchange: Arc::new(Exchange {
                zone,
                lease,
                identity,
                counters,
                clients,
                updates: Updates::new(updates),
            }),
            connections: Arc::new(Connections::new(descriptors::room(tcp::CAPACITY))),
            served: BTreeMap::new(),
            tasks: JoinSet::new(),
            owners: HashMap::new(),
            stop: CancellationToken::new(),
            runtime: Some(runtime),
        };
        for (listener, bound) in sockets.bound {
            responder.serve(listener, bound)?;
        }
        Ok(responder)
    }

    /// Answers on these addresses from now on. Binds new addresses. Closes the sockets of addresses that are no longer
    /// wanted, after answering the queries that have arrived there. Returns the addresses that cannot be bound; the next call
    /// tries them again. Call it in the runtime.
    pub fn listen(&mut self, wanted: &[Listener]) -> Vec<(Listener, BindError)> {
        // Remove tasks that have ended since the last call.
        while let Some(ended) = self.tasks.try_join_next_with_id() {
            let (id, defect) = match ended {
                Ok((id, ())) => (id, None),
                Err(error) => (error.id(), error.is_panic().then_some(error)),
            };
            if let (Some(listener), Some(defect)) = (self.owners.remove(&id), defect)
                && let Some(stop) = self.served.remove(&listener)
            {
                tracing::error!("a task for {} ended by a defect of dns-xdp: {defect}", listener.address);
                stop.cancel();
            }
        }
        let wanted: BTreeSet<&Listener> = wanted.iter().collect();
        let gone = self.served.extract_if(.., |listener, _| !wanted.contains(listener));
        gone.for_each(|(_, stop)| stop.cancel());
        let mut failed = Vec::new();
        for listener in wanted {
            if self.served.contains_key(listener) {
                continue;
            }
            let served = Bound::new(listener, self.port).and_then(|bound| {
                let (address, port) = (listener.address, self.port);
                let served = self.serve(listener.clone(), bound);
                served.map_err(|source| BindError::Other { address, port, source })
            });
            failed.extend(served.err().map(|error| (listener.clone(), error)));
        }
        failed
    }

    /// Starts the tasks of an address.
    fn serve(&mut self, listener: Listener, bound: Bound) -> io::Result<()> {
        let Some(runtime) = &self.runtime else { return Ok(()) };
        // Sockets and tasks that are made here belong to the responder's threads.
        let _entered = runtime.enter();
        let udp = tokio::net::UdpSocket::from_std(bound.udp)?;
        let tcp = tokio::net::TcpListener::from_std(bound.tcp)?;
        let stop = self.stop.child_token();
        let (exchange, connections) = (&self.exchange, &self.connections);
        let udp = self.tasks.spawn(udp::serve(udp, Arc::clone(exchange), stop.clone()));
        let tcp =
            self.tasks.spawn(tcp::serve(tcp, Arc::clone(exchange), Arc::clone(connections), stop.clone()));
        self.owners.extend([udp.id(), tcp.id()].map(|id| (id, listener.clone())));
        self.served.insert(listener, stop);
        Ok(())
    }

    /// Returns the counters, which outlive the responder.
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.exchange.counters)
    }

    /// Answers the queries that have arrived, then closes the sockets and waits for open exchanges. Takes 0.1 s if
    /// there are none, and 2 s at most.
    pub async fn shutdown(mut self) {
        self.stop.cancel();
        let finished = async { while self.tasks.join_next().await.is_some() {} };
        if timeout(STOP_TIMEOUT, finished).await.is_err() {
            tracing::warn!("queries were still being answered after {STOP_TIMEOUT:?}: cut off");
        }
    }
}

impl Drop for Responder {
    fn drop(&mut self) {
        // The caller may be a task, and a task must not wait for threads.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

/// Completes when the sockets should close.
async fn stopped(stop: CancellationToken) {
    stop.cancelled().await;
    sleep(STOP_LINGER).await;
}

/// The part that both transports share. It answers a message and counts it.
#[derive(Debug)]
struct Exchange {
    zone: Published,
    lease: Lease,
    identity: Vec<u8>,
    counters: Arc<Counters>,
    clients: Clients,
    updates: Updates,
}

/// What follows from a message.
#[derive(Debug)]
enum Received {
    /// This answer; `None`: the message gets no answer.
    Answer(Option<Vec<u8>>),
    /// An update, whose answer follows.
    Update(Box<Pending>),
}

impl Exchange {
    /// Takes a message of this client. An update is made by the controller, which may take seconds.
    fn receive(&self, message: &[u8], transport: Transport, client: SocketAddr) -> Received {
        if self.lease.is_over() {
            return Received::Answer(self.answer(message, transport, client));
        }
        if !is_update(message) {
            return Received::Answer(match self.updates.query(message, client) {
                Query::Plain => self.answer(message, transport, client),
                Query::Signed(signed) => self.answer(message, transport, client).map(|mut answer| {
                    signed.sign(&mut answer, transport);
                    answer
                }),
                Query::Answer { rcode, message } => self.limited(rcode, message, transport, client),
            });
        }
        match self.updates.arrive(message, client) {
            Step::Unsigned => Received::Answer(self.answer(message, transport, client)),
            Step::Pending(pending) => Received::Update(pending),
            Step::Repeated => {
                self.counters.count_dropped(transport);
                Received::Answer(None)
            }
            Step::Answer { rcode, message, verified: true } => {
                self.counters.count(transport, rcode);
                Received::Answer(Some(message))
            }
            Step::Answer { rcode, message, verified: false } => {
                Received::Answer(self.limited(rcode, message, transport, client))
            }
        }
    }

    /// Counts an answer to a client without a key, and limits such answers: over UDP the source may be forged.
    fn limited(
        &self,
        rcode: Rcode,
        answer: Vec<u8>,
        transport: Transport,
        client: SocketAddr,
    ) -> Option<Vec<u8>> {
        let zone = self.zone.borrow().clone();
        if let Some(zone) = zone.filter(|_| transport == Transport::Udp) {
            let client = address_words(client.ip().to_canonical());
            if self.clients.judge(zone.flood_policy(), client, fastrand::u32(..)) != Verdict::Send {
                self.counters.count_rate_limited(transport);
                return None;
            }
        }
        self.counters.count(transport, rcode);
        Some(answer)
    }

    /// Waits for the end of an update, and returns its answer.
    async fn finish(&self, pending: Pending, transport: Transport) -> Vec<u8> {
        let (rcode, message) = pending.finish().await;
        self.counters.count(transport, rcode);
        message
    }

    /// Returns the answer to a message of this client; `None`: the message gets no answer.
    fn answer(&self, message: &[u8], transport: Transport, client: SocketAddr) -> Option<Vec<u8>> {
        if self.lease.is_over() {
            // The daemon hangs, so the zone may be out of date. Resolvers ask another server.
            self.counters.count_dropped(transport);
            return None;
        }
        let zone = self.zone.borrow().clone();
        let seconds = SystemTime::UNIX_EPOCH.elapsed().map_or(0, |elapsed| elapsed.as_secs() as u32);
        let (client, port) = (client.ip().to_canonical(), client.port());
        let arrival = Arrival { transport, client, port, seconds };
        let Some(mut response) = respond(message, arrival, zone.as_deref(), &self.identity) else {
            self.counters.count_dropped(transport);
            return None;
        };
        if transport == Transport::Udp
            && !response.cookie_valid
            && let Some(zone) = zone
        {
            match self.clients.judge(zone.flood_policy(), address_words(client), fastrand::u32(..)) {
                Verdict::Send => {}
                Verdict::Slip => response.truncate(),
                Verdict::Drop => {
                    self.counters.count_rate_limited(transport);
                    return None;
                }
            }
        }
        self.counters.count(transport, response.rcode);
        Some(response.encode())
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

    use hickory_proto::op::{Message, Query, ResponseCode};
    use hickory_proto::rr::{DNSClass, Name, RecordType};
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    use tokio::net::{TcpStream, UdpSocket};

    use super::*;
    use crate::zone::{Addresses, Origin};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    fn start(address: IpAddr) -> (Responder, SocketAddr, watch::Sender<Option<Arc<Zone>>>) {
        let sockets = bind(&[address.into()], 0).unwrap();
        let endpoint = sockets.addresses().unwrap()[0];
        let (publisher, zone) = watch::channel(None);
        (
            Responder::start(sockets, zone, Lease::default(), "node1", || (), UpdateChannel::closed())
                .unwrap(),
            endpoint,
            publisher,
        )
    }

    fn query(id: u16) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = id;
        let name = Name::from_ascii("node1.example.com.").unwrap();
        message.add_query(Query::query(name, RecordType::A));
        message.to_vec().unwrap()
    }

    fn identity_query(id: u16) -> Vec<u8> {
        let mut message = Message::query();
        message.metadata.id = id;
        let mut question = Query::query(Name::from_ascii("id.server.").unwrap(), RecordType::TXT);
        question.set_query_class(DNSClass::CH);
        message.add_query(question);
        message.to_vec().unwrap()
    }

    async fn received(client: &UdpSocket) -> Message {
        let mut buffer = [0; 1500];
        let receive = client.recv(&mut buffer);
        let length = timeout(STOP_TIMEOUT, receive).await.expect("an answer arrives").unwrap();
        Message::from_vec(&buffer[..length]).unwrap()
    }

    async fn read(stream: &mut TcpStream) -> Message {
        let length = timeout(STOP_TIMEOUT, stream.read_u16()).await.expect("an answer arrives").unwrap();
        let mut message = vec![0; length.into()];
        stream.read_exact(&mut message).await.unwrap();
        Message::from_vec(&message).unwrap()
    }

    fn framed(message: &[u8]) -> Vec<u8> {
        [&u16::try_from(message.len()).unwrap().to_be_bytes(), message].concat()
    }

    async fn client(address: IpAddr, server: SocketAddr) -> UdpSocket {
        let client = UdpSocket::bind((address, 0)).await.unwrap();
        client.connect(server).await.unwrap();
        client
    }

    #[tokio::test]
    async fn datagrams_are_answered_over_both_families() {
        for address in [LOOPBACK, Ipv6Addr::LOCALHOST.into()] {
            let (responder, server, _publisher) = start(address);
            let client = client(address, server).await;
            client.send(&identity_query(7)).await.unwrap();
            assert_eq!(received(&client).await.metadata.id, 7);
            assert_eq!(responder.counters().of(Transport::Udp)["NOERROR"], 1);
            responder.shutdown().await;
        }
    }

    #[tokio::test]
    async fn a_published_zone_is_answered_from_the_next_query_on() {
        let (_responder, server, publisher) = start(LOOPBACK);
        let client = client(LOOPBACK, server).await;
        client.send(&query(1)).await.unwrap();
        assert_eq!(received(&client).await.metadata.response_code, ResponseCode::Refused);

        let name = |text| Name::from_ascii(text).unwrap();
        let origin = Origin {
            apex: name("example.com."),
            contact: name("hostmaster.example.com."),
            serial: 1,
            ns_ttl_seconds: 60,
            negative_ttl_seconds: 300,
            name_servers: vec![name("ns1.example.com.")],
        };
        let addresses = Addresses::new(5, [IpAddr::from([192, 0, 2, 1])]);
        let zone = Zone::new(origin, [(name("node1.example.com."), addresses)]);
        publisher.send(Some(Arc::new(zone))).unwrap();
        client.send(&query(2)).await.unwrap();
        assert_eq!(received(&client).await.answers.len(), 1);
    }

    #[tokio::test]
    async fn garbage_and_responses_do_not_keep_the_next_query_from_its_answer() {
        let (responder, server, _publisher) = start(LOOPBACK);
        let client = client(LOOPBACK, server).await;
        let mut response = query(1);
        response[2] |= 0x80;
        for message in [&b""[..], b"x", &[0xff; 1200], &response] {
            client.send(message).await.unwrap();
        }
        client.send(&identity_query(9)).await.unwrap();
        assert_eq!(received(&client).await.metadata.id, 9);
        assert_eq!(responder.counters().total()[DROPPED], 4);
    }

    #[tokio::test]
    async fn pipelined_queries_are_answered_in_their_order() {
        let (responder, server, _publisher) = start(LOOPBACK);
        let mut stream = TcpStream::connect(server).await.unwrap();
        let queries: Vec<u8> = (0..50).flat_map(|id| framed(&identity_query(id))).collect();
        stream.write_all(&queries).await.unwrap();
        for id in 0..50 {
            assert_eq!(read(&mut stream).await.metadata.id, id);
        }
        assert_eq!(responder.counters().of(Transport::Tcp)["NOERROR"], 50);
        assert_eq!(responder.counters().of(Transport::Udp)["NOERROR"], 0);
    }

    #[tokio::test]
    async fn a_query_that_comes_in_pieces_is_answered() {
        let (_responder, server, _publisher) = start(LOOPBACK);
        let mut stream = TcpStream::connect(server).await.unwrap();
        for byte in framed(&identity_query(3)) {
            stream.write_all(&[byte]).await.unwrap();
            tokio::task::yield_now().await;
        }
        assert_eq!(read(&mut stream).await.metadata.id, 3);
    }

    #[tokio::test]
    async fn a_connection_that_sends_no_query_is_closed() {
        let (_responder, server, _publisher) = start(LOOPBACK);
        let mut stream = TcpStream::connect(server).await.unwrap();
        stream.write_all(&[0, 1, 0xff]).await.unwrap();
        assert_eq!(stream.read(&mut [0; 1]).await.unwrap(), 0);
    }

    #[tokio::test]
    async fn addresses_are_taken_and_given_up_while_others_are_served() {
        let port = bind(&[LOOPBACK.into()], 0).unwrap().addresses().unwrap()[0].port();
        let (_publisher, zone) = watch::channel(None);
        let [stays, goes, comes] = [1, 2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let sockets = bind(&[stays.into(), goes.into()], port).unwrap();
        let mut responder =
            Responder::start(sockets, zone, Lease::default(), "node1", || (), UpdateChannel::closed())
                .unwrap();
        let mut idle = TcpStream::connect((stays, port)).await.unwrap();
        let leaving = client(LOOPBACK, (goes, port).into()).await;
        leaving.send(&identity_query(1)).await.unwrap();

        assert!(responder.listen(&[comes.into(), stays.into()]).is_empty());
        assert_eq!(received(&leaving).await.metadata.id, 1);
        let coming = client(LOOPBACK, (comes, port).into()).await;
        coming.send(&identity_query(2)).await.unwrap();
        assert_eq!(received(&coming).await.metadata.id, 2);
        idle.write_all(&framed(&identity_query(3))).await.unwrap();
        assert_eq!(read(&mut idle).await.metadata.id, 3);
        let freed = timeout(STOP_TIMEOUT, async {
            while probe(&[goes.into()], port).is_err() {
                sleep(STOP_LINGER).await;
            }
        });
        freed.await.expect("the port is free");
        responder.shutdown().await;
    }

    #[tokio::test]
    async fn an_address_that_is_taken_keeps_no_other_from_being_served_and_is_tried_again() {
        let (mut responder, server, _publisher) = start(LOOPBACK);
        let port = bind(&[LOOPBACK.into()], 0).unwrap().addresses().unwrap()[0].port();
        responder.port = port;
        let [taken, free] = [2, 3].map(|last| IpAddr::from([127, 0, 0, last]));
        let holder = UdpSocket::bind((taken, port)).await.unwrap();
        let wanted = [taken, free, server.ip()].map(Listener::from);
        let failed = responder.listen(&wanted);
        assert!(matches!(&failed[..], [(listener, BindError::Taken { .. })] if listener.address == taken));
        let client = client(LOOPBACK, (free, port).into()).await;
        client.send(&identity_query(1)).await.unwrap();
        assert_eq!(received(&client).await.metadata.id, 1);
        drop(holder);
        assert!(responder.listen(&wanted).is_empty());
    }

    #[tokio::test]
    async fn a_stop_answers_what_has_arrived_and_frees_the_port() {
        let (responder, server, _publisher) = start(LOOPBACK);
        let client = client(LOOPBACK, server).await;
        let mut idle = TcpStream::connect(server).await.unwrap();
        idle.write_all(&framed(&identity_query(1))).await.unwrap();
        read(&mut idle).await;
        for id in 0..100 {
            client.send(&identity_query(id)).await.unwrap();
        }
        responder.shutdown().await;
        for id in 0..100 {
            assert_eq!(received(&client).await.metadata.id, id);
        }
        assert_eq!(idle.read(&mut [0; 1]).await.unwrap(), 0);
        UdpSocket::bind(server).await.expect("the port is free");
    }
}
