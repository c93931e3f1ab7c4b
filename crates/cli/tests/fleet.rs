//! Two `inborn region` processes over one PostgreSQL: what one launches the other knows, what one ends is ended, and neither
//! needs the other to live.
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::string_slice,
    clippy::print_stderr,
    reason = "a test fails by panicking, and says how long things took"
)]

#[path = "../../store-postgres/tests/common/mod.rs"]
mod postgres;

mod patience;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant, SystemTime};

use inborn_credential::{Claims, Delivery, Epoch, EpochId, EpochRoot, Kek, Keyring, Kind, generation};
use inborn_identity::{InstanceId, Partition, Region, UnixTime};
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Header, PathMode, Request};
use inborn_store::{Instance, Store};
use inborn_store_postgres::PostgresStore;
use patience::until;

const REGION: &str = "us-east-1";
const LAUNCH: &str = "Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Version=2016-11-15";
const WHOAMI: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// A region server that is killed when the test ends.
struct Server {
    child: Child,
    ready: serde_json::Value,
    operator: Signer,
}

struct Signer {
    access_key_id: String,
    secret: String,
    token: Option<String>,
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn now() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "processes of their own have clocks of their own")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixTime::from_secs(since.as_secs())
}

impl Server {
    fn start(name: &str, data: &Path, url: &str) -> Self {
        let ready_file = data.join("told-ready.json");
        let child = Command::new(env!("CARGO_BIN_EXE_inborn"))
            .args(["region", "--node", name, "--port", "0", "--tls-port", "0", "--operations-port", "0"])
            .args(["--telemetry-days", "0", "--region", REGION])
            .arg("--data")
            .arg(data)
            .arg("--ready-file")
            .arg(&ready_file)
            .env("INBORN_STORE", url)
            .env_remove("INBORN_DATA")
            .env_remove("INBORN_CONFIG")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let mut server = Self { child, ready: serde_json::Value::Null, operator: Signer::of_machine_none() };
        server.ready = until("a server is ready", || {
            assert!(server.child.try_wait().unwrap().is_none(), "the server {name} has ended");
            serde_json::from_slice(&std::fs::read(&ready_file).ok()?).ok()
        });
        let env = std::fs::read_to_string(data.join("operator.env")).unwrap();
        let value = |name: &str| env.lines().find_map(|line| line.split_once(name)).unwrap().1.to_owned();
        server.operator =
            Signer { access_key_id: value("AWS_ACCESS_KEY_ID="), secret: value("AWS_SECRET_ACCESS_KEY="), token: None };
        server
    }

    /// Sends a signed call; gives status and body.
    fn call(&self, signer: &Signer, service: &str, body: &str) -> (u16, String) {
        let address = self.ready["endpoint"].as_str().unwrap().strip_prefix("http://").unwrap();
        let host = format!("{service}.{REGION}.amazonaws.com");
        let content_type = "application/x-www-form-urlencoded; charset=utf-8";
        let headers = [("host", host.as_str()), ("content-type", content_type)];
        let fields = headers.map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() });
        let unsigned = Request { method: "POST", path: b"/", query: b"", headers: &fields };
        let credentials = Credentials {
            access_key_id: &signer.access_key_id,
            secret_access_key: signer.secret.as_bytes(),
            session_token: signer.token.as_deref(),
        };
        let target = Target { region: REGION, service, path_mode: PathMode::Normalized };
        let added = sign(&unsigned, body.as_bytes(), &credentials, &target, now()).unwrap();
        let mut text = "POST / HTTP/1.1\r\n".to_owned();
        for (name, value) in headers {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        for (name, value) in &added {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()));
        exchange(address, &text)
    }

    fn launch(&self) -> InstanceId {
        let (status, body) = self.call(&self.operator, "ec2", LAUNCH);
        assert_eq!(status, 200, "{body}");
        let from = body.find("<instanceId>").unwrap() + "<instanceId>".len();
        body[from..][..19].parse().unwrap()
    }

    fn readiness(&self) -> (u16, String) {
        let address = self.ready["operations"].as_str().unwrap().strip_prefix("http://").unwrap();
        exchange(address, "GET /readyz HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
    }
}

impl Signer {
    fn of_machine_none() -> Self {
        Self { access_key_id: String::new(), secret: String::new(), token: None }
    }

    /// What the machine holds: a function of the epoch and of what the store has of it, so that anybody with the key can tell.
    fn of_machine(keyring: &Keyring, machine: &Instance) -> Self {
        let generation = generation(machine.id, machine.boot_time, now());
        let claims = Claims {
            kind: Kind::Identity,
            account: machine.account,
            instance: machine.id,
            region: REGION.parse::<Region>().unwrap(),
            issued_at: generation.issued_at,
            expires_at: generation.expires_at,
            delivery: Delivery::V2,
            boot_generation: machine.boot_generation,
            private_address: Some(machine.private_address.into()),
        };
        let credential = keyring.mint(&claims).unwrap();
        Self {
            access_key_id: credential.access_key_id.to_string(),
            secret: credential.secret_access_key.expose().to_owned(),
            token: Some(credential.session_token.expose().to_owned()),
        }
    }
}

fn exchange(address: &str, text: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).unwrap();
    stream.write_all(text.as_bytes()).unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), body.to_owned())
}

/// The keyring of the region, by its key file.
async fn keyring(store: &PostgresStore, key_file: &Path) -> Keyring {
    let text = std::fs::read_to_string(key_file).unwrap();
    let hex = text.trim().strip_prefix("inborn-key-1").unwrap().trim();
    let bytes: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&hex[2 * at..][..2], 16).unwrap()).collect();
    let kek = Kek::from_bytes(&bytes.try_into().unwrap()).unwrap();
    let epoch = &store.epochs().await.unwrap()[0];
    let root = kek.open(&format!("epoch {}", epoch.id), epoch.blob.as_bytes()).unwrap();
    let root = EpochRoot::from_bytes(root.as_slice().try_into().unwrap());
    let id = EpochId(epoch.id);
    Keyring::new(vec![Epoch::new(id, &root, Partition::Aws).unwrap()], id).unwrap()
}

#[tokio::test]
async fn two_servers_are_one_region() {
    let Some(cluster) = postgres::cluster() else { return };
    let url = cluster.database();
    let (of_a, of_b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
    let a = Server::start("a", of_a.path(), &url);
    // A server without the key is told what it lacks, and changes nothing.
    let refused = Command::new(env!("CARGO_BIN_EXE_inborn"))
        .args(["region", "--port", "0", "--tls-port", "0", "--operations-port", "0", "--region", REGION, "--data"])
        .arg(of_b.path())
        .env("INBORN_STORE", &url)
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&refused.stderr);
    assert!(!refused.status.success() && said.contains("epoch.key is missing"), "{said}");
    std::fs::copy(of_a.path().join("epoch.key"), of_b.path().join("epoch.key")).unwrap();
    let b = Server::start("b", of_b.path(), &url);
    assert_eq!(a.operator.access_key_id, b.operator.access_key_id);

    // Inborn's own commands find a region server as they find `up`.
    let seen = b.launch();
    for words in [&["ps", "--output", "json"][..], &["describe", &seen.to_string(), "--output", "json"]] {
        let mut command = Command::new(env!("CARGO_BIN_EXE_inborn"));
        let output = command.args(words).arg("--data").arg(of_b.path()).env_remove("INBORN_DATA").output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains(&seen.to_string()), "{said}{output:?}");
        assert!(said.contains("not known here"), "{said}");
    }

    let store = PostgresStore::open(&url).await.unwrap();
    let keyring = keyring(&store, &of_a.path().join("epoch.key")).await;
    let machine = async |id| Signer::of_machine(&keyring, &store.instance(id).await.unwrap().unwrap());
    let id = a.launch();
    let signer = machine(id).await;
    let begun = Instant::now();
    let (status, body) = b.call(&signer, "sts", WHOAMI);
    assert!(status == 200 && body.contains(&id.to_string()), "{body}");
    eprintln!("a launch at one server verified at the other: first call answered in {:?}", begun.elapsed());

    let end = |id: InstanceId| format!("Action=TerminateInstances&InstanceId.1={id}&Version=2016-11-15");
    let mut longest = Duration::ZERO;
    for round in 0..5 {
        let id = a.launch();
        let signer = machine(id).await;
        assert_eq!(b.call(&signer, "sts", WHOAMI).0, 200);
        let (one, other) = if round % 2 == 0 { (&a, &b) } else { (&b, &a) };
        assert_eq!(one.call(&one.operator, "ec2", &end(id)).0, 200);
        let begun = Instant::now();
        assert_eq!(one.call(&signer, "sts", WHOAMI).0, 403, "from the answer on");
        until("a termination is known", || (other.call(&signer, "sts", WHOAMI).0 == 403).then_some(()));
        longest = longest.max(begun.elapsed());
    }
    eprintln!("a termination at one server was known at the other after {longest:?} at most");

    let quarantine = |action: &str| format!("Action=Inborn.{action}&Subject.1={id}&Version=2016-11-15");
    let mut longest = Duration::ZERO;
    for (one, other) in [(&a, &b), (&b, &a)] {
        let id = one.launch();
        let signer = machine(id).await;
        assert_eq!(other.call(&signer, "sts", WHOAMI).0, 200);
        let put = format!("Action=Inborn.PutQuarantine&Subject.1={id}&Version=2016-11-15");
        assert_eq!(one.call(&one.operator, "ec2", &put).0, 200);
        let begun = Instant::now();
        assert_eq!(one.call(&signer, "sts", WHOAMI).0, 403, "from the answer on");
        until("a quarantine is known", || (other.call(&signer, "sts", WHOAMI).0 == 403).then_some(()));
        longest = longest.max(begun.elapsed());
    }
    eprintln!("a quarantine at one server was known at the other after {longest:?} at most");
    assert_eq!(a.call(&a.operator, "ec2", &quarantine("EndQuarantine")).0, 400, "this one is in none");

    // A rotation: both verify with the new epoch, and nothing is lost by it.
    let begun = Instant::now();
    assert_eq!(a.call(&a.operator, "ec2", "Action=Inborn.RotateEpoch&Version=2016-11-15").0, 200);
    let describe = "Action=Inborn.DescribeEpochs&Version=2016-11-15";
    let is_sealing = || b.call(&b.operator, "ec2", describe).1.matches("<state>sealing</state>").count() == 2;
    until("both verify with the new epoch", || is_sealing().then_some(()));
    eprintln!("a rotation was acknowledged by two servers after {:?}", begun.elapsed());
    assert_eq!(b.call(&signer, "sts", WHOAMI).0, 200);

    // Nothing depends on one process living.
    drop(a);
    assert_eq!(b.call(&signer, "sts", WHOAMI).0, 200);
    let id = b.launch();
    assert_eq!(b.call(&machine(id).await, "sts", WHOAMI).0, 200);
    assert_eq!(b.readiness().0, 200);
    assert_eq!(b.call(&b.operator, "ec2", &end(id)).0, 200);

    // A database that is gone: who is known stays known, changes are refused, and it is said.
    let name = url.rsplit_once('/').unwrap().1;
    let elsewhere = cluster.url("postgres");
    cluster.sql(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS false"));
    cluster
        .sql(&elsewhere, &format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"));
    until("it is stale", || b.readiness().1.contains("fleet: nothing was heard").then_some(()));
    assert_eq!(b.readiness().0, 503);
    assert_eq!(b.call(&signer, "sts", WHOAMI).0, 200);
    let (status, body) = b.call(&b.operator, "ec2", LAUNCH);
    assert!(status == 503 && body.contains("<Code>Unavailable</Code>"), "{body}");
    cluster.sql(&elsewhere, &format!("ALTER DATABASE {name} ALLOW_CONNECTIONS true"));
    until("it is ready again", || (b.readiness().0 == 200).then_some(()));
    b.launch();
}
