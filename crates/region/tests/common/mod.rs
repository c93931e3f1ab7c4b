//! A region that really listens, and callers that really sign.
#![allow(unreachable_pub, dead_code, reason = "shared by several test programs")]
#![allow(clippy::unwrap_used, clippy::panic, clippy::string_slice, clippy::indexing_slicing, reason = "test harness")]

pub mod agent;
pub mod calls;
pub mod channel;
pub mod commands;
pub mod fleet;
pub mod hosts;
pub mod session;
pub mod telemetry;
pub mod verdict;

use std::net::SocketAddr;
use std::sync::Arc;

use inborn_credential::{Credential, Delivery};
use inborn_identity::{AccountId, Clock, InstanceId, Partition, UnixTime};
use inborn_listener::Limits;
use inborn_region::{
    EpochSettings, KeySource, Opening, Rates, RegionIdentity, RegionServer, RequestOrigin, TelemetrySettings,
};
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Header, PathMode};
use inborn_store::{SqliteStore, Store};
use inborn_testkit::ManualClock;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

pub const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
pub const FORM: &str = "application/x-www-form-urlencoded; charset=utf-8";
pub const WHOAMI: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// The id of the setting of Default Host Management.
pub const SETTING: &str = "/ssm/managed-instance/default-ec2-instance-management-role";

pub struct Running {
    pub region: Arc<RegionServer>,
    pub clock: Arc<ManualClock>,
    pub address: SocketAddr,
    pub directory: tempfile::TempDir,
    /// Where telemetry goes.
    pub kept: Arc<telemetry::Kept>,
    _stop: watch::Sender<bool>,
}

/// Who signs.
#[derive(Clone)]
pub struct Signer {
    pub access_key_id: String,
    pub secret: String,
    pub token: Option<String>,
}

impl From<&Credential> for Signer {
    fn from(credential: &Credential) -> Self {
        Self {
            access_key_id: credential.access_key_id.to_string(),
            secret: credential.secret_access_key.expose().to_owned(),
            token: Some(credential.session_token.expose().to_owned()),
        }
    }
}

/// A call, as far as tests vary it.
#[derive(Clone)]
pub struct Call {
    pub method: &'static str,
    pub target: String,
    pub host: String,
    pub service: String,
    pub region: String,
    pub body: String,
    pub headers: Vec<(&'static str, String)>,
}

pub struct Reply {
    pub status: u16,
    pub head: String,
    pub body: String,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.head.lines().find_map(|line| {
            let (key, value) = line.split_once(": ")?;
            key.eq_ignore_ascii_case(name).then_some(value)
        })
    }
}

pub fn identity() -> RegionIdentity {
    RegionIdentity {
        partition: Partition::Aws,
        region: "eu-central-1".parse().unwrap(),
        account: AccountId::new(123_456_789_012).unwrap(),
        domain: "amazonaws.com".to_owned(),
    }
}

pub async fn start() -> Running {
    let store: Arc<dyn Store> = Arc::new(SqliteStore::in_memory().unwrap());
    start_on(store, KeySource::Ephemeral).await
}

pub async fn start_on(store: Arc<dyn Store>, key_source: KeySource) -> Running {
    start_in(tempfile::tempdir().unwrap(), store, key_source).await
}

/// With its audit in `directory`.
pub async fn start_in(directory: tempfile::TempDir, store: Arc<dyn Store>, key_source: KeySource) -> Running {
    start_with(directory, store, key_source, Rates::default()).await
}

pub async fn start_with(
    directory: tempfile::TempDir,
    store: Arc<dyn Store>,
    key_source: KeySource,
    rates: Rates,
) -> Running {
    start_by(directory, store, key_source, rates, TelemetrySettings::default()).await
}

pub async fn start_by(
    directory: tempfile::TempDir,
    store: Arc<dyn Store>,
    key_source: KeySource,
    rates: Rates,
    telemetry: TelemetrySettings,
) -> Running {
    let audit_file = directory.path().join("audit.jsonl");
    let opening = Opening {
        identity: identity(),
        key_source,
        audit_file,
        rates,
        telemetry,
        epochs: EpochSettings::DEFAULT,
        accept_older_store: false,
        fleet: None,
    };
    start_opening(directory, store, opening).await
}

pub async fn start_opening(directory: tempfile::TempDir, store: Arc<dyn Store>, opening: Opening) -> Running {
    start_at(directory, store, opening, NOW).await
}

/// With a clock that begins at `now`.
pub async fn start_at(directory: tempfile::TempDir, store: Arc<dyn Store>, opening: Opening, now: UnixTime) -> Running {
    let clock = Arc::new(ManualClock::new(now));
    let region = RegionServer::open(store, opening, Arc::clone(&clock) as Arc<dyn Clock>).await.unwrap();
    let kept = Arc::new(telemetry::Kept::default());
    region.telemetry().keep_in(Arc::clone(&kept) as _);
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let served = Arc::clone(&region);
    tokio::spawn(inborn_listener::serve(listener, None, Limits::DEFAULT, stopping, move |request, peer| {
        Arc::clone(&served).handle(request, RequestOrigin { peer, machine: None })
    }));
    Running { region, clock, address, directory, kept, _stop: stop }
}

pub fn call(service: &str, body: &str) -> Call {
    Call {
        method: "POST",
        target: "/".to_owned(),
        host: format!("{service}.eu-central-1.amazonaws.com"),
        service: service.to_owned(),
        region: "eu-central-1".to_owned(),
        body: body.to_owned(),
        headers: vec![("content-type", FORM.to_owned())],
    }
}

/// A call of a JSON service.
pub fn json(service: &str, target: &str, body: &str) -> Call {
    let headers = vec![("content-type", "application/x-amz-json-1.1".to_owned()), ("x-amz-target", target.to_owned())];
    Call { headers, ..call(service, body) }
}

pub fn ec2(parameters: &str) -> Call {
    call("ec2", &format!("{parameters}&Version=2016-11-15"))
}

impl Running {
    /// Of a region that somebody else serves.
    pub fn serving(region: Arc<RegionServer>, clock: Arc<ManualClock>, address: SocketAddr) -> Self {
        let (_stop, _) = watch::channel(false);
        let directory = tempfile::tempdir().unwrap();
        Self { region, clock, address, directory, kept: Arc::default(), _stop }
    }

    pub fn operator(&self) -> Signer {
        let key = self.region.operator_key().unwrap();
        Signer { access_key_id: key.access_key_id.clone(), secret: key.secret.expose().to_owned(), token: None }
    }

    /// The credential that an instance holds now.
    pub fn machine(&self, instance: InstanceId) -> Signer {
        let issued = self.region.issue(instance, Delivery::V2, self.clock.now()).unwrap();
        (&issued.credential).into()
    }

    pub async fn launch(&self) -> InstanceId {
        let reply =
            self.send(&self.operator(), &ec2("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1")).await;
        assert_eq!(reply.status, 200, "{}", reply.body);
        between(&reply.body, "<instanceId>", "</instanceId>").parse().unwrap()
    }

    pub async fn send(&self, signer: &Signer, call: &Call) -> Reply {
        let text = self.signed(signer, call);
        exchange(self.address, &text).await
    }

    /// An operator of an account that is made for it.
    pub async fn operator_of(&self, account: &str) -> Signer {
        let made = ec2(&format!("Action=Inborn.CreateAccount&AccountId={account}&Name=other"));
        assert_eq!(self.send(&self.operator(), &made).await.status, 200);
        let made = ec2(&format!("Action=Inborn.CreateOperator&AccountId={account}&Name=stranger"));
        let made = self.send(&self.operator(), &made).await.body;
        Signer {
            access_key_id: between(&made, "<accessKeyId>", "</accessKeyId>").to_owned(),
            secret: between(&made, "<secretAccessKey>", "</secretAccessKey>").to_owned(),
            token: None,
        }
    }

    /// Turns Default Host Management on.
    pub async fn pass_role(&self, role: &str) -> Reply {
        let body = format!(r#"{{"SettingId":"{SETTING}","SettingValue":"{role}"}}"#);
        self.send(&self.operator(), &json("ssm", "AmazonSSM.UpdateServiceSetting", &body)).await
    }

    /// The bytes of a signed request.
    pub fn signed(&self, signer: &Signer, call: &Call) -> String {
        let mut headers: Vec<(&str, String)> = vec![("host", call.host.clone())];
        headers.extend(call.headers.iter().cloned());
        let fields: Vec<Header<'_>> =
            headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect();
        let (path, query) = call.target.split_once('?').unwrap_or((&call.target, ""));
        let unsigned = inborn_sigv4::Request {
            method: call.method,
            path: path.as_bytes(),
            query: query.as_bytes(),
            headers: &fields,
        };
        let credentials = Credentials {
            access_key_id: &signer.access_key_id,
            secret_access_key: signer.secret.as_bytes(),
            session_token: signer.token.as_deref(),
        };
        let target = Target { region: &call.region, service: &call.service, path_mode: PathMode::Normalized };
        let added = sign(&unsigned, call.body.as_bytes(), &credentials, &target, self.clock.now()).unwrap();
        let mut text = format!("{} {} HTTP/1.1\r\n", call.method, call.target);
        for (name, value) in headers.iter().map(|(n, v)| (*n, v)).chain(added.iter().map(|(n, v)| (*n, v))) {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        let is_upgrade = call.headers.iter().any(|(name, _)| *name == "upgrade");
        let connection = if is_upgrade { "close, upgrade" } else { "close" };
        text.push_str(&format!("content-length: {}\r\nconnection: {connection}\r\n\r\n{}", call.body.len(), call.body));
        text
    }

    pub fn audit(&self) -> Vec<serde_json::Value> {
        let text = std::fs::read_to_string(self.directory.path().join("audit.jsonl")).unwrap();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }
}

pub async fn exchange(address: SocketAddr, text: &str) -> Reply {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(text.as_bytes()).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    let answer = String::from_utf8(answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

pub fn between<'a>(text: &'a str, start: &str, end: &str) -> &'a str {
    let from = text.find(start).unwrap_or_else(|| panic!("no {start} in {text}")) + start.len();
    let length = text[from..].find(end).unwrap();
    &text[from..from + length]
}
