//! What hosts apart from their region cost a region server: processor for a connection with certificates of both sides, made whole or
//! resumed, for a call and for credentials; and memory for each that waits. Over real TLS and the listener that serves them.
//!
//! The server runs on a thread of its own, whose processor time is read; hosts are on another, and where memory is read, in another
//! process. The kinds take turns, and each figure is given with its spread.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "hosts/coming_back.rs"]
mod coming_back;
#[path = "../tests/common/mod.rs"]
mod common;

use std::io::{BufRead, BufReader, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use common::hosts::{Host, serve, today};
use common::{Running, ec2, identity, start_at};
use inborn_fleet::{CREDENTIALS, MACHINES};
use inborn_pki::{HostKey, tls};
use inborn_region::{EpochSettings, KeySource, Opening, Rate, Rates, TelemetrySettings};
use inborn_store::SqliteStore;
use rustls::{ClientConfig, HandshakeKind};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

const ROUNDS: usize = 7;
/// Hosts that are busy at the same time, so that the server always has work.
const BUSY: usize = 8;
/// Of each of them in a round.
const CONNECTIONS: usize = 64;
const CALLS: usize = 256;
/// Machines of each of them.
const MACHINES_OF_ONE: usize = 100;
/// Hosts that wait. Another number may be said by the variable `INBORN_BENCH_HOSTS`.
const WAITING: usize = 2000;
/// A path of no call: refused before anything is looked at.
const NOTHING: &str = "/host/v1/nothing";

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    inborn_listener::raise_file_descriptor_limit();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let arguments: Vec<String> = std::env::args().skip(1).filter(|argument| !argument.starts_with('-')).collect();
    match arguments.as_slice() {
        [what, address, file] if what == "wait" => runtime.block_on(wait(address.parse().unwrap(), file)),
        [what, rest @ ..] if what == "return" => coming_back::measure(count(), rest.is_empty()),
        [what, directory, count, at @ ..] if what == "serve" => {
            // As `inborn region` runs.
            let runtime = tokio::runtime::Runtime::new().unwrap();
            runtime.block_on(coming_back::serve(directory.as_ref(), count.parse().unwrap(), at));
        }
        [what, address, directory, how] if what == "hosts" => {
            runtime.block_on(coming_back::hosts(address.parse().unwrap(), directory.into(), how == "spread"));
        }
        _ => runtime.block_on(measure()),
    }
}

/// A host, as it stands in a file for the process of those that wait.
#[derive(serde::Serialize, serde::Deserialize)]
struct Written {
    authority: [u8; 32],
    certificate: String,
    key: String,
}

impl Written {
    fn of(host: &Host, authority: [u8; 32]) -> Self {
        Self { authority, certificate: host.certificate.clone().unwrap(), key: BASE64.encode(&*host.key.to_pkcs8()) }
    }

    fn config(&self) -> Arc<ClientConfig> {
        let key = HostKey::from_pkcs8(&BASE64.decode(&self.key).unwrap()).unwrap();
        tls::host_client_config(self.authority, Some((&self.certificate, &key))).unwrap()
    }
}

/// The server's thread: where it listens, who has joined, and its processor time.
struct Server {
    address: SocketAddr,
    busy: Vec<(Written, Vec<String>)>,
    waiting: Vec<Written>,
    ask: Sender<()>,
    told: Receiver<Duration>,
}

impl Server {
    fn processor(&self) -> Duration {
        // What is on its way to the server is there by then.
        std::thread::sleep(Duration::from_millis(100));
        self.ask.send(()).unwrap();
        self.told.recv().unwrap()
    }
}

fn start() -> Server {
    let (ask, asked) = channel::<()>();
    let (tell, told) = channel();
    let (ready, is_ready) = channel();
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let running = region().await;
            let at = serve(&running).await;
            let write = |host: &Host| Written::of(host, at.authority);
            let mut busy = Vec::new();
            for _ in 0..BUSY {
                let host = Host::joined(&running, &at).await;
                busy.push((write(&host), launch(&running, &host).await));
            }
            let mut waiting = Vec::new();
            for _ in 0..count() {
                waiting.push(write(&Host::joined(&running, &at).await));
            }
            ready.send((at.address, busy, waiting)).unwrap();
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
    let (address, busy, waiting) = is_ready.recv().unwrap();
    Server { address, busy, waiting, ask, told }
}

/// How many hosts there are that wait, or come back.
fn count() -> usize {
    std::env::var("INBORN_BENCH_HOSTS").map_or(WAITING, |number| number.parse().unwrap())
}

fn opening_in(directory: &Path) -> Opening {
    let none = Rate { per_second: 0, burst: 0 };
    Opening {
        identity: identity(),
        key_source: KeySource::Ephemeral,
        audit_file: directory.join("audit.jsonl"),
        rates: Rates { source: none, principal: none },
        telemetry: TelemetrySettings::default(),
        fleet: None,
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
    }
}

async fn region() -> Running {
    let directory = tempfile::tempdir().unwrap();
    let opening = opening_in(directory.path());
    start_at(directory, Arc::new(SqliteStore::in_memory().unwrap()), opening, today()).await
}

async fn launch(running: &Running, host: &Host) -> Vec<String> {
    let call = format!(
        "Action=RunInstances&ImageId=ami-12345678&MinCount={MACHINES_OF_ONE}&MaxCount={MACHINES_OF_ONE}&Placement.HostId={}",
        host.id()
    );
    let reply = running.send(&running.operator(), &ec2(&call)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    let ids = reply.body.split("<instanceId>").skip(1);
    ids.map(|rest| rest.split('<').next().unwrap().to_owned()).collect()
}

async fn measure() {
    let server = start();
    let mut figures: [Vec<f64>; 5] = Default::default();
    for round in 0..=ROUNDS {
        let measured = [
            server.connections(false).await,
            server.connections(true).await,
            server.calls(NOTHING, |_| json!({})).await,
            server.calls(CREDENTIALS, |ids| json!({ "instances": ids[..1] })).await,
            server.calls(CREDENTIALS, |ids| json!({ "instances": ids })).await,
        ];
        // The first round warms up.
        if round > 0 {
            figures.iter_mut().zip(measured).for_each(|(all, one)| all.push(one));
        }
    }
    println!("Processor of a region server, {ROUNDS} rounds, {BUSY} hosts at a time: min / median / max");
    let [whole, resumed, call, one, hundred] = &mut figures;
    show("  a connection, made whole, and one call      µs", whole);
    show("  a connection, resumed, and one call         µs", resumed);
    show("  a call over one that is kept                µs", call);
    show("  credentials of one machine                  µs", one);
    show("  credentials of a hundred machines           µs", hundred);
    server.memory();
}

fn show(name: &str, figures: &mut [f64]) {
    figures.sort_by(f64::total_cmp);
    println!("{name}  {:.1} / {:.1} / {:.1}", figures[0], figures[figures.len() / 2], figures[figures.len() - 1]);
}

impl Server {
    /// Microseconds for a connection and a call over it that is refused at once.
    async fn connections(&self, is_resumed: bool) -> f64 {
        let hosts = self.busy.iter().map(|(host, _)| host.config()).collect::<Vec<_>>();
        // A ticket for the first.
        for config in &hosts {
            ask(&mut connect(self.address, config).await, NOTHING, &json!({})).await;
        }
        let before = self.processor();
        let one = async |written: &Written, kept: &Arc<ClientConfig>| {
            for _ in 0..CONNECTIONS {
                let config = if is_resumed { Arc::clone(kept) } else { written.config() };
                let mut stream = connect(self.address, &config).await;
                let expected = if is_resumed { HandshakeKind::Resumed } else { HandshakeKind::Full };
                assert_eq!(stream.get_ref().1.handshake_kind(), Some(expected));
                ask(&mut stream, NOTHING, &json!({})).await;
            }
        };
        let all = self.busy.iter().zip(&hosts).map(|((written, _), kept)| one(written, kept));
        futures_util::future::join_all(all).await;
        (self.processor() - before).as_secs_f64() * 1e6 / (BUSY * CONNECTIONS) as f64
    }

    /// Microseconds for a call, each host over a connection of its own.
    async fn calls(&self, path: &str, question: impl Fn(&[String]) -> Value) -> f64 {
        let mut hosts = Vec::new();
        for (written, ids) in &self.busy {
            hosts.push((connect(self.address, &written.config()).await, question(ids)));
        }
        let before = self.processor();
        let one = async |stream: &mut TlsStream<TcpStream>, asked: &Value| {
            for _ in 0..CALLS {
                ask(stream, path, asked).await;
            }
        };
        futures_util::future::join_all(hosts.iter_mut().map(|(stream, asked)| one(stream, asked))).await;
        (self.processor() - before).as_secs_f64() * 1e6 / (BUSY * CALLS) as f64
    }

    /// What each host takes that waits for changes.
    fn memory(&self) {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        for one in &self.waiting {
            writeln!(file, "{}", serde_json::to_string(one).unwrap()).unwrap();
        }
        let (before, processor) = (resident(), self.processor());
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["wait", &self.address.to_string(), file.path().to_str().unwrap()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        BufReader::new(child.stdout.take().unwrap()).read_line(&mut line).unwrap();
        let count = self.waiting.len();
        assert_eq!(line.trim(), format!("{count} wait"));
        let took = self.processor() - processor;
        println!(
            "{count} hosts that wait for changes\n  kB of memory each  {:.1}\n  µs of processor for each to connect and to ask  {:.1}",
            (resident() - before) as f64 / 1e3 / count as f64,
            took.as_secs_f64() * 1e6 / count as f64
        );
        drop(child.stdin.take());
        assert!(child.wait().unwrap().success());
    }
}

/// The memory of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// The process of the hosts that wait: until its standard input ends.
async fn wait(address: SocketAddr, file: &str) {
    let mut streams = Vec::new();
    for line in std::fs::read_to_string(file).unwrap().lines() {
        let written: Written = serde_json::from_str(line).unwrap();
        let mut stream = connect(address, &written.config()).await;
        say(&mut stream, MACHINES, &json!({ "known": {} })).await.unwrap();
        streams.push(stream);
    }
    println!("{} wait", streams.len());
    let _ = std::io::stdin().lock().read_line(&mut String::new());
}

async fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> TlsStream<TcpStream> {
    let stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    TlsConnector::from(Arc::clone(config)).connect(tls::hosts_endpoint_name().unwrap(), stream).await.unwrap()
}

async fn say(stream: &mut TlsStream<TcpStream>, path: &str, asked: &Value) -> std::io::Result<()> {
    let body = asked.to_string();
    let text = format!("POST {path} HTTP/1.1\r\nhost: hosts\r\ncontent-length: {}\r\n\r\n{body}", body.len());
    stream.write_all(text.as_bytes()).await?;
    stream.flush().await
}

/// Asks, and reads the whole answer.
async fn ask(stream: &mut TlsStream<TcpStream>, path: &str, asked: &Value) {
    say(stream, path, asked).await.unwrap();
    let (mut answer, mut buffer) = (Vec::new(), vec![0; 64 * 1024]);
    loop {
        let read = stream.read(&mut buffer).await.unwrap();
        assert!(read > 0, "{path}");
        answer.extend_from_slice(&buffer[..read]);
        let Some(end) = answer.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
        let head = String::from_utf8_lossy(&answer[..end]);
        assert_eq!(head.starts_with("HTTP/1.1 200"), path != NOTHING, "{head}");
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
        if answer.len() >= end + 4 + length.parse::<usize>().unwrap() {
            return;
        }
    }
}
