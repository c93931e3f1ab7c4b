//! What balances TCP: each connection goes to the next of some servers, and comes to it from the balancer's own address.
#![allow(unreachable_pub, reason = "a module of several test files")]

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use tokio::net::{TcpListener, TcpSocket, TcpStream};

/// Where connections come from, as servers see it.
pub const SOURCE: &str = "127.0.0.9";

pub struct Balancer {
    pub address: String,
    taken: Arc<Vec<AtomicUsize>>,
}

impl Balancer {
    pub async fn before(servers: Vec<String>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        let taken: Arc<Vec<AtomicUsize>> = Arc::new(servers.iter().map(|_| AtomicUsize::new(0)).collect());
        let counted = Arc::clone(&taken);
        tokio::spawn(async move {
            for number in 0.. {
                let Ok((stream, _)) = listener.accept().await else { return };
                let at = number % servers.len();
                counted[at].fetch_add(1, Ordering::SeqCst);
                tokio::spawn(relay(stream, servers[at].clone()));
            }
        });
        Self { address, taken }
    }

    /// How many connections each server was given.
    pub fn taken(&self) -> Vec<usize> {
        self.taken.iter().map(|taken| taken.load(Ordering::SeqCst)).collect()
    }
}

async fn relay(mut one: TcpStream, server: String) {
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind(format!("{SOURCE}:0").parse().unwrap()).unwrap();
    let Ok(mut other) = socket.connect(server.parse().unwrap()).await else { return };
    let _ = tokio::io::copy_bidirectional(&mut one, &mut other).await;
}
