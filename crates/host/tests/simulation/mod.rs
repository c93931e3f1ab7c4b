//! A host with machines, a region and a clock.

pub(crate) mod clients;

use core::ops::Range;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use inborn_credential::{
    AuthFault, Authenticator, Claims, Credential, Delivery, Epoch, EpochId, EpochRoot, Keyring, Kind, generation,
};
use inborn_host::{Host, Issuer, MachineParts, Metrics};
use inborn_identity::{Clock, HttpTokens, InstanceId, MetadataOptions, Partition, Principal, UnixTime};
use inborn_imds::Facts;
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Endpoint, Expires, Header, PathMode, Request};
use inborn_testkit::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

pub(crate) const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
pub(crate) const MINUTE: u64 = 60;
pub(crate) const HOUR: u64 = 3600;
/// Machines from here on have no listener: they are looked at, not asked.
const ASKED_MAX: u64 = 4;

/// As the region in `inborn-region` does it: the schedule, and the keyring.
pub(crate) struct Region {
    keyring: Arc<Keyring>,
    away: AtomicBool,
}

impl Region {
    pub(crate) fn leave(&self) {
        self.away.store(true, Ordering::Relaxed);
    }

    pub(crate) fn come_back(&self) {
        self.away.store(false, Ordering::Relaxed);
    }
}

impl Issuer for Region {
    fn issue(&self, instance: InstanceId, delivery: Delivery, at: UnixTime) -> Option<(Credential, UnixTime)> {
        if self.away.load(Ordering::Relaxed) {
            return None;
        }
        // Booted long ago: clocks go back here.
        let generation = generation(instance, UnixTime::default(), at);
        let claims = Claims {
            kind: Kind::Identity,
            account: "123456789012".parse().unwrap(),
            instance,
            region: "us-east-1".parse().unwrap(),
            issued_at: generation.issued_at,
            expires_at: generation.expires_at,
            delivery,
            boot_generation: 1,
            private_address: None,
        };
        Some((self.keyring.mint(&claims).unwrap(), generation.next_at))
    }
}

pub(crate) struct Simulation {
    pub(crate) host: Arc<Host>,
    pub(crate) region: Arc<Region>,
    pub(crate) clock: Arc<ManualClock>,
    authenticator: Authenticator,
    ports: Vec<u16>,
}

/// Credentials as a guest has read them.
pub(crate) struct Fetched {
    pub(crate) access_key_id: String,
    secret: String,
    pub(crate) token: String,
    pub(crate) issued_at: UnixTime,
    pub(crate) expires_at: UnixTime,
}

pub(crate) fn machine_id(n: u64) -> InstanceId {
    let [a, b, c, d, e, f, g, h] = n.to_be_bytes();
    InstanceId::from_bytes([7, a, b, c, d, e, f, g, h])
}

impl Simulation {
    pub(crate) fn of(machines: u64) -> Self {
        let epoch = Epoch::new(EpochId(1), &EpochRoot::from_bytes([7; 32]), Partition::Aws).unwrap();
        let keyring = Arc::new(Keyring::new(vec![epoch], EpochId(1)).unwrap());
        let authenticator =
            Authenticator::new(Partition::Aws, "us-east-1".parse().unwrap(), Arc::clone(&keyring)).unwrap();
        let region = Arc::new(Region { keyring, away: AtomicBool::new(false) });
        let clock = Arc::new(ManualClock::new(NOW));
        let host = Host::new(Arc::clone(&clock) as _, Arc::clone(&region) as _, Metrics::default()).unwrap();
        let mut ports = Vec::new();
        for n in 0..machines {
            if n < ASKED_MAX {
                let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
                listener.set_nonblocking(true).unwrap();
                ports.push(listener.local_addr().unwrap().port());
                host.attach_pocket(parts(machine_id(n)).into(), [tokio::net::TcpListener::from_std(listener).unwrap()]);
            } else {
                host.attach_pocket(parts(machine_id(n)).into(), []);
            }
        }
        Self { host, region, clock, authenticator, ports }
    }

    pub(crate) fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Lets time pass, with a round of the rotation each minute. `look` sees each minute just before its round, when things
    /// are worst, and just after.
    pub(crate) fn run(&self, seconds: u64, mut look: impl FnMut(UnixTime)) {
        for _ in 0..seconds / MINUTE {
            look(self.clock.advance(MINUTE));
            self.host.prepare();
            look(self.now());
        }
    }

    /// What a machine would be handed now.
    #[track_caller]
    pub(crate) fn held(&self, id: InstanceId) -> Range<UnixTime> {
        self.host.credentials_of(id).unwrap_or_else(|| panic!("{id} has no credentials at {:?}", self.now()))
    }

    /// Seconds left of what a machine would be handed now.
    #[track_caller]
    pub(crate) fn left(&self, id: InstanceId) -> u64 {
        self.held(id).end.since(self.now())
    }

    /// Asks the metadata service of a machine, as a program inside does.
    pub(crate) async fn fetch(&self, n: u64, delivery: Delivery) -> Fetched {
        const PATH: &str = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
        let port = self.ports[usize::try_from(n).unwrap()];
        let with_token = match delivery {
            Delivery::V1 => String::new(),
            Delivery::V2 => {
                let ttl = "x-aws-ec2-metadata-token-ttl-seconds: 21600\r\n";
                format!(
                    "x-aws-ec2-metadata-token: {}\r\n",
                    ask(port, &format!("PUT /latest/api/token HTTP/1.1\r\n{ttl}")).await
                )
            }
        };
        let document = ask(port, &format!("GET {PATH} HTTP/1.1\r\n{with_token}")).await;
        let field = |name: &str| {
            let line = document.lines().find(|line| line.contains(&format!("\"{name}\""))).unwrap();
            line.split('"').nth(3).unwrap().to_owned()
        };
        Fetched {
            access_key_id: field("AccessKeyId"),
            secret: field("SecretAccessKey"),
            token: field("Token"),
            issued_at: UnixTime::parse_rfc3339(field("LastUpdated").as_bytes()).unwrap(),
            expires_at: UnixTime::parse_rfc3339(field("Expiration").as_bytes()).unwrap(),
        }
    }

    /// Whom a region takes the signer of a request of the moment `now` for.
    pub(crate) fn verify(&self, signer: &Fetched, now: UnixTime) -> Result<InstanceId, AuthFault> {
        const STS: Endpoint<'static> = Endpoint {
            service: "sts",
            regions: &["us-east-1"],
            path_mode: PathMode::Normalized,
            skew_seconds: 900,
            query_auth: true,
            expires: Expires::Ignored,
        };
        const EMPTY_SHA256: [u8; 32] = [
            0xe3, 0xb0, 0xc4, 0x42, 0x98, 0xfc, 0x1c, 0x14, 0x9a, 0xfb, 0xf4, 0xc8, 0x99, 0x6f, 0xb9, 0x24, 0x27, 0xae,
            0x41, 0xe4, 0x64, 0x9b, 0x93, 0x4c, 0xa4, 0x95, 0x99, 0x1b, 0x78, 0x52, 0xb8, 0x55,
        ];
        let host = Header { name: b"host", value: b"sts.us-east-1.amazonaws.com" };
        let credentials = Credentials {
            access_key_id: &signer.access_key_id,
            secret_access_key: signer.secret.as_bytes(),
            session_token: Some(&signer.token),
        };
        let unsigned = Request { method: "POST", path: b"/", query: b"", headers: &[host] };
        let target = Target { region: "us-east-1", service: "sts", path_mode: PathMode::Normalized };
        let added = sign(&unsigned, b"", &credentials, &target, now).unwrap();
        let mut headers = vec![Header { name: b"host", value: b"sts.us-east-1.amazonaws.com" }];
        headers.extend(added.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }));
        let request = Request { method: "POST", path: b"/", query: b"", headers: &headers };
        let caller = self.authenticator.authenticate(&request, &EMPTY_SHA256, &STS, now)?;
        match caller.principal {
            Principal::IdentityRole { instance, .. } => Ok(instance),
            other => panic!("{other:?}"),
        }
    }
}

async fn ask(port: u16, head: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    stream.write_all(format!("{head}host: 169.254.169.254\r\nconnection: close\r\n\r\n").as_bytes()).await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.starts_with("HTTP/1.1 200"), "{head}");
    body.to_owned()
}

fn parts(id: InstanceId) -> MachineParts {
    MachineParts {
        id,
        is_running: true,
        boot_generation: 1,
        options: MetadataOptions { http_tokens: HttpTokens::Optional, ..MetadataOptions::default() },
        tags: Vec::new(),
        facts: Facts::bare(
            "123456789012".parse().unwrap(),
            Partition::Aws,
            "us-east-1".parse().unwrap(),
            "us-east-1a".parse().unwrap(),
            NOW,
        ),
    }
}
