//! What balances TCP: each connection goes to the next of some servers, and comes to it from the balancer's own address.
#![allow(unreachable_pub, dead_code, reason = "each test file uses some of it")]

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::io::AsyncWriteExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Where connections come from, as servers see it.
pub const SOURCE: &str = "127.0.0.9";

pub struct Balancer {
    pub address: String,
    taken: Arc<Vec<AtomicUsize>>,
}

impl Balancer {
    /// One that hides where connections come from.
    pub async fn before(servers: Vec<String>) -> Self {
        Self::start(servers, None).await
    }

    /// One that says of each connection that it comes from `client`, in a header of the PROXY protocol.
    pub async fn telling(client: Ipv4Addr, servers: Vec<String>) -> Self {
        Self::start(servers, Some(client)).await
    }

    async fn start(servers: Vec<String>, client: Option<Ipv4Addr>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken: Arc<Vec<AtomicUsize>> = Arc::new(servers.iter().map(|_| AtomicUsize::new(0)).collect());
        let counted = Arc::clone(&taken);
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let at = number % servers.len();
                counted[at].fetch_add(1, Ordering::SeqCst);
                tokio::spawn(relay(stream, servers[at].clone(), client));
            }
        });
        Self { address, taken }
    }

    /// How many connections each server was given.
    pub fn taken(&self) -> Vec<usize> {
        self.taken.iter().map(|taken| taken.load(Ordering::SeqCst)).collect()
    }
}

/// What version 2 of the protocol has for a client of IPv4.
pub fn header(client: Ipv4Addr) -> Vec<u8> {
    [
        b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c",
        &client.octets()[..],
        &[10, 0, 0, 2],
        &4711_u16.to_be_bytes(),
        &[0x11, 0xbf],
    ]
    .concat()
}

/// A connection from the balancer's address.
pub async fn connect(server: &str) -> Option<TcpStream> {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{SOURCE}:0").parse().unwrap()).unwrap();
    socket.connect(server.parse().unwrap()).await.ok()
}

async fn relay(mut one: TcpStream, server: String, client: Option<Ipv4Addr>) {
    let Some(mut other) = connect(&server).await else { return };
    if let Some(client) = client
        && other.write_all(&header(client)).await.is_err()
    {
        return;
    }
    let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
}
