//! The signature suite that AWS publishes (awslabs/aws-c-auth `tests/aws-signing-test-suite`), where Cargo unpacked the
//! package that carries it: canonical request, string to sign and signature of every case, signed in the header and in
//! the query.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what it does not expect")]

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use inborn_identity::UnixTime;
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Endpoint, Expires, Fault, Form, Header, PathMode, Presented, Request, Scratch, SigningKey, sha256};
use serde_json::Value;

/// The one case that a server refuses: its token was added after signing, and so is not signed. A few services want it
/// that way; none here.
const TOKEN_AFTER: &str = "post-sts-header-after";
/// Cases for double encoding, which their authors added. They have no context and no query form.
const DOUBLE: [&str; 2] = ["double-encode-path", "double-url-encode"];

/// What Cargo says.
fn cargo(arguments: &[&str]) -> Vec<u8> {
    let output = Command::new(env!("CARGO")).args(arguments).output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    output.stdout
}

/// Where the suite is.
fn suite() -> PathBuf {
    let manifest = concat!(env!("CARGO_MANIFEST_DIR"), "/Cargo.toml");
    // Packages that other platforms alone need are not here where nobody has fetched them.
    let version = String::from_utf8(cargo(&["-vV"])).unwrap();
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).unwrap();
    let arguments = ["metadata", "--format-version", "1", "--offline", "--manifest-path", manifest];
    let metadata = cargo(&[&arguments[..], &["--filter-platform", host]].concat());
    let metadata: Value = serde_json::from_slice(&metadata).unwrap();
    let packages = metadata["packages"].as_array().unwrap();
    let package = packages.iter().find(|package| package["name"] == "aws-sigv4").unwrap();
    Path::new(package["manifest_path"].as_str().unwrap()).with_file_name("aws-signing-test-suite")
}

/// The cases of one half of the suite, in order.
fn cases(half: &str) -> Vec<PathBuf> {
    let mut cases: Vec<_> = fs::read_dir(suite().join(half)).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.sort();
    cases
}

fn name(case: &Path) -> &str {
    case.file_name().unwrap().to_str().unwrap()
}

/// A request of the suite. Lines end with a line feed, values may go on in the next line.
#[derive(Clone)]
struct Wire {
    method: String,
    path: String,
    query: String,
    headers: Vec<(String, String)>,
    body: String,
}

impl Wire {
    fn read(file: &Path) -> Self {
        let text = fs::read_to_string(file).unwrap();
        let (head, body) = text.split_once("\n\n").unwrap_or((&text, ""));
        let mut lines = head.lines();
        let line = lines.next().unwrap();
        // Targets have spaces in them.
        let (method, rest) = line.split_once(' ').unwrap();
        let target = rest.strip_suffix(" HTTP/1.1").unwrap();
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let mut headers: Vec<(String, String)> = Vec::new();
        for line in lines {
            if line.starts_with(' ') {
                let (_, value) = headers.last_mut().unwrap();
                value.push_str("\r\n");
                value.push_str(line);
            } else {
                let (name, value) = line.split_once(':').unwrap();
                headers.push((name.to_ascii_lowercase(), value.to_owned()));
            }
        }
        Self { method: method.into(), path: path.into(), query: query.into(), headers, body: body.into() }
    }

    /// With a path as HTTP would carry it: the suite writes spaces and letters of other alphabets as they are.
    fn with_escaped_path(mut self) -> Self {
        let escape = |byte: u8| match byte {
            b'!'..=b'~' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        };
        self.path = self.path.bytes().map(escape).collect();
        self
    }

    fn without_header(mut self, name: &str) -> Self {
        self.headers.retain(|(own, _)| own != name);
        self
    }

    /// Verifies it as a server would; `Ok` is what was signed: the canonical request and the string to sign.
    fn verify(&self, context: &Context) -> Result<(Form, String, String), Fault> {
        let headers: Vec<_> = self
            .headers
            .iter()
            .map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() })
            .collect();
        let request = Request {
            method: &self.method,
            path: self.path.as_bytes(),
            query: self.query.as_bytes(),
            headers: &headers,
        };
        let endpoint = Endpoint {
            service: "service",
            regions: &["us-east-1"],
            path_mode: context.path_mode,
            skew_seconds: 900,
            query_auth: true,
            expires: Expires::Honoured,
        };
        let presented = Presented::accept(&request, &endpoint, context.now)?;
        assert_eq!(presented.access_key_id(), context.access_key_id);
        let scope = presented.scope();
        let key = SigningKey::derive(context.secret.as_bytes(), scope.date.as_bytes(), scope.region, scope.service);
        let mut scratch = Scratch::new();
        presented.verify(&request, &sha256(self.body.as_bytes()), context.path_mode, &key, &mut scratch)?;
        let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
        Ok((presented.form(), text(scratch.canonical_request()), text(scratch.string_to_sign())))
    }
}

struct Context {
    access_key_id: String,
    secret: String,
    path_mode: PathMode,
    now: UnixTime,
}

impl Context {
    fn read(case: &Path) -> Self {
        let context: Value = serde_json::from_slice(&fs::read(case.join("context.json")).unwrap()).unwrap();
        assert_eq!((&context["region"], &context["service"]), (&"us-east-1".into(), &"service".into()));
        assert_eq!(context["timestamp"], "2015-08-30T12:36:00Z");
        let text = |name: &str| context["credentials"][name].as_str().unwrap().to_owned();
        let is_normalized = context["normalize"].as_bool().unwrap();
        assert_eq!(is_normalized, !name(case).ends_with("-unnormalized"));
        Self {
            access_key_id: text("access_key_id"),
            secret: text("secret_access_key"),
            path_mode: if is_normalized { PathMode::NormalizedOnce } else { PathMode::AsIs },
            now: UnixTime::parse_basic(b"20150830T123600Z").unwrap(),
        }
    }
}

/// Verifies all cases of one form and compares what they say was signed. Returns how many passed.
fn pass_all(prefix: &str, form: Form) -> usize {
    let mut passed = 0;
    for case in cases("v4") {
        let name = name(&case);
        if DOUBLE.contains(&name) || name == TOKEN_AFTER {
            continue;
        }
        let context = Context::read(&case);
        let wire = Wire::read(&case.join(format!("{prefix}-signed-request.txt")));
        let wire = if context.path_mode == PathMode::AsIs { wire.with_escaped_path() } else { wire };
        let expected = |part: &str| fs::read_to_string(case.join(format!("{prefix}-{part}.txt"))).unwrap();
        let verdict = wire.verify(&context);
        assert_eq!(verdict, Ok((form, expected("canonical-request"), expected("string-to-sign"))), "{name}");
        // The signature was compared by verifying; this is that it is the one of the suite.
        let signature = expected("signature");
        let place = if form == Form::Header {
            &wire.headers.iter().find(|(n, _)| n == "authorization").unwrap().1
        } else {
            &wire.query
        };
        assert!(place.ends_with(&signature), "{name}");
        let mut changed = wire.clone();
        changed.method = if wire.method == "GET" { "POST".into() } else { "GET".into() };
        assert_eq!(changed.verify(&context).err(), Some(Fault::SignatureMismatch), "{name}");
        passed += 1;
    }
    passed
}

#[test]
fn signed_in_the_header() {
    assert_eq!(pass_all("header", Form::Header), 37);
}

#[test]
fn signed_in_the_query() {
    assert_eq!(pass_all("query", Form::Query), 37);
}

#[test]
fn a_token_that_was_added_after_signing_is_refused() {
    let case = suite().join("v4").join(TOKEN_AFTER);
    let context = Context::read(&case);
    let header = Wire::read(&case.join("header-signed-request.txt"));
    assert_eq!(header.verify(&context).err(), Some(Fault::TokenNotSigned));
    let expected = fs::read_to_string(case.join("header-canonical-request.txt")).unwrap();
    let without = header.without_header("x-amz-security-token");
    assert_eq!(without.verify(&context).map(|(_, canonical, _)| canonical), Ok(expected));

    let mut query = Wire::read(&case.join("query-signed-request.txt"));
    assert_eq!(query.verify(&context).err(), Some(Fault::SignatureMismatch));
    let parameters: Vec<_> = query.query.split('&').filter(|pair| !pair.starts_with("X-Amz-Security-Token=")).collect();
    query.query = parameters.join("&");
    assert!(query.verify(&context).is_ok());
}

/// Their signatures were made with other dates than their canonical requests: the one is verified, the other made anew.
#[test]
fn paths_that_are_encoded_twice() {
    let context = Context {
        access_key_id: "ANOTREAL".into(),
        secret: "notrealrnrELgWzOk3IfjzDKtFBhDby".into(),
        path_mode: PathMode::Normalized,
        now: UnixTime::parse_basic(b"20210511T154045Z").unwrap(),
    };
    for name in DOUBLE {
        let case = suite().join("v4").join(name);
        let mut wire = Wire::read(&case.join("request.txt")).without_header("x-amz-date");
        let headers: Vec<_> = wire
            .headers
            .iter()
            .map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() })
            .collect();
        let request = Request {
            method: &wire.method,
            path: wire.path.as_bytes(),
            query: wire.query.as_bytes(),
            headers: &headers,
        };
        let credentials = Credentials {
            access_key_id: &context.access_key_id,
            secret_access_key: context.secret.as_bytes(),
            session_token: None,
        };
        let target = Target { region: "us-east-1", service: "service", path_mode: PathMode::Normalized };
        let added = sign(&request, b"", &credentials, &target, context.now).unwrap();
        wire.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value)));
        let expected = fs::read_to_string(case.join("header-canonical-request.txt")).unwrap();
        assert_eq!(wire.verify(&context).map(|(_, canonical, _)| canonical), Ok(expected), "{name}");

        let once = Context {
            path_mode: PathMode::NormalizedOnce,
            secret: context.secret.clone(),
            access_key_id: context.access_key_id.clone(),
            ..context
        };
        assert_eq!(wire.verify(&once).err(), Some(Fault::SignatureMismatch), "{name}");
    }
}

/// The other half of the suite is of the algorithm that is not verified here, and refused as STS would refuse it.
#[test]
fn sigv4a_is_refused() {
    let cases = cases("v4a");
    assert_eq!(cases.len(), 38);
    for case in cases {
        let context = Context::read(&case);
        let header = Wire::read(&case.join("header-signed-request.txt"));
        let algorithm = "AWS4-ECDSA-P256-SHA256".into();
        assert_eq!(header.verify(&context).err(), Some(Fault::UnsupportedAlgorithm { algorithm }), "{case:?}");
        let query = Wire::read(&case.join("query-signed-request.txt"));
        assert_eq!(query.verify(&context).err(), Some(Fault::MissingAuthentication), "{case:?}");
    }
}
