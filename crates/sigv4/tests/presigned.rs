//! Requests that are signed in their query. The signatures of `EKS` and `BOTOCORE` were made by an independent script from
//! the published description of SigV4.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects")]

mod support;

use inborn_sigv4::sign::{Credentials, SignError, Target, presign};
use inborn_sigv4::{EXPIRES_MAX, Endpoint, Expires, Fault, Form, Missing, PathMode, Presented, TOKEN_MAX};
use proptest::prelude::*;
use support::{KEY_ID, NOW, SECRET, STS, TOKEN, Wire, eks, presigned_post};

fn fault(wire: &Wire) -> Fault {
    wire.verify().unwrap_err()
}

/// With one text of the query for another.
fn query(wire: &Wire, from: &str, to: &str) -> Wire {
    let text = String::from_utf8(wire.query.clone()).unwrap();
    assert!(text.contains(from), "{from} is not in {text}");
    Wire { query: text.replace(from, to).into_bytes(), ..wire.clone() }
}

/// Signs a GET of GetCallerIdentity here, with a token, for as long as `expires`.
fn signed(token: Option<&str>, expires: u64) -> Wire {
    let mut wire = Wire::new(&[("host", "sts.us-east-1.amazonaws.com"), ("x-k8s-aws-id", "cluster  one")]);
    wire.method = "GET".into();
    wire.body.clear();
    wire.query = b"Version=2011-06-15&Action=GetCallerIdentity".to_vec();
    let headers = wire.headers();
    let credentials = Credentials { access_key_id: KEY_ID, secret_access_key: SECRET, session_token: token };
    let target = Target { region: "us-east-1", service: "sts", path_mode: PathMode::Normalized };
    let query = presign(&wire.request(&headers), b"", &credentials, &target, expires, NOW).unwrap();
    Wire { query: query.into_bytes(), ..wire }
}

#[test]
fn the_form_of_eks() {
    let wire = eks();
    assert_eq!(wire.verify(), Ok(()));
    let headers = wire.headers();
    let request = wire.request(&headers);
    let presented = Presented::read(&request).unwrap();
    assert_eq!((presented.form(), presented.access_key_id()), (Form::Query, KEY_ID));
    assert_eq!(presented.token(), Some(TOKEN.as_bytes()));
    assert_eq!((presented.scope().service, presented.signed_at()), ("sts", NOW));
    assert_eq!(presented.signed_headers(), b"host;x-k8s-aws-id");
    assert!(presented.covers(b"x-k8s-aws-id") && !presented.covers(b"accept"));
    let shown = format!("{presented:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains("Signature"), "{shown}");
}

#[test]
fn the_form_of_botocore_is_a_post_without_a_body() {
    let wire = presigned_post();
    assert_eq!(wire.verify(), Ok(()));
    assert_eq!(fault(&Wire { method: "GET".into(), ..wire.clone() }), Fault::SignatureMismatch);
    assert_eq!(fault(&Wire { body: b"Action=GetCallerIdentity".to_vec(), ..wire }), Fault::SignatureMismatch);
}

#[test]
fn the_order_of_parameters_is_of_no_account() {
    let text = String::from_utf8(eks().query).unwrap();
    let mut parameters: Vec<_> = text.split('&').collect();
    parameters.reverse();
    assert_eq!(Wire { query: parameters.join("&&").into_bytes(), ..eks() }.verify(), Ok(()));
    // The AWS SDK for Rust has the token behind the signature.
    parameters.sort_by_key(|pair| pair.starts_with("X-Amz-Security-Token"));
    assert_eq!(Wire { query: parameters.join("&").into_bytes(), ..eks() }.verify(), Ok(()));
}

#[test]
fn escapes_of_other_people() {
    let wire = signed(Some("a+b/c="), 60);
    for (from, to) in [
        ("%2Fsts%2F", "/sts%2f"),
        ("%2Fsts%2F", "%2F%73ts%2F"),
        ("SignedHeaders=host%3B", "SignedHeaders=host;"),
        ("=a%2Bb%2Fc%3D", "=a%2bb/c="),
        ("X-Amz-Credential", "X%2dAmz%2DCredential"),
        ("X-Amz-Signature", "X-Amz-%53ignature"),
        ("X-Amz-Date=2", "X-Amz-Date=%32"),
    ] {
        assert_eq!(query(&wire, from, to).verify(), Ok(()), "{to}");
    }
    assert_eq!(fault(&query(&wire, "=a%2Bb", "=a+b")), Fault::SignatureMismatch, "a plus sign is a space");
}

#[test]
fn fifteen_minutes_whatever_it_says() {
    for expires in [0, 1, 60, 900, 604_800, 604_801, u64::MAX] {
        let wire = signed(Some(TOKEN), expires);
        for (now, is_good) in
            [(NOW.plus(900), true), (NOW.plus(901), false), (NOW.minus(900), true), (NOW.minus(901), false)]
        {
            let expected = match () {
                () if is_good => Ok(()),
                () if now > NOW => Err(Fault::Expired { signed_at: NOW, now, skew_seconds: 900 }),
                () => Err(Fault::NotYetCurrent { signed_at: NOW, now, skew_seconds: 900 }),
            };
            assert_eq!(wire.verify_at(&STS, now), expected, "{expires}");
        }
    }
    let without = query(&eks(), "&X-Amz-Expires=60", "");
    assert_eq!(fault(&without), Fault::SignatureMismatch, "it is signed all the same");
}

#[test]
fn as_long_as_it_says_where_that_counts() {
    let endpoint = Endpoint { expires: Expires::Honoured, ..STS };
    for expires in [1, 60, 3600, EXPIRES_MAX - 1, EXPIRES_MAX] {
        let wire = signed(Some(TOKEN), expires);
        assert_eq!(wire.verify_at(&endpoint, NOW.plus(expires)), Ok(()));
        let now = NOW.plus(expires + 1);
        let expired = Fault::Expired { signed_at: NOW, now, skew_seconds: expires };
        assert_eq!(wire.verify_at(&endpoint, now), Err(expired));
        assert_eq!(wire.verify_at(&endpoint, NOW.minus(900)), Ok(()));
        let early = wire.verify_at(&endpoint, NOW.minus(901));
        assert_eq!(early, Err(Fault::NotYetCurrent { signed_at: NOW, now: NOW.minus(901), skew_seconds: 900 }));
    }
    for expires in [0, EXPIRES_MAX + 1] {
        let got = expires.to_string().into();
        assert_eq!(signed(None, expires).verify_at(&endpoint, NOW), Err(Fault::ExpiresForm { got }));
    }
    let header = support::botocore();
    assert_eq!(header.verify_at(&endpoint, NOW.plus(900)), Ok(()), "of no account in a header");
}

#[test]
fn what_is_no_number_of_seconds() {
    for (bad, got) in [("", ""), ("-60", "-60"), ("6e1", "6e1"), ("%20", " ")] {
        let wire = query(&eks(), "X-Amz-Expires=60", &format!("X-Amz-Expires={bad}"));
        assert_eq!(fault(&wire), Fault::ExpiresForm { got: got.into() });
    }
}

#[test]
fn a_service_that_takes_none() {
    let header_only = Endpoint { query_auth: false, ..STS };
    assert_eq!(eks().verify_at(&header_only, NOW), Err(Fault::MissingAuthentication));
    assert_eq!(support::botocore().verify_at(&header_only, NOW), Ok(()));
    let wire = eks();
    let headers = wire.headers();
    let presented = Presented::read(&wire.request(&headers)).unwrap();
    assert_eq!(presented.check(&header_only, NOW), Err(Fault::MissingAuthentication));
    assert_eq!(presented.check(&STS, NOW), Ok(()));
}

#[test]
fn the_token() {
    let wire = eks();
    let in_header = wire.clone().with("x-amz-security-token", TOKEN);
    assert_eq!(fault(&in_header), Fault::TokenInHeader);
    let stripped = query(&wire, &format!("&X-Amz-Security-Token={TOKEN}"), "");
    assert_eq!(fault(&stripped), Fault::SignatureMismatch);
    assert_eq!(fault(&stripped.with("x-amz-security-token", TOKEN)), Fault::TokenInHeader);
    assert_eq!(fault(&query(&wire, "Token=A", "Token=B")), Fault::SignatureMismatch);
    assert_eq!(signed(None, 60).verify(), Ok(()));
    for (length, is_good) in [(TOKEN_MAX - 1, true), (TOKEN_MAX, true), (TOKEN_MAX + 1, false)] {
        let expected = if is_good { Ok(()) } else { Err(Fault::TooLarge(inborn_sigv4::Limit::Token)) };
        assert_eq!(signed(Some(&"t".repeat(length)), 60).verify(), expected, "{length}");
    }
}

#[test]
fn refusals_in_the_order_of_the_steps() {
    let wire = eks();
    let algorithm = query(&wire, "AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1");
    assert_eq!(fault(&algorithm), Fault::MissingAuthentication, "7a");
    let misspelled = Wire { query: [&wire.query, b"&x-amz-signature=0".as_slice()].concat(), ..wire.clone() };
    assert_eq!(fault(&misspelled), Fault::MisspelledInQuery { name: "X-Amz-Signature" });
    let twice = Wire { query: [&wire.query, b"&X-Amz-Date=1".as_slice()].concat(), ..wire.clone() };
    assert_eq!(fault(&twice), Fault::DuplicateInQuery { name: "X-Amz-Date" });
    let missing = query(&wire, "X-Amz-Credential", "X-Amz-Credentials");
    assert_eq!(fault(&missing), Fault::MissingInQuery(Missing { credential: true, ..Missing::default() }), "7d");
    assert_eq!(fault(&query(&wire, "host%3B", "")), Fault::HostNotSigned, "8");
    let got = "20261123T052900".into();
    assert_eq!(fault(&query(&wire, "T052900Z", "T052900")), Fault::DateForm { got }, "9");
    let now = NOW.plus(901);
    let old_and_malformed = query(&wire, "%2Fsts%2F", "%2F");
    let expired = Fault::Expired { signed_at: NOW, now, skew_seconds: 900 };
    assert_eq!(old_and_malformed.verify_at(&STS, now), Err(expired), "10 before 12");
    assert!(matches!(fault(&old_and_malformed), Fault::CredentialForm { .. }), "12");
    assert!(matches!(fault(&query(&wire, "%2Fsts%2F", "%2Fssm%2F")), Fault::Scope(_)), "13");
    assert_eq!(fault(&query(&wire, "Signature=", "Signature=A")), Fault::SignatureForm);
    let absent = wire.without("x-k8s-aws-id");
    assert_eq!(fault(&absent), Fault::SignedHeaderAbsent { name: "x-k8s-aws-id".into() });
}

#[test]
fn header_fields_that_count_in_this_form_too() {
    let wire = eks();
    assert_eq!(fault(&wire.clone().with("authorization", "AWS4-HMAC-SHA256")), Fault::BothForms);
    assert_eq!(fault(&wire.clone().with("host", "sts.amazonaws.com")), Fault::DuplicateHeader { name: "host" });
    let other = support::BODY_SHA256;
    assert_eq!(fault(&wire.clone().with("x-amz-content-sha256", other)), Fault::PayloadMismatch);
    let unsigned = wire.clone().with("x-amz-content-sha256", "UNSIGNED-PAYLOAD");
    assert_eq!(fault(&unsigned), Fault::PayloadNotSigned);
    let dated = wire.with("x-amz-date", "20200101T000000Z").with("date", "Tue, 15 Nov 1994 08:12:31 GMT");
    assert_eq!(dated.verify(), Ok(()), "no business of this form");
}

#[test]
fn line_ends_in_what_is_signed_for() {
    let wire = query(&eks(), "us-east-1", "us-east-1%0A");
    assert_eq!(fault(&wire), Fault::NotText);
}

#[test]
fn a_request_that_cannot_be_presigned() {
    let credentials = Credentials { access_key_id: KEY_ID, secret_access_key: SECRET, session_token: None };
    let target = Target { region: "us-east-1", service: "sts", path_mode: PathMode::Normalized };
    let refuse = |wire: &Wire| presign(&wire.request(&wire.headers()), b"", &credentials, &target, 60, NOW).err();
    let wire = Wire::new(&[("host", "h")]);
    assert_eq!(refuse(&wire), None);
    assert_eq!(refuse(&Wire::new(&[])), Some(SignError::NoHost));
    let again = Wire { query: b"x-amz-date=1".to_vec(), ..wire.clone() };
    assert_eq!(refuse(&again), Some(SignError::AlreadyInQuery));
    let token = wire.clone().with("x-amz-security-token", "t");
    assert_eq!(refuse(&token), Some(SignError::Already("x-amz-security-token")));
    assert_eq!(refuse(&Wire { path: b"/%".to_vec(), ..wire }), Some(SignError::Request(Fault::Path)));
}

/// Everything that the signature covers, as one text with places.
#[derive(Clone, Copy, Debug)]
enum Part {
    Method,
    Path,
    Query,
    Header(usize),
    Body,
}

proptest! {
    /// One bit of anything but what nobody signed. A bit that leaves the meaning as it was leaves the verdict: the case of a
    /// digit in an escape, `%2f` for `%2F`.
    #[test]
    fn a_changed_bit_fails(
        part in prop::sample::select(vec![Part::Method, Part::Path, Part::Query, Part::Header(0), Part::Header(1), Part::Body]),
        place in any::<prop::sample::Index>(),
        bit in 0_u8..8,
    ) {
        let wire = signed(Some("IQoJb3JpZ2luX2VjEXAMPLE+/abc=="), 60);
        prop_assert_eq!(wire.verify(), Ok(()));
        let mut changed = wire.clone();
        let flip = |bytes: &mut Vec<u8>| {
            if bytes.is_empty() {
                bytes.push(1 << bit);
            } else {
                let index = place.index(bytes.len());
                bytes[index] ^= 1 << bit;
            }
        };
        match part {
            Part::Method => {
                let mut bytes = changed.method.into_bytes();
                flip(&mut bytes);
                changed.method = String::from_utf8_lossy(&bytes).into_owned();
            }
            Part::Path => flip(&mut changed.path),
            Part::Query => flip(&mut changed.query),
            Part::Header(index) => flip(&mut changed.headers[index].1),
            Part::Body => flip(&mut changed.body),
        }
        let is_same = match part {
            Part::Query => decoded(&changed.query) == decoded(&wire.query),
            // One space for two, or another kind of white space.
            Part::Header(index) => collapsed(&changed.headers[index].1) == collapsed(&wire.headers[index].1),
            Part::Method | Part::Path | Part::Body => false,
        };
        prop_assert_eq!(changed.verify().is_ok(), is_same, "{:?}", changed);
    }

    #[test]
    fn what_is_presigned_verifies(
        path in "(/[a-z.%/]{0,3}){0,4}",
        name in "[A-Za-z.~&=%]{0,6}",
        token in proptest::option::of("[!-~]{1,80}"),
        value in "[ -~]{0,20}",
        body in prop::collection::vec(any::<u8>(), 0..20),
        expires in any::<u64>(),
    ) {
        let mut wire = Wire::new(&[("host", "h"), ("x-signed", &value)]);
        (wire.path, wire.query, wire.body) = (path.into_bytes(), name.into_bytes(), body);
        let headers = wire.headers();
        let credentials = Credentials { access_key_id: KEY_ID, secret_access_key: SECRET, session_token: token.as_deref() };
        let target = Target { region: "us-east-1", service: "sts", path_mode: PathMode::Normalized };
        let Ok(query) = presign(&wire.request(&headers), &wire.body, &credentials, &target, expires, NOW) else {
            return Ok(());
        };
        wire.query = query.into_bytes();
        prop_assert_eq!(wire.verify(), Ok(()));
    }

    /// Never a panic, and never a yes to what nobody signed.
    #[test]
    fn any_query(
        parameters in prop::collection::vec(
            (
                prop::sample::select(vec![
                    "X-Amz-Algorithm=AWS4-HMAC-SHA256", "X-Amz-Credential=", "X-Amz-Date=20261123T052900Z", "X-Amz-Date=",
                    "X-Amz-Expires=", "X-Amz-SignedHeaders=host", "X-Amz-Signature=", "X-Amz-Security-Token=", "x-amz-",
                ]),
                "[a-zA-Z0-9/%&=;+]{0,12}",
            ),
            0..10,
        ),
    ) {
        let query: Vec<_> = parameters.iter().map(|(name, value)| format!("{name}{value}")).collect();
        let wire = Wire { query: query.join("&").into_bytes(), ..Wire::new(&[("host", "h")]) };
        prop_assert!(wire.verify().is_err());
    }
}

/// What the pairs of a query stand for, in order of their bytes.
fn decoded(query: &[u8]) -> Option<Vec<(Vec<u8>, Vec<u8>)>> {
    let decode = |raw: &[u8]| -> Option<Vec<u8>> {
        let mut out = Vec::new();
        let mut rest = raw.iter();
        while let Some(byte) = rest.next() {
            out.push(match byte {
                b'+' => b' ',
                b'%' => {
                    let digits = [*rest.next()?, *rest.next()?];
                    u8::from_str_radix(core::str::from_utf8(&digits).ok().filter(|text| !text.starts_with('+'))?, 16)
                        .ok()?
                }
                byte => *byte,
            });
        }
        Some(out)
    };
    let segments = query.split(|byte| *byte == b'&').filter(|segment| !segment.is_empty());
    let mut pairs = segments
        .map(|segment| {
            let mut parts = segment.splitn(2, |byte| *byte == b'=');
            Some((decode(parts.next()?)?, decode(parts.next().unwrap_or_default())?))
        })
        .collect::<Option<Vec<_>>>()?;
    pairs.sort();
    Some(pairs)
}

/// A header value with each run of white space one space.
fn collapsed(value: &[u8]) -> Vec<Vec<u8>> {
    let is_blank = |byte: &u8| matches!(byte, b' ' | b'\t' | b'\r' | b'\n');
    value.split(is_blank).filter(|word| !word.is_empty()).map(<[u8]>::to_vec).collect()
}
