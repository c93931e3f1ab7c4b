//! Over real sockets: what a guest may send, how much, and over which protocol.

use std::net::SocketAddr;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::time::{Duration, Instant};

use inborn_identity::{HttpTokens, InstanceId, MetadataOptions};
use inborn_testkit::ManualClock;
use rustix::net::sockopt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

use super::*;
use crate::machine::tests::{NOW, machine_with, region};
use crate::{Host, Metrics};

const GET: &str = "GET /latest/meta-data/instance-id HTTP/1.1\r\nHost: 169.254.169.254\r\n";
const PUT: &str = "PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\n";
const NO_LIMIT: MetadataLimits = MetadataLimits { requests_per_second: 0, ..MetadataLimits::DEFAULT };
/// Longer than anything here takes, also on a busy computer.
const LONG: Duration = Duration::from_secs(30);

/// A machine that also answers without a token, on the addresses asked for.
struct Lab {
    host: Arc<Host>,
    id: InstanceId,
    addresses: Vec<SocketAddr>,
}

fn options() -> MetadataOptions {
    MetadataOptions { http_tokens: HttpTokens::Optional, ..MetadataOptions::default() }
}

async fn lab(limits: MetadataLimits, addresses: &[&str]) -> Lab {
    let clock = Arc::new(ManualClock::new(NOW));
    let host = Host::with_limits(clock, Arc::new(region()), Metrics::default(), limits).unwrap();
    let mut listeners = Vec::new();
    for address in addresses {
        listeners.push(TcpListener::bind(address).await.unwrap());
    }
    let addresses = listeners.iter().map(|listener| listener.local_addr().unwrap()).collect();
    let machine = machine_with(1, options());
    let id = machine.id();
    host.attach_pocket(machine, listeners);
    Lab { host, id, addresses }
}

async fn one(limits: MetadataLimits) -> (Lab, SocketAddr) {
    let lab = lab(limits, &["127.0.0.1:0"]).await;
    let address = lab.addresses[0];
    (lab, address)
}

/// Sends `bytes`, says that there is no more, and reads until the other side closes. A connection that is reset says what
/// it said before.
async fn talk(address: SocketAddr, bytes: impl AsRef<[u8]>) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    let _ = stream.write_all(bytes.as_ref()).await;
    let _ = stream.shutdown().await;
    rest(&mut stream).await
}

async fn rest(stream: &mut TcpStream) -> String {
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(LONG, stream.read_to_end(&mut answer)).await.expect("the connection ends");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Sends a request and reads its answer, which has `body` at its end; the connection stays.
async fn ask(stream: &mut TcpStream, request: &str, body: &str) {
    stream.write_all(format!("{request}\r\n").as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(body.as_bytes()) {
        let read = tokio::time::timeout(LONG, stream.read_buf(&mut answer)).await.unwrap().unwrap();
        assert_ne!(read, 0, "{}", String::from_utf8_lossy(&answer));
    }
}

#[tokio::test]
async fn header_names_are_written_as_ec2_writes_them() {
    let (lab, address) = one(NO_LIMIT).await;
    let answer = talk(address, format!("{GET}\r\n")).await;
    let expected = format!(
        "HTTP/1.1 200 OK\r\nServer: EC2ws\r\nContent-Type: text/plain\r\nLast-Modified: Fri, 15 Jan 2027 08:00:00 GMT\r\n\
         Accept-Ranges: none\r\nDate: Fri, 15 Jan 2027 08:00:00 GMT\r\nContent-Length: 19\r\n\r\n{}",
        lab.id
    );
    assert_eq!(answer, expected);
    let answer = talk(address, format!("{PUT}\r\n")).await;
    for line in ["X-Aws-Ec2-Metadata-Token-Ttl-Seconds: 60", "Content-Length: 56", "Connection: close"] {
        assert!(answer.contains(&format!("\r\n{line}\r\n")), "{line} in {answer}");
    }
}

#[tokio::test]
async fn an_answer_with_a_token_ends_the_connection() {
    let (_lab, address) = one(NO_LIMIT).await;
    let answer = talk(address, format!("{PUT}\r\n{GET}\r\n")).await;
    assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "nothing is sent under the hop limit of the token: {answer}");
    let answer = talk(address, format!("{GET}\r\n{PUT}\r\n{GET}\r\n")).await;
    assert_eq!(answer.matches("HTTP/1.1 200 ").count(), 2, "{answer}");
}

#[tokio::test]
async fn the_hop_limit_is_that_of_the_protocol() {
    for (address, is_ipv6) in [("127.0.0.1:0", false), ("[::1]:0", true)] {
        let listener = TcpListener::bind(address).await.unwrap();
        socket::prepare(&listener).unwrap();
        let _client = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (stream, peer) = listener.accept().await.unwrap();
        let descriptor = stream.as_fd().try_clone_to_owned().unwrap();
        assert!(sockopt::tcp_nodelay(&descriptor).unwrap(), "as the listener");
        assert_eq!(sockopt::tcp_user_timeout(&descriptor).unwrap(), 5_000, "as the listener");
        let socket = Socket::new(stream, peer);
        assert_eq!(socket.is_ipv6(), is_ipv6);
        for hops in [1, 2, 64] {
            socket.set_hop_limit(hops).unwrap();
            let set = if is_ipv6 {
                sockopt::ipv6_unicast_hops(&descriptor).unwrap().into()
            } else {
                sockopt::ip_ttl(&descriptor).unwrap()
            };
            assert_eq!(set, u32::from(hops));
        }
        assert_ne!(sockopt::ip_ttl(&listener).unwrap(), 1, "what listens must reach everybody");
    }
}

/// Inside a machine, who connects from another address than the one it connects to is a hop behind it.
#[tokio::test]
async fn inside_a_machine_its_containers_are_a_hop_away() {
    let lab = lab(NO_LIMIT, &["127.0.0.1:0"]).await;
    let address = lab.addresses[0];
    let from = |source: &'static str| async move {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket.bind(source.parse().unwrap()).unwrap();
        let mut stream = socket.connect(address).await.unwrap();
        stream.write_all(format!("{PUT}\r\n").as_bytes()).await.unwrap();
        rest(&mut stream).await
    };
    for (limit, own, behind) in [(1, true, false), (2, true, true), (64, true, true)] {
        lab.host.update(machine_with(1, MetadataOptions { hop_limit: limit, ..options() }));
        assert_eq!(from("127.0.0.1:0").await.starts_with("HTTP/1.1 200 "), own, "{limit}");
        assert_eq!(from("127.0.0.2:0").await.starts_with("HTTP/1.1 200 "), behind, "{limit}");
    }
    lab.host.update(machine_with(1, MetadataOptions { hop_limit: 1, ..options() }));
    let socket = tokio::net::TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
    ask(&mut socket.connect(address).await.unwrap(), GET, &lab.id.to_string()).await;
}

#[tokio::test]
async fn ipv4_on_a_socket_of_both_kinds_has_the_hop_limit_of_ipv4() {
    let listener = TcpListener::bind("[::]:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let _client = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let (stream, peer) = listener.accept().await.unwrap();
    let descriptor = stream.as_fd().try_clone_to_owned().unwrap();
    let socket = Socket::new(stream, peer);
    socket.set_hop_limit(1).unwrap();
    assert!(!socket.is_ipv6());
    assert_eq!(sockopt::ip_ttl(&descriptor).unwrap(), 1);
}

#[tokio::test]
async fn ipv6_answers_only_while_it_is_enabled() {
    let lab = lab(NO_LIMIT, &["127.0.0.1:0", "[::1]:0"]).await;
    let set = |ipv6| lab.host.update(machine_with(1, MetadataOptions { ipv6, ..options() }));
    let [v4, v6] = lab.addresses[..] else { panic!() };
    let id = lab.id.to_string();
    assert_eq!(talk(v6, format!("{GET}\r\n")).await, "", "off until somebody turns it on");
    assert!(talk(v4, format!("{GET}\r\n")).await.ends_with(&id));
    set(true);
    let mut kept = TcpStream::connect(v6).await.unwrap();
    ask(&mut kept, GET, &id).await;
    assert!(talk(v6, format!("{PUT}\r\n")).await.starts_with("HTTP/1.1 200 "));
    set(false);
    kept.write_all(format!("{GET}\r\n").as_bytes()).await.unwrap();
    assert_eq!(rest(&mut kept).await, "", "also on a connection that is open");
    assert_eq!(talk(v6, format!("{GET}\r\n")).await, "");
    assert!(talk(v4, format!("{GET}\r\n")).await.ends_with(&id));
}

#[tokio::test]
async fn a_connection_too_many_waits_for_a_place_whatever_socket_it_comes_by() {
    let lab = lab(MetadataLimits { connections_max: 2, ..NO_LIMIT }, &["127.0.0.1:0", "127.0.0.1:0"]).await;
    let id = lab.id.to_string();
    let mut held = Vec::new();
    for address in &lab.addresses {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, GET, &id).await;
        held.push(stream);
    }
    let mut waiting = TcpStream::connect(lab.addresses[0]).await.unwrap();
    waiting.write_all(format!("{GET}Connection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut first = [0];
    let soon = Duration::from_millis(100);
    assert!(tokio::time::timeout(soon, waiting.read(&mut first)).await.is_err(), "in the queue of the kernel");
    held.pop();
    assert!(rest(&mut waiting).await.ends_with(&id));
}

#[tokio::test]
async fn requests_over_the_rate_wait_for_their_turn() {
    let (lab, address) = one(MetadataLimits { requests_per_second: 50, burst: 1, ..NO_LIMIT }).await;
    let id = lab.id.to_string();
    let begin = Instant::now();
    let mut stream = TcpStream::connect(address).await.unwrap();
    for _ in 0..6 {
        ask(&mut stream, GET, &id).await;
    }
    for _ in 0..5 {
        assert!(talk(address, format!("{GET}\r\n")).await.ends_with(&id));
    }
    let elapsed = begin.elapsed();
    assert!(elapsed >= Duration::from_millis(10 * 20), "a connection counts as its first request: {elapsed:?}");
}

#[tokio::test]
async fn a_request_whose_turn_comes_too_late_gets_503_and_not_soon() {
    let (lab, address) = one(MetadataLimits { requests_per_second: 1, burst: 4, ..NO_LIMIT }).await;
    let id = lab.id.to_string();
    let mut streams = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(address).await.unwrap();
        ask(&mut stream, GET, &id).await;
        streams.push(stream);
    }
    let begin = Instant::now();
    for stream in &mut streams {
        stream.write_all(format!("{GET}\r\n").as_bytes()).await.unwrap();
    }
    let mut refused = 0;
    for mut stream in streams {
        stream.shutdown().await.unwrap();
        let answer = rest(&mut stream).await;
        if answer.starts_with("HTTP/1.1 503 ") {
            assert!(answer.contains("\r\nConnection: close\r\n"), "{answer}");
            assert!(begin.elapsed() >= Duration::from_millis(900), "a refusal at once would be asked again at once");
            refused += 1;
        } else {
            assert!(answer.ends_with(&id), "{answer}");
        }
    }
    assert!(refused >= 2, "{refused} refused: one turn came in time, or two on a busy computer");
}

#[tokio::test]
async fn the_rate_of_one_machine_is_not_that_of_another() {
    let (lab, busy) = one(MetadataLimits { requests_per_second: 1, burst: 1, connections_max: 1 }).await;
    let mut parts = crate::machine::tests::parts(1, options());
    parts.id = "i-00000000000000002".parse().unwrap();
    let quiet = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = quiet.local_addr().unwrap();
    let flood: Vec<_> = std::iter::repeat_with(|| tokio::spawn(async move { talk(busy, format!("{GET}\r\n")).await }))
        .take(20)
        .collect();
    lab.host.attach_pocket(parts.into(), [quiet]);
    let answer = tokio::time::timeout(Duration::from_secs(5), talk(address, format!("{GET}\r\n"))).await.unwrap();
    assert!(answer.ends_with("i-00000000000000002"), "{answer}");
    assert!(flood.iter().any(|task| !task.is_finished()), "the flood still waits");
    flood.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn tokens_of_a_flood_push_none_out() {
    let (lab, address) = one(NO_LIMIT).await;
    let first = talk(address, format!("{PUT}\r\n")).await;
    let token = first.rsplit("\r\n").next().unwrap().to_owned();
    for _ in 0..500 {
        assert!(talk(address, format!("{PUT}\r\n")).await.starts_with("HTTP/1.1 200 "));
    }
    let answer = talk(address, format!("{GET}X-aws-ec2-metadata-token: {token}\r\n\r\n")).await;
    assert!(answer.ends_with(&lab.id.to_string()), "{answer}");
}

#[tokio::test]
async fn every_method_has_its_answer() {
    let (_lab, address) = one(NO_LIMIT).await;
    let ask = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        async move { talk(address, request).await }
    };
    for (method, at_token, at_leaf) in [
        ("GET", 405, 200),
        ("HEAD", 405, 200),
        ("PUT", 400, 403),
        ("OPTIONS", 200, 405),
        ("POST", 405, 405),
        ("DELETE", 405, 405),
        ("PATCH", 405, 405),
        ("TRACE", 405, 405),
        ("PROPFIND", 405, 405),
        ("get", 405, 405),
        ("X", 405, 405),
    ] {
        for (path, status) in [("/latest/api/token", at_token), ("/latest/meta-data/instance-id", at_leaf)] {
            let answer = ask(method, path).await;
            assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{method} {path}: {answer}");
        }
    }
    assert!(!ask("CONNECT", "169.254.169.254:80").await.starts_with("HTTP/1.1 2"));
}

#[tokio::test]
async fn absurd_paths_are_not_there() {
    let (_lab, address) = one(NO_LIMIT).await;
    let long = format!("/latest/{}", "a".repeat(8000));
    let deep = format!("/latest{}", "/a".repeat(4000));
    for path in [
        "/..",
        "/latest/../latest/meta-data/instance-id",
        "/latest/meta-data/%2e%2e/user-data",
        "/latest/meta-data/instance-id%00",
        "/latest/meta-data/%00",
        "/latest/meta-data/instance-id/x",
        "/latest/meta-data/%",
        "/latest/meta-data/%zz",
        "/%6catest/meta-data/../../etc/passwd",
        "/latest/meta-data\\instance-id",
        "/LATEST/meta-data/instance-id",
        long.as_str(),
        deep.as_str(),
    ] {
        let answer = talk(address, format!("GET {path} HTTP/1.1\r\nHost: x\r\n\r\n")).await;
        let status = answer.split(' ').nth(1).unwrap_or_default();
        assert!(["404", "400"].contains(&status), "{path}: {answer}");
    }
    let asterisk = talk(address, "GET * HTTP/1.1\r\nHost: x\r\n\r\n").await;
    assert!(asterisk.starts_with("HTTP/1.1 404 "), "{asterisk}");
}

#[tokio::test]
async fn heads_below_at_and_above_the_limits() {
    let (_lab, address) = one(NO_LIMIT).await;
    let fields = |count: usize| (0..count).map(|n| format!("x-{n}: v\r\n")).collect::<String>();
    for (count, status) in [(HEADER_COUNT_MAX - 1, 200), (HEADER_COUNT_MAX, 200), (HEADER_COUNT_MAX + 1, 431)] {
        // One of them is Host.
        let answer = talk(address, format!("{GET}{}\r\n", fields(count - 1))).await;
        assert!(answer.starts_with(&format!("HTTP/1.1 {status} ")), "{count} fields: {answer}");
    }
    let short = talk(address, format!("{GET}x: {}\r\n\r\n", "v".repeat(HEAD_BYTES_MAX - 256))).await;
    assert!(short.starts_with("HTTP/1.1 200 "), "{short}");
    for length in [HEAD_BYTES_MAX, 4 * HEAD_BYTES_MAX] {
        let long = talk(address, format!("{GET}x: {}\r\n\r\n", "v".repeat(length))).await;
        assert!(long.is_empty() || long.starts_with("HTTP/1.1 431 "), "{long}");
        let long = talk(address, format!("GET /{} HTTP/1.1\r\n\r\n", "p".repeat(length))).await;
        assert!(long.is_empty() || long.starts_with("HTTP/1.1 414 ") || long.starts_with("HTTP/1.1 431 "), "{long}");
    }
}

#[tokio::test]
async fn pipelined_requests_are_answered_in_order() {
    let (lab, address) = one(NO_LIMIT).await;
    let answer = talk(address, format!("{GET}\r\nGET /none HTTP/1.1\r\nHost: x\r\n\r\n{GET}\r\n")).await;
    let statuses: Vec<_> = answer.match_indices("HTTP/1.1 ").map(|(at, _)| &answer[at + 9..at + 12]).collect();
    assert_eq!(statuses, ["200", "404", "200"]);
    assert!(answer.ends_with(&lab.id.to_string()));
}

#[tokio::test]
async fn a_body_is_never_taken_for_a_request() {
    let (_lab, address) = one(NO_LIMIT).await;
    let inner = format!("{GET}\r\n");
    let length = inner.len();
    for request in [
        format!("{GET}Content-Length: {length}\r\n\r\n{inner}"),
        format!("{GET}Transfer-Encoding: chunked\r\n\r\n{length:x}\r\n{inner}\r\n0\r\n\r\n"),
        format!("{PUT}Content-Length: {length}\r\n\r\n{inner}"),
    ] {
        let answer = talk(address, request).await;
        assert_eq!(answer.matches("HTTP/1.1 ").count(), 1, "{answer}");
    }
    for framing in ["Content-Length: x", "Content-Length: 1\r\nContent-Length: 2", "Transfer-Encoding: gzip"] {
        let answer = talk(address, format!("{GET}{framing}\r\n\r\n{inner}")).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{framing}: {answer}");
        assert!(answer.matches("HTTP/1.1 ").count() <= 1, "{framing}: {answer}");
    }
}

#[tokio::test]
async fn half_a_request_is_no_request() {
    let (_lab, address) = one(NO_LIMIT).await;
    let whole = format!("{PUT}\r\n");
    for length in [0, 1, 3, 20, whole.len() / 2, whole.len() - 1] {
        let answer = talk(address, &whole[..length]).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{length}: {answer}");
    }
    for nonsense in [
        &b"\0\0\0\0\r\n\r\n"[..],
        b"GET\r\n\r\n",
        b"GET /latest HTTP/9.9\r\n\r\n",
        b"GET /latest/\xff\xfe HTTP/1.1\r\nx: \0\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc",
        b"GET /latest/meta-data/instance-id HTTP/1.1\r\n folded: x\r\n\r\n",
    ] {
        let answer = talk(address, nonsense).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400 "), "{answer}");
    }
}

/// As long as the product allows, so this takes ten seconds, in which nothing is computed.
#[tokio::test]
async fn a_slow_head_is_left() {
    let (lab, address) = one(NO_LIMIT).await;
    let begin = Instant::now();
    let mut slow = TcpStream::connect(address).await.unwrap();
    let mut kept = TcpStream::connect(address).await.unwrap();
    ask(&mut kept, GET, &lab.id.to_string()).await;
    let drip = async {
        for byte in GET.bytes().cycle() {
            if slow.write_all(&[byte]).await.is_err() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(250)).await;
        }
    };
    tokio::time::timeout(LONG, drip).await.expect("a byte now and then does not keep a connection");
    assert!(begin.elapsed() >= HEAD_TIMEOUT);
    assert_eq!(rest(&mut kept).await, "", "nor does an old request");
}
