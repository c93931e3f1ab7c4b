//! Every request in `captures/` verifies as its client sent it, and does not with any byte of its signature or body changed.
#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::path::Path;

use inborn_identity::UnixTime;
use inborn_sigv4::{Endpoint, Expires, Fault, Form, Header, PathMode, Presented, Request, Scratch, SigningKey, sha256};

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY";
const ACCESS_KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
const TOKEN: &[u8] = b"inb1-EXAMPLE-session-token_0123456789";
const STS: Endpoint<'static> = Endpoint {
    service: "sts",
    regions: &["us-east-1"],
    path_mode: PathMode::Normalized,
    skew_seconds: 900,
    query_auth: true,
    expires: Expires::Ignored,
};

/// A request as bytes, taken apart as an HTTP server would.
struct Capture {
    name: String,
    method: String,
    target: String,
    headers: Vec<(Vec<u8>, Vec<u8>)>,
    body: Vec<u8>,
}

impl Capture {
    fn read(path: &Path) -> Self {
        let bytes = std::fs::read(path).unwrap();
        let split = bytes.windows(4).position(|window| window == b"\r\n\r\n").unwrap();
        let head = String::from_utf8(bytes[..split].to_vec()).unwrap();
        let mut lines = head.split("\r\n");
        let mut first = lines.next().unwrap().split(' ');
        let (method, target) = (first.next().unwrap().to_owned(), first.next().unwrap().to_owned());
        let field = |line: &str| {
            let (name, value) = line.split_once(':').unwrap();
            (name.to_ascii_lowercase().into_bytes(), value.trim().as_bytes().to_vec())
        };
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        Self { name, method, target, headers: lines.map(field).collect(), body: bytes[split + 4..].to_vec() }
    }

    fn verify(&self) -> Result<Form, Fault> {
        let headers: Vec<Header<'_>> = self.headers.iter().map(|(name, value)| Header { name, value }).collect();
        let (path, query) = self.target.split_once('?').unwrap_or((&self.target, ""));
        let request =
            Request { method: &self.method, path: path.as_bytes(), query: query.as_bytes(), headers: &headers };
        let presented = Presented::read(&request)?;
        assert_eq!((presented.access_key_id(), presented.token()), (ACCESS_KEY_ID, Some(TOKEN)), "{}", self.name);
        let now: UnixTime = presented.signed_at().plus(1);
        presented.check(&STS, now)?;
        let scope = presented.scope();
        let key = SigningKey::derive(SECRET, scope.date.as_bytes(), scope.region, scope.service);
        let mut scratch = Scratch::new();
        presented.verify(&request, &sha256(&self.body), STS.path_mode, &key, &mut scratch)?;
        Ok(presented.form())
    }
}

fn captures() -> Vec<Capture> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/captures");
    let mut paths: Vec<_> = std::fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().path()).collect();
    paths.retain(|path| path.extension().is_some_and(|extension| extension == "http"));
    paths.sort();
    paths.iter().map(|path| Capture::read(path)).collect()
}

#[test]
fn every_client_is_understood() {
    let captures = captures();
    assert_eq!(captures.len(), 13, "a capture that is added or lost is to be noticed");
    for capture in captures {
        let form = if capture.name.starts_with("presigned") { Form::Query } else { Form::Header };
        assert_eq!(capture.verify(), Ok(form), "{}", capture.name);
    }
}

#[test]
fn no_client_is_understood_with_another_body_method_or_host() {
    for mut capture in captures() {
        capture.body.push(b'&');
        assert!(capture.verify().is_err(), "{}: body", capture.name);
        capture.body.pop();
        let method = std::mem::replace(&mut capture.method, "PUT".to_owned());
        assert_eq!(capture.verify(), Err(Fault::SignatureMismatch), "{}: method", capture.name);
        capture.method = method;
        let host = capture.headers.iter_mut().find(|(name, _)| name == b"host").unwrap();
        host.1.push(b'0');
        assert_eq!(capture.verify(), Err(Fault::SignatureMismatch), "{}: host", capture.name);
    }
}
