//! Hosts that speak to the region's endpoint for them, over real TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use inborn_fleet::{JoinToken, MachinesChanged};
use inborn_identity::{HostId, InstanceId, UnixTime};
use inborn_listener::Limits;
use inborn_pki::{HostKey, tls};
use inborn_region::HostsEndpoint;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::watch;

use super::{Running, between, ec2};

/// The TLS library has a clock of its own, which cannot be set.
#[allow(clippy::disallowed_methods, reason = "the TLS library's own clock is what is being met here")]
pub fn today() -> UnixTime {
    UnixTime::from_secs(std::time::SystemTime::UNIX_EPOCH.elapsed().unwrap().as_secs())
}

/// The endpoint for hosts of a region.
pub struct Endpoint {
    pub address: SocketAddr,
    /// The fingerprint of who signs certificates of hosts.
    pub authority: [u8; 32],
    _stop: watch::Sender<bool>,
}

impl Endpoint {
    /// That of a region that somebody else serves.
    pub fn at(address: SocketAddr, authority: [u8; 32]) -> Self {
        Self { address, authority, _stop: watch::channel(false).0 }
    }
}

pub async fn serve(running: &Running) -> Endpoint {
    let authority = running.region.hosts_authority();
    let certificate = tls::HostsEndpointCertificate::new(authority, running.region.now()).unwrap();
    let config = tls::hosts_server_config(authority, certificate).unwrap();
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopping) = watch::channel(false);
    let endpoint = HostsEndpoint::new(Arc::clone(&running.region));
    let respond = move |request, peer| Arc::clone(&endpoint).respond(request, peer);
    tokio::spawn(inborn_listener::serve(listener, Some(config), Limits::DEFAULT, stopping, respond));
    Endpoint { address, authority: authority.fingerprint(), _stop: stop }
}

/// What a host has: its key and a certificate, or none yet.
pub struct Host {
    pub key: HostKey,
    pub certificate: Option<String>,
    pub id: Option<HostId>,
}

impl Host {
    pub fn new() -> Self {
        Self { key: HostKey::generate().unwrap(), certificate: None, id: None }
    }

    /// One that has joined.
    pub async fn joined(running: &Running, at: &Endpoint) -> Self {
        Self::joined_for(running, at, "").await
    }

    /// By a token that was asked for with these parameters.
    pub async fn joined_for(running: &Running, at: &Endpoint, parameters: &str) -> Self {
        let mut host = Self::new();
        let token = join_token(running, parameters).await;
        let (status, answer) = host.join(at, token.secret()).await;
        assert_eq!(status, 200, "{answer}");
        host.certificate = Some(answer["certificate"].as_str().unwrap().to_owned());
        host.id = Some(answer["host"].as_str().unwrap().parse().unwrap());
        host
    }

    pub fn id(&self) -> HostId {
        self.id.unwrap()
    }

    pub async fn join(&self, at: &Endpoint, secret: &[u8]) -> (u16, Value) {
        use base64::Engine;
        let encode = |bytes: &[u8]| base64::engine::general_purpose::STANDARD.encode(bytes);
        let asked = json!({ "secret": encode(secret), "name": "kvm-1", "public_key": encode(self.key.public_key()) });
        self.call(at, inborn_fleet::JOIN, &asked).await.unwrap()
    }

    /// One call; an error where there is no connection.
    pub async fn call(&self, at: &Endpoint, path: &str, asked: &Value) -> std::io::Result<(u16, Value)> {
        self.call_around(at, path, asked, async || {}).await
    }

    /// One call whose last byte is sent when something has been done.
    pub async fn call_around(
        &self,
        at: &Endpoint,
        path: &str,
        asked: &Value,
        meanwhile: impl AsyncFnOnce(),
    ) -> std::io::Result<(u16, Value)> {
        let identity = self.certificate.as_deref().map(|certificate| (certificate, &self.key));
        let config = tls::host_client_config(at.authority, identity).map_err(std::io::Error::other)?;
        let stream = TcpStream::connect(at.address).await?;
        let connector = tokio_rustls::TlsConnector::from(config);
        let mut stream = connector.connect(tls::hosts_endpoint_name().unwrap(), stream).await?;
        let body = asked.to_string();
        let head = format!(
            "POST {path} HTTP/1.1\r\nhost: hosts\r\ncontent-length: {}\r\nconnection: close\r\n\r\n",
            body.len()
        );
        let (first, last) = body.split_at(body.len() - 1);
        stream.write_all(format!("{head}{first}").as_bytes()).await?;
        meanwhile().await;
        stream.write_all(last.as_bytes()).await?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer).await?;
        let answer = String::from_utf8(answer).unwrap();
        let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(|| std::io::Error::other("no answer"))?;
        let status = head.split(' ').nth(1).unwrap().parse().unwrap();
        Ok((status, serde_json::from_str(body).unwrap()))
    }

    /// What it is told of its machines when it knows none.
    pub async fn machines(&self, at: &Endpoint) -> MachinesChanged {
        let (status, answer) = self.call(at, inborn_fleet::MACHINES, &json!({ "known": {} })).await.unwrap();
        assert_eq!(status, 200, "{answer}");
        serde_json::from_value(answer).unwrap()
    }

    pub async fn credentials(&self, at: &Endpoint, instances: &[InstanceId]) -> (u16, Value) {
        let ids: Vec<String> = instances.iter().map(InstanceId::to_string).collect();
        self.call(at, inborn_fleet::CREDENTIALS, &json!({ "instances": ids })).await.unwrap()
    }
}

/// A token as the operator is given it.
pub async fn join_token(running: &Running, parameters: &str) -> JoinToken {
    let call = ec2(&format!("Action=Inborn.CreateJoinToken{parameters}"));
    let reply = running.send(&running.operator(), &call).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    between(&reply.body, "<joinToken>", "</joinToken>").parse().unwrap()
}

/// A machine on a host.
pub async fn launch_on(running: &Running, host: HostId) -> InstanceId {
    let launch = format!("Action=RunInstances&ImageId=ami-12345678&MinCount=1&MaxCount=1&Placement.HostId={host}");
    let reply = running.send(&running.operator(), &ec2(&launch)).await;
    assert_eq!(reply.status, 200, "{}", reply.body);
    assert_eq!(between(&reply.body, "<hostId>", "</hostId>"), host.to_string());
    between(&reply.body, "<instanceId>", "</instanceId>").parse().unwrap()
}
