//! The memory of a region under more telemetry than it has room for: the peak of a process of its own, while many connections
//! send it batches as large as they may be. The goal is 256 MB.
//!
//! One kind is as long as may be on the wire, the other as long as may be once it is stamped. Beside it, a listener that never
//! takes what it is told, as detection that cannot keep up.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::cast_possible_truncation, reason = "figures")]

#[path = "../tests/common/mod.rs"]
mod common;
#[path = "../../telemetry/benches/support/mod.rs"]
mod support;

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::telemetry::{Post, logs, signed_post};
use common::{NOW, Signer, start_by};
use inborn_lake::{Lake, Settings};
use inborn_region::{KeySource, Rate, Rates, TelemetrySettings};
use inborn_store::SqliteStore;
use support::{Noise, event, gzip, request};

const RECORDS: usize = 10_000;
/// What fills 4 MiB when it is compressed.
const RECORD_BYTES: usize = 800;
/// Different requests of each kind.
const KINDS: usize = 6;
const CONNECTIONS: usize = 64;
const REQUESTS_EACH: usize = 6;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    if std::env::args().any(|argument| argument == "serve") {
        return serve();
    }
    let mut server = Command::new(std::env::current_exe().unwrap())
        .arg("serve")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.take().unwrap()).read_line(&mut line).unwrap();
    let words: Vec<&str> = line.split_whitespace().collect();
    let address: SocketAddr = words[0].parse().unwrap();
    let signer =
        Signer { access_key_id: words[1].to_owned(), secret: words[2].to_owned(), token: Some(words[3].to_owned()) };
    let idle = memory(server.id(), "VmRSS");
    let requests = requests(&signer);
    let outcomes: Vec<u16> = std::thread::scope(|scope| {
        let requests = &requests;
        let all: Vec<_> = (0..CONNECTIONS)
            .map(|first| {
                let client = move || {
                    (first..first + REQUESTS_EACH).map(|at| send(address, &requests[at % requests.len()])).collect()
                };
                scope.spawn(client)
            })
            .collect();
        all.into_iter().flat_map(|client| -> Vec<u16> { client.join().unwrap() }).collect()
    });
    let (peak, after) = (memory(server.id(), "VmHWM"), memory(server.id(), "VmRSS"));
    drop(server.stdin.take());
    let _ = server.wait();
    let mut counts = BTreeMap::new();
    outcomes.iter().for_each(|status| *counts.entry(status).or_insert(0) += 1);
    println!("{CONNECTIONS} connections, {REQUESTS_EACH} requests each of {RECORDS} records, as large as they may be");
    println!("  answered     {counts:?} (status: requests; 0 is none)");
    println!("  memory       {idle} MB idle, {peak} MB at most (the goal is 256), {after} MB afterwards");
}

fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let directory = tempfile::tempdir().unwrap();
    runtime.block_on(async {
        let none = Rate { per_second: 0, burst: 0 };
        let rates = Rates { source: none, principal: none };
        let settings = TelemetrySettings { quota: 0, ..TelemetrySettings::default() };
        let store = Arc::new(SqliteStore::in_memory().unwrap());
        let running = start_by(tempfile::tempdir().unwrap(), store, KeySource::Ephemeral, rates, settings).await;
        let lake = Lake::open(&directory.path().join("lake"), Settings::default(), running.region.now()).unwrap();
        assert!(running.kept.lake.set(lake).is_ok());
        let _never_heard = running.region.telemetry().listen();
        let machine = running.machine(running.launch().await);
        let token = machine.token.unwrap();
        println!("{} {} {} {token}", running.address, machine.access_key_id, machine.secret);
        let stopped = tokio::task::spawn_blocking(|| std::io::stdin().read(&mut [0]));
        let _ = stopped.await;
    });
}

fn requests(signer: &Signer) -> Vec<Vec<u8>> {
    let mut noise = Noise(0x9e37_79b9_7f4a_7c15);
    let claim = "\u{1}".repeat(inborn_telemetry::limits::AGENT_BYTES_MAX);
    let mut all = Vec::new();
    for _ in 0..KINDS {
        let long = request(&[], (0..RECORDS).map(|_| event(&mut noise, RECORD_BYTES)));
        let claims = [("host.id", claim.as_str()), ("cloud.region", claim.as_str())];
        let short = || format!("{{\"class_uid\":1007,\"metadata\":{{\"uid\":\"{:016x}\"}}}}", noise.next());
        let claiming = request(&claims, std::iter::repeat_with(short).take(RECORDS));
        for body in [long, claiming] {
            let post = Post { encoding: "gzip", ..logs("application/x-protobuf", gzip(&body)) };
            all.push(signed_post(signer, &post, NOW));
        }
    }
    let longest = all.iter().map(Vec::len).max().unwrap_or_default();
    println!("the longest request has {} KiB on the wire", longest / 1024);
    all
}

/// The status of the answer.
fn send(address: SocketAddr, request: &[u8]) -> u16 {
    let mut stream = TcpStream::connect(address).unwrap();
    // Whoever is refused need not be heard to the end.
    let _ = stream.write_all(request);
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer);
    let answer = String::from_utf8_lossy(&answer);
    answer.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0)
}

/// Megabytes of a process, by a line of its `status`.
fn memory(process: u32, what: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix(what)).unwrap();
    let kibibytes: u64 = line.trim_start_matches(':').split_whitespace().next().unwrap().parse().unwrap();
    kibibytes * 1024 / 1_000_000
}
