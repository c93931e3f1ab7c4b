//! How long one guest waits for its credentials, alone and while another asks as much as it can.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::channel;
use std::time::{Duration, Instant};

use inborn_host::MetadataLimits;
use tokio::net::TcpListener;

use crate::lab;
use crate::spread;

const ROUNDS: usize = 9;
/// In each round, alone and beside the other.
const SAMPLES: usize = 400;
const PAUSE: Duration = Duration::from_millis(2);
/// Connections of the guest that asks too much; each asks again as soon as it is answered.
const HAMMERS: usize = 64;
const REQUEST: &[u8] =
    b"PUT /latest/api/token HTTP/1.1\r\nHost: x\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n\r\n";

pub(crate) fn run() {
    let (quiet, busy) = serve();
    let hammering = Arc::new(AtomicBool::new(false));
    let answered = Arc::new(AtomicU64::new(0));
    for _ in 0..HAMMERS {
        let (hammering, answered) = (Arc::clone(&hammering), Arc::clone(&answered));
        std::thread::spawn(move || {
            loop {
                if hammering.load(Ordering::Relaxed) {
                    ask(busy);
                    answered.fetch_add(1, Ordering::Relaxed);
                } else {
                    std::thread::sleep(Duration::from_millis(1));
                }
            }
        });
    }
    let (mut alone, mut beside, mut ratios) = (Vec::new(), Vec::new(), Vec::new());
    let mut asked = Duration::ZERO;
    for round in 0..=ROUNDS {
        let quiet_p99 = p99(quiet);
        let begin = Instant::now();
        hammering.store(true, Ordering::Relaxed);
        let busy_p99 = p99(quiet);
        hammering.store(false, Ordering::Relaxed);
        asked += begin.elapsed();
        if round > 0 {
            alone.push(quiet_p99);
            beside.push(busy_p99);
            ratios.push(busy_p99 / quiet_p99);
        }
    }
    println!("the wait for a token, 99th percentile of {SAMPLES}, {ROUNDS} rounds: min / median / max");
    for (name, figures) in [("alone  ms", &mut alone), ("beside ms", &mut beside), ("ratio    ", &mut ratios)] {
        let (min, median, max) = spread(figures);
        println!("    {name}  {min:.2} / {median:.2} / {max:.2}");
    }
    let rate = answered.load(Ordering::Relaxed) as f64 / asked.as_secs_f64();
    println!("    the other, with {HAMMERS} connections, got {rate:.0} answers a second");
}

/// Milliseconds.
fn p99(address: SocketAddr) -> f64 {
    let mut waits: Vec<f64> = (0..SAMPLES)
        .map(|_| {
            std::thread::sleep(PAUSE);
            let begin = Instant::now();
            ask(address);
            begin.elapsed().as_secs_f64() * 1e3
        })
        .collect();
    waits.sort_by(f64::total_cmp);
    waits[SAMPLES * 99 / 100]
}

fn ask(address: SocketAddr) {
    let Ok(mut stream) = TcpStream::connect(address) else { return };
    let mut answer = Vec::new();
    let _ = stream.write_all(REQUEST);
    let _ = stream.read_to_end(&mut answer);
}

/// As the product serves: on as many threads as there are processors.
fn serve() -> (SocketAddr, SocketAddr) {
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let host = lab::host(MetadataLimits::DEFAULT);
            let mut addresses = Vec::new();
            for number in [1, 2] {
                let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
                addresses.push(listener.local_addr().unwrap());
                host.attach_pocket(lab::machine(number), [listener]);
            }
            ready.send((addresses[0], addresses[1])).unwrap();
            std::future::pending::<()>().await;
        });
    });
    is_ready.recv().unwrap()
}
