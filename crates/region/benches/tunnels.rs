//! What a tunnel costs: bytes a second through one, beside a plain relay of TCP that does nothing but copy. The two take
//! turns, machine and client are in this process too, and each figure is given with its spread.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Instant;

use common::{Call, Running, call, start};
use futures_util::StreamExt;
use inborn_identity::InstanceId;
use inborn_region::{Reach, Reached, Unreachable};
use tokio::io::{AsyncReadExt, AsyncWriteExt, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

const ROUNDS: usize = 9;
const BYTES: usize = 256 * 1024 * 1024;
const PIECE_BYTES: usize = 64 * 1024;
const MEGABYTE: f64 = 1e6;

/// Every machine is the one that pours.
struct Way(SocketAddr);

impl Reach for Way {
    fn reach(&self, _: InstanceId, _: u16) -> Pin<Box<dyn Future<Output = Result<Reached, Unreachable>> + Send + '_>> {
        Box::pin(async {
            let stream = TcpStream::connect(self.0).await.map_err(|error| Unreachable(error.to_string()))?;
            Ok(Reached { stream, gone: Box::pin(std::future::pending()) })
        })
    }
}

#[tokio::main]
async fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let machine = serve(pour).await;
    let plain = serve(move |stream| relay(stream, machine)).await;
    let running = start().await;
    let id = running.launch().await;
    running.region.reach_by(Arc::new(Way(machine)));
    let (mut relayed, mut tunnelled) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let by_relay = megabytes_a_second(drain(TcpStream::connect(plain).await.unwrap())).await;
        let by_tunnel = megabytes_a_second(drain_tunnel(&running, id)).await;
        // The first round warms up.
        if round > 0 {
            relayed.push(by_relay);
            tunnelled.push(by_tunnel);
        }
    }
    println!("MB/s from a machine to a client, {ROUNDS} rounds of {} MiB: min / median / max", BYTES >> 20);
    let mut ratios: Vec<f64> = tunnelled.iter().zip(&relayed).map(|(tunnel, relay)| tunnel / relay).collect();
    show("  plain relay", &mut relayed);
    show("  tunnel     ", &mut tunnelled);
    show("  ratio      ", &mut ratios);
}

fn show(name: &str, figures: &mut [f64]) {
    figures.sort_by(f64::total_cmp);
    println!("{name}  {:.2} / {:.2} / {:.2}", figures[0], figures[figures.len() / 2], figures[figures.len() - 1]);
}

#[allow(clippy::cast_precision_loss, reason = "a figure for people")]
async fn megabytes_a_second(reading: impl Future<Output = usize>) -> f64 {
    let begin = Instant::now();
    assert_eq!(reading.await, BYTES);
    BYTES as f64 / MEGABYTE / begin.elapsed().as_secs_f64()
}

async fn serve<F: Future<Output = ()> + Send + 'static>(
    answer: impl Fn(TcpStream) -> F + Send + 'static,
) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(answer(stream));
        }
    });
    address
}

async fn pour(mut stream: TcpStream) {
    let piece = vec![7; PIECE_BYTES];
    for _ in 0..BYTES / PIECE_BYTES {
        stream.write_all(&piece).await.unwrap();
    }
}

async fn relay(mut client: TcpStream, machine: SocketAddr) {
    let mut machine = TcpStream::connect(machine).await.unwrap();
    let _ = copy_bidirectional(&mut client, &mut machine).await;
}

async fn drain(mut stream: TcpStream) -> usize {
    let (mut buffer, mut total) = (vec![0; PIECE_BYTES], 0);
    loop {
        match stream.read(&mut buffer).await.unwrap() {
            0 => return total,
            read => total += read,
        }
    }
}

async fn drain_tunnel(running: &Running, id: InstanceId) -> usize {
    let identity = running.region.identity();
    let endpoint = identity.connect_endpoints(identity.account, std::iter::empty()).remove(0).1.id;
    let address = running.region.machines().get(id).unwrap().private_address;
    let open = Call {
        method: "GET",
        target: format!("/openTunnel?instanceConnectEndpointId={endpoint}&privateIpAddress={address}&remotePort=22"),
        headers: Vec::new(),
        ..call("ec2-instance-connect", "")
    };
    let upgrade = "Connection: upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                   Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n";
    let head = running.signed(&running.operator(), &open).replace("connection: close\r\n", upgrade);
    let mut stream = TcpStream::connect(running.address).await.unwrap();
    stream.write_all(head.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    while !answer.ends_with(b"\r\n\r\n") {
        answer.push(stream.read_u8().await.unwrap());
    }
    assert!(answer.starts_with(b"HTTP/1.1 101"), "{}", String::from_utf8_lossy(&answer));
    let mut socket = WebSocketStream::from_raw_socket(stream, Role::Client, None).await;
    let mut total = 0;
    while let Some(Ok(message)) = socket.next().await {
        if let Message::Binary(bytes) = message {
            total += bytes.len();
        }
    }
    total
}
