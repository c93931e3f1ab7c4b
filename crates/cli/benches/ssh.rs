//! What logins wait for: a key that is sent until metadata have it, `inborn authorized-keys` from its start to its end, and
//! `inborn known-hosts` with what it has learned a moment ago. Beside `true`, started in turns.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark")]
#![allow(clippy::print_stdout, reason = "a benchmark with its own main")]

#[path = "support/mod.rs"]
mod support;

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use inborn_guest::http::{Client, Limits};
use inborn_guest::sign_request;
use inborn_identity::UnixTime;
use inborn_sigv4::PathMode;
use inborn_sigv4::sign::{Credentials, Target};
use serde_json::{Value, json};
use support::{INBORN, Spread, Up, is_only_asked, millis};

const ROUNDS: usize = 60;
const WARM_UP_ROUNDS: usize = 3;
const VISIBLE_GOAL: Duration = Duration::from_secs(1);
const AUTHORIZED_KEYS_GOAL: Duration = Duration::from_millis(30);
const KNOWN_HOSTS_GOAL: Duration = Duration::from_millis(10);
/// The file of the region's root.
const ROOT: &str = "instance-connect.pem";
const TOKEN: &str = "X-aws-ec2-metadata-token";

fn main() {
    if is_only_asked() {
        return;
    }
    let home = tempfile::tempdir().unwrap();
    let data = home.path().join("data");
    let up = Up::start(&data);
    let lab = Lab::new(&data, home.path());
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let visible = Spread::of((0..ROUNDS).map(|_| runtime.block_on(lab.send_until_visible())).collect());
    println!("SSH, {ROUNDS} rounds: fastest / median / 90 % within");
    report("a key sent until metadata have it", &visible, VISIBLE_GOAL);
    let (bare, known_hosts, keys) = lab.commands();
    println!("  true                               {bare}");
    report("inborn known-hosts, warm", &known_hosts, KNOWN_HOSTS_GOAL);
    match keys {
        Some(keys) => report("inborn authorized-keys, one key", &keys, AUTHORIZED_KEYS_GOAL),
        None => println!(
            "  inborn authorized-keys             not measured: it believes files of root's only, run this as root"
        ),
    }
    drop(up);
}

fn report(what: &str, times: &Spread, goal: Duration) {
    let verdict = if times.median <= goal { "kept" } else { "missed" };
    println!("  {what:33}  {times}; the goal of {} ms is {verdict}", millis(goal));
}

/// A machine of the region, an operator, a directory of root's for the region's root, and what both need.
struct Lab {
    data: PathBuf,
    home: PathBuf,
    machine: Value,
    operator: Vec<(String, String)>,
    client: Client,
    root: Option<tempfile::TempDir>,
    public_key: String,
}

impl Lab {
    fn new(data: &Path, home: &Path) -> Self {
        let machine = run(Command::new(INBORN).args(["launch", "--output", "json"]).env("INBORN_DATA", data));
        let machine: Value = serde_json::from_str(&machine).unwrap();
        let keygen = |name: &str| {
            run(Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(home.join(name)));
        };
        keygen("ssh_host_ed25519_key");
        keygen("login");
        let metadata = machine["metadata_endpoint"].as_str().unwrap();
        let mut push = Command::new(INBORN);
        push.args(["host-keys", "push", "--once", "--directory"]).arg(home);
        push.env("AWS_EC2_METADATA_SERVICE_ENDPOINT", metadata);
        run(push.env("AWS_ENDPOINT_URL", machine["endpoint"].as_str().unwrap()));
        let exports = std::fs::read_to_string(data.join("operator.env")).unwrap();
        let operator = exports.lines().filter_map(|line| line.strip_prefix("export ")?.split_once('='));
        Self {
            operator: operator.map(|(name, value)| (name.to_owned(), value.to_owned())).collect(),
            client: Client::new(Limits::REGION, None),
            root: root_of(data),
            public_key: std::fs::read_to_string(home.join("login.pub")).unwrap(),
            data: data.to_owned(),
            home: home.to_owned(),
            machine,
        }
    }

    fn text(&self, name: &str) -> &str {
        self.machine[name].as_str().unwrap()
    }

    fn variable(&self, name: &str) -> &str {
        self.operator.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str()).unwrap()
    }

    /// Sends a key and asks metadata until it is there.
    async fn send_until_visible(&self) -> Duration {
        // One that nobody has been sent: the machine is started anew.
        let data = &self.data;
        run(Command::new(INBORN).args(["reboot", self.text("instance_id")]).env("INBORN_DATA", data));
        let endpoint = self.text("metadata_endpoint");
        let put = Request::put(format!("{endpoint}/latest/api/token"))
            .header("X-aws-ec2-metadata-token-ttl-seconds", "60")
            .body(Bytes::new())
            .unwrap();
        let token = self.client.call(put).await.unwrap().body;
        let begun = Instant::now();
        self.send().await;
        loop {
            let head = Request::get(format!("{endpoint}/latest/meta-data/managed-ssh-keys/active-keys/root/"))
                .header(TOKEN, token.as_ref())
                .body(Bytes::new())
                .unwrap();
            if self.client.call(head).await.unwrap().status == 200 {
                return begun.elapsed();
            }
        }
    }

    async fn send(&self) {
        let body = json!({
            "InstanceId": self.text("instance_id"), "InstanceOSUser": "root", "SSHPublicKey": self.public_key,
        });
        let mut request = Request::post(format!("{}/", self.text("endpoint")))
            .header("content-type", "application/x-amz-json-1.1")
            .header("x-amz-target", "AWSEC2InstanceConnectService.SendSSHPublicKey")
            .body(Bytes::from(body.to_string()))
            .unwrap();
        let credentials = Credentials {
            access_key_id: self.variable("AWS_ACCESS_KEY_ID"),
            secret_access_key: self.variable("AWS_SECRET_ACCESS_KEY").as_bytes(),
            session_token: None,
        };
        let region = self.variable("AWS_REGION");
        let target = Target { region, service: "ec2-instance-connect", path_mode: PathMode::Normalized };
        sign_request(&mut request, &credentials, &target, now()).unwrap();
        let reply = self.client.call(request).await.unwrap();
        assert_eq!(reply.status, 200, "{}", String::from_utf8_lossy(&reply.body));
    }

    /// `true`, `known-hosts` and, for root, `authorized-keys`, in turns.
    fn commands(&self) -> (Spread, Spread, Option<Spread>) {
        let mut bare = Command::new("true");
        let mut known_hosts = Command::new(INBORN);
        known_hosts.args(["known-hosts", self.text("instance_id")]);
        known_hosts.env("INBORN_DATA", &self.data).env("HOME", &self.home).env_remove("XDG_CACHE_HOME");
        let mut keys = self.root.as_ref().map(|root| {
            let mut keys = Command::new(INBORN);
            keys.args(["authorized-keys", "--metadata", self.text("metadata_endpoint"), "--root"]);
            keys.arg(root.path().join(ROOT)).arg("root").env_clear();
            keys
        });
        let mut times = [Vec::new(), Vec::new(), Vec::new()];
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        for round in 0..WARM_UP_ROUNDS + ROUNDS {
            runtime.block_on(self.send());
            // What was learned more than ten seconds ago would be asked for again.
            run(&mut known_hosts);
            let commands = [Some(&mut bare), Some(&mut known_hosts), keys.as_mut()];
            for (command, times) in commands.into_iter().zip(&mut times) {
                let Some(command) = command else { continue };
                let begun = Instant::now();
                let output = command.output().unwrap();
                let time = begun.elapsed();
                assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
                if round >= WARM_UP_ROUNDS {
                    times.push(time);
                }
            }
        }
        let [bare, known_hosts, keys] = times;
        let keys = (!keys.is_empty()).then(|| Spread::of(keys));
        (Spread::of(bare), Spread::of(known_hosts), keys)
    }
}

/// A directory below one that is root's alone, with the region's root in it; nothing for anybody else.
fn root_of(data: &Path) -> Option<tempfile::TempDir> {
    let directory =
        tempfile::tempdir_in("/run").ok().filter(|directory| directory.path().metadata().unwrap().uid() == 0)?;
    // It is made beside the first requests.
    let begun = Instant::now();
    while std::fs::copy(data.join(ROOT), directory.path().join(ROOT)).is_err() {
        assert!(begun.elapsed() < Duration::from_secs(30), "the region has no signer");
        std::thread::sleep(Duration::from_millis(10));
    }
    Some(directory)
}

#[allow(clippy::disallowed_methods, reason = "requests are signed at the time of the region, which is this computer's")]
fn now() -> UnixTime {
    UnixTime::from_secs(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

/// Runs a command that must do well; what it prints.
fn run(command: &mut Command) -> String {
    let output = command.output().unwrap();
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}
