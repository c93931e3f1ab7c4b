//! Signed calls to processes of their own.
#![allow(unreachable_pub, reason = "a module of several test files")]

use std::io::{Error, Read, Result, Write};
use std::net::TcpStream;
use std::time::{Duration, SystemTime};

use inborn_identity::UnixTime;
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Header, PathMode, Request};

/// Longer than any machine needs for an answer, however loaded.
const PATIENCE: Duration = Duration::from_secs(60);

/// Who signs.
#[derive(Clone)]
pub struct Signer {
    pub access_key_id: String,
    pub secret: String,
    pub token: Option<String>,
}

pub fn now() -> UnixTime {
    #[expect(clippy::disallowed_methods, reason = "processes of their own have clocks of their own")]
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    UnixTime::from_secs(since.as_secs())
}

/// Sends a call to `address` that names `host` and is signed for a service in a region; gives status and body.
pub fn call(
    address: &str,
    host: &str,
    signer: &Signer,
    (service, region): (&str, &str),
    body: &str,
) -> Result<(u16, String)> {
    let headers = [("content-type", "application/x-www-form-urlencoded; charset=utf-8")];
    exchange(address, &signed(host, signer, (service, region), ("POST", "/"), &headers, body))
}

/// The bytes of a request that is signed for a service in a region and ends its connection.
pub fn signed(
    host: &str,
    signer: &Signer,
    (service, region): (&str, &str),
    (method, target): (&str, &str),
    headers: &[(&str, &str)],
    body: &str,
) -> String {
    let headers: Vec<(&str, &str)> = [("host", host)].into_iter().chain(headers.iter().copied()).collect();
    let fields: Vec<Header<'_>> =
        headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect();
    let (path, query) = target.split_once('?').unwrap_or((target, ""));
    let unsigned = Request { method, path: path.as_bytes(), query: query.as_bytes(), headers: &fields };
    let credentials = Credentials {
        access_key_id: &signer.access_key_id,
        secret_access_key: signer.secret.as_bytes(),
        session_token: signer.token.as_deref(),
    };
    let scope = Target { region, service, path_mode: PathMode::Normalized };
    let added = sign(&unsigned, body.as_bytes(), &credentials, &scope, now()).unwrap();
    let mut text = format!("{method} {target} HTTP/1.1\r\n");
    for (name, value) in headers {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    for (name, value) in &added {
        text.push_str(&format!("{name}: {value}\r\n"));
    }
    text.push_str(&format!("content-length: {}\r\nconnection: close\r\n\r\n{body}", body.len()));
    text
}

/// Sends a request that asks for the connection to be closed; gives status and body.
pub fn exchange(address: &str, text: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(text.as_bytes())?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    let broken = || Error::other("no answer");
    let (head, body) = answer.split_once("\r\n\r\n").ok_or_else(broken)?;
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).ok_or_else(broken)?;
    Ok((status, body.to_owned()))
}
