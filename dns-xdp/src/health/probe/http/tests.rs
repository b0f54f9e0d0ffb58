//! Tests of `http` and `https` against small servers on the loopback.
use super::super::unseen;
use super::*;
use crate::cluster::{Authorities, Pattern, Trust};
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair, date_time_ymd};
use rustls::ServerConfig;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::oneshot;
use tokio_rustls::TlsAcceptor;

const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const OK: &str = "HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhello";

fn plain(port: u16) -> Http {
    Http { port, tls: None, host: None, path: "/".to_owned(), codes: vec![200..=399], body: None }
}

async fn verdict(http: &Http) -> Result<(), Fault> {
    ask(http, LOCALHOST, Instant::now() + Duration::from_secs(20)).await
}

async fn hasty(http: &Http) -> Result<(), Fault> {
    ask(http, LOCALHOST, Instant::now() + Duration::from_millis(300)).await
}

/// Reads up to the end of a request's header, and returns it.
async fn header<S: AsyncRead + Unpin>(stream: &mut S) -> String {
    let mut header = Vec::new();
    while !header.ends_with(b"\r\n\r\n") {
        header.push(stream.read_u8().await.unwrap());
    }
    String::from_utf8(header).unwrap()
}

/// Starts a server that answers one request with these octets and then holds the connection for `hold`. Also returns
/// the request.
async fn server(answer: impl Into<Vec<u8>>, hold: Duration) -> (u16, oneshot::Receiver<String>) {
    let answer = answer.into();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (seen, request) = oneshot::channel();
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let header = header(&mut stream).await;
        // A client closes the connection when it has read enough.
        stream.write_all(&answer).await.ok();
        seen.send(header).ok();
        tokio::time::sleep(hold).await;
    });
    (port, request)
}

async fn answered(answer: impl Into<Vec<u8>>) -> u16 {
    server(answer, Duration::ZERO).await.0
}

#[tokio::test]
async fn the_request_is_a_get_that_names_host_and_agent() {
    let (port, request) = server(OK, Duration::ZERO).await;
    let http =
        Http { host: Some("db.example.com".to_owned()), path: "/health?x=1".to_owned(), ..plain(port) };
    assert_eq!(verdict(&http).await, Ok(()));
    let version = env!("CARGO_PKG_VERSION");
    let expected = format!(
        "GET /health?x=1 HTTP/1.1\r\nhost: db.example.com:{port}\r\nuser-agent: dns-xdp/{version}\r\n\
         accept: */*\r\nconnection: close\r\n\r\n"
    );
    assert_eq!(request.await.unwrap(), expected);
}

#[test]
fn the_host_is_the_address_unless_it_is_given_and_the_usual_port_is_left_out() {
    let ipv6 = IpAddr::from([0x2001, 0xdb8, 0, 0, 0, 0, 0, 0x11]);
    let https = Http { tls: Some(Trust::System), ..plain(443) };
    assert_eq!(authority(&plain(80), LOCALHOST), "127.0.0.1");
    assert_eq!(authority(&plain(443), ipv6), "[2001:db8::11]:443");
    assert_eq!(authority(&https, ipv6), "[2001:db8::11]");
}

#[tokio::test]
async fn the_code_decides_and_no_redirect_is_followed() {
    let code = async |code: &str, wanted: Vec<std::ops::RangeInclusive<u16>>| {
        let answer = format!("HTTP/1.1 {code}\r\nlocation: http://192.0.2.1/\r\ncontent-length: 0\r\n\r\n");
        verdict(&Http { codes: wanted, ..plain(answered(answer).await) }).await
    };
    assert_eq!(code("302 Found", vec![200..=399]).await, Ok(()));
    assert_eq!(code("503 Service Unavailable", vec![200..=399]).await, Err(wrong("http 503")));
    assert_eq!(code("404 Not Found", vec![200..=200, 404..=404]).await, Ok(()));
}

#[tokio::test]
async fn the_pattern_is_looked_for_in_the_beginning_of_the_body() {
    let with = |port, pattern: &str| {
        let body = Some(Pattern(regex::bytes::Regex::new(pattern).unwrap()));
        Http { body, ..plain(port) }
    };
    assert_eq!(verdict(&with(answered(OK).await, "^h.llo$")).await, Ok(()));
    assert_eq!(verdict(&with(answered(OK).await, "master")).await, Err(wrong("body does not match")));
    let chunked = "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nhel\r\n2\r\nlo\r\n0\r\n\r\n";
    assert_eq!(verdict(&with(answered(chunked).await, "hello")).await, Ok(()));

    let mut late = b"HTTP/1.1 200 OK\r\n\r\n".to_vec();
    late.resize(late.len() + PREFIX - 3, b' ');
    late.extend(b"end");
    let mut too_late = late.clone();
    too_late.splice(30..30, *b" ");
    for (body, expected) in [(late, Ok(())), (too_late, Err(wrong("body does not match")))] {
        let endless = server(body, Duration::from_secs(5)).await;
        let started = Instant::now();
        assert_eq!(verdict(&with(endless.0, "end$")).await, expected);
        assert!(started.elapsed() < Duration::from_secs(3), "it does not wait for the rest");
    }
}

#[tokio::test]
async fn a_server_that_takes_the_connection_is_visible_whatever_it_does_then() {
    let (hanging, _request) = server("", Duration::from_secs(5)).await;
    assert_eq!(hasty(&plain(hanging)).await, Err(wrong("timeout")));
    let slow = server("HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n", Duration::from_secs(5)).await;
    let pattern = Some(Pattern(regex::bytes::Regex::new("x").unwrap()));
    assert_eq!(hasty(&Http { body: pattern.clone(), ..plain(slow.0) }).await, Err(wrong("timeout")));
    assert_eq!(verdict(&plain(answered("").await)).await, Err(wrong("closed")));
    assert_eq!(verdict(&plain(answered("+PONG\r\n").await)).await, Err(wrong("not http")));
    let long = format!("HTTP/1.1 200 OK\r\nx: {}", "x".repeat(2 * PREFIX));
    assert_eq!(verdict(&plain(answered(long).await)).await, Err(wrong("not http")));
    let cut = "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort";
    assert_eq!(verdict(&Http { body: pattern, ..plain(answered(cut).await) }).await, Err(wrong("closed")));
}

/// Starts a server that repeats an answer as long as the client reads. Also returns the number of octets sent.
async fn endless(answer: &'static str) -> (u16, tokio::task::JoinHandle<usize>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        header(&mut stream).await;
        let mut sent = 0;
        while stream.write_all(answer.as_bytes()).await.is_ok() {
            sent += answer.len();
        }
        sent
    });
    (port, serving)
}

#[tokio::test]
async fn interim_responses_count_towards_the_limit_of_the_head() {
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n\r\n";
    let (port, serving) = endless(hint).await;
    let started = Instant::now();
    assert_eq!(verdict(&plain(port)).await, Err(wrong("head too long")));
    assert!(started.elapsed() < Duration::from_secs(10), "it gives up long before its timeout");
    // The server has sent as much as the buffers of both sockets hold, not as much as fits into the timeout.
    assert!(serving.await.unwrap() < 32 << 20);

    let few = PREFIX / hint.len() - 2;
    let body = "x".repeat(2 * PREFIX);
    for (hints, expected) in [(few, Ok(())), (few + 3, Err(wrong("head too long")))] {
        let answer = format!("{}HTTP/1.1 200 OK\r\n\r\n{body}end", hint.repeat(hints));
        assert_eq!(verdict(&plain(answered(answer).await)).await, expected, "{hints}");
    }
    let answer = format!("{}HTTP/1.1 200 OK\r\n\r\n{body}", hint.repeat(few));
    let http = Http {
        body: Some(Pattern(regex::bytes::Regex::new("^x+$").unwrap())),
        ..plain(answered(answer).await)
    };
    assert_eq!(verdict(&http).await, Ok(()), "the body is read beyond the limit of the head");
}

#[tokio::test]
async fn a_closed_port_is_refused_and_a_full_one_silent() {
    let closed = TcpListener::bind("127.0.0.1:0").await.unwrap().local_addr().unwrap().port();
    assert_eq!(verdict(&plain(closed)).await, Err(wrong("refused")));
    let full = TcpSocket::new_v4().unwrap();
    full.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let full = full.listen(0).unwrap();
    let address = full.local_addr().unwrap();
    let _occupant = std::net::TcpStream::connect(address).unwrap();
    assert_eq!(hasty(&plain(address.port())).await, Err(unseen("timeout")));
}

/// An authority for tests.
struct Authority(Issuer<'static, KeyPair>, CertificateDer<'static>);

impl Authority {
    fn new(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(DnType::CommonName, name);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Authority(Issuer::new(params, key), certificate)
    }

    fn trust(&self) -> Trust {
        Trust::Authorities(Authorities { path: PathBuf::from("/ca.pem"), certificates: vec![self.1.clone()] })
    }

    /// Starts a server that shows a certificate for `name`, made from parameters that `change` has modified.
    async fn serve(&self, name: &str, change: impl FnOnce(&mut CertificateParams)) -> u16 {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        change(&mut params);
        let certificate = params.signed_by(&key, &self.0).unwrap().der().clone();
        let key = PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
        let config = config.with_no_client_auth().with_single_cert(vec![certificate], key).unwrap();
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                // A client that refuses the certificate closes the connection.
                if let Ok(mut stream) = acceptor.accept(stream).await {
                    header(&mut stream).await;
                    stream.write_all(OK.as_bytes()).await.unwrap();
                }
            }
        });
        port
    }
}

fn https(port: u16, trust: Trust, host: Option<&str>) -> Http {
    Http { tls: Some(trust), host: host.map(str::to_owned), ..plain(port) }
}

#[tokio::test]
async fn a_certificate_is_good_for_its_names_and_addresses() {
    let authority = Authority::new("ours");
    let named = authority.serve("db.example.com", |_| ()).await;
    assert_eq!(verdict(&https(named, authority.trust(), Some("db.example.com"))).await, Ok(()));
    let addressed = authority.serve("127.0.0.1", |_| ()).await;
    assert_eq!(verdict(&https(addressed, authority.trust(), None)).await, Ok(()));
}

#[tokio::test]
async fn the_fault_of_a_certificate_is_reported_unless_none_is_verified() {
    let authority = Authority::new("ours");
    let good = authority.serve("db.example.com", |_| ()).await;
    let expired =
        authority.serve("db.example.com", |params| params.not_after = date_time_ymd(2001, 1, 1)).await;
    let early =
        authority.serve("db.example.com", |params| params.not_before = date_time_ymd(2999, 1, 1)).await;
    let cases = [
        (expired, authority.trust(), "db.example.com", "certificate: expired"),
        (early, authority.trust(), "db.example.com", "certificate: not valid yet"),
        (good, authority.trust(), "www.example.com", "certificate: not for www.example.com"),
        (good, Authority::new("other").trust(), "db.example.com", "certificate: unknown issuer"),
    ];
    for (port, trust, host, reason) in cases {
        assert_eq!(verdict(&https(port, trust, Some(host))).await, Err(wrong(reason)));
        assert_eq!(verdict(&https(port, Trust::Anybody, Some(host))).await, Ok(()));
    }
}

#[tokio::test]
async fn the_machines_own_authorities_know_no_stranger() {
    let stranger = Authority::new("stranger").serve("db.example.com", |_| ()).await;
    let said = verdict(&https(stranger, Trust::System, Some("db.example.com"))).await;
    let unknown = Err(wrong("certificate: unknown issuer"));
    // Without trusted authorities on the machine the probe is inconclusive.
    assert!(said == unknown || matches!(said, Err(Fault::Ours(_))), "{said:?}");
}

#[tokio::test]
async fn a_server_that_speaks_no_tls_is_visible() {
    let authority = Authority::new("ours");
    let talkative = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = talkative.local_addr().unwrap().port();
    tokio::spawn(async move {
        let (mut stream, _) = talkative.accept().await.unwrap();
        stream.write_all(b"220 mail.example.com ready\r\n").await.unwrap();
        tokio::time::sleep(Duration::from_secs(5)).await;
    });
    assert_eq!(verdict(&https(port, authority.trust(), None)).await, Err(wrong("not tls")));
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = silent.local_addr().unwrap().port();
    assert_eq!(hasty(&https(port, authority.trust(), None)).await, Err(wrong("timeout")));
}
