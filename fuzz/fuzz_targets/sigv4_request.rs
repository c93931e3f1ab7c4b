//! Reads arbitrary requests, and verifies those that can be read.
//!
//! The input is a request much as on the wire: `METHOD target`, header lines, an empty line, a body. The seeds are signed
//! with the secret below, so that what follows a right signature is reached as well.
#![no_main]

use inborn_identity::UnixTime;
use inborn_sigv4::{Endpoint, Expires, Form, Header, PathMode, Presented, Request, Scratch, SigningKey, sha256};
use libfuzzer_sys::fuzz_target;

const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";

fuzz_target!(|input: &[u8]| {
    let (head, body) = split_at(input, b"\n\n");
    let mut lines = head.split(|byte| *byte == b'\n');
    let (method, target) = split_at(lines.next().unwrap_or_default(), b" ");
    let (path, query) = split_at(target, b"?");
    let names_and_values: Vec<_> = lines
        .map(|line| {
            let (name, value) = split_at(line, b":");
            (name.to_ascii_lowercase(), value)
        })
        .collect();
    let headers: Vec<_> = names_and_values.iter().map(|(name, value)| Header { name, value }).collect();
    let Ok(method) = core::str::from_utf8(method) else { return };
    let request = Request { method, path, query, headers: &headers };

    let endpoint = Endpoint {
        service: "sts",
        regions: &["us-east-1"],
        path_mode: PathMode::Normalized,
        skew_seconds: 900,
        query_auth: true,
        expires: Expires::Ignored,
    };
    let now = UnixTime::from_secs(1_795_411_740);
    let accepted = Presented::accept(&request, &endpoint, now);
    let Ok(presented) = Presented::read(&request) else {
        assert!(accepted.is_err(), "what cannot be read cannot be accepted");
        return;
    };
    assert_eq!(accepted.is_ok(), presented.check(&endpoint, now).is_ok());

    // What the parser promises to those who build on it.
    let scope = presented.scope();
    assert!(presented.covers(b"host") && presented.signed_headers().split(|byte| *byte == b';').is_sorted());
    let is_query_signed = presented.form() == Form::Query;
    assert!(presented.token().is_none() || is_query_signed || presented.covers(b"x-amz-security-token"));
    assert!(!presented.access_key_id().contains('/'));

    let key = SigningKey::derive(SECRET, scope.date.as_bytes(), scope.region, scope.service);
    let mut scratch = Scratch::new();
    for path_mode in [PathMode::Normalized, PathMode::AsIs] {
        let hash = sha256(body);
        let verdict = presented.verify(&request, &hash, path_mode, &key, &mut scratch);
        assert_eq!(presented.verify(&request, &hash, path_mode, &key, &mut scratch), verdict, "reused buffers");
        if verdict.is_ok() {
            let mut other = hash;
            other[0] ^= 1;
            assert!(presented.verify(&request, &other, path_mode, &key, &mut scratch).is_err());
        }
    }
});

/// What is before and what is behind the first `separator`.
fn split_at<'a>(text: &'a [u8], separator: &[u8]) -> (&'a [u8], &'a [u8]) {
    match text.windows(separator.len()).position(|window| window == separator) {
        Some(position) => (&text[..position], &text[position + separator.len()..]),
        None => (text, b""),
    }
}
