//! What holds for every request: a signed one verifies, one bit away from it nothing does, and no bytes cause a panic.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects")]

mod support;

use inborn_sigv4::sign::{Credentials, SignError, Target, sign};
use inborn_sigv4::{Endpoint, Fault, Header, PathMode, Presented, Scratch, SigningKey, sha256};
use proptest::prelude::*;
use support::{KEY_ID, NOW, SECRET, STS, TOKEN, Wire, botocore};

/// A request as a client sends it, before it is signed. Values have no white space that canonicalisation takes away,
/// and the query no escapes, whose digits have two cases: so no two requests that differ are the same to a signature.
fn requests() -> impl Strategy<Value = Wire> {
    (
        prop::sample::select(vec!["GET", "POST", "PUT", "DELETE"]),
        "(/[A-Za-z0-9_~:@-]{1,8}(%[2-7][0-9A-F])?){0,4}/?",
        "([a-z]{1,4}=[A-Za-z0-9+~.-]{1,8}(&[a-z]{1,4}=[A-Za-z0-9+~.-]{1,8}){0,4})?",
        prop::collection::vec(("x-[a-z]{1,6}", "[!-~]{1,10}( [!-~]{1,10}){0,2}"), 0..6),
        prop::collection::vec(any::<u8>(), 0..80),
    )
        .prop_map(|(method, path, query, headers, body)| {
            let path = if path.is_empty() { "/".into() } else { path.into_bytes() };
            let headers = headers.into_iter().map(|(name, value)| (name, value.into_bytes())).collect();
            Wire { method: method.into(), path, query: query.into_bytes(), headers, body }
                .with("host", "h.example:8080")
        })
}

fn signed(mut wire: Wire, path_mode: PathMode) -> Result<Wire, SignError> {
    let credentials = Credentials { access_key_id: KEY_ID, secret_access_key: SECRET, session_token: Some(TOKEN) };
    let target = Target { region: "us-east-1", service: "sts", path_mode };
    let headers = wire.headers();
    let added = sign(&wire.request(&headers), &wire.body, &credentials, &target, NOW)?;
    wire.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())));
    Ok(wire)
}

/// The bytes that the signature covers: all of the request but the key id and, of `Authorization`, the words that only
/// its grammar knows.
fn covered(wire: &mut Wire) -> Vec<&mut u8> {
    let Wire { path, query, headers, body, .. } = wire;
    let mut bytes: Vec<_> = path.iter_mut().chain(query).chain(body).collect();
    for (name, value) in headers {
        let start = if name == "authorization" {
            let text = core::str::from_utf8(value).unwrap();
            text.find('/').unwrap()
        } else {
            0
        };
        bytes.extend(value.iter_mut().skip(start));
    }
    bytes
}

proptest! {
    #[test]
    fn what_is_signed_verifies(wire in requests(), is_normalized in any::<bool>()) {
        let path_mode = if is_normalized { PathMode::Normalized } else { PathMode::AsIs };
        let wire = signed(wire, path_mode).unwrap();
        prop_assert_eq!(wire.verify_at(&Endpoint { path_mode, ..STS }, NOW), Ok(()));
    }

    #[test]
    fn one_bit_changes_everything(wire in requests(), at in any::<prop::sample::Index>(), bit in 0..8_u8) {
        let mut wire = signed(wire, PathMode::Normalized).unwrap();
        let mut bytes = covered(&mut wire);
        let index = at.index(bytes.len());
        *bytes[index] ^= 1_u8 << bit;
        prop_assert!(wire.verify().is_err());
    }

    #[test]
    fn what_is_not_signed_does_not_matter(name in "x-amz-[a-z]{1,8}|user-agent|[a-z]{9}", value in prop::collection::vec(any::<u8>(), 0..20)) {
        let special = ["x-amz-date", "x-amz-content-sha256", "x-amz-security-token"];
        prop_assume!(!special.contains(&name.as_str()));
        let mut wire = botocore().without("user-agent");
        wire.headers.insert(2, (name.clone(), value));
        prop_assert_eq!(wire.verify(), Ok(()));
        prop_assert!(!wire.covers(&name));
    }

    #[test]
    fn white_space_around_and_inside_values_does_not_matter(before in "[ \t]{0,3}", inside in "[ \t]{1,3}", after in "[ \t]{0,3}") {
        let value = format!("{before}application/x-www-form-urlencoded;{inside}charset=utf-8{after}");
        let wire = botocore().without("content-type").with("content-type", &value);
        prop_assert_eq!(wire.verify(), Ok(()));
    }

    #[test]
    fn no_bytes_panic(
        method in "\\PC{0,5}",
        path in prop::collection::vec(any::<u8>(), 0..30),
        query in prop::collection::vec(any::<u8>(), 0..30),
        headers in prop::collection::vec((header_names(), header_values()), 0..8),
        path_mode in prop::sample::select(vec![PathMode::Normalized, PathMode::AsIs]),
    ) {
        let headers = headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value }).collect::<Vec<_>>();
        let wire = Wire { method, path, query, headers: vec![], body: vec![] };
        let request = wire.request(&headers);
        let accepted = Presented::accept(&request, &STS, NOW);
        if let Ok(presented) = Presented::read(&request) {
            prop_assert_eq!(accepted.is_ok(), presented.check(&STS, NOW).is_ok());
            let key = SigningKey::derive(SECRET, b"20261123", "us-east-1", "sts");
            let verdict = presented.verify(&request, &sha256(b""), path_mode, &key, &mut Scratch::new());
            prop_assert!(verdict.is_err());
        } else {
            prop_assert!(accepted.is_err());
        }
    }

    #[test]
    fn a_key_depends_on_all_of_its_parts(secret in prop::collection::vec(any::<u8>(), 0..200), bit in any::<prop::sample::Index>()) {
        let key = |secret: &[u8], region: &str| {
            let wire = botocore();
            let headers = wire.headers();
            let request = wire.request(&headers);
            let presented = Presented::read(&request).unwrap();
            let key = SigningKey::derive(secret, b"20261123", region, "sts");
            presented.verify(&request, &sha256(&wire.body), PathMode::Normalized, &key, &mut Scratch::new())
        };
        prop_assert_eq!(key(&secret, "us-east-1"), Err(Fault::SignatureMismatch));
        let mut other = SECRET.to_vec();
        let index = bit.index(other.len() * 8);
        other[index / 8] ^= 1 << (index % 8);
        prop_assert_eq!(key(&other, "us-east-1"), Err(Fault::SignatureMismatch));
        prop_assert_eq!(key(SECRET, "us-east-2"), Err(Fault::SignatureMismatch));
        prop_assert_eq!(key(SECRET, "us-east-1"), Ok(()));
    }
}

fn header_names() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => prop::sample::select(vec!["authorization", "host", "x-amz-date", "date", "x-amz-security-token", "x-amz-content-sha256"])
            .prop_map(str::to_owned),
        1 => "[ -~]{0,6}",
    ]
}

fn header_values() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        Just(support::DATE.as_bytes().to_vec()),
        "AWS4-HMAC-SHA256 (Credential=[a-z0-9/]{0,30}[,\t ]*|SignedHeaders=(host)?[a-z;]{0,10},|Signature=[0-9a-f]{62,65},){0,4}"
            .prop_map(String::into_bytes),
        "[a-z]{1,3}".prop_map(|date| {
            let list = "host;x-amz-date";
            let signature = "0".repeat(64);
            format!("AWS4-HMAC-SHA256 Credential={date}/20261123/us-east-1/sts/aws4_request,SignedHeaders={list},Signature={signature}")
                .into_bytes()
        }),
    ]
}

#[test]
fn signing_adds_what_boto3_adds() {
    let wire = botocore();
    let unsigned = ["x-amz-date", "x-amz-security-token", "authorization", "accept-encoding", "content-length"]
        .iter()
        .fold(wire.clone(), |wire, name| wire.without(name));
    let signed = signed(unsigned, PathMode::Normalized).unwrap();
    let value = |wire: &Wire, name: &str| wire.headers.iter().find(|(own, _)| own == name).unwrap().1.clone();
    for name in ["x-amz-date", "x-amz-security-token", "authorization"] {
        assert_eq!(value(&signed, name), value(&wire, name), "{name}");
    }
}

#[test]
fn requests_that_cannot_be_signed() {
    let refuse = |wire: Wire| signed(wire, PathMode::Normalized).err();
    let good = Wire::new(&[("host", "h")]);
    assert_eq!(refuse(good.clone()), None);
    assert_eq!(refuse(good.clone().without("host")), Some(SignError::NoHost));
    for name in ["authorization", "x-amz-date", "x-amz-security-token"] {
        assert_eq!(refuse(good.clone().with(name, "v")), Some(SignError::Already(name)));
    }
    assert_eq!(refuse(Wire { path: b"x".to_vec(), ..good.clone() }), Some(SignError::Request(Fault::Path)));
    assert_eq!(refuse(Wire { path: b"/..".to_vec(), ..good.clone() }), Some(SignError::Request(Fault::Path)));
    let escape = SignError::Request(Fault::QueryEscapeIncomplete);
    assert_eq!(refuse(Wire { query: b"%".to_vec(), ..good }), Some(escape));
    let credentials = Credentials { access_key_id: KEY_ID, secret_access_key: SECRET, session_token: Some(TOKEN) };
    let shown = format!("{credentials:?}");
    assert!(shown.contains(KEY_ID) && !shown.contains("wJalr") && !shown.contains(TOKEN), "{shown}");
}
