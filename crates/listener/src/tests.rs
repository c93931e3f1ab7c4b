use super::*;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

const SMALL: Limits = Limits {
    connections_max: 3,
    header_count_max: 10,
    head_bytes_max: 8192,
    head_timeout: Duration::from_millis(300),
    handshake_timeout: Duration::from_millis(300),
    write_timeout: Duration::from_millis(500),
    stop_grace: Duration::from_millis(300),
};
const BODY_MAX: usize = 16;

/// A server that answers the length of the body, and what stops it.
async fn start() -> (SocketAddr, watch::Sender<bool>, tokio::task::JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let serving = tokio::spawn(serve(listener, None, SMALL, stopping, |request, _peer| async move {
        let text = match read_body(request.into_body(), BODY_MAX, Duration::from_millis(200)).await {
            Ok(body) => body.len().to_string(),
            Err(error) => format!("{error:?}"),
        };
        Response::new(Full::from(text))
    }));
    (address, stop, serving)
}

/// Sends `bytes` and reads until the other side closes.
async fn talk(address: SocketAddr, bytes: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(bytes).await.unwrap();
    let mut answer = Vec::new();
    let _ = tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

fn request(extra: &str, body: &str) -> Vec<u8> {
    format!("POST / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{extra}\r\n{body}").into_bytes()
}

#[tokio::test]
async fn bodies_below_at_and_above_the_limit() {
    let (address, _stop, _) = start().await;
    for (length, expected) in [(15, "15"), (16, "16"), (17, "TooLarge")] {
        let body = "b".repeat(length);
        let declared = talk(address, &request(&format!("Content-Length: {length}\r\n"), &body)).await;
        assert!(declared.ends_with(&format!("\r\n{expected}")), "{declared}");
        let chunked = format!("{length:x}\r\n{body}\r\n0\r\n\r\n");
        let chunked = talk(address, &request("Transfer-Encoding: chunked\r\n", &chunked)).await;
        assert!(chunked.ends_with(&format!("\r\n{expected}")), "{chunked}");
    }
}

#[tokio::test]
async fn a_client_that_waits_for_permission_is_refused_before_it_sends() {
    let (address, _stop, _) = start().await;
    let answer = talk(address, &request("Content-Length: 17\r\nExpect: 100-continue\r\n", "")).await;
    assert!(!answer.contains("100 Continue") && answer.ends_with("TooLarge"), "{answer}");
}

#[tokio::test]
async fn header_fields_below_at_and_above_the_limit() {
    let (address, _stop, _) = start().await;
    for (extra, expected) in [(7, "HTTP/1.1 200"), (8, "HTTP/1.1 200"), (9, "HTTP/1.1 431")] {
        let fields: String = (0..extra).map(|n| format!("x-{n}: v\r\n")).collect();
        let answer = talk(address, &request(&fields, "")).await;
        assert!(answer.starts_with(expected), "{extra} more: {answer}");
    }
    let answer = talk(address, &request(&format!("x-long: {}\r\n", "v".repeat(9000)), "")).await;
    assert!(answer.starts_with("HTTP/1.1 431"), "{answer}");
}

#[tokio::test]
async fn slow_clients_are_left() {
    let (address, _stop, _) = start().await;
    assert_eq!(talk(address, b"POST / HTTP/1.1\r\nHo").await, "", "a head that never ends");
    assert_eq!(talk(address, b"").await, "", "a connection that says nothing");
    let answer = talk(address, &request("Content-Length: 5\r\n", "b")).await;
    assert!(answer.ends_with("TooSlow"), "{answer}");
}

/// The kernel gives up between one probe of the closed window and the next, so this takes a few times the limit.
#[tokio::test]
async fn clients_that_never_read_are_left() {
    let (address, _stop, _) = start().await;
    let mut deaf = TcpStream::connect(address).await.unwrap();
    let many = b"GET / HTTP/1.1\r\nHost: x\r\n\r\n".repeat(1000);
    let asking = async { while deaf.write_all(&many).await.is_ok() {} };
    tokio::time::timeout(Duration::from_secs(20), asking).await.unwrap();
}

#[tokio::test]
async fn a_half_closed_socket_is_answered() {
    let (address, _stop, _) = start().await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\n\r\nhi").await.unwrap();
    stream.shutdown().await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    assert!(answer.ends_with("\r\n2"), "{answer}");
}

#[tokio::test]
async fn connections_below_at_and_above_the_limit() {
    let (address, _stop, _) = start().await;
    let mut held = Vec::new();
    for _ in 0..SMALL.connections_max {
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        let mut first = [0; 12];
        stream.read_exact(&mut first).await.unwrap();
        assert_eq!(&first, b"HTTP/1.1 200");
        held.push(stream);
    }
    assert_eq!(talk(address, b"").await, "", "one too many is closed");
    drop(held);
    tokio::time::sleep(Duration::from_millis(50)).await;
    assert!(talk(address, &request("", "")).await.ends_with("\r\n0"));
}

#[tokio::test]
async fn a_stop_ends_idle_connections_soon() {
    let (address, stop, serving) = start().await;
    let mut idle = TcpStream::connect(address).await.unwrap();
    idle.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut first = [0; 12];
    idle.read_exact(&mut first).await.unwrap();
    stop.send(true).unwrap();
    tokio::time::timeout(Duration::from_secs(1), serving).await.unwrap().unwrap();
    assert!(TcpStream::connect(address).await.is_err(), "the port is free again");
}

#[tokio::test]
async fn nonsense_is_refused_without_a_word_of_ours() {
    let (address, _stop, _) = start().await;
    for nonsense in
        [&b"\0\0\0\0\r\n\r\n"[..], b"GET\r\n\r\n", b"GET / HTTP/9.9\r\n\r\n", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc"]
    {
        let answer = talk(address, nonsense).await;
        assert!(answer.is_empty() || answer.starts_with("HTTP/1.1 400"), "{answer}");
    }
}
