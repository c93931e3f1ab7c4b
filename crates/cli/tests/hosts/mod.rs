//! Processes: a region that listens to hosts, hosts that join it, and what both are asked.
#![allow(unreachable_pub, dead_code, reason = "each test file uses some of it")]

use std::io::Write;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use inborn_credential::generation;
use inborn_identity::InstanceId;
use tempfile::TempDir;

use crate::calls;
pub use crate::calls::{Signer, exchange};

/// Longer than any machine needs, however loaded.
pub const PATIENCE: Duration = Duration::from_secs(60);
pub const REGION: &str = "us-east-1";
/// A second one of the same deployment, where there is one.
pub const OTHER: &str = "eu-west-1";
/// Longer than any test looks at a machine's credentials.
const LONG_BEFORE_ROTATION_SECONDS: u64 = 180;
/// Ports that the kernel gives to nobody who asks for any: those are 32768 and above (`net.ipv4.ip_local_port_range`).
const FIRST_PORT: u32 = 10_000;
const PORTS: u32 = 22_000;
const WHOAMI: &str = "Action=GetCallerIdentity&Version=2011-06-15";

pub fn until<T>(what: &str, mut ask: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(answer) = ask() {
            return answer;
        }
        assert!(begun.elapsed() < PATIENCE, "{what}: not in {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

pub fn inborn(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inborn"));
    command.args(arguments).stdin(Stdio::null());
    for name in ["INBORN_DATA", "INBORN_CONFIG", "INBORN_REGION_ENDPOINT", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

pub fn run(arguments: &[&str]) -> Output {
    inborn(arguments).output().unwrap()
}

pub fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// A process that is killed when the test ends.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A region in a process.
pub struct Region {
    directory: TempDir,
    process: Option<Process>,
    ready: serde_json::Value,
    port: u16,
    /// Where hosts of the second region ask.
    port_of_other: Option<u16>,
}

/// A port that nobody else is given before it is bound, nor while who was bound to it is away. No two are the same.
pub fn free_port() -> u16 {
    static NEXT: AtomicU32 = AtomicU32::new(0);
    // Tests in other processes begin elsewhere.
    let begin = std::process::id().wrapping_mul(64);
    loop {
        let step = begin.wrapping_add(NEXT.fetch_add(1, Ordering::Relaxed)) % PORTS;
        let port = u16::try_from(FIRST_PORT + step).unwrap();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            return port;
        }
    }
}

impl Region {
    pub fn start() -> Self {
        Self::start_with(None)
    }

    /// With a second region beside it.
    pub fn start_with_other() -> Self {
        Self::start_with(Some(free_port()))
    }

    fn start_with(port_of_other: Option<u16>) -> Self {
        let (directory, port, ready) = (tempfile::tempdir().unwrap(), free_port(), serde_json::Value::Null);
        let mut region = Self { directory, process: None, ready, port, port_of_other };
        region.come_back();
        region
    }

    pub fn data(&self) -> &str {
        self.directory.path().to_str().unwrap()
    }

    /// Where the second region listens to hosts.
    pub fn hosts_address_of_other(&self) -> String {
        format!("127.0.0.1:{}", self.port_of_other.unwrap())
    }

    /// Where it listens to hosts; the same after it was away.
    pub fn hosts_address(&self) -> String {
        format!("127.0.0.1:{}", self.port)
    }

    /// Killed: it says goodbye to nobody.
    pub fn go_away(&mut self) {
        self.process = None;
    }

    pub fn come_back(&mut self) {
        self.come_back_with(&[]);
    }

    /// With more arguments.
    pub fn come_back_with(&mut self, arguments: &[&str]) {
        let ready_file = self.directory.path().join("told-ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let hosts_port = self.port.to_string();
        let mut command =
            inborn(&["region", "--node", "a", "--port", "0", "--tls-port", "0", "--operations-port", "0"]);
        if let Some(port) = self.port_of_other {
            command.args(["--region-store", &format!("{OTHER}=sqlite:{}/other.db", self.data())]);
            command.args(["--region-hosts-port", &format!("{OTHER}={port}")]);
        }
        let child = command
            .args(arguments)
            .args(["--telemetry-days", "0", "--region", REGION, "--hosts-port", &hosts_port, "--data", self.data()])
            .arg("--ready-file")
            .arg(&ready_file)
            .env("INBORN_STORE", format!("sqlite:{}/inborn.db", self.data()))
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Process(child);
        self.ready = until("the region is ready", || {
            assert!(process.0.try_wait().unwrap().is_none(), "the region has ended");
            serde_json::from_slice(&std::fs::read(&ready_file).ok()?).ok()
        });
        self.process = Some(process);
    }

    pub fn operator(&self) -> Signer {
        let env = std::fs::read_to_string(self.directory.path().join("operator.env")).unwrap();
        let value = |name: &str| env.lines().find_map(|line| line.split_once(name)).unwrap().1.to_owned();
        Signer { access_key_id: value("AWS_ACCESS_KEY_ID="), secret: value("AWS_SECRET_ACCESS_KEY="), token: None }
    }

    /// A token, without a process of its own.
    pub fn join_token(&self) -> String {
        between(&self.operate("Action=Inborn.CreateJoinToken"), "<joinToken>", "</joinToken>").to_owned()
    }

    pub fn token(&self) -> String {
        self.token_of(REGION)
    }

    pub fn token_of(&self, region: &str) -> String {
        let made = run(&["host", "token", "--region", region, "--data", self.data()]);
        assert!(made.status.success(), "{}", text(&made.stderr));
        text(&made.stdout).trim().to_owned()
    }

    /// Sends a signed call; gives status and body.
    pub fn call(&self, signer: &Signer, service: &str, body: &str) -> (u16, String) {
        self.call_in(REGION, signer, service, body)
    }

    pub fn call_in(&self, region: &str, signer: &Signer, service: &str, body: &str) -> (u16, String) {
        let address = self.ready["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap();
        let host = format!("{service}.{region}.amazonaws.com");
        calls::call(address, &host, signer, (service, region), body).unwrap()
    }

    /// An operator's call, which is done.
    pub fn operate(&self, parameters: &str) -> String {
        self.operate_in(REGION, parameters)
    }

    pub fn operate_in(&self, region: &str, parameters: &str) -> String {
        let (status, body) = self.ask_in(region, parameters);
        assert_eq!(status, 200, "{body}");
        body
    }

    /// An operator's call; gives status and body.
    pub fn ask_in(&self, region: &str, parameters: &str) -> (u16, String) {
        self.call_in(region, &self.operator(), "ec2", &format!("{parameters}&Version=2016-11-15"))
    }

    pub fn launch_on(&self, host: &str) -> InstanceId {
        self.launch_in(REGION, host)
    }

    fn launch_in(&self, region: &str, host: &str) -> InstanceId {
        let body = self.operate_in(region, &launch(host));
        between(&body, "<instanceId>", "</instanceId>").parse().unwrap()
    }

    /// A machine that holds the same credentials for as long as a test looks at them: once an hour, at a second that is each machine's
    /// own, others take their place.
    pub fn launch_long_before_rotation(&self, region: &str, host: &str) -> InstanceId {
        loop {
            let id = self.launch_in(region, host);
            let now = calls::now();
            if generation(id, now, now).next_at.since(now) > LONG_BEFORE_ROTATION_SECONDS {
                return id;
            }
            self.operate_in(region, &format!("Action=TerminateInstances&InstanceId.1={id}"));
        }
    }

    pub fn whoami(&self, signer: &Signer) -> (u16, String) {
        self.call(signer, "sts", WHOAMI)
    }
}

/// The parameters of a launch on a host.
pub fn launch(host: &str) -> String {
    format!("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.HostId={host}")
}

pub fn between<'a>(text: &'a str, before: &str, after: &str) -> &'a str {
    text.split_once(before).unwrap().1.split_once(after).unwrap().0
}

/// A host: its data directory, and its process while it runs.
pub struct Host {
    directory: TempDir,
    pub id: String,
    process: Option<Process>,
    ready: serde_json::Value,
}

impl Host {
    /// One that has joined and does not run.
    pub fn joined(region: &Region) -> Self {
        Self::joined_at(&region.hosts_address(), &region.token())
    }

    pub fn joined_at(address: &str, token: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let data = directory.path().join("data");
        let output = join_at(address, token, &data);
        assert!(output.status.success(), "{}", text(&output.stderr));
        let said = text(&output.stdout);
        let id = between(&said, "This is host ", " ").to_owned();
        Self { directory, id, process: None, ready: serde_json::Value::Null }
    }

    /// One that runs.
    pub fn start(region: &Region) -> Self {
        let mut host = Self::joined(region);
        host.come_back();
        host
    }

    pub fn come_back(&mut self) {
        self.come_back_with(&[], &[]);
    }

    /// With more arguments and variables.
    pub fn come_back_with(&mut self, arguments: &[&str], variables: &[(&str, &Path)]) {
        let ready_file = self.directory.path().join("ready.json");
        let _ = std::fs::remove_file(&ready_file);
        let child = inborn(&["host", "--data", &self.path(), "--operations-port", "0", "--ready-file"])
            .arg(&ready_file)
            .args(arguments)
            .envs(variables.iter().copied())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut process = Process(child);
        until("the host is ready", || {
            assert!(process.0.try_wait().unwrap().is_none(), "the host has ended");
            ready_file.exists().then_some(())
        });
        self.ready = serde_json::from_slice(&std::fs::read(&ready_file).unwrap()).unwrap();
        self.process = Some(process);
    }

    /// What its operations endpoint answers.
    pub fn operations(&self, path: &str) -> (u16, String) {
        let address = self.ready["operations"].as_str().unwrap().strip_prefix("http://").unwrap();
        exchange(address, &format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")).unwrap()
    }

    /// Killed: it keeps what is on disk by then.
    pub fn go_away(&mut self) {
        self.process = None;
    }

    /// Waits until it ends by itself; gives its exit code.
    pub fn ended(&mut self) -> i32 {
        let process = self.process.as_mut().unwrap();
        code(until("the host ends", || process.0.try_wait().unwrap()))
    }

    /// Attaches a machine to a port; gives the port.
    pub fn attach(&self, machine: &str) -> u16 {
        let attached = until("the machine is attached", || {
            let output = run(&["attach", machine, "--loopback", "--output", "json", "--data", &self.path()]);
            output.status.success().then_some(output)
        });
        let facts: serde_json::Value = serde_json::from_slice(&attached.stdout).unwrap();
        facts["metadata_endpoint"].as_str().unwrap().rsplit_once(':').unwrap().1.parse().unwrap()
    }

    pub fn status(&self) -> serde_json::Value {
        let output = run(&["host", "status", "--output", "json", "--data", &self.path()]);
        assert!(output.status.success(), "{}", text(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    }

    /// Until a restart brings back all that it knows. It may rest long after a slow disk.
    pub fn wait_until_kept(&self) {
        until("it is kept", || (self.status()["is_kept"] == true).then_some(()));
    }

    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    pub fn path(&self) -> String {
        self.data().to_str().unwrap().to_owned()
    }
}

/// Joins with a token that stands in standard input.
pub fn join(region: &Region, token: &str, data: &Path) -> Output {
    join_at(&region.hosts_address(), token, data)
}

pub fn join_at(address: &str, token: &str, data: &Path) -> Output {
    let mut child = inborn(&["host", "join", "--region-endpoint", address, "--name", "kvm-1", "--data"])
        .arg(data)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let _ = child.stdin.take().unwrap().write_all(token.as_bytes());
    child.wait_with_output().unwrap()
}

pub fn code(status: ExitStatus) -> i32 {
    status.code().unwrap()
}

/// A request to the metadata service at a port.
pub fn metadata(port: u16, path: &str) -> std::io::Result<(u16, String)> {
    let address = format!("127.0.0.1:{port}");
    let put = "PUT /latest/api/token HTTP/1.1\r\nhost: 127.0.0.1\r\nx-aws-ec2-metadata-token-ttl-seconds: 60\r\nconnection: close\r\n\r\n";
    let (status, token) = exchange(&address, put)?;
    if status != 200 {
        return Ok((status, token));
    }
    let get = format!(
        "GET {path} HTTP/1.1\r\nhost: 127.0.0.1\r\nx-aws-ec2-metadata-token: {token}\r\nconnection: close\r\n\r\n"
    );
    exchange(&address, &get)
}

/// The credential that the machine at a port holds.
pub fn credential(port: u16) -> Option<Signer> {
    let path = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
    let (status, document) = metadata(port, path).ok()?;
    if status != 200 {
        return None;
    }
    let document: serde_json::Value = serde_json::from_str(&document).unwrap();
    let text = |name: &str| document[name].as_str().unwrap().to_owned();
    Some(Signer { access_key_id: text("AccessKeyId"), secret: text("SecretAccessKey"), token: Some(text("Token")) })
}
