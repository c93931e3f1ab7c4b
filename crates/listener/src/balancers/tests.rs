use std::sync::atomic::{AtomicUsize, Ordering};

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;

use super::*;
use crate::{Limits, serve_from};

/// Where the balancer of these tests is, and where somebody else is.
const BALANCER: &str = "127.0.0.9";
const OTHER: &str = "127.0.0.8";
const REQUEST: &[u8] = b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
/// Of a client at 192.0.2.7, port 4711.
const HEADER: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c\xc0\0\x02\x07\x0a\0\0\x02\x12\x67\x11\xbf";
const LOCAL: &[u8] = b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0";

#[derive(Default)]
struct Counts([AtomicUsize; Refusal::ALL.len()]);

struct Server {
    address: SocketAddr,
    counts: Arc<Counts>,
    _stop: watch::Sender<bool>,
}

fn balancers(header_timeout: Duration) -> (Arc<Balancers>, Arc<Counts>) {
    let counts = Arc::new(Counts::default());
    let counted = Arc::clone(&counts);
    let networks = vec!["127.0.0.9/32".parse().unwrap()];
    let count = move |refusal| _ = counted.0[refusal as usize].fetch_add(1, Ordering::SeqCst);
    (Arc::new(Balancers { header_timeout, ..Balancers::new(networks, count) }), counts)
}

impl Server {
    /// It answers where a request comes from.
    async fn start(sources: impl FnOnce(Arc<Balancers>) -> Sources, header_timeout: Duration) -> Self {
        let (balancers, counts) = balancers(header_timeout);
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (stop, stopping) = watch::channel(false);
        let serving =
            serve_from(sources(balancers), listener, None, Limits::DEFAULT, stopping, |_request, peer| async move {
                Response::new(Full::<Bytes>::from(peer.address.to_string()))
            });
        tokio::spawn(serving);
        Self { address, counts, _stop: stop }
    }

    async fn connect(&self, from: &str) -> TcpStream {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind(format!("{from}:0").parse().unwrap()).unwrap();
        socket.connect(self.address).await.unwrap()
    }

    /// Sends all pieces, each by itself, and reads to the end. A connection that is closed on what it said is reset: that is no
    /// answer either.
    async fn talk(&self, from: &str, pieces: &[&[u8]]) -> String {
        let mut stream = self.connect(from).await;
        stream.set_nodelay(true).unwrap();
        for piece in pieces {
            if stream.write_all(piece).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
        let mut answer = Vec::new();
        let _ = tokio::time::timeout(Duration::from_secs(30), stream.read_to_end(&mut answer)).await.unwrap();
        String::from_utf8(answer).unwrap()
    }

    /// How many were refused, for each reason that there was.
    fn refused(&self) -> Vec<(&'static str, usize)> {
        let counts =
            Refusal::ALL.map(|refusal| (refusal.as_str(), self.counts.0[refusal as usize].load(Ordering::SeqCst)));
        counts.into_iter().filter(|(_, count)| *count > 0).collect()
    }
}

/// Long enough for all that is on its way.
const LONG: Duration = Duration::from_secs(20);

#[tokio::test]
async fn a_balancer_says_where_a_connection_comes_from() {
    let server = Server::start(Sources::Behind, LONG).await;
    let answer = server.talk(BALANCER, &[&[HEADER, REQUEST].concat()]).await;
    assert!(answer.ends_with("\r\n\r\n192.0.2.7:4711"), "{answer}");
    let bytes: Vec<&[u8]> = HEADER.chunks(1).chain([REQUEST]).collect();
    let answer = server.talk(BALANCER, &bytes).await;
    assert!(answer.ends_with("\r\n\r\n192.0.2.7:4711"), "byte by byte: {answer}");
    let answer = server.talk(BALANCER, &[&[LOCAL, REQUEST].concat()]).await;
    assert!(answer.contains(&format!("\r\n\r\n{BALANCER}:")), "it looks by itself: {answer}");
    assert_eq!(server.refused(), []);
}

#[tokio::test]
async fn a_header_of_anybody_else_is_not_read() {
    let server = Server::start(Sources::Behind, LONG).await;
    for header in [HEADER, LOCAL] {
        let answer = server.talk(OTHER, &[&[header, REQUEST].concat()]).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
    let answer = server.talk(OTHER, &[REQUEST]).await;
    assert!(answer.contains(&format!("\r\n\r\n{OTHER}:")), "{answer}");
    // What a client adds by itself is not read either: the balancer's header comes first, and is the only one.
    let mut other = HEADER.to_vec();
    other[19] = 99;
    let answer = server.talk(BALANCER, &[&[HEADER, &other, REQUEST].concat()]).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(server.refused(), [], "they are no balancers");
}

#[tokio::test]
async fn a_balancer_that_says_nothing_of_it_is_refused() {
    let server = Server::start(Sources::Behind, LONG).await;
    assert_eq!(server.talk(BALANCER, &[REQUEST]).await, "");
    assert_eq!(server.refused(), [("missing", 1)]);
    assert_eq!(server.talk(BALANCER, &[b"PROXY TCP4 192.0.2.7 10.0.0.2 4711 4543\r\n", REQUEST]).await, "");
    assert_eq!(server.refused(), [("missing", 1), ("version-1", 1)]);
    let mut of_udp = HEADER.to_vec();
    of_udp[13] = 0x12;
    assert_eq!(server.talk(BALANCER, &[&of_udp, REQUEST]).await, "");
    assert_eq!(server.refused(), [("missing", 1), ("version-1", 1), ("not-tcp", 1)]);
}

#[tokio::test]
async fn a_header_has_to_come_in_time_and_as_a_whole() {
    let server = Server::start(Sources::Behind, Duration::from_millis(200)).await;
    assert_eq!(server.talk(BALANCER, &[]).await, "");
    assert_eq!(server.talk(BALANCER, &[&HEADER[..27]]).await, "");
    let all = [HEADER, REQUEST].concat();
    let slowly: Vec<&[u8]> = all.chunks(1).take(27).flat_map(|byte| [byte, &[], &[], &[], &[], &[], &[]]).collect();
    assert_eq!(server.talk(BALANCER, &slowly).await, "", "one byte now and then does not keep it open");
    assert_eq!(server.refused(), [("too-slow", 3)]);

    let server = Server::start(Sources::Behind, LONG).await;
    let mut looks = server.connect(BALANCER).await;
    looks.shutdown().await.unwrap();
    assert_eq!(looks.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert_eq!(server.refused(), [], "a balancer may look whether anybody listens");
    let mut ends = server.connect(BALANCER).await;
    ends.write_all(&HEADER[..27]).await.unwrap();
    ends.shutdown().await.unwrap();
    assert_eq!(ends.read_to_end(&mut Vec::new()).await.unwrap(), 0);
    assert_eq!(server.refused(), [("cut-short", 1)]);
}

#[tokio::test]
async fn where_everybody_is_answered_alike_a_balancer_may_do_without() {
    let server = Server::start(Sources::PerhapsBehind, LONG).await;
    for (from, said, expected) in [
        (BALANCER, &[LOCAL, REQUEST].concat()[..], "127.0.0.9:"),
        (BALANCER, &[HEADER, REQUEST].concat(), "192.0.2.7:4711"),
        (BALANCER, REQUEST, "127.0.0.9:"),
        (OTHER, REQUEST, "127.0.0.8:"),
    ] {
        let answer = server.talk(from, &[said]).await;
        assert!(answer.contains(&format!("\r\n\r\n{expected}")), "{from}: {answer}");
    }
    let answer = server.talk(OTHER, &[&[LOCAL, REQUEST].concat()]).await;
    assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    assert_eq!(server.refused(), []);
    assert_eq!(server.talk(BALANCER, &[b"\r\n\r\nGET", REQUEST]).await, "");
    assert_eq!(server.refused(), [("missing", 1)]);
}

/// 127.0.0.1 in the audit is this computer; a client of the balancer's computer is not.
#[tokio::test]
async fn only_who_is_here_may_name_a_loopback_address() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let said = async |peer: &str, address: [u8; 4]| {
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut header = HEADER.to_vec();
        header[16..20].copy_from_slice(&address);
        client.write_all(&header).await.unwrap();
        source(&mut stream, peer.parse().unwrap(), true).await.map(|source| source.to_string())
    };
    let no_client = Err(Lack::Refused(Refusal::NoClient));
    for (peer, address, expected) in [
        ("10.0.0.1:1", [127, 0, 0, 1], no_client),
        ("10.0.0.1:1", [128, 0, 0, 1], Ok("128.0.0.1:4711".to_owned())),
        ("127.0.0.9:1", [127, 0, 0, 1], Ok("127.0.0.1:4711".to_owned())),
        ("[::1]:1", [127, 0, 0, 1], Ok("127.0.0.1:4711".to_owned())),
        ("[::ffff:127.0.0.9]:1", [127, 0, 0, 1], Ok("127.0.0.1:4711".to_owned())),
    ] {
        assert_eq!(said(peer, address).await, expected, "{peer}");
    }
}

#[test]
fn balancers_are_known_by_their_networks() {
    let networks = ["10.1.0.0/16", "192.0.2.7/32", "2001:db8::/64"].map(|network| network.parse().unwrap());
    let balancers = Balancers::new(networks.into(), |_| ());
    for (peer, expected) in [
        ("10.0.255.255", false),
        ("10.1.0.0", true),
        ("10.1.255.255", true),
        ("10.2.0.0", false),
        ("192.0.2.6", false),
        ("192.0.2.7", true),
        ("192.0.2.8", false),
        ("::ffff:192.0.2.7", true),
        ("::ffff:192.0.2.8", false),
        ("2001:db8::1", true),
        ("2001:db8:0:1::", false),
    ] {
        assert_eq!(balancers.include(peer.parse().unwrap()), expected, "{peer}");
    }
    assert!(!Balancers::new(Vec::new(), |_| ()).include("127.0.0.1".parse().unwrap()));
}

#[test]
fn each_reason_is_said_now_and_then() {
    let balancers = Balancers::new(Vec::new(), |_| ());
    assert_eq!(balancers.is_to_be_said(Refusal::Missing), Some(0));
    assert_eq!(balancers.is_to_be_said(Refusal::Missing), None);
    assert_eq!(balancers.is_to_be_said(Refusal::Missing), None);
    assert_eq!(balancers.is_to_be_said(Refusal::VersionOne), Some(0), "another one hides nothing");
    let long_ago = Instant::now().checked_sub(SAYING).unwrap();
    balancers.said.lock().unwrap()[Refusal::Missing as usize].at = Some(long_ago);
    assert_eq!(balancers.is_to_be_said(Refusal::Missing), Some(2));
    for refusal in Refusal::ALL {
        assert_eq!(Refusal::ALL[refusal as usize], refusal);
    }
}
