//! Every refusal by its name, on requests that are otherwise right; and the order in which they come.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test says what it expects")]

mod support;

use inborn_identity::UnixTime;
use inborn_sigv4::{
    DateMismatch, Endpoint, Fault, FaultClass, HEADERS_MAX, Limit, Missing, PATH_MAX, QUERY_MAX, ScopeFault, TOKEN_MAX,
};
use support::{BODY_SHA256, DATE, EIC, NOW, STS, TOKEN, Wire, botocore, harvester, javascript_v3};

const AUTHORIZATION: &str = "authorization";

fn fault(wire: &Wire) -> Fault {
    wire.verify().unwrap_err()
}

#[test]
fn requests_that_are_not_signed() {
    let unsigned = botocore().without(AUTHORIZATION);
    assert_eq!(fault(&unsigned), Fault::MissingAuthentication);
    let query = Wire { query: b"X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Signature=00".to_vec(), ..unsigned };
    let header_only = Endpoint { query_auth: false, ..STS };
    assert_eq!(query.verify_at(&header_only, NOW), Err(Fault::MissingAuthentication), "the query form is not taken");
}

#[test]
fn both_forms_at_once() {
    for query in ["X-Amz-Signature=00", "a=b&x-amz-algorithm=", "X-Amz-Security-Token=t", "%58-Amz-Date"] {
        assert_eq!(fault(&Wire { query: query.into(), ..botocore() }), Fault::BothForms, "{query}");
    }
}

#[test]
fn fields_that_decide_who_calls_are_there_once() {
    let wire = javascript_v3();
    let names = ["authorization", "host", "x-amz-content-sha256", "x-amz-date", "x-amz-security-token"];
    for name in names {
        let (_, value) = wire.headers.iter().find(|(own, _)| own == name).unwrap();
        let same = String::from_utf8(value.clone()).unwrap();
        for value in [same.as_str(), "other", ""] {
            assert_eq!(fault(&wire.clone().with(name, value)), Fault::DuplicateHeader { name }, "{value}");
            let mut first = wire.clone();
            first.headers.insert(0, (name.into(), value.into()));
            assert_eq!(fault(&first), Fault::DuplicateHeader { name }, "{value} in front");
        }
    }
    let dates = botocore().without("x-amz-date").with("date", DATE).with("date", DATE);
    assert_eq!(fault(&dates), Fault::DuplicateHeader { name: "date" });
}

#[test]
fn duplicate_parameters() {
    let wire = botocore();
    for name in ["Credential", "SignedHeaders", "Signature"] {
        let twice = wire.clone().replacing(AUTHORIZATION, " Signature=", &format!(" {name}=x, Signature="));
        assert_eq!(fault(&twice), Fault::DuplicateParameter { name });
    }
}

#[test]
fn algorithms() {
    for algorithm in ["AWS4-ECDSA-P256-SHA256", "AWS4-HMAC-SHA512", "aws4-hmac-sha256"] {
        let wire = botocore().replacing(AUTHORIZATION, "AWS4-HMAC-SHA256", algorithm);
        assert_eq!(fault(&wire), Fault::UnsupportedAlgorithm { algorithm: algorithm.into() });
    }
}

#[test]
fn authorization_that_is_not_complete() {
    let no_pair = botocore().without(AUTHORIZATION).with(AUTHORIZATION, "AWS4-HMAC-SHA256 Credential");
    let authorization = "AWS4-HMAC-SHA256 Credential".into();
    assert_eq!(fault(&no_pair), Fault::NotKeyValue { part: "Credential".into(), authorization });

    let nothing = botocore().without(AUTHORIZATION).with(AUTHORIZATION, "AWS4-HMAC-SHA256").without("x-amz-date");
    let all = Missing { credential: true, signature: true, signed_headers: true, date: true };
    assert_eq!(fault(&nothing), Fault::Missing(all));

    let no_date = Missing { date: true, ..Missing::default() };
    assert_eq!(fault(&botocore().without("x-amz-date")), Fault::Missing(no_date));
}

#[test]
fn lists_of_signed_headers() {
    let list = "content-type;host;x-amz-date;x-amz-security-token";
    for other in [
        "host;content-type;x-amz-date;x-amz-security-token",
        "content-type;host;host;x-amz-date;x-amz-security-token",
        "content-type;Host;x-amz-date;x-amz-security-token",
        "content-type;host;;x-amz-date;x-amz-security-token",
        "content-type;host;x-amz-date;x-amz-security-token;",
    ] {
        assert_eq!(fault(&botocore().replacing(AUTHORIZATION, list, other)), Fault::SignedHeadersForm, "{other}");
    }
    let no_host = botocore().replacing(AUTHORIZATION, ";host;", ";");
    assert_eq!(fault(&no_host), Fault::HostNotSigned);
}

#[test]
fn signed_headers_that_are_absent() {
    for name in ["content-type", "host"] {
        assert_eq!(fault(&botocore().without(name)), Fault::SignedHeaderAbsent { name: name.into() });
    }
}

#[test]
fn dates() {
    for date in ["", "2026-11-23T05:29:00Z", "20261123T052900", "20261123", "20261323T052900Z", "1795411740"] {
        let wire = botocore().without("x-amz-date").with("x-amz-date", date);
        assert_eq!(fault(&wire), Fault::DateForm { got: date.into() });
    }
    let http = "Mon, 23 Nov 2026 05:29:00 GMT";
    let wire = botocore().without("x-amz-date").with("x-amz-date", http);
    assert_eq!(fault(&wire), Fault::DateForm { got: http.into() }, "only `Date` has this form");
    for date in ["yesterday", "Mon, 23 Nov 2026 05:29:00 -0500", "2026-11-23T05:29:00Z", "-0000"] {
        let wire = botocore().without("x-amz-date").with("date", date);
        assert_eq!(fault(&wire), Fault::DateForm { got: date.into() });
    }
}

#[test]
fn the_window_to_the_second() {
    for (now, expected) in [
        (NOW.minus(901), Err(Fault::NotYetCurrent { signed_at: NOW, now: NOW.minus(901), skew_seconds: 900 })),
        (NOW.minus(900), Ok(())),
        (NOW.minus(899), Ok(())),
        (NOW, Ok(())),
        (NOW.plus(899), Ok(())),
        (NOW.plus(900), Ok(())),
        (NOW.plus(901), Err(Fault::Expired { signed_at: NOW, now: NOW.plus(901), skew_seconds: 900 })),
    ] {
        assert_eq!(botocore().verify_at(&STS, now), expected);
    }
    let narrow = Endpoint { skew_seconds: 0, ..STS };
    assert_eq!(botocore().verify_at(&narrow, NOW), Ok(()));
    assert!(botocore().verify_at(&narrow, NOW.plus(1)).is_err());
    assert!(botocore().verify_at(&narrow, NOW.minus(1)).is_err());
    assert!(botocore().verify_at(&STS, UnixTime::from_secs(0)).is_err());
    assert!(botocore().verify_at(&STS, UnixTime::MAX).is_err());
}

#[test]
fn credentials() {
    let scope = "ASIAIOSFODNN7EXAMPLE/20261123/us-east-1/sts/aws4_request";
    for got in ["ASIAIOSFODNN7EXAMPLE", "ASIA/IOSFODNN7EXAMPLE/20261123/us-east-1/sts/aws4_request", "a/b/c/d"] {
        assert_eq!(fault(&botocore().replacing(AUTHORIZATION, scope, got)), Fault::CredentialForm { got: got.into() });
    }
}

#[test]
fn scopes() {
    let with = |scope: &str| fault(&botocore().replacing(AUTHORIZATION, "20261123/us-east-1/sts/aws4_request", scope));
    let none = ScopeFault::default();
    let date = |scope: &str| Some(DateMismatch { scope: scope.into(), signed_at: NOW });
    for (scope, expected) in [
        ("20261123/eu-west-1/sts/aws4_request", ScopeFault { region: Some("eu-west-1".into()), ..none.clone() }),
        ("20261123/us-east-1/ssm/aws4_request", ScopeFault { service: Some("sts".into()), ..none.clone() }),
        ("20261123/us-east-1/sts/aws4", ScopeFault { terminator: Some("aws4".into()), ..none.clone() }),
        ("20261122/us-east-1/sts/aws4_request", ScopeFault { date: date("20261122"), ..none.clone() }),
        ("202611230/us-east-1/sts/aws4_request", ScopeFault { date: date("202611230"), ..none.clone() }),
        (
            "///",
            ScopeFault {
                region: Some("".into()),
                service: Some("sts".into()),
                terminator: Some("".into()),
                date: date(""),
            },
        ),
    ] {
        assert_eq!(with(scope), Fault::Scope(expected), "{scope}");
    }
    let two_regions = Endpoint { regions: &["eu-west-1", "us-east-1"], ..STS };
    assert_eq!(botocore().verify_at(&two_regions, NOW), Ok(()));
    let no_region = Endpoint { regions: &[], ..STS };
    assert!(matches!(botocore().verify_at(&no_region, NOW), Err(Fault::Scope(_))));
}

#[test]
fn tokens_that_are_not_signed() {
    let injected = botocore().replacing(AUTHORIZATION, ";x-amz-security-token", "");
    assert_eq!(fault(&injected), Fault::TokenNotSigned);
    let with_token = harvester().replacing(AUTHORIZATION, ";x-amz-security-token", "");
    assert_eq!(with_token.verify_at(&EIC, NOW), Err(Fault::TokenNotSigned));
}

#[test]
fn tokens_that_are_changed_or_taken_away() {
    assert_eq!(fault(&botocore().replacing("x-amz-security-token", "AQ", "AR")), Fault::SignatureMismatch);
    let name = "x-amz-security-token".into();
    assert_eq!(fault(&botocore().without("x-amz-security-token")), Fault::SignedHeaderAbsent { name });
}

#[test]
fn payloads() {
    let signed = javascript_v3();
    let unsigned = botocore();
    assert_eq!(unsigned.clone().with("x-amz-content-sha256", BODY_SHA256).verify(), Ok(()), "an assertion that holds");
    for value in ["UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", "STREAMING-UNSIGNED-PAYLOAD-TRAILER"] {
        assert_eq!(fault(&unsigned.clone().with("x-amz-content-sha256", value)), Fault::PayloadNotSigned);
        assert_eq!(
            fault(&signed.clone().replacing("x-amz-content-sha256", BODY_SHA256, value)),
            Fault::PayloadNotSigned
        );
    }
    for value in ["", "0", &BODY_SHA256.to_uppercase(), &"0".repeat(64), "unsigned-payload"] {
        assert_eq!(fault(&unsigned.clone().with("x-amz-content-sha256", value)), Fault::PayloadMismatch, "{value}");
        let wire = signed.clone().replacing("x-amz-content-sha256", BODY_SHA256, value);
        assert_eq!(fault(&wire), Fault::PayloadMismatch, "{value}");
    }
    assert_eq!(fault(&Wire { body: b"Action=Other".to_vec(), ..signed }), Fault::PayloadMismatch);
    assert_eq!(fault(&Wire { body: b"Action=Other".to_vec(), ..unsigned }), Fault::SignatureMismatch);
    let other_keys = Wire { body: br#"{"AccountID":"000000000000"}"#.to_vec(), ..harvester() };
    assert_eq!(other_keys.verify_at(&EIC, NOW), Err(Fault::PayloadMismatch));
}

#[test]
fn signatures() {
    let signature = "b42ac246bb7766288bc2768dbe4da2d0c6b574cdd7a7209285662a1051d24bf7";
    let with = |other: &str| fault(&botocore().replacing(AUTHORIZATION, signature, other));
    for malformed in ["0", &signature[1..], &format!("{signature}0"), &signature.to_uppercase(), &"g".repeat(64)] {
        assert_eq!(with(malformed), Fault::SignatureForm, "{malformed}");
    }
    assert_eq!(with(&"0".repeat(64)), Fault::SignatureMismatch);
    assert_eq!(with(&signature.replace("b42ac2", "b42ac3")), Fault::SignatureMismatch);
}

#[test]
fn signatures_do_not_move() {
    let wire = botocore();
    for moved in [
        Wire { method: "PUT".into(), ..wire.clone() },
        Wire { method: "post".into(), ..wire.clone() },
        Wire { path: b"/other".to_vec(), ..wire.clone() },
        Wire { query: b"Action=Other".to_vec(), ..wire.clone() },
        wire.clone().replacing("host", "us-east-1", "eu-west-1"),
        wire.clone().replacing("content-type", "utf-8", "utf-16"),
        wire.clone().with("content-type", "second"),
    ] {
        assert_eq!(fault(&moved), Fault::SignatureMismatch);
    }
    assert_eq!(
        wire.replacing(AUTHORIZATION, "IOSFODNN", "IOSFODNX").verify(),
        Ok(()),
        "the key id is its owner's look-up"
    );
}

#[test]
fn paths_and_methods() {
    for path in ["x", "*", "/%4", "/a\nhost:x"] {
        assert_eq!(fault(&Wire { path: path.into(), ..botocore() }), Fault::Path, "{path:?}");
    }
    assert_eq!(fault(&Wire { path: b"/../x".to_vec(), ..botocore() }), Fault::Path);
    for method in ["PO ST", "POST\n/", "P\u{d6}ST"] {
        assert_eq!(fault(&Wire { method: method.into(), ..botocore() }), Fault::Path);
    }
}

#[test]
fn limits() {
    let too_large = |limit| Err(Fault::TooLarge(limit));
    let long_path = Wire { path: vec![b'/'; PATH_MAX + 1], ..botocore() };
    assert_eq!(long_path.verify(), too_large(Limit::Path));
    let long_query = Wire { query: vec![b'a'; QUERY_MAX + 1], ..botocore() };
    assert_eq!(long_query.verify(), too_large(Limit::Query));
    let count = botocore().headers.len();
    for (more, expected) in [
        (HEADERS_MAX - count - 1, Ok(())),
        (HEADERS_MAX - count, Ok(())),
        (HEADERS_MAX - count + 1, too_large(Limit::Headers)),
    ] {
        let many = (0..more).fold(botocore(), |wire, n| wire.with(&format!("x-{n}"), "v"));
        assert_eq!(many.verify(), expected, "{more}");
    }
    for (length, expected) in [
        (TOKEN_MAX - 1, Fault::SignatureMismatch),
        (TOKEN_MAX, Fault::SignatureMismatch),
        (TOKEN_MAX + 1, Fault::TooLarge(Limit::Token)),
    ] {
        let wire = botocore().replacing("x-amz-security-token", TOKEN, &"t".repeat(length));
        assert_eq!(fault(&wire), expected, "{length}");
    }
}

/// A request with every fault at once, repaired from the first check on: each repair uncovers the next.
#[test]
fn the_order_of_checks() {
    let late = NOW.plus(1000);
    let mut wire = Wire::new(&[("x-amz-security-token", TOKEN)]).with("x-amz-content-sha256", "STREAMING-X");
    wire.path = b"x".to_vec();
    wire.query = b"X-Amz-Date=%".to_vec();
    let mut seen = Vec::new();
    let mut step = |wire: &Wire, now| seen.push(wire.verify_at(&STS, now).unwrap_err());

    step(&wire, late);
    wire.path = b"/".to_vec();
    step(&wire, late);
    wire.query = b"X-Amz-Date=".to_vec();
    step(&wire, late);
    let mut wire = wire.with(AUTHORIZATION, "Bearer X");
    step(&wire, late);
    wire.query = Vec::new();
    step(&wire, late);
    let wire = wire.replacing(AUTHORIZATION, "Bearer", "AWS4-HMAC-SHA256");
    step(&wire, late);
    let wire = wire.replacing(AUTHORIZATION, " X", " Credential=k/d, SignedHeaders=a, Signature=A");
    step(&wire, late);
    let wire = wire.with("x-amz-date", "now");
    step(&wire, late);
    let wire = wire.replacing(AUTHORIZATION, "SignedHeaders=a", "SignedHeaders=host");
    step(&wire, late);
    let wire = wire.replacing("x-amz-date", "now", DATE);
    step(&wire, late);
    step(&wire, NOW);
    let wire = wire.replacing(AUTHORIZATION, "k/d", "k/d/us-east-1/sts/aws4_request");
    step(&wire, NOW);
    let wire = wire.replacing(AUTHORIZATION, "k/d", "k/20261123");
    step(&wire, NOW);
    let wire = wire.replacing(AUTHORIZATION, "=host", "=host;x-amz-security-token");
    step(&wire, NOW);
    let wire = wire.replacing(AUTHORIZATION, "Signature=A", &format!("Signature={}", "a".repeat(64)));
    step(&wire, NOW);
    let wire = wire.replacing("x-amz-content-sha256", "STREAMING-X", "other");
    step(&wire, NOW);
    let wire = wire.replacing("x-amz-content-sha256", "other", BODY_SHA256);
    step(&wire, NOW);
    let wire = wire.with("host", "h");
    step(&wire, NOW);

    let classes: Vec<_> = seen.iter().map(Fault::class).collect();
    let date = Some(DateMismatch { scope: "d".into(), signed_at: NOW });
    assert_eq!(
        seen,
        [
            Fault::Path,
            Fault::QueryEscapeIncomplete,
            Fault::MissingAuthentication,
            Fault::BothForms,
            Fault::UnsupportedAlgorithm { algorithm: "Bearer".into() },
            Fault::NotKeyValue { part: "X".into(), authorization: "AWS4-HMAC-SHA256 X".into() },
            Fault::Missing(Missing { date: true, ..Missing::default() }),
            Fault::HostNotSigned,
            Fault::DateForm { got: "now".into() },
            Fault::Expired { signed_at: NOW, now: late, skew_seconds: 900 },
            Fault::CredentialForm { got: "k/d".into() },
            Fault::Scope(ScopeFault { date, ..ScopeFault::default() }),
            Fault::TokenNotSigned,
            Fault::SignatureForm,
            Fault::PayloadNotSigned,
            Fault::PayloadMismatch,
            Fault::SignedHeaderAbsent { name: "host".into() },
            Fault::SignatureMismatch,
        ]
    );
    use FaultClass::{Incomplete, MalformedQuery, Mismatch, Missing as None, Target};
    assert_eq!(
        classes,
        [
            Target,
            MalformedQuery,
            None,
            Mismatch,
            Incomplete,
            Incomplete,
            Incomplete,
            Mismatch,
            Incomplete,
            Mismatch,
            Incomplete,
            Mismatch,
            Mismatch,
            Mismatch,
            Mismatch,
            Mismatch,
            Mismatch,
            Mismatch,
        ]
    );
}
