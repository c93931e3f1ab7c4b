//! Events a second that are accepted and on disk, end to end over HTTP, for each core that the server keeps busy; and how long
//! an acknowledgement takes. Beside the floor, in the same run: the hash, the inflating, the append and the fdatasync of the
//! same bytes, without which nothing can be acknowledged.
//!
//! CPU is that of the whole process without the clients' threads, which only write what was signed before.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::cast_precision_loss, clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "figures")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../../telemetry/benches/support/mod.rs"]
mod support;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::{Duration, Instant};

use common::telemetry::{Post, logs};
use common::{Running, start_by};
use inborn_lake::{Lake, Settings};
use inborn_region::{KeySource, Rate, Rates, TelemetrySettings};
use inborn_store::SqliteStore;
use rustix::time::{ClockId, clock_gettime};
use support::{Noise, event, gzip, request};

const RECORDS: usize = 500;
const RECORD_BYTES: usize = 780;
const REQUESTS: usize = 96;
const CONNECTIONS: usize = 4;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let bodies: Vec<Vec<u8>> = (0..REQUESTS).map(|_| gzip(&batch(&mut noise))).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (running, requests) = runtime.block_on(prepare(directory.path(), &bodies));
    let floor = floor(directory.path(), &bodies);
    let (cpu, wall, mut waits) = send(running.address, &requests);
    waits.sort();
    let records = (REQUESTS * RECORDS) as f64;
    let wire = bodies.iter().map(Vec::len).sum::<usize>() as f64 / records;
    println!(
        "{RECORDS} records of {RECORD_BYTES} bytes a request, {wire:.0} bytes each on the wire, {CONNECTIONS} connections"
    );
    println!(
        "  accepted and durable  {:>8.0} records/s of a core, {:.0}/s by the clock",
        records / cpu,
        records / wall
    );
    println!(
        "  the floor             {:>8.0} records/s of a core; of it {:.0} %",
        records / floor,
        100.0 * floor / cpu
    );
    let at = |part: f64| waits[((waits.len() - 1) as f64 * part) as usize].as_secs_f64() * 1e3;
    println!("  acknowledged after    {:.1} ms / p99 {:.1} ms / at most {:.1} ms", at(0.5), at(0.99), at(1.0));
}

fn batch(noise: &mut Noise) -> Vec<u8> {
    request(&[], (0..RECORDS).map(|_| event(noise, RECORD_BYTES)))
}

/// A server on a lake of its own, and requests that it will take.
async fn prepare(directory: &std::path::Path, bodies: &[Vec<u8>]) -> (Running, Vec<Vec<u8>>) {
    let none = Rate { per_second: 0, burst: 0 };
    let rates = Rates { source: none, principal: none };
    let settings = TelemetrySettings { quota: 0, ..TelemetrySettings::default() };
    let store = Arc::new(SqliteStore::in_memory().unwrap());
    let running = start_by(tempfile::tempdir().unwrap(), store, KeySource::Ephemeral, rates, settings).await;
    let lake = Lake::open(&directory.join("lake"), Settings::default(), running.region.now()).unwrap();
    assert!(running.kept.lake.set(lake).is_ok());
    let machine = running.machine(running.launch().await);
    let signed = |body: &Vec<u8>| {
        let post = Post { encoding: "gzip", ..logs("application/x-protobuf", body.clone()) };
        let signed = running.signed_post(&machine, &post);
        let close = b"connection: close\r\n";
        let at = signed.windows(close.len()).position(|bytes| bytes == close).unwrap();
        [&signed[..at], &signed[at + close.len()..]].concat()
    };
    let requests = bodies.iter().map(signed).collect();
    (running, requests)
}

/// Seconds of CPU of the server, seconds by the clock, and how long each request waited.
fn send(address: SocketAddr, requests: &[Vec<u8>]) -> (f64, f64, Vec<Duration>) {
    let (started, before) = (Instant::now(), cpu(ClockId::ProcessCPUTime));
    let clients: Vec<(Vec<Duration>, f64)> = std::thread::scope(|scope| {
        let share = |index| requests.iter().skip(index).step_by(CONNECTIONS);
        let all: Vec<_> = (0..CONNECTIONS).map(|index| scope.spawn(move || client(address, share(index)))).collect();
        all.into_iter().map(|client| client.join().unwrap()).collect()
    });
    let spent = cpu(ClockId::ProcessCPUTime) - before - clients.iter().map(|client| client.1).sum::<f64>();
    let waits = clients.into_iter().flat_map(|client| client.0).collect();
    (spent, started.elapsed().as_secs_f64(), waits)
}

fn client<'a>(address: SocketAddr, requests: impl Iterator<Item = &'a Vec<u8>>) -> (Vec<Duration>, f64) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.set_nodelay(true).unwrap();
    let (mut waits, mut buffer) = (Vec::new(), [0; 4096]);
    for request in requests {
        let started = Instant::now();
        stream.write_all(request).unwrap();
        let read = stream.read(&mut buffer).unwrap();
        waits.push(started.elapsed());
        assert!(buffer[..read].starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer[..read]));
    }
    (waits, cpu(ClockId::ThreadCPUTime))
}

/// Seconds of CPU for what nobody can do without.
fn floor(directory: &std::path::Path, bodies: &[Vec<u8>]) -> f64 {
    let mut file = std::fs::File::create(directory.join("floor")).unwrap();
    let before = cpu(ClockId::ThreadCPUTime);
    let mut inflated = Vec::new();
    for body in bodies {
        std::hint::black_box(inborn_sigv4::sha256(body));
        inflated.clear();
        flate2::read::GzDecoder::new(body.as_slice()).read_to_end(&mut inflated).unwrap();
        file.write_all(&inflated).unwrap();
        file.sync_data().unwrap();
    }
    cpu(ClockId::ThreadCPUTime) - before
}

fn cpu(clock: ClockId) -> f64 {
    let time = clock_gettime(clock);
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}
