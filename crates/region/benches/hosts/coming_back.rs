//! All hosts of a server come back at once after it was killed: `INBORN_BENCH_HOSTS=10000 cargo bench -p inborn-region --bench hosts -- return`,
//! and `-- return 0` for hosts that do not spread over the time that the region has told them.
//!
//! Three processes: this one, which kills the server and asks it who an operator is meanwhile; the server, over SQLite in a directory; all
//! hosts, each with a connection of its own, from several loopback addresses.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use inborn_fleet::MACHINES;
use inborn_pki::tls;
use inborn_region::{HostsEndpoint, KeySource, Opening, RegionServer, RequestOrigin};
use inborn_store::SqliteStore;
use inborn_testkit::ManualClock;
use rustls::ClientConfig;
use serde_json::json;
use tokio::io::AsyncReadExt;
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::common::hosts::{Host, today};
use super::common::{Running, WHOAMI, call};
use super::{Written, opening_in, say};

/// Hosts that join at a time: as many as are let in at once.
const JOINING: usize = 4;
/// Connections of one source address.
const OF_ONE_ADDRESS: usize = 2500;
/// How long a host waits for a connection, and for an answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// How often it is asked who an operator is.
const WHOAMI_EVERY: Duration = Duration::from_millis(50);
/// The longest window of tries. Source: `host-agent/src/backoff.rs`.
const WINDOW_MAX: Duration = Duration::from_secs(300);

fn process(arguments: &[&str]) -> (Child, BufReader<ChildStdout>) {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let out = BufReader::new(child.stdout.take().unwrap());
    (child, out)
}

fn line(out: &mut impl BufRead) -> String {
    let mut line = String::new();
    assert!(out.read_line(&mut line).unwrap() > 0, "the other process has ended");
    line.trim().to_owned()
}

/// Kills the server of so many hosts and starts it again.
pub(crate) fn measure(count: usize, is_spread: bool) {
    let directory = tempfile::tempdir().unwrap();
    let at = directory.path().to_str().unwrap();
    let (mut server, mut said) = process(&["serve", at, &count.to_string()]);
    let ready: Vec<String> = line(&mut said).split(' ').map(str::to_owned).collect();
    let (hosts, calls, whoami) = (&ready[0], ready[1].parse().unwrap(), ready[2].clone());
    let (mut clients, mut told) = process(&["hosts", hosts, at, if is_spread { "spread" } else { "at once" }]);
    let began = line(&mut told);
    println!("{count} hosts, {began}; the server has {} MB", resident(server.id()) >> 20);
    server.kill().unwrap();
    server.wait().unwrap();
    let killed = Instant::now();
    let (mut server, mut said) = process(&["serve", at, &count.to_string(), hosts, &ready[1]]);
    line(&mut said);
    println!("  it is there again after {:.1} s", killed.elapsed().as_secs_f64());
    let before = processor(server.id());
    let asking = std::thread::spawn(move || ask_who(calls, &whoami));
    let back = line(&mut told);
    let (took, busy) = (killed.elapsed(), processor(server.id()) - before);
    IS_OVER.store(1, Ordering::SeqCst);
    let mut waits = asking.join().unwrap();
    waits.sort_unstable();
    println!("  all have asked again after {:.1} s: {back}", took.as_secs_f64());
    println!(
        "  processor of the server {:.1} s, {:.2} ms each",
        busy.as_secs_f64(),
        busy.as_secs_f64() * 1e3 / count as f64
    );
    println!("  memory of the server {} MB, {} MB at most", resident(server.id()) >> 20, peak(server.id()) >> 20);
    let at = |share: usize| waits[(waits.len() * share / 100).min(waits.len() - 1)].as_millis();
    println!(
        "  GetCallerIdentity, {} times: median {} ms, 99 of 100 {} ms, at most {} ms",
        waits.len(),
        at(50),
        at(99),
        at(100)
    );
    drop(clients.stdin.take());
    let _ = clients.wait();
    let _ = server.kill();
    let _ = server.wait();
}

static IS_OVER: AtomicUsize = AtomicUsize::new(0);

/// Asks again and again, each time over a new connection; gives how long each took.
fn ask_who(address: SocketAddr, text: &str) -> Vec<Duration> {
    let text = BASE64.decode(text).unwrap();
    let mut waits = Vec::new();
    while IS_OVER.load(Ordering::SeqCst) == 0 {
        let begun = Instant::now();
        let mut stream = std::net::TcpStream::connect(address).unwrap();
        stream.write_all(&text).unwrap();
        let mut answer = String::new();
        std::io::Read::read_to_string(&mut stream, &mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        waits.push(begun.elapsed());
        std::thread::sleep(WHOAMI_EVERY);
    }
    waits
}

fn status(process: u32, name: &str) -> usize {
    let text = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = text.lines().find(|line| line.starts_with(name)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

fn resident(process: u32) -> usize {
    status(process, "VmRSS:")
}

fn peak(process: u32) -> usize {
    status(process, "VmHWM:")
}

/// Of all its threads, also those that have ended. Clock ticks are hundredths of a second on Linux.
fn processor(process: u32) -> Duration {
    let text = std::fs::read_to_string(format!("/proc/{process}/stat")).unwrap();
    let fields: Vec<&str> = text.rsplit_once(") ").unwrap().1.split(' ').collect();
    let ticks: u64 = fields[11..13].iter().map(|ticks| ticks.parse::<u64>().unwrap()).sum();
    Duration::from_millis(ticks * 10)
}

/// The server: in a directory where hosts have joined already, or join now.
pub(crate) async fn serve(directory: &Path, count: usize, at: &[String]) {
    let store = Arc::new(SqliteStore::open(&directory.join("inborn.db")).unwrap());
    let opening = Opening {
        key_source: KeySource::File(directory.join("epoch.key")),
        audit_file: directory.join("audit.jsonl"),
        ..opening_in(directory)
    };
    let now = today();
    let clock = Arc::new(ManualClock::new(now));
    let region = RegionServer::open(store, opening, Arc::clone(&clock) as _).await.unwrap();
    let place = |index: usize| at.get(index).map_or("127.0.0.1:0", String::as_str).to_owned();
    let listening = async |at: String| TcpListener::bind(at).await.unwrap();
    let (hosts, calls) = (listening(place(0)).await, listening(place(1)).await);
    let (hosts_at, calls_at) = (hosts.local_addr().unwrap(), calls.local_addr().unwrap());
    let (_stop, stopping) = watch::channel(false);
    let authority = region.hosts_authority();
    let fingerprint = authority.fingerprint();
    let certificate = tls::HostsEndpointCertificate::new(authority, now).unwrap();
    let config = tls::hosts_server_config(authority, certificate).unwrap();
    let endpoint = HostsEndpoint::new(Arc::clone(&region));
    let respond = move |request, peer| Arc::clone(&endpoint).respond(request, peer);
    // As `inborn region` serves them.
    let limits = inborn_listener::Limits { connections_max: 32_768, ..inborn_listener::Limits::DEFAULT };
    tokio::spawn(inborn_listener::serve(hosts, Some(config), limits, stopping.clone(), respond));
    let served = Arc::clone(&region);
    let respond = move |request, peer| Arc::clone(&served).handle(request, RequestOrigin { peer, machine: None });
    tokio::spawn(inborn_listener::serve(calls, None, inborn_listener::Limits::DEFAULT, stopping, respond));
    let running = Running::serving(region, clock, calls_at);
    if at.is_empty() {
        join(&running, hosts_at, fingerprint, directory, count).await;
    }
    let whoami = running.signed(&running.operator(), &call("sts", WHOAMI));
    println!("{hosts_at} {calls_at} {}", BASE64.encode(whoami));
    core::future::pending().await
}

async fn join(running: &Running, at: SocketAddr, authority: [u8; 32], directory: &Path, count: usize) {
    let endpoint = super::common::hosts::Endpoint::at(at, authority);
    let places = Semaphore::new(JOINING);
    let joining = (0..count).map(async |_| {
        let _place = places.acquire().await.unwrap();
        let host = Host::joined(running, &endpoint).await;
        serde_json::to_string(&Written::of(&host, authority)).unwrap()
    });
    let joined = futures_util::future::join_all(joining).await;
    std::fs::write(directory.join("hosts"), joined.join("\n")).unwrap();
}

/// How it went for a host.
#[derive(Default)]
struct Return {
    took: Duration,
    failures: usize,
}

/// All hosts. Each says which machines it knows, one of which is gone: so it is answered at once the first time, and waits from then on.
pub(crate) async fn hosts(address: SocketAddr, directory: PathBuf, is_spread: bool) {
    let text = std::fs::read_to_string(directory.join("hosts")).unwrap();
    let all: Vec<Written> = text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
    let count = all.len();
    let places = Arc::new(Semaphore::new(64));
    let (tell, mut told) = tokio::sync::mpsc::channel(count);
    let (back, mut are_back) = tokio::sync::mpsc::channel(count);
    for (number, one) in all.into_iter().enumerate() {
        let (tell, back, places) = (tell.clone(), back.clone(), Arc::clone(&places));
        tokio::spawn(async move {
            let source = Ipv4Addr::new(127, 0, 1, u8::try_from(1 + number / OF_ONE_ADDRESS).unwrap());
            let config = one.config();
            let (mut stream, told_spread) = {
                let _place = places.acquire().await.unwrap();
                // A computer that has much else to do may be too slow for one of them.
                loop {
                    if let Ok(come) = come(address, source, &config).await {
                        break come;
                    }
                }
            };
            let spread = if is_spread { Duration::from_secs(told_spread) } else { Duration::ZERO };
            tell.send(told_spread).await.unwrap();
            while waits(&mut stream).await {}
            let begun = Instant::now();
            let mut result = Return::default();
            let mut window = spread.max(Duration::from_secs(1));
            if !spread.is_zero() {
                tokio::time::sleep(spread.mul_f64(fraction())).await;
            }
            loop {
                match come(address, source, &config).await {
                    Ok((back, _)) => break stream = back,
                    Err(_) => {
                        result.failures += 1;
                        window = (window * 2).min(WINDOW_MAX);
                        tokio::time::sleep(window.mul_f64(fraction())).await;
                    }
                }
            }
            result.took = begun.elapsed();
            back.send(result).await.unwrap();
            while waits(&mut stream).await {}
        });
    }
    let mut spreads = BTreeMap::<u64, usize>::new();
    for _ in 0..count {
        *spreads.entry(told.recv().await.unwrap()).or_default() += 1;
    }
    println!("told to spread over {:?} s", spreads.keys().next_back().unwrap());
    let (mut took, mut failures) = (Vec::new(), 0);
    for _ in 0..count {
        let result = are_back.recv().await.unwrap();
        took.push(result.took);
        failures += result.failures;
    }
    took.sort_unstable();
    let at = |share: usize| took[(count * share / 100).min(count - 1)].as_secs_f64();
    println!(
        "a host after {:.1} s in the middle, 99 of 100 after {:.1}, the last after {:.1}; {failures} tries failed",
        at(50),
        at(99),
        at(100)
    );
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

fn fraction() -> f64 {
    let mut bytes = [0; 4];
    inborn_chance::fill(&mut bytes).unwrap();
    f64::from(u32::from_be_bytes(bytes)) / f64::from(u32::MAX)
}

/// Connects and asks, and is answered; gives over how many seconds the region says that hosts spread.
async fn come(
    address: SocketAddr,
    source: Ipv4Addr,
    config: &Arc<ClientConfig>,
) -> std::io::Result<(TlsStream<TcpStream>, u64)> {
    let coming = async {
        let socket = TcpSocket::new_v4()?;
        socket.bind((source, 0).into())?;
        let stream = socket.connect(address).await?;
        stream.set_nodelay(true)?;
        let name = tls::hosts_endpoint_name().unwrap();
        let mut stream = TlsConnector::from(Arc::clone(config)).connect(name, stream).await?;
        let known = json!({ "known": { "i-0123456789abcdef0": "gone" } });
        say(&mut stream, MACHINES, &known).await?;
        let body = answer(&mut stream).await?;
        let told: serde_json::Value = serde_json::from_slice(&body)?;
        let spread = told["spread_seconds"].as_u64().unwrap();
        say(&mut stream, MACHINES, &json!({ "known": {} })).await?;
        Ok((stream, spread))
    };
    tokio::time::timeout(PATIENCE, coming).await.unwrap_or_else(|_| Err(std::io::ErrorKind::TimedOut.into()))
}

/// Waits for the answer, and asks again; whether there was one.
async fn waits(stream: &mut TlsStream<TcpStream>) -> bool {
    answer(stream).await.is_ok() && say(stream, MACHINES, &json!({ "known": {} })).await.is_ok()
}

async fn answer(stream: &mut TlsStream<TcpStream>) -> std::io::Result<Vec<u8>> {
    let (mut answer, mut buffer) = (Vec::new(), [0; 4096]);
    loop {
        let read = stream.read(&mut buffer).await?;
        if read == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
        answer.extend_from_slice(&buffer[..read]);
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]).into_owned();
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if answer.len() >= end + 4 + length.parse::<usize>().unwrap() {
            return if head.starts_with("HTTP/1.1 200") {
                Ok(answer.split_off(end + 4))
            } else {
                Err(std::io::Error::other(head))
            };
        }
    }
}
