//! Any bytes as the query of a request that is signed in it. What is accepted once is put to the verifier again, signed
//! with the secret below, so that what follows a right signature is reached as well.
#![no_main]

use inborn_identity::UnixTime;
use inborn_sigv4::sign::{Credentials, Target, presign};
use inborn_sigv4::{
    Endpoint, Expires, Fault, Form, Header, PathMode, Presented, Request, Scratch, SigningKey, TERMINATOR, sha256,
};
use libfuzzer_sys::fuzz_target;

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const NOW: UnixTime = UnixTime::from_secs(1_795_411_740);
const HEADERS: [Header<'_>; 2] =
    [Header { name: b"host", value: b"sts.us-east-1.amazonaws.com" }, Header { name: b"x-k8s-aws-id", value: b"c" }];

fuzz_target!(|query: &[u8]| {
    verify(query);
    sign(query);
});

/// What holds of any query.
fn verify(query: &[u8]) {
    let request = Request { method: "GET", path: b"/", query, headers: &HEADERS };
    let endpoint = Endpoint {
        service: "sts",
        regions: &["us-east-1"],
        path_mode: PathMode::Normalized,
        skew_seconds: 900,
        query_auth: true,
        expires: Expires::Ignored,
    };
    let header_only = Endpoint { query_auth: false, ..endpoint };
    assert!(Presented::accept(&request, &header_only, NOW).is_err(), "nothing signs it but its query");
    let accepted = Presented::accept(&request, &endpoint, NOW);
    let Ok(presented) = Presented::read(&request) else {
        assert!(accepted.is_err(), "what cannot be read cannot be accepted");
        return;
    };
    assert_eq!(accepted.is_ok(), presented.check(&endpoint, NOW).is_ok());
    assert!(presented.form() == Form::Query && presented.covers(b"host"));
    let scope = presented.scope();
    let line = [presented.access_key_id(), scope.date, scope.region, scope.service, scope.terminator];
    assert!(line.iter().all(|part| !part.contains(['/', '\n', '\0'])), "no part of the scope can end its line");

    let key = SigningKey::derive(SECRET, scope.date.as_bytes(), scope.region, scope.service);
    let mut scratch = Scratch::new();
    let verdict = presented.verify(&request, &sha256(b""), PathMode::Normalized, &key, &mut scratch);
    if accepted.is_ok() && verdict.is_ok() {
        assert_eq!(scope.terminator, TERMINATOR);
        let other = presented.verify(&request, &sha256(b"body"), PathMode::Normalized, &key, &mut scratch);
        assert_eq!(other, Err(Fault::SignatureMismatch));
    }
}

/// What holds of any query that can be signed: it verifies.
fn sign(query: &[u8]) {
    let unsigned = Request { method: "GET", path: b"/", query, headers: &HEADERS };
    let credentials = Credentials {
        access_key_id: "ASIAIOSFODNN7EXAMPLE",
        secret_access_key: SECRET,
        session_token: Some("token+/="),
    };
    let target = Target { region: "us-east-1", service: "sts", path_mode: PathMode::Normalized };
    let Ok(signed) = presign(&unsigned, b"", &credentials, &target, 60, NOW) else { return };
    let request = Request { query: signed.as_bytes(), ..unsigned };
    match Presented::read(&request) {
        Ok(presented) => {
            let key = SigningKey::derive(SECRET, b"20261123", "us-east-1", "sts");
            let verdict =
                presented.verify(&request, &sha256(b""), PathMode::Normalized, &key, &mut Scratch::new());
            assert_eq!(verdict, Ok(()));
        }
        // Signing adds to what is near the limits already.
        Err(fault) => assert!(matches!(fault, Fault::TooLarge(_)), "{fault:?}"),
    }
}
