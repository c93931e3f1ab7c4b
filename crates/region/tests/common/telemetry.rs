//! Telemetry that is kept in memory, and machines that send it.

use std::net::SocketAddr;
use std::sync::{Mutex, OnceLock};

use inborn_identity::UnixTime;
use inborn_lake::Lake;
use inborn_region::{Appending, Kept as Outcome, Sink, SinkError};
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Header, PathMode};
use inborn_telemetry::Batch;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::{Reply, Running, Signer};

/// What was kept, and what happens to what comes next.
#[derive(Default)]
pub struct Kept {
    pub batches: Mutex<Vec<Batch>>,
    pub refusing: Mutex<Option<fn() -> SinkError>>,
    /// Where it goes instead, if it is set.
    pub lake: OnceLock<Lake>,
}

impl Kept {
    /// The events of all batches.
    pub fn events(&self) -> Vec<serde_json::Value> {
        let batches = self.batches.lock().unwrap();
        let records = batches.iter().flat_map(|batch| &batch.records);
        records.map(|record| serde_json::from_str(&record.json).unwrap()).collect()
    }
}

impl Sink for Kept {
    fn append(&self, batch: Batch) -> Appending<'_> {
        Box::pin(async move {
            if let Some(refuse) = *self.refusing.lock().unwrap() {
                return Err(refuse());
            }
            if let Some(lake) = self.lake.get() {
                return Sink::append(lake, batch).await;
            }
            self.batches.lock().unwrap().push(batch.clone());
            Ok(Outcome { new: batch.into(), duplicates: 0 })
        })
    }
}

/// A request with events.
#[derive(Clone)]
pub struct Post {
    pub path: &'static str,
    pub host: String,
    pub service: &'static str,
    pub content_type: &'static str,
    pub encoding: &'static str,
    pub body: Vec<u8>,
}

pub fn logs(content_type: &'static str, body: impl Into<Vec<u8>>) -> Post {
    Post {
        path: "/v1/logs",
        host: "guardduty-data.eu-central-1.amazonaws.com".to_owned(),
        service: "guardduty",
        content_type,
        encoding: "",
        body: body.into(),
    }
}

pub fn ocsf(body: impl Into<Vec<u8>>) -> Post {
    Post { path: "/v1/ocsf", ..logs("application/x-ndjson", body) }
}

impl Running {
    /// The bytes of a request that is signed now.
    pub fn signed_post(&self, signer: &Signer, post: &Post) -> Vec<u8> {
        signed_post(signer, post, self.region.now())
    }

    pub async fn post(&self, signer: &Signer, post: &Post) -> Reply {
        exchange_bytes(self.address, &self.signed_post(signer, post)).await
    }
}

/// The bytes of a request, signed as clients sign it: the encoding is not covered, and the hash of the body no header.
pub fn signed_post(signer: &Signer, post: &Post, now: UnixTime) -> Vec<u8> {
    let headers = [("host", post.host.as_str()), ("content-type", post.content_type)];
    let fields: Vec<Header<'_>> =
        headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect();
    let unsigned = inborn_sigv4::Request { method: "POST", path: post.path.as_bytes(), query: b"", headers: &fields };
    let credentials = Credentials {
        access_key_id: &signer.access_key_id,
        secret_access_key: signer.secret.as_bytes(),
        session_token: signer.token.as_deref(),
    };
    let target = Target { region: "eu-central-1", service: post.service, path_mode: PathMode::Normalized };
    let added = sign(&unsigned, &post.body, &credentials, &target, now).unwrap();
    let mut text = format!("POST {} HTTP/1.1\r\nconnection: close\r\n", post.path);
    for (name, value) in headers.iter().copied().chain(added.iter().map(|(n, v)| (*n, v.as_str()))) {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    if !post.encoding.is_empty() {
        text.push_str(&format!("content-encoding: {}\r\n", post.encoding));
    }
    text.push_str(&format!("content-length: {}\r\n\r\n", post.body.len()));
    [text.as_bytes(), &post.body].concat()
}

/// The answer to a request, over a connection of its own.
pub async fn exchange_bytes(address: SocketAddr, bytes: &[u8]) -> Reply {
    exchange_over(TcpStream::connect(address).await.unwrap(), bytes).await
}

/// The body of the answer may be protobuf: what is no text is shown as something else.
pub async fn exchange_over(mut stream: TcpStream, bytes: &[u8]) -> Reply {
    // Whoever is refused by the head alone need not be heard to the end.
    let _ = stream.write_all(bytes).await;
    let mut answer = Vec::new();
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer).into_owned();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    Reply { status, head: head.to_owned(), body: body.to_owned() }
}

/// An event, with its uid.
pub fn event(uid: &str) -> String {
    format!(r#"{{"class_uid":1007,"activity_id":1,"metadata":{{"uid":"{uid}"}},"process":{{"pid":1}}}}"#)
}

/// OTLP in JSON, with these bodies.
pub fn otlp(bodies: &[&str]) -> String {
    let records: Vec<_> = bodies.iter().map(|body| serde_json::json!({"body": {"stringValue": body}})).collect();
    let attribute = |key: &str, value: &str| serde_json::json!({"key": key, "value": {"stringValue": value}});
    let resource =
        serde_json::json!({"attributes": [attribute("service.name", "a"), attribute("service.version", "1")]});
    serde_json::json!({"resourceLogs": [{"resource": resource, "scopeLogs": [{"logRecords": records}]}]}).to_string()
}
