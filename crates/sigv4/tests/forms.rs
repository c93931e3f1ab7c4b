//! What real clients send is verified, and nothing else: value tests of every captured form.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects")]

mod support;

use inborn_sigv4::{Endpoint, Fault, PathMode, Presented, Scratch, SigningKey, sha256};
use support::{BODY_SHA256, DATE, EIC, NOW, SECRET, STS, TOKEN, Wire, botocore, harvester, javascript_v3};

const FORM: &str = "application/x-www-form-urlencoded";

#[test]
fn boto3() {
    let wire = botocore();
    assert_eq!(wire.verify(), Ok(()));
    assert!(wire.covers("content-type") && !wire.covers("content-length") && !wire.covers("user-agent"));
}

#[test]
fn boto3_with_a_date_of_its_own() {
    // botocore signs with `Date` when the request has one, in the form of mail; made by botocore 1.43.
    let wire = Wire::new(&[
        ("host", "sts.us-east-1.amazonaws.com"),
        ("content-type", "x"),
        ("date", "Mon, 23 Nov 2026 05:29:00 -0000"),
        ("x-amz-security-token", TOKEN),
    ])
    .authorized(
        "content-type;date;host;x-amz-security-token",
        "109138b115b830674baa7a22ab8578845d3eb6e0482f82587c0a3f19af3fe884",
    );
    assert_eq!(wire.verify(), Ok(()));
    let signed_at = Presented::read(&wire.request(&wire.headers())).map(|presented| presented.signed_at());
    assert_eq!(signed_at, Ok(NOW));
    assert_eq!(wire.clone().replacing("date", "05:29:00", "05:29:01").verify(), Err(Fault::SignatureMismatch));

    // The moment counts, not its spelling, where the header itself is not signed.
    let unsigned_date = [("host", "sts.us-east-1.amazonaws.com"), ("x-amz-date", DATE)];
    for date in ["Mon, 23 Nov 2026 05:29:00 GMT", "Mon, 23 Nov 2026 05:29:00 +0000", DATE] {
        let wire = Wire::new(&unsigned_date)
            .without("x-amz-date")
            .with("date", date)
            .authorized("host", "4a62dec35f45e9d2da067e1a0bca12103fcb27bb42dacd4f3f7b44fddada4e50");
        assert_eq!(wire.verify(), Ok(()), "{date}");
    }
}

#[test]
fn rust_sdk() {
    let wire = Wire::new(&[
        ("content-type", FORM),
        ("content-length", "43"),
        ("host", "sts.us-east-1.amazonaws.com"),
        ("x-amz-date", DATE),
        ("x-amz-security-token", TOKEN),
        ("x-amz-user-agent", "aws-sdk-rust/1.3.15 ua/2.1 api/sts/1.124.0 os/linux lang/rust/1.95.0"),
    ])
    .authorized(
        "content-type;host;x-amz-date;x-amz-security-token;x-amz-user-agent",
        "36e31fe5c1aceedad4bb162cae15db2efb8cdceaff1860bd5d2e205c50fee9ee",
    );
    assert_eq!(wire.verify(), Ok(()));
}

#[test]
fn javascript_sdk_v3() {
    let wire = javascript_v3();
    assert_eq!(wire.verify(), Ok(()));
    assert!(wire.covers("x-amz-content-sha256"));
}

#[test]
fn javascript_sdk_v2() {
    let wire = Wire::new(&[
        ("user-agent", "aws-sdk-nodejs/2.1693.0 linux/v22"),
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("host", "sts.us-east-1.amazonaws.com"),
        ("x-amz-content-sha256", BODY_SHA256),
        ("x-amz-date", DATE),
        ("x-amz-security-token", TOKEN),
    ])
    .authorized(
        "host;x-amz-content-sha256;x-amz-date;x-amz-security-token",
        "b5ca7fe4edecaefd16a4924bf4f776b64518cb156bed7883aec7e7380126a859",
    );
    assert_eq!(wire.verify(), Ok(()));
    assert!(!wire.covers("content-type"));
}

#[test]
fn go_sdk_v1() {
    let wire = Wire::new(&[
        ("host", "sts.us-east-1.amazonaws.com"),
        ("user-agent", "aws-sdk-go/1.55.5"),
        ("content-length", "43"),
        ("accept", "application/json"),
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("x-amz-date", DATE),
        ("x-amz-security-token", TOKEN),
        ("accept-encoding", "gzip"),
    ])
    .authorized(
        "accept;content-length;content-type;host;x-amz-date;x-amz-security-token",
        "f3232ff807c0990c08bbee904d51d15b48068a6b580389f627c012b05d8dee91",
    );
    assert_eq!(wire.verify(), Ok(()));
}

#[test]
fn go_sdk_v2() {
    let wire = Wire::new(&[
        ("host", "sts.us-east-1.amazonaws.com"),
        ("content-length", "43"),
        ("amz-sdk-invocation-id", "4f1e8d3a-0b57-4a8e-9d4c-2f6a1c7e5b90"),
        ("amz-sdk-request", "attempt=1; max=3"),
        ("content-type", FORM),
        ("x-amz-date", DATE),
        ("x-amz-security-token", TOKEN),
    ])
    .authorized(
        "amz-sdk-invocation-id;content-length;content-type;host;x-amz-date;x-amz-security-token",
        "d7b0bf65c114fae6ff465f0dab236b9ab060256feba439103fb9e50283376976",
    );
    assert_eq!(wire.verify(), Ok(()));
    assert!(!wire.covers("amz-sdk-request"));
}

#[test]
fn host_key_script() {
    let wire = harvester();
    assert_eq!(wire.verify_at(&EIC, NOW), Ok(()));
    for unsigned in ["x-amz-target", "x-amz-content-sha256", "content-encoding"] {
        assert!(!wire.covers(unsigned), "{unsigned} must be seen not to be signed");
    }
}

#[test]
fn operators_without_a_token() {
    let mut wire = Wire::new(&[("host", "sts.us-east-1.amazonaws.com"), ("x-amz-date", DATE)]);
    wire.method = "GET".into();
    wire.query = b"Version=2011-06-15&Action=GetCallerIdentity".to_vec();
    wire.body = Vec::new();
    let wire = wire.authorized("host;x-amz-date", "e3b8649bea3bb45b9890ff17e4c4677fa5853bbaa5818854a972bfe7c75f2d82");
    assert_eq!(wire.verify(), Ok(()));
}

#[test]
fn queries_and_paths_are_canonical() {
    // Both made by botocore 1.43.
    let signed = "host;x-amz-date;x-amz-security-token";
    let headers = [("host", "sts.us-east-1.amazonaws.com"), ("x-amz-date", DATE), ("x-amz-security-token", TOKEN)];
    let mut query = Wire::new(&headers);
    query.method = "GET".into();
    query.query = b"b=2&a=1&a=%2f&a-b=x+y&a".to_vec();
    query.body = Vec::new();
    let query = query.authorized(signed, "755c073daad53a84466410ee025566293ae8f18c985118f46082b85afc9e48d9");
    assert_eq!(query.verify(), Ok(()));

    let mut path = Wire::new(&headers).with("content-type", "application/json");
    path.body = b"{}".to_vec();
    path.path = b"//x/.././arn%3Aaws%3Asns/a%20b".to_vec();
    let path = path.authorized_for(
        "20261123/us-east-1/guardduty/aws4_request",
        &format!("content-type;{signed}"),
        "b70f1834f23e0d208306c6643ef561c062b2d26d5a6a3811d3d95899fbecc8e3",
    );
    let guardduty = Endpoint { service: "guardduty", ..STS };
    assert_eq!(path.verify_at(&guardduty, NOW), Ok(()));
    let as_is = Endpoint { path_mode: PathMode::AsIs, ..guardduty };
    assert_eq!(path.verify_at(&as_is, NOW), Err(Fault::SignatureMismatch));
}

#[test]
fn the_plainest_published_vector() {
    let mut wire = Wire::new(&[("host", "example.amazonaws.com"), ("x-amz-date", "20150830T123600Z")]);
    wire.method = "GET".into();
    wire.body = Vec::new();
    let wire = wire.authorized_for(
        "20150830/us-east-1/service/aws4_request",
        "host;x-amz-date",
        "5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31",
    );
    let endpoint = Endpoint { service: "service", ..STS };
    assert_eq!(wire.verify_at(&endpoint, inborn_identity::UnixTime::from_secs(1_440_938_160)), Ok(()));
}

#[test]
fn what_was_presented() {
    let wire = botocore();
    let headers = wire.headers();
    let presented = Presented::read(&wire.request(&headers)).unwrap();
    assert_eq!(presented.access_key_id(), support::KEY_ID);
    assert_eq!(presented.token(), Some(TOKEN.as_bytes()));
    let scope = presented.scope();
    assert_eq!(
        (scope.date, scope.region, scope.service, scope.terminator),
        ("20261123", "us-east-1", "sts", "aws4_request")
    );
    assert_eq!(presented.signed_headers(), b"content-type;host;x-amz-date;x-amz-security-token");
    assert_eq!(presented.signed_at(), NOW);
    let shown = format!("{presented:?}");
    assert!(shown.contains("ASIAIOSFODNN7EXAMPLE") && !shown.contains(TOKEN) && !shown.contains("b42ac246"), "{shown}");
}

#[test]
fn a_request_that_was_not_the_one_read_is_a_mismatch() {
    let wire = botocore();
    let headers = wire.headers();
    let presented = Presented::read(&wire.request(&headers)).unwrap();
    let key = SigningKey::derive(SECRET, b"20261123", "us-east-1", "sts");
    let mut scratch = Scratch::new();
    let mut verify = |wire: &Wire| {
        let headers = wire.headers();
        presented.verify(&wire.request(&headers), &sha256(&wire.body), PathMode::Normalized, &key, &mut scratch)
    };
    assert_eq!(verify(&wire.clone()), Ok(()), "an equal request");
    for changed in [
        Wire { method: "PUT".into(), ..wire.clone() },
        Wire { path: b"/x".to_vec(), ..wire.clone() },
        Wire { query: b"x".to_vec(), ..wire.clone() },
        wire.clone().with("x-unsigned", "1"),
    ] {
        assert_eq!(verify(&changed), Err(Fault::SignatureMismatch));
    }
}
