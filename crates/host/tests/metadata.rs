//! The metadata service of attached machines over real connections. Rotation is in `rotation.rs`.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, clippy::string_slice, reason = "tests")]

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use inborn_credential::{Claims, Credential, Delivery, Epoch, EpochId, EpochRoot, Keyring, Kind, generation};
use inborn_host::{AttachmentKind, Host, Issuer, MachineParts, Metrics, SentKeys};
use inborn_identity::{HttpTokens, InstanceId, MetadataOptions, Partition, UnixTime};
use inborn_imds::{Facts, ManagedKey, ManagedKeys};
use inborn_testkit::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
const CREDENTIALS: &str = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
const HOUR: u64 = 3600;

/// Issues as the region does, and can be away.
struct Region {
    keyring: Keyring,
    boots: Mutex<HashMap<InstanceId, u32>>,
    away: AtomicBool,
    keys: Mutex<HashMap<InstanceId, SentKeys>>,
}

impl Issuer for Region {
    fn issue(&self, instance: InstanceId, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)> {
        if self.away.load(Ordering::Relaxed) {
            return None;
        }
        let generation = generation(instance, NOW, at);
        let claims = Claims {
            kind: Kind::Identity,
            account: "123456789012".parse().unwrap(),
            instance,
            region: "us-east-1".parse().unwrap(),
            issued_at: generation.issued_at,
            expires_at: generation.expires_at,
            delivery,
            boot_generation: *self.boots.lock().unwrap().get(&instance).unwrap_or(&1),
            private_address: None,
        };
        Some((self.keyring.mint(&claims).unwrap(), generation.next_at))
    }

    fn sent_keys(&self, instance: InstanceId, _: UnixTime) -> SentKeys {
        self.keys.lock().unwrap().get(&instance).cloned().unwrap_or_default()
    }
}

struct Lab {
    host: Arc<Host>,
    region: Arc<Region>,
    clock: Arc<ManualClock>,
}

fn lab() -> Lab {
    let epoch = Epoch::new(EpochId(1), &EpochRoot::from_bytes([7; 32]), Partition::Aws).unwrap();
    let keyring = Keyring::new(vec![epoch], EpochId(1)).unwrap();
    let region =
        Arc::new(Region { keyring, boots: Mutex::default(), away: AtomicBool::new(false), keys: Mutex::default() });
    let clock = Arc::new(ManualClock::new(NOW));
    let host = Host::new(Arc::clone(&clock) as _, Arc::clone(&region) as _, Metrics::default()).unwrap();
    Lab { host, region, clock }
}

fn id(n: u8) -> InstanceId {
    InstanceId::from_bytes([0, 0, 0, 0, 0, 0, 0, 0, n])
}

fn parts(id: InstanceId) -> MachineParts {
    MachineParts {
        id,
        is_running: true,
        boot_generation: 1,
        options: MetadataOptions::default(),
        tags: vec![("Name".into(), "web".into())],
        facts: Facts {
            domain: "amazonaws.com".into(),
            image_id: "ami-12345678".into(),
            instance_type: "m5.large".into(),
            reservation_id: "r-12345678".into(),
            security_groups: vec!["default".into()],
            ..Facts::bare(
                "123456789012".parse().unwrap(),
                Partition::Aws,
                "us-east-1".parse().unwrap(),
                "us-east-1a".parse().unwrap(),
                NOW,
            )
        },
    }
}

async fn ask(port: u16, head: &str) -> (u16, String, String) {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(format!("{head}\r\nhost: 169.254.169.254\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.split(' ').nth(1).unwrap().parse().unwrap(), head.to_owned(), body.to_owned())
}

async fn token(port: u16) -> String {
    let (status, _, body) =
        ask(port, "PUT /latest/api/token HTTP/1.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 21600").await;
    assert_eq!(status, 200);
    body
}

async fn get(port: u16, token: &str, path: &str) -> (u16, String, String) {
    ask(port, &format!("GET {path} HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}")).await
}

fn field(document: &str, name: &str) -> String {
    let line = document.lines().find(|line| line.contains(&format!("\"{name}\""))).unwrap();
    line.split('"').nth(3).unwrap().to_owned()
}

#[tokio::test]
async fn each_machine_is_told_of_itself_alone() {
    let lab = lab();
    let (one, two) = (
        lab.host.attach_loopback(parts(id(1)).into(), None).await.unwrap(),
        lab.host.attach_loopback(parts(id(2)).into(), None).await.unwrap(),
    );
    for (port, instance) in [(one, id(1)), (two, id(2))] {
        let token = token(port).await;
        let (status, head, body) = get(port, &token, "/latest/meta-data/instance-id").await;
        assert_eq!((status, body), (200, instance.to_string()));
        for line in
            ["Server: EC2ws", "Content-Length: 19", "Date: Fri, 15 Jan 2027 08:00:00 GMT", "Accept-Ranges: none"]
        {
            assert!(head.contains(line), "{line} in {head}");
        }
    }
    let stolen = token(one).await;
    assert_eq!(get(two, &stolen, "/latest/meta-data/instance-id").await.0, 401, "a token of another machine");
    assert_eq!(ask(one, "GET /latest/meta-data/instance-id HTTP/1.1").await.0, 401, "no token");
    assert_eq!(
        lab.host.attachments(),
        [(id(1), AttachmentKind::Loopback { port: one }), (id(2), AttachmentKind::Loopback { port: two })]
    );
}

#[tokio::test]
async fn head_tells_the_length_and_no_body() {
    let lab = lab();
    let port = lab.host.attach_loopback(parts(id(1)).into(), None).await.unwrap();
    let token = token(port).await;
    let (status, head, body) =
        ask(port, &format!("HEAD {CREDENTIALS}/ HTTP/1.1\r\nX-aws-ec2-metadata-token: {token}")).await;
    let document = get(port, &token, CREDENTIALS).await.2;
    assert_eq!((status, body.as_str()), (200, ""));
    assert!(head.contains(&format!("Content-Length: {}", document.len())), "{head}");
}

#[tokio::test]
async fn changes_are_in_force_with_the_next_request() {
    let lab = lab();
    let port = lab.host.attach_loopback(parts(id(1)).into(), None).await.unwrap();
    let change = |change: &dyn Fn(&mut MachineParts)| {
        let mut parts = parts(id(1));
        change(&mut parts);
        lab.host.update(parts.into());
    };
    change(&|parts| parts.options.http_tokens = HttpTokens::Optional);
    assert_eq!(ask(port, "GET /latest/meta-data/instance-id HTTP/1.1").await.0, 200);
    change(&|parts| parts.options.http_endpoint = inborn_identity::HttpEndpoint::Disabled);
    assert_eq!(ask(port, "GET /latest/meta-data/instance-id HTTP/1.1").await.0, 403);
    change(&|parts| parts.is_running = false);
    assert_eq!(ask(port, "GET /latest/meta-data/instance-id HTTP/1.1").await.0, 404, "off");
    assert!(lab.host.detach(id(1)) && !lab.host.detach(id(1)));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert!(TcpStream::connect(("127.0.0.1", port)).await.is_err(), "its port is closed");
}

#[tokio::test]
async fn a_reboot_brings_new_credentials_with_the_next_request() {
    let lab = lab();
    let port = lab.host.attach_loopback(parts(id(1)).into(), None).await.unwrap();
    let token = token(port).await;
    let before = get(port, &token, CREDENTIALS).await.2;
    assert_eq!(before, get(port, &token, CREDENTIALS).await.2, "stable until something happens");
    lab.region.boots.lock().unwrap().insert(id(1), 2);
    let mut rebooted = parts(id(1));
    rebooted.boot_generation = 2;
    lab.host.update(rebooted.into());
    let after = get(port, &token, CREDENTIALS).await.2;
    assert_ne!(field(&before, "AccessKeyId"), field(&after, "AccessKeyId"));
}

#[tokio::test]
async fn a_key_that_was_sent_is_there_for_its_machine_its_minute_and_its_boot() {
    const KEYS: &str = "/latest/meta-data/managed-ssh-keys/active-keys/root/";
    let lab = lab();
    let send = |n: u8, boot_generation: u32| {
        let key = ManagedKey { user: "root".into(), block: format!("{n}\n\n"), expires_at: NOW.plus(60) };
        let keys = ManagedKeys { keys: vec![key], ..ManagedKeys::default() };
        lab.region.keys.lock().unwrap().insert(id(n), SentKeys { boot_generation, keys });
    };
    let ports = [
        lab.host.attach_loopback(parts(id(1)).into(), None).await.unwrap(),
        lab.host.attach_loopback(parts(id(2)).into(), None).await.unwrap(),
    ];
    let tokens = [token(ports[0]).await, token(ports[1]).await];
    assert_eq!(get(ports[0], &tokens[0], KEYS).await.0, 404);
    send(1, 1);
    lab.host.fetch_keys(id(1));
    let (status, _, body) = get(ports[0], &tokens[0], KEYS).await;
    assert_eq!((status, body.as_str()), (200, "1\n\n"));
    assert_eq!(get(ports[1], &tokens[1], KEYS).await.0, 404, "another machine");
    send(3, 1);
    let late = lab.host.attach_loopback(parts(id(3)).into(), None).await.unwrap();
    let late_token = token(late).await;
    assert_eq!(get(late, &late_token, KEYS).await.0, 200, "sent before it was attached");

    let mut rebooted = parts(id(1));
    rebooted.boot_generation = 2;
    lab.host.update(rebooted.into());
    assert_eq!(get(ports[0], &tokens[0], KEYS).await.0, 404, "sent to an earlier boot");
    lab.clock.advance(59);
    assert_eq!(get(late, &late_token, KEYS).await.0, 200);
    lab.clock.advance(1);
    assert_eq!(get(late, &late_token, KEYS).await.0, 404);
}

#[tokio::test]
async fn a_port_is_taken_again_and_never_from_another() {
    let lab = lab();
    let port = lab.host.attach_loopback(parts(id(1)).into(), None).await.unwrap();
    let error = lab.host.attach_loopback(parts(id(2)).into(), Some(port)).await.unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse);
    lab.host.detach(id(1));
    tokio::time::sleep(std::time::Duration::from_millis(50)).await;
    assert_eq!(lab.host.attach_loopback(parts(id(3)).into(), Some(port)).await.unwrap(), port);
}

#[tokio::test]
async fn expired_credentials_are_not_handed_out() {
    let lab = lab();
    let port = lab.host.attach_loopback(parts(id(1)).into(), None).await.unwrap();
    lab.region.away.store(true, Ordering::Relaxed);
    lab.clock.advance(8 * HOUR);
    lab.host.prepare();
    let token = token(port).await;
    assert_eq!(get(port, &token, CREDENTIALS).await.0, 503, "clients try again");
    lab.region.away.store(false, Ordering::Relaxed);
    lab.host.prepare();
    assert_eq!(get(port, &token, CREDENTIALS).await.0, 200);
}
