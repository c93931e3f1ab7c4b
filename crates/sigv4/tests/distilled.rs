//! What went wrong elsewhere, as public issues tell it: one test for each, named after it. Those that take a whole server
//! are in `inborn-region`.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects")]

mod support;

use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{DateMismatch, Endpoint, Fault, PathMode, Presented, ScopeFault, Scratch, SigningKey, sha256};
use support::{DATE, KEY_ID, NOW, SECRET, STS, Wire, botocore, eks, javascript_v3, presigned_post};

const HOST: &str = "sts.us-east-1.amazonaws.com";

/// A request with these headers, signed here.
fn signed_with(path: &str, query: &str, headers: &[(&str, &str)]) -> Wire {
    let mut wire = Wire::new(headers);
    (wire.path, wire.query) = (path.into(), query.into());
    let view = wire.headers();
    let credentials = Credentials { access_key_id: KEY_ID, secret_access_key: SECRET, session_token: None };
    let target = Target { region: "us-east-1", service: "sts", path_mode: PathMode::Normalized };
    let added = sign(&wire.request(&view), &wire.body, &credentials, &target, NOW).unwrap();
    wire.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value.into_bytes())));
    wire
}

fn signed(path: &str, query: &str) -> Wire {
    signed_with(path, query, &[("host", HOST)])
}

/// The canonical request that a verifier computes, and its verdict.
fn canonical(wire: &Wire) -> (String, Result<(), Fault>) {
    let headers = wire.headers();
    let request = wire.request(&headers);
    let presented = Presented::accept(&request, &STS, NOW).unwrap();
    let key = SigningKey::derive(SECRET, b"20261123", "us-east-1", "sts");
    let mut scratch = Scratch::new();
    let verdict = presented.verify(&request, &sha256(&wire.body), PathMode::Normalized, &key, &mut scratch);
    (String::from_utf8(scratch.canonical_request().to_vec()).unwrap(), verdict)
}

fn line(wire: &Wire, number: usize) -> String {
    let (text, verdict) = canonical(wire);
    assert_eq!(verdict, Ok(()));
    text.lines().nth(number).unwrap().to_owned()
}

/// xcir/libvmod-awsrest#24
#[test]
fn query_flag_without_an_equals_sign() {
    for (query, expected) in [("flag", "flag="), ("flag&a=1", "a=1&flag="), ("b&a", "a=&b=")] {
        assert_eq!(line(&signed("/", query), 2), expected);
    }
    let with = Wire { query: b"flag=".to_vec(), ..signed("/", "flag") };
    assert_eq!(with.verify(), Ok(()), "they mean the same");
}

/// getnora-io/nora#255
#[test]
fn slash_inside_query_values_is_encoded() {
    assert_eq!(line(&signed("/", "prefix=a/b&x=%2f"), 2), "prefix=a%2Fb&x=%2F");
}

/// jamhall/s3rver#513
#[test]
fn utf_8_paths() {
    assert_eq!(line(&signed("/\u{e9}t\u{e9}", ""), 1), "/%C3%A9t%C3%A9");
    assert_eq!(line(&signed("/%C3%A9t%C3%A9", ""), 1), "/%25C3%25A9t%25C3%25A9", "once more, as escaped on the wire");
}

/// seaweedfs/seaweedfs#6092, #7320: a proxy serves the endpoint below a path, and takes it off.
#[test]
fn sub_path_prefix() {
    let wire = signed("/sts/", "");
    assert_eq!(wire.verify(), Ok(()), "as sent");
    assert_eq!(Wire { path: b"/".to_vec(), ..wire.clone() }.verify(), Err(Fault::SignatureMismatch), "and not else");
    assert_eq!(Wire { path: b"/sts".to_vec(), ..wire }.verify(), Err(Fault::SignatureMismatch));
}

/// seaweedfs/seaweedfs#8434
#[test]
fn port_is_kept() {
    for (sent, other) in [("localhost:443", "localhost"), ("localhost", "localhost:80"), ("h:8443", "h:443")] {
        let wire = signed_with("/", "", &[("host", sent)]);
        assert_eq!(wire.verify(), Ok(()), "{sent}");
        assert_eq!(wire.replacing("host", sent, other).verify(), Err(Fault::SignatureMismatch), "{other}");
    }
}

/// s3s-project/s3s#539: with HTTP/2 the host is in `:authority`, and whoever calls makes a header of it.
#[test]
fn http_2_authority() {
    let wire = signed("/", "");
    let without = wire.clone().without("host");
    assert_eq!(without.verify(), Err(Fault::SignedHeaderAbsent { name: "host".into() }));
    assert_eq!(without.with("host", HOST).verify(), Ok(()), "wherever it comes among the others");
    let unsigned = wire.replacing("authorization", "SignedHeaders=host;", "SignedHeaders=");
    assert_eq!(unsigned.verify(), Err(Fault::HostNotSigned));
}

/// minio/minio#15506: what was computed shows which header is not as it was.
#[test]
fn signed_accept_encoding_changed_on_the_way_has_a_diagnosis() {
    let wire = signed_with("/", "", &[("host", HOST), ("accept-encoding", "identity")]);
    assert_eq!(wire.verify(), Ok(()));
    let (text, verdict) = canonical(&wire.replacing("accept-encoding", "identity", "gzip, br"));
    assert_eq!(verdict, Err(Fault::SignatureMismatch));
    assert!(text.contains("\naccept-encoding:gzip, br\n"), "{text}");
}

/// treeverse/lakeFS#2465
#[test]
fn scope_date_is_not_the_date() {
    let wire = botocore().replacing("authorization", "/20261123/", "/20261122/");
    let date = Some(DateMismatch { scope: "20261122".into(), signed_at: NOW });
    assert_eq!(wire.verify(), Err(Fault::Scope(ScopeFault { date, ..ScopeFault::default() })));
}

/// rustfs/rustfs#7796: a header that nobody signed is there, and can be told apart.
#[test]
fn unsigned_header_injection() {
    for name in ["x-amz-target", "x-amz-meta-owner", "x-amz-acl", "x-forwarded-host"] {
        let wire = botocore().with(name, "injected");
        assert_eq!(wire.verify(), Ok(()));
        assert!(!wire.covers(name) && wire.covers("host"), "{name}");
    }
    let target = signed_with("/", "", &[("host", HOST), ("x-amz-target", "a")]);
    assert!(target.covers("x-amz-target"));
    assert_eq!(target.with("x-amz-target", "b").verify(), Err(Fault::SignatureMismatch), "one more of a signed name");
    assert_eq!(botocore().with("x-amz-content-sha256", "UNSIGNED-PAYLOAD").verify(), Err(Fault::PayloadNotSigned));
}

/// boto/boto3#756
#[test]
fn post_presign_against_get() {
    assert_eq!(presigned_post().verify(), Ok(()));
    let get = Wire { method: "GET".into(), ..presigned_post() };
    assert_eq!(get.verify(), Err(Fault::SignatureMismatch));
    let post = Wire { method: "POST".into(), ..eks() };
    assert_eq!(post.verify(), Err(Fault::SignatureMismatch));
}

#[test]
fn copied_signature_with_another_host() {
    for wire in [botocore(), javascript_v3(), eks()] {
        let elsewhere = wire.replacing("host", HOST, "sts.eu-west-1.amazonaws.com");
        assert_eq!(elsewhere.verify(), Err(Fault::SignatureMismatch));
    }
}

#[test]
fn tampered_token() {
    let header = botocore().replacing("x-amz-security-token", "AQa", "AQb");
    assert_eq!(header.verify(), Err(Fault::SignatureMismatch));
    let text = String::from_utf8(eks().query).unwrap();
    let query = Wire { query: text.replace("Token=AQa", "Token=AQb").into_bytes(), ..eks() };
    assert_eq!(query.verify(), Err(Fault::SignatureMismatch));
}

/// Stores of the kind of s3s let it pass. Here it is up to whoever looks up keys, who is told that there is none.
#[test]
fn temporary_key_without_a_token() {
    let wire = signed("/", "");
    let headers = wire.headers();
    let request = wire.request(&headers);
    let presented = Presented::read(&request).unwrap();
    assert!(presented.access_key_id().starts_with("ASIA"));
    assert_eq!(presented.token(), None);
    let stripped = botocore().without("x-amz-security-token");
    assert_eq!(stripped.verify(), Err(Fault::SignedHeaderAbsent { name: "x-amz-security-token".into() }));
}

#[test]
fn credential_with_a_slash_inside_the_key_id() {
    for (from, to) in [("Credential=ASIA", "Credential=AS/IA"), ("Credential=", "Credential=/")] {
        let fault = botocore().replacing("authorization", from, to).verify().unwrap_err();
        assert!(matches!(&fault, Fault::CredentialForm { got } if got.matches('/').count() == 5), "{fault:?}");
    }
    let text = String::from_utf8(eks().query).unwrap();
    let query = Wire { query: text.replace("Credential=ASIA", "Credential=AS%2FIA").into_bytes(), ..eks() };
    assert!(matches!(query.verify(), Err(Fault::CredentialForm { .. })));
}

#[test]
fn skew_on_both_sides_to_the_second() {
    for wire in [botocore(), eks()] {
        for seconds in [0, 1, 899, 900] {
            assert_eq!(wire.verify_at(&STS, NOW.plus(seconds)), Ok(()));
            assert_eq!(wire.verify_at(&STS, NOW.minus(seconds)), Ok(()));
        }
        assert!(matches!(wire.verify_at(&STS, NOW.plus(901)), Err(Fault::Expired { .. })));
        assert!(matches!(wire.verify_at(&STS, NOW.minus(901)), Err(Fault::NotYetCurrent { .. })));
        let narrow = Endpoint { skew_seconds: 300, ..STS };
        assert_eq!(wire.verify_at(&narrow, NOW.plus(300)), Ok(()));
        assert!(wire.verify_at(&narrow, NOW.plus(301)).is_err() && wire.verify_at(&narrow, NOW.minus(301)).is_err());
    }
}

/// chimera-nas/chimera#500: the places where home-made canonicalisers differ, each with what is right.
#[test]
fn canonicalisation_audit() {
    for (path, expected) in
        [("", "/"), ("/", "/"), ("//", "/"), ("/a/", "/a/"), ("/a//b", "/a/b"), ("/a/../b", "/b"), ("/~a", "/~a")]
    {
        assert_eq!(line(&signed(path, ""), 1), expected, "path {path}");
    }
    for (query, expected) in [
        ("b=2&a=1", "a=1&b=2"),
        ("a=2&a=1", "a=1&a=2"),
        ("a-b=1&a=1", "a=1&a-b=1"),
        ("a=+", "a=%20"),
        ("a=%2B", "a=%2B"),
        ("a=%7e", "a=~"),
        ("a=*'()!", "a=%2A%27%28%29%21"),
        ("a=b=c", "a=b%3Dc"),
        ("", ""),
    ] {
        assert_eq!(line(&signed("/", query), 2), expected, "query {query}");
    }
    for (values, expected) in [
        (vec!["  a  b  "], "x-a:a b"),
        (vec!["\"a  b\""], "x-a:\"a b\""),
        (vec![""], "x-a:"),
        (vec!["2", "1"], "x-a:2,1"),
    ] {
        let mut headers = vec![("host", HOST)];
        headers.extend(values.iter().map(|value| ("x-a", *value)));
        assert_eq!(line(&signed_with("/", "", &headers), 4), expected);
    }
    let wire = signed_with("/", "", &[("host", HOST), ("a", "1")]);
    assert!(
        canonical(&wire).0.ends_with(&format!(
            "\na:1\nhost:{HOST}\nx-amz-date:{DATE}\n\na;host;x-amz-date\n{}",
            support::BODY_SHA256
        ))
    );
}

/// apache/ozone#4473
#[test]
fn missing_signed_header_is_an_error_and_no_panic() {
    for name in ["host", "content-type", "x-amz-security-token"] {
        let fault = botocore().without(name).verify().unwrap_err();
        assert_eq!(fault, Fault::SignedHeaderAbsent { name: name.into() });
    }
    assert!(botocore().without("x-amz-date").verify().is_err());
    let invented = botocore().replacing("authorization", ";host;", ";host;invented;");
    assert_eq!(invented.verify(), Err(Fault::SignedHeaderAbsent { name: "invented".into() }));
}

/// scratchstack-aws-signature's `unescape_uri_encoding` can panic on them.
#[test]
fn broken_escapes_are_an_error_and_no_panic() {
    for (path, query) in
        [("/%", ""), ("/%4", ""), ("/%zz", ""), ("/", "a=%"), ("/", "%c=%\u{e9}"), ("/", "a=%\u{20ac}")]
    {
        let wire = Wire { path: path.into(), query: query.into(), ..botocore() };
        assert!(
            matches!(wire.verify(), Err(Fault::Path | Fault::QueryEscapeIncomplete | Fault::QueryEscapeIllegal { .. })),
            "{path} {query}"
        );
    }
}
