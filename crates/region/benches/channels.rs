//! Thousands of agents that are connected and say nothing: what they cost in memory and processor. And a session: what the
//! region adds between its two sides, and how much it carries. Without TLS, which is rustls's to measure.
//!
//! The region runs on one thread, so that its processor time is told apart from that of agents and clients. Memory is that of
//! the whole process: the agents' ends are bare sockets, which cost it next to nothing.
#![allow(clippy::unwrap_used, clippy::panic, clippy::print_stdout, clippy::indexing_slicing, reason = "a benchmark")]

#[path = "../tests/common/mod.rs"]
mod common;

use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::{Duration, Instant};

use common::agent::Agent;
use common::channel::{BODY, Socket, connect, create, open, opening, upgrading};
use common::{Running, Signer, between, ec2, json, start_with};
use futures_util::{SinkExt, StreamExt};
use inborn_identity::InstanceId;
use inborn_region::{KeySource, Rate, Rates};
use inborn_store::SqliteStore;
use inborn_wire::message_gateway::Frame;
use inborn_wire::uuid::Uuid;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::Message;

/// Both ends are in this process, which has two descriptors for each: 20,000 are all that some computers give.
const CHANNELS: usize = 9_000;
/// What the product promises for [`PROMISED`] channels.
const MEMORY_MAX: f64 = 600e6;
const PROCESSOR_MAX: f64 = 0.05;
const PROMISED: usize = 10_000;
/// How long the idle agents are watched. Each sends a ping every 54 seconds.
const WATCHED: Duration = Duration::from_secs(20);
const PING_EVERY: Duration = Duration::from_secs(54);
const ECHOES: usize = 5000;
const BYTES: usize = 512 << 20;

fn main() {
    // `cargo test --benches` only wants to see that it starts.
    if std::env::args().any(|argument| argument == "--test") {
        return;
    }
    inborn_listener::raise_file_descriptor_limit();
    let server = serve();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    runtime.block_on(async {
        session(&server).await;
        idle(&server).await;
    });
}

/// A region on a thread of its own, and the processor time of that thread.
struct Server {
    running: Running,
    ask: Sender<()>,
    told: Receiver<Duration>,
}

impl Server {
    fn processor(&self) -> Duration {
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
            let store = Arc::new(SqliteStore::in_memory().unwrap());
            let rates = Rates { source: none, principal: none };
            ready.send(start_with(tempfile::tempdir().unwrap(), store, KeySource::Ephemeral, rates).await).unwrap();
            loop {
                while asked.try_recv().is_ok() {
                    let time = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
                    let seconds = u64::try_from(time.tv_sec).unwrap();
                    tell.send(Duration::new(seconds, u32::try_from(time.tv_nsec).unwrap())).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        });
    });
    Server { running: is_ready.recv().unwrap(), ask, told }
}

/// The memory of this process.
fn resident() -> usize {
    let text = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = text.lines().find(|line| line.starts_with("VmRSS:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse::<usize>().unwrap() << 10
}

/// A connection for many calls: ten thousand would use up the ports.
struct Caller {
    stream: TcpStream,
}

impl Caller {
    async fn to(running: &Running) -> Self {
        Self { stream: TcpStream::connect(running.address).await.unwrap() }
    }

    async fn send(&mut self, text: &str) -> String {
        self.stream.write_all(text.replace("connection: close\r\n", "").as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let mut buffer = vec![0; 1 << 16];
        loop {
            let read = self.stream.read(&mut buffer).await.unwrap();
            assert!(read > 0);
            answer.extend_from_slice(&buffer[..read]);
            let text = String::from_utf8_lossy(&answer);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if body.len() >= length.parse::<usize>().unwrap() {
                    assert!(head.starts_with("HTTP/1.1 20"), "{text}");
                    return body.to_owned();
                }
            }
        }
    }
}

async fn launch(running: &Running, count: usize) -> Vec<InstanceId> {
    let call = format!("Action=RunInstances&ImageId=ami-12345678&MinCount={count}&MaxCount={count}");
    let reply = running.send(&running.operator(), &ec2(&call)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    reply.body.split("<instanceId>").skip(1).map(|rest| rest.split('<').next().unwrap().parse().unwrap()).collect()
}

/// The agent of a machine registers, and is given its session.
async fn manage(running: &Running, caller: &mut Caller, agent: &Agent, id: InstanceId) -> Signer {
    let call = json("ssm", "AmazonSSM.RegisterManagedInstance", &agent.registration(id));
    caller.send(&running.signed(&running.machine(id), &call)).await;
    (&running.region.issue_management(id, common::NOW).unwrap().credential).into()
}

async fn idle(server: &Server) {
    let running = &server.running;
    let (mut caller, agent) = (Caller::to(running).await, Agent::new());
    let mut roles = Vec::with_capacity(CHANNELS);
    for _ in 0..CHANNELS / 1000 {
        for id in launch(running, 1000).await {
            roles.push((id, manage(running, &mut caller, &agent, id).await));
        }
    }
    let (before, started, asked) = (resident(), Instant::now(), server.processor());
    let mut sockets = Vec::with_capacity(CHANNELS);
    for (id, role) in &roles {
        let body = caller.send(&running.signed(role, &create("control", &id.to_string(), BODY))).await;
        let token = between(&body, "<TokenValue>", "</TokenValue>");
        let call = open(&format!("/v1/control-channel/{id}?role=subscribe&stream=input"));
        let mut stream = TcpStream::connect(running.address).await.unwrap();
        stream.write_all(upgrading(&running.signed(role, &call)).as_bytes()).await.unwrap();
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(stream.read_u8().await.unwrap());
        }
        assert!(head.starts_with(b"HTTP/1.1 101"));
        stream.write_all(&client_frame(0x81, opening(token).as_bytes())).await.unwrap();
        sockets.push(stream);
    }
    let (opened, opening_took) = (started.elapsed(), server.processor() - asked);
    let ping = client_frame(0x89, b"keepalive");
    let mut pong = [0; 11];
    for stream in &mut sockets {
        stream.write_all(&ping).await.unwrap();
        stream.read_exact(&mut pong).await.unwrap();
    }
    let memory = resident() - before;
    let (began, processor) = (Instant::now(), server.processor());
    let mut ticks = tokio::time::interval(PING_EVERY / u32::try_from(CHANNELS).unwrap());
    for at in (0..CHANNELS).cycle() {
        ticks.tick().await;
        let stream = &mut sockets[at];
        stream.write_all(&ping).await.unwrap();
        stream.read_exact(&mut pong).await.unwrap();
        if began.elapsed() >= WATCHED {
            break;
        }
    }
    let share = (server.processor() - processor).as_secs_f64() / began.elapsed().as_secs_f64();
    let scale = PROMISED as f64 / CHANNELS as f64;
    let (memory, share) = (memory as f64 * scale, share * scale);
    println!(
        "{CHANNELS} idle control channels, opened in {:.1} s, each with {:.0} µs of processor; of {PROMISED} it would be\n  MB  {:.0}, {:.1} kB each\n  % of a core, with a ping from each every 54 s  {:.2}",
        opened.as_secs_f64(),
        opening_took.as_secs_f64() * 1e6 / CHANNELS as f64,
        memory / 1e6,
        memory / 1e3 / PROMISED as f64,
        share * 100.0
    );
    assert!(memory <= MEMORY_MAX && share <= PROCESSOR_MAX, "the measure of the product");
}

/// A short frame of a WebSocket, as clients mask it: with zeros here.
fn client_frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut frame = vec![first];
    match u8::try_from(payload.len()) {
        Ok(length) if length < 126 => frame.push(0x80 | length),
        _ => {
            frame.push(0x80 | 126);
            frame.extend(u16::try_from(payload.len()).unwrap().to_be_bytes());
        }
    }
    frame.extend([0; 4]);
    frame.extend(payload);
    frame
}

async fn session(server: &Server) {
    let running = &server.running;
    assert_eq!(running.pass_role(inborn_identity::MANAGEMENT_ROLE_NAME).await.status, 200);
    let (mut caller, agent) = (Caller::to(running).await, Agent::new());
    let id = launch(running, 1).await[0];
    let role = manage(running, &mut caller, &agent, id).await;
    let _control = running.control_channel(&role, id).await;
    let call = json("ssm", "AmazonSSM.StartSession", &format!(r#"{{"Target":"{id}"}}"#));
    let started: serde_json::Value =
        serde_json::from_str(&running.send(&running.operator(), &call).await.body).unwrap();
    let (session, token) = (started["SessionId"].as_str().unwrap(), started["TokenValue"].as_str().unwrap());
    let target = format!("/v1/data-channel/{session}?role=publish_subscribe");
    let head = format!("GET {target} HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", running.address);
    let mut client = joined(connect(running.address, &upgrading(&head)).await, token).await;
    let body = running.send(&role, &create("data", session, BODY)).await.body;
    let token = between(&body, "<TokenValue>", "</TokenValue>");
    let head = upgrading(&running.signed(&role, &open(&target)));
    let mut agent = joined(connect(running.address, &head).await, token).await;

    let frame = Message::binary(frame(1024));
    let mut times = Vec::with_capacity(ECHOES);
    for _ in 0..ECHOES {
        let sent = Instant::now();
        client.say(frame.clone()).await;
        let got = agent.next().await.unwrap();
        agent.say(got).await;
        client.next().await.unwrap();
        times.push(sent.elapsed().as_secs_f64() / 2.0 * 1e3);
    }
    times.sort_by(f64::total_cmp);
    let median = times[ECHOES / 2];
    println!(
        "a kilobyte through a session, one way: median / 99th\n  ms  {median:.3} / {:.3}",
        times[ECHOES * 99 / 100]
    );
    assert!(median <= 1.0, "the measure of the product");
    for bytes in [1024, 64 * 1024] {
        let rate = carried(server, &mut agent, &mut client, bytes).await;
        println!("frames of {bytes} bytes from agent to client\n  MB a second of the region's one core  {rate:.0}");
    }
}

async fn joined(socket: Result<Socket, common::Reply>, token: &str) -> Socket {
    let mut socket = socket.unwrap_or_else(|reply| panic!("{}", reply.body));
    socket.say(Message::text(opening(token))).await;
    socket.ping().await;
    socket
}

fn frame(bytes: usize) -> Vec<u8> {
    let payload = vec![b'x'; bytes];
    let (message_type, id) = ("output_stream_data", Uuid::from_bytes([1; 16]));
    Frame { message_type, created_ms: 1, sequence: 0, flags: 0, id, payload_type: 1, payload: &payload }
        .encode()
        .unwrap()
}

/// Megabytes carried for each second of the region's processor time.
async fn carried(server: &Server, agent: &mut Socket, client: &mut Socket, bytes: usize) -> f64 {
    let frame = Message::binary(frame(bytes));
    let count = BYTES / bytes / if bytes < 4096 { 4 } else { 1 };
    let before = server.processor();
    let sending = async {
        for _ in 0..count {
            agent.0.feed(frame.clone()).await.unwrap();
        }
        agent.0.flush().await.unwrap();
    };
    let receiving = async {
        for _ in 0..count {
            assert!(matches!(client.0.next().await, Some(Ok(Message::Binary(_)))));
        }
    };
    tokio::join!(sending, receiving);
    (count * bytes) as f64 / 1e6 / (server.processor() - before).as_secs_f64()
}
