//! CPU per request of the whole server, beside the same server answering a constant: what identity costs.
//!
//! The server runs on a thread of its own, and that thread's CPU time is what is read; the client on another thread keeps
//! many connections busy. The two kinds take turns, and each figure is given with its spread.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use common::{Running, WHOAMI, call, start_with};
use http::Response;
use http_body_util::Full;
use inborn_listener::Limits;
use inborn_region::{KeySource, Rate, Rates, RequestOrigin};
use inborn_store::SqliteStore;
use tokio::net::TcpListener;
use tokio::sync::watch;

const ROUNDS: usize = 9;
const REQUESTS: usize = 20_480;
const CONNECTIONS: usize = 64;
const BODY_BYTES_MAX: usize = 16 * 1024;

/// A server thread: asks it for its CPU time so far.
struct Server {
    constant: SocketAddr,
    whoami: SocketAddr,
    ask: Sender<()>,
    told: Receiver<Duration>,
    request: String,
}

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let server = serve();
    let mut ratios = Vec::new();
    let (mut constants, mut calls) = (Vec::new(), Vec::new());
    for round in 0..=ROUNDS {
        let constant = server.cpu_per_request(server.constant);
        let whoami = server.cpu_per_request(server.whoami);
        // The first round warms up.
        if round > 0 {
            ratios.push(whoami / constant);
            constants.push(constant);
            calls.push(whoami);
        }
    }
    println!(
        "CPU per request, {ROUNDS} rounds of {REQUESTS}, {CONNECTIONS} connections kept alive: min / median / max"
    );
    show("  constant           µs", &mut constants);
    show("  GetCallerIdentity  µs", &mut calls);
    show("  ratio                ", &mut ratios);
}

fn show(name: &str, figures: &mut [f64]) {
    figures.sort_by(f64::total_cmp);
    println!("{name}  {:.2} / {:.2} / {:.2}", figures[0], figures[figures.len() / 2], figures[figures.len() - 1]);
}

impl Server {
    /// Microseconds. All connections are written to before the first is read from, so that the server always has work:
    /// putting a thread to sleep and waking it costs more than either kind of answer.
    fn cpu_per_request(&self, address: SocketAddr) -> f64 {
        let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| TcpStream::connect(address).unwrap()).collect();
        streams.iter().for_each(|stream| stream.set_nodelay(true).unwrap());
        let before = self.cpu();
        let mut buffer = vec![0; 8192];
        for _ in 0..REQUESTS / CONNECTIONS {
            for stream in &mut streams {
                stream.write_all(self.request.as_bytes()).unwrap();
            }
            for stream in &mut streams {
                let read = stream.read(&mut buffer).unwrap();
                assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
            }
        }
        (self.cpu() - before).as_secs_f64() * 1e6 / REQUESTS as f64
    }

    fn cpu(&self) -> Duration {
        self.ask.send(()).unwrap();
        self.told.recv().unwrap()
    }
}

fn serve() -> Server {
    let (ask, asked) = channel::<()>();
    let (tell, told) = channel();
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let none = Rate { per_second: 0, burst: 0 };
            let rates = Rates { source: none, principal: none };
            let store = Arc::new(SqliteStore::in_memory().unwrap());
            let running = start_with(tempfile::tempdir().unwrap(), store, KeySource::Ephemeral, rates).await;
            let id = running.launch().await;
            let request =
                running.signed(&running.machine(id), &call("sts", WHOAMI)).replace("connection: close\r\n", "");
            let (_stop, stopping) = watch::channel(false);
            let constant = listen(stopping.clone(), None).await;
            let whoami = listen(stopping, Some(&running)).await;
            ready.send((constant, whoami, request)).unwrap();
            loop {
                while asked.try_recv().is_ok() {
                    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                    let seconds = u64::try_from(time.tv_sec).unwrap();
                    tell.send(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap())).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        });
    });
    let (constant, whoami, request) = is_ready.recv().unwrap();
    Server { constant, whoami, ask, told, request }
}

/// A listener of the real service, or of one that reads the body and answers as many bytes.
async fn listen(stop: watch::Receiver<bool>, running: Option<&Running>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let region = running.map(|running| Arc::clone(&running.region));
    tokio::spawn(inborn_listener::serve(listener, None, Limits::DEFAULT, stop, move |request, peer| {
        let region = region.clone();
        async move {
            match region {
                Some(region) => region.handle(request, RequestOrigin { peer, machine: None }).await,
                None => {
                    let body = request.into_body();
                    let _ = inborn_listener::read_body(body, BODY_BYTES_MAX, Duration::from_secs(5)).await;
                    Response::new(Full::new(Bytes::from_static(&[b'x'; 500])))
                }
            }
        }
    }));
    address
}
