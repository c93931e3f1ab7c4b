//! What `inborn up` tells a collector of requests, and what it does not.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "a test fails by panicking")]

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant, SystemTime};

use inborn_identity::UnixTime;
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Header, PathMode, Request};

/// Longer than any machine needs, however loaded.
const PATIENCE: Duration = Duration::from_secs(120);
const LAUNCH: &str = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Version=2016-11-15";
const TRACEPARENT: &str = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01";

struct Up {
    child: Child,
    address: String,
    access_key_id: String,
    secret: String,
}

impl Drop for Up {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Up {
    fn start(data: &Path, collector: &str) -> Self {
        let ready_file = data.join("told-ready.json");
        let mut command = Command::new(env!("CARGO_BIN_EXE_inborn"));
        command.args(["up", "--port", "0", "--tls-port", "0", "--operations-port", "0", "--telemetry-days", "0"]);
        command.arg("--data").arg(data).arg("--ready-file").arg(&ready_file);
        command.args(["--otlp-traces-endpoint", collector]);
        for name in ["INBORN_DATA", "INBORN_CONFIG", "INBORN_STORE", "OTEL_EXPORTER_OTLP_ENDPOINT"] {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap();
        let nothing = String::new;
        let mut up = Self { child, address: nothing(), access_key_id: nothing(), secret: nothing() };
        let begun = Instant::now();
        let ready: serde_json::Value = loop {
            assert!(up.child.try_wait().unwrap().is_none(), "it has ended");
            assert!(begun.elapsed() < PATIENCE, "it is not ready");
            if let Some(ready) = std::fs::read(&ready_file).ok().and_then(|text| serde_json::from_slice(&text).ok()) {
                break ready;
            }
            std::thread::sleep(Duration::from_millis(20));
        };
        let env = std::fs::read_to_string(data.join("operator.env")).unwrap();
        let value = |name: &str| env.lines().find_map(|line| line.split_once(name)).unwrap().1.to_owned();
        up.address = ready["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap().to_owned();
        (up.access_key_id, up.secret) = (value("AWS_ACCESS_KEY_ID="), value("AWS_SECRET_ACCESS_KEY="));
        up
    }

    /// Sends a call, signed with this secret; gives status and head, and body.
    fn call(&self, secret: &str, service: &str, body: &str) -> (String, String) {
        #[expect(clippy::disallowed_methods, reason = "the program has a clock of its own")]
        let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap().as_secs();
        let host = format!("{service}.us-east-1.amazonaws.com");
        let headers = [("host", host.as_str()), ("content-type", "application/x-www-form-urlencoded")];
        let fields = headers.map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() });
        let request = Request { method: "POST", path: b"/", query: b"", headers: &fields };
        let access_key_id = &self.access_key_id;
        let credentials = Credentials { access_key_id, secret_access_key: secret.as_bytes(), session_token: None };
        let target = Target { region: "us-east-1", service, path_mode: PathMode::Normalized };
        let added = sign(&request, body.as_bytes(), &credentials, &target, UnixTime::from_secs(now)).unwrap();
        let mut text = format!("POST / HTTP/1.1\r\ntraceparent: {TRACEPARENT}\r\n");
        let added = added.iter().map(|(name, value)| (*name, value.as_str()));
        for (name, value) in headers.into_iter().chain(added) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()));
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.write_all(text.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        (head.to_lowercase(), body.to_owned())
    }

    /// Stops it as systemd does, and waits for the end.
    fn stop(mut self) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &pid]).status().unwrap().success());
        let begun = Instant::now();
        while self.child.try_wait().unwrap().is_none() {
            assert!(begun.elapsed() < PATIENCE, "it does not stop");
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

/// A collector; gives the body of each request.
fn collector() -> (String, mpsc::Receiver<Vec<u8>>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/v1/traces", listener.local_addr().unwrap());
    let (send, bodies) = mpsc::channel();
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let mut bytes = Vec::new();
            let body = loop {
                let mut piece = [0; 4096];
                let read = stream.read(&mut piece).unwrap();
                bytes.extend_from_slice(&piece[..read]);
                let Some(end) = bytes.windows(4).position(|four| four == b"\r\n\r\n") else { continue };
                let head = String::from_utf8_lossy(&bytes[..end]).to_lowercase();
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: ")).unwrap();
                if bytes.len() >= end + 4 + length.parse::<usize>().unwrap() {
                    break bytes[end + 4..].to_vec();
                }
            };
            stream.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n").unwrap();
            if send.send(body).is_err() {
                return;
            }
        }
    });
    (url, bodies)
}

fn count(all: &[u8], text: &str) -> usize {
    all.windows(text.len()).filter(|part| *part == text.as_bytes()).count()
}

#[test]
fn requests_are_traced_and_nothing_secret_is_told() {
    let (url, bodies) = collector();
    let directory = tempfile::tempdir().unwrap();
    let up = Up::start(directory.path(), &url);
    let whoami = "Action=GetCallerIdentity&Version=2011-06-15";
    let (head, _) = up.call(&up.secret, "sts", whoami);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let request_id = head.lines().find_map(|line| line.strip_prefix("x-amzn-requestid: ")).unwrap().to_owned();
    let (head, launched) = up.call(&up.secret, "ec2", LAUNCH);
    assert!(head.starts_with("http/1.1 200"), "{head}");
    let instance = launched.split_once("<instanceId>").unwrap().1.split_once('<').unwrap().0.to_owned();
    let (head, _) = up.call("not the secret", "sts", whoami);
    assert!(head.starts_with("http/1.1 403"), "{head}");
    let (access_key_id, secret) = (up.access_key_id.clone(), up.secret.clone());
    up.stop();

    let all: Vec<u8> = bodies.try_iter().flatten().collect();
    assert_eq!(count(&all, "sts/GetCallerIdentity"), 1, "who was not verified asked for nothing that has a name");
    assert_eq!(count(&all, "sts/other"), 1);
    assert_eq!(count(&all, "ec2/RunInstances"), 1);
    assert_eq!(count(&all, &request_id), 1);
    assert_eq!(count(&all, "inborn.verified"), 3);
    assert_eq!(count(&all, "SignatureDoesNotMatch"), 1);
    assert!(count(&all, "store.write") >= 1, "a launch is stored");
    let trace = 0x4bf9_2f35_77b3_4da6_a3ce_929d_0e0e_4736_u128.to_be_bytes();
    assert!(!all.windows(16).any(|part| part == trace), "a trace that a client names is not gone on with");
    for hidden in [access_key_id.as_str(), secret.as_str(), instance.as_str(), "ami-12345678", "123456789012"] {
        assert_eq!(count(&all, hidden), 0, "{hidden}");
    }
}
