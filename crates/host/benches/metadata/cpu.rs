//! CPU of the server for one request.
//!
//! The server runs on a thread of its own, and that thread's time is what is read. The client on another thread keeps many
//! connections busy: it writes to all before it reads from the first, so that the server always has work. Putting a thread
//! to sleep and waking it costs more than any answer here.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use inborn_listener::Limits;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::lab::{self, CREDENTIALS, NO_LIMIT};
use crate::nginx::Nginx;
use crate::spread;

const ROUNDS: usize = 9;
const REQUESTS: usize = 3_200;
const CONNECTIONS: usize = 64;

/// The server's thread: asked for its time so far, it tells.
struct Server {
    constant: SocketAddr,
    metadata: SocketAddr,
    ask: Sender<()>,
    told: Receiver<Duration>,
}

/// What is asked, over connections that stay or over a new one each.
struct Case<'a> {
    name: &'static str,
    address: SocketAddr,
    request: String,
    cpu: &'a dyn Fn() -> Duration,
    figures: Vec<f64>,
}

pub(crate) fn run() {
    let server = serve();
    let nginx = Nginx::start();
    let own = || server.cpu();
    let theirs = || nginx.as_ref().map_or(Duration::ZERO, Nginx::cpu);
    let get = format!("GET {CREDENTIALS} HTTP/1.1\r\nHost: 169.254.169.254\r\n");
    let put =
        "PUT /latest/api/token HTTP/1.1\r\nHost: 169.254.169.254\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";
    let token = token(server.metadata, put);
    let credentials = format!("{get}X-aws-ec2-metadata-token: {token}\r\n");
    let close = "Connection: close\r\n\r\n";
    let case = |name, address, request: &str, end: &str, cpu| Case {
        name,
        address,
        request: format!("{request}{end}"),
        cpu,
        figures: Vec::new(),
    };
    let mut kept = vec![
        case("constant", server.constant, &credentials, "\r\n", &own as &dyn Fn() -> Duration),
        case("credentials", server.metadata, &credentials, "\r\n", &own),
    ];
    let mut new = vec![
        case("constant", server.constant, &credentials, close, &own as &dyn Fn() -> Duration),
        case("credentials", server.metadata, &credentials, close, &own),
        case("new token", server.metadata, put, close, &own),
    ];
    match &nginx {
        Some(nginx) => {
            kept.push(case("nginx", nginx.address, Nginx::REQUEST, "\r\n", &theirs));
            new.push(case("nginx", nginx.address, Nginx::REQUEST, close, &theirs));
        }
        None => println!("!! no nginx here to compare with (on Debian: apt-get install nginx)"),
    }
    // The first round warms up.
    for round in 0..=ROUNDS {
        for case in &mut kept {
            let figure = case.on_kept_connections();
            case.figures.extend((round > 0).then_some(figure));
        }
        for case in &mut new {
            let figure = case.on_new_connections();
            case.figures.extend((round > 0).then_some(figure));
        }
    }
    println!("CPU per request, {ROUNDS} rounds of {REQUESTS}, {CONNECTIONS} connections: min / median / max");
    report("connections kept", &kept);
    report("a connection each", &new);
}

fn report(title: &str, cases: &[Case<'_>]) {
    println!("  {title}");
    for case in cases {
        let (min, median, max) = spread(&mut case.figures.clone());
        println!("    {:<12} µs  {min:>6.2} / {median:>6.2} / {max:>6.2}", case.name);
    }
    for base in cases.iter().filter(|case| ["constant", "nginx"].contains(&case.name)) {
        for case in cases.iter().filter(|case| !["constant", "nginx"].contains(&case.name)) {
            let mut ratios: Vec<_> = case.figures.iter().zip(&base.figures).map(|(case, base)| case / base).collect();
            let (min, median, max) = spread(&mut ratios);
            println!("    {:<12} / {:<9} {min:.2} / {median:.2} / {max:.2}", case.name, base.name);
        }
    }
}

impl Case<'_> {
    /// Microseconds.
    fn on_kept_connections(&self) -> f64 {
        let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| self.connect()).collect();
        let length = self.length();
        let before = (self.cpu)();
        let mut buffer = vec![0; length];
        for _ in 0..REQUESTS / CONNECTIONS {
            for stream in &mut streams {
                stream.write_all(self.request.as_bytes()).unwrap();
            }
            for stream in &mut streams {
                stream.read_exact(&mut buffer).unwrap();
                assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
            }
        }
        self.per_request(before)
    }

    /// Microseconds.
    fn on_new_connections(&self) -> f64 {
        let before = (self.cpu)();
        let mut buffer = Vec::new();
        for _ in 0..REQUESTS / CONNECTIONS {
            let mut streams: Vec<TcpStream> = (0..CONNECTIONS).map(|_| self.connect()).collect();
            for stream in &mut streams {
                stream.write_all(self.request.as_bytes()).unwrap();
            }
            for stream in &mut streams {
                buffer.clear();
                stream.read_to_end(&mut buffer).unwrap();
                assert!(buffer.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(&buffer));
            }
        }
        self.per_request(before)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    fn per_request(&self, before: Duration) -> f64 {
        ((self.cpu)() - before).as_secs_f64() * 1e6 / REQUESTS as f64
    }

    /// Bytes of an answer.
    fn length(&self) -> usize {
        let mut stream = self.connect();
        stream.write_all(self.request.as_bytes()).unwrap();
        let mut answer = vec![0; 16 * 1024];
        let mut read = 0;
        loop {
            read += stream.read(&mut answer[read..]).unwrap();
            let text = String::from_utf8_lossy(&answer[..read]).to_lowercase();
            let Some((head, _)) = text.split_once("\r\n\r\n") else { continue };
            let length = head.split("content-length: ").nth(1).unwrap().split("\r\n").next().unwrap();
            let whole = head.len() + 4 + length.parse::<usize>().unwrap();
            if read >= whole {
                return whole;
            }
        }
    }
}

fn token(address: SocketAddr, put: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(format!("{put}\r\n").as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.rsplit("\r\n").next().unwrap().to_owned()
}

impl Server {
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
            let host = lab::host(NO_LIMIT);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let metadata = listener.local_addr().unwrap();
            host.attach_pocket(lab::machine(1), [listener]);
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let constant = listener.local_addr().unwrap();
            let (_stop, stopping) = watch::channel(false);
            let body = Bytes::from(vec![b'x'; 1024]);
            tokio::spawn(inborn_listener::serve(listener, None, Limits::DEFAULT, stopping, move |_, _| {
                let answer = Response::new(Full::new(body.clone()));
                async move { answer }
            }));
            ready.send((constant, metadata)).unwrap();
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
    let (constant, metadata) = is_ready.recv().unwrap();
    Server { constant, metadata, ask, told }
}
