//! Processes of `inborn region` over a PostgreSQL of the tests', and what they are asked.
#![allow(unreachable_pub, dead_code, reason = "each test file uses some of it")]

use std::ffi::OsStr;
use std::fs::DirBuilder;
use std::io::Read;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

use inborn_credential::{Claims, Delivery, Epoch, EpochId, EpochRoot, Kek, Keyring, Kind, generation};
use inborn_identity::{InstanceId, MANAGEMENT_ROLE_NAME, Partition, UnixTime};
use inborn_region::{AuditEntry, AuditReader};
use inborn_store::{Instance, Store};
use inborn_store_postgres::PostgresStore;

pub use crate::calls::Signer;
use crate::calls::{self, now};
use crate::patience::until;

pub const REGION: &str = "us-east-1";
pub const LAUNCH: &str = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Version=2016-11-15";
pub const WHOAMI: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// A region server that is killed when the test ends.
pub struct Server {
    child: Child,
    pub ready: serde_json::Value,
    pub operator: Signer,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// All that a server has recorded, also in what it puts away at midnight.
pub fn audit(data: &Path) -> String {
    let mut reader = AuditReader::open(&data.join("audit/audit.jsonl"), UnixTime::from_secs(0), false).unwrap();
    let (mut text, mut line) = (String::new(), Vec::new());
    loop {
        match reader.next(&mut line).unwrap() {
            AuditEntry::Line => text.extend([std::str::from_utf8(&line).unwrap(), "\n"]),
            AuditEntry::Skipped { path, reason } => panic!("{}: {reason}", path.display()),
            AuditEntry::End => return text,
        }
    }
}

pub fn inborn(data: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_inborn"));
    command.stdin(Stdio::null()).env("INBORN_DATA", data);
    for name in ["INBORN_CONFIG", "INBORN_STORE", "INBORN_REGION_STORES", "INBORN_ACCEPT_OLDER_STORE", "RUST_LOG"] {
        command.env_remove(name);
    }
    command
}

fn ready_file(data: &Path) -> PathBuf {
    data.join("told-ready.json")
}

fn command(name: &str, data: &Path, settings: &[(&str, &str)]) -> Command {
    let _ = std::fs::remove_file(ready_file(data));
    let mut command = inborn(data);
    command
        .args(["region", "--node", name, "--port", "0", "--tls-port", "0", "--operations-port", "0"])
        .args(["--telemetry-days", "0", "--region", REGION, "--ready-file"])
        .arg(ready_file(data))
        .envs(settings.iter().copied())
        .stdout(Stdio::null());
    command
}

impl Server {
    pub fn start(name: &str, data: &Path, url: &str) -> Self {
        Self::start_with(name, data, &[("INBORN_STORE", url)])
    }

    /// With these settings, as variables.
    pub fn start_with(name: &str, data: &Path, settings: &[(&str, &str)]) -> Self {
        Self::started(name, data, command(name, data, settings))
    }

    /// The same, with its log in a file.
    pub fn start_saying(name: &str, data: &Path, settings: &[(&str, &str)], log: &Path) -> Self {
        let mut command = command(name, data, settings);
        command.stderr(std::fs::File::create(log).unwrap());
        Self::started(name, data, command)
    }

    fn started(name: &str, data: &Path, mut command: Command) -> Self {
        let child = command.spawn().unwrap();
        let none = Signer { access_key_id: String::new(), secret: String::new(), token: None };
        let mut server = Self { child, ready: serde_json::Value::Null, operator: none };
        server.ready = until("a server is ready", || {
            assert!(server.child.try_wait().unwrap().is_none(), "the server {name} has ended");
            serde_json::from_slice(&std::fs::read(ready_file(data)).ok()?).ok()
        });
        let env = std::fs::read_to_string(data.join("operator.env")).unwrap();
        let value = |name: &str| env.lines().find_map(|line| line.split_once(name)).unwrap().1.to_owned();
        server.operator =
            Signer { access_key_id: value("AWS_ACCESS_KEY_ID="), secret: value("AWS_SECRET_ACCESS_KEY="), token: None };
        server
    }

    /// Starts one that is to refuse; gives what it said.
    pub fn refused(name: &str, data: &Path, settings: &[(&str, &str)]) -> String {
        let mut child = command(name, data, settings).stderr(Stdio::piped()).spawn().unwrap();
        // It says little, which has room in the pipe.
        let ended = until("a server ends", || {
            if ready_file(data).exists() {
                let _ = child.kill();
                panic!("the server {name} has started");
            }
            child.try_wait().unwrap()
        });
        let mut said = String::new();
        child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
        assert!(!ended.success(), "{said}");
        said
    }

    /// Where it listens.
    pub fn address(&self) -> &str {
        self.ready["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap()
    }

    /// Lets it end by itself.
    pub fn stop(mut self) {
        self.signal("-TERM");
        let ended = until("a server ends", || self.child.try_wait().unwrap());
        assert!(ended.success(), "{ended}");
    }

    /// It sleeps, as when its machine is suspended.
    pub fn pause(&self) {
        self.signal("-STOP");
    }

    pub fn resume(&self) {
        self.signal("-CONT");
    }

    fn signal(&self, name: &str) {
        let done = Command::new("kill").args([name, &self.child.id().to_string()]).status().unwrap();
        assert!(done.success());
    }

    /// Sends a signed call to the home; gives status and body.
    pub fn call(&self, signer: &Signer, service: &str, body: &str) -> (u16, String) {
        self.send(signer, &format!("{service}.{REGION}.amazonaws.com"), (service, REGION), body)
    }

    /// Sends a call that is signed for a region, to an address that names none.
    pub fn call_in(&self, region: &str, signer: &Signer, service: &str, body: &str) -> (u16, String) {
        self.send(signer, "127.0.0.1", (service, region), body)
    }

    fn send(&self, signer: &Signer, host: &str, scope: (&str, &str), body: &str) -> (u16, String) {
        calls::call(self.address(), host, signer, scope, body).unwrap()
    }

    pub fn launch(&self) -> InstanceId {
        self.launch_in(REGION)
    }

    pub fn launch_in(&self, region: &str) -> InstanceId {
        let (status, body) = self.call_in(region, &self.operator, "ec2", LAUNCH);
        assert_eq!(status, 200, "{body}");
        launched(&body)
    }

    /// An operator's call to EC2.
    pub fn operate(&self, region: &str, parameters: &str) -> (u16, String) {
        self.call_in(region, &self.operator, "ec2", &format!("{parameters}&Version=2016-11-15"))
    }

    pub fn whoami(&self, signer: &Signer) -> (u16, String) {
        self.call(signer, "sts", WHOAMI)
    }

    /// What STS says of a caller, once it can tell: a server that did not hear of a launch in time says 503, which says nothing of the
    /// caller.
    pub fn verdict(&self, signer: &Signer) -> (u16, String) {
        self.told(|| self.whoami(signer))
    }

    /// The same of one that is signed for a region.
    pub fn verdict_in(&self, region: &str, signer: &Signer) -> (u16, String) {
        self.told(|| self.call_in(region, signer, "sts", WHOAMI))
    }

    fn told(&self, ask: impl Fn() -> (u16, String)) -> (u16, String) {
        until("STS can tell", || Some(ask()).filter(|(status, _)| *status != 503))
    }

    pub fn readiness(&self) -> (u16, String) {
        let address = self.ready["operations"].as_str().unwrap().strip_prefix("http://").unwrap();
        calls::exchange(address, "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n").unwrap()
    }
}

/// The machine that a launch has answered.
pub fn launched(body: &str) -> InstanceId {
    body.split_once("<instanceId>").unwrap().1.split_once('<').unwrap().0.parse().unwrap()
}

/// Gives one server's key to another, as an operator copies it.
pub fn copy_key(from: &Path, to: &Path) {
    DirBuilder::new().recursive(true).mode(0o700).create(to).unwrap();
    std::fs::copy(from.join("epoch.key"), to.join("epoch.key")).unwrap();
}

/// What a process said.
pub fn said(output: &std::process::Output) -> String {
    [&output.stdout[..], &output.stderr[..]].map(String::from_utf8_lossy).concat()
}

/// Runs one of Inborn's own commands.
pub fn run<S: AsRef<OsStr>>(data: &Path, words: &[S]) -> std::process::Output {
    inborn(data).args(words).output().unwrap()
}

/// What makes the credentials of a region's machines.
pub struct Mint {
    keyring: Keyring,
    region: String,
    store: PostgresStore,
}

impl Mint {
    /// By the region's store and its key file.
    pub async fn open(region: &str, url: &str, key_file: &Path) -> Self {
        let store = PostgresStore::open(url).await.unwrap();
        let text = std::fs::read_to_string(key_file).unwrap();
        let hex = text.trim().strip_prefix("inborn-key-1").unwrap().trim();
        let bytes: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&hex[2 * at..][..2], 16).unwrap()).collect();
        let kek = Kek::from_bytes(&bytes.try_into().unwrap()).unwrap();
        let epoch = &store.epochs().await.unwrap()[0];
        let root = kek.open(&format!("epoch {}", epoch.id), epoch.blob.as_bytes()).unwrap();
        let root = EpochRoot::from_bytes(root.as_slice().try_into().unwrap());
        let id = EpochId(epoch.id);
        let keyring = Keyring::new(vec![Epoch::new(id, &root, Partition::Aws).unwrap()], id).unwrap();
        Self { keyring, region: region.to_owned(), store }
    }

    /// What the machine holds: a function of the epoch and of what the store has of it, so that anybody with the key can tell.
    pub async fn machine(&self, id: InstanceId) -> Signer {
        self.of_record(&self.store.instance(id).await.unwrap().unwrap())
    }

    /// The region's store.
    pub fn store(&self) -> &dyn Store {
        &self.store
    }

    /// What the machine holds that was given it so many seconds ahead, as it is after a release.
    pub async fn machine_ahead(&self, id: InstanceId, seconds: u64) -> Signer {
        let machine = self.store.instance(id).await.unwrap().unwrap();
        self.mint(&machine, Kind::Identity, now().plus(seconds), now().plus(seconds + 3600))
    }

    /// What the machine's agent holds that registered a moment ago.
    pub async fn agent(&self, id: InstanceId) -> Signer {
        let machine = self.store.instance(id).await.unwrap().unwrap();
        let roles = self.store.roles().await.unwrap();
        let role = roles.into_iter().find(|role| role.name.to_string() == MANAGEMENT_ROLE_NAME).unwrap();
        let kind = Kind::Management { role: role.name, role_id: role.role_id.as_str().into() };
        // Later than all that has ended with the setting and the registration.
        self.mint(&machine, kind, now().plus(2), now().plus(3000))
    }

    fn of_record(&self, machine: &Instance) -> Signer {
        let generation = generation(machine.id, machine.boot_time, now());
        self.mint(machine, Kind::Identity, generation.issued_at, generation.expires_at)
    }

    fn mint(&self, machine: &Instance, kind: Kind, issued_at: UnixTime, expires_at: UnixTime) -> Signer {
        let claims = Claims {
            kind,
            account: machine.account,
            instance: machine.id,
            region: self.region.parse().unwrap(),
            issued_at,
            expires_at,
            delivery: Delivery::V2,
            boot_generation: machine.boot_generation,
            private_address: Some(machine.private_address.into()),
        };
        let credential = self.keyring.mint(&claims).unwrap();
        Signer {
            access_key_id: credential.access_key_id.to_string(),
            secret: credential.secret_access_key.expose().to_owned(),
            token: Some(credential.session_token.expose().to_owned()),
        }
    }
}
