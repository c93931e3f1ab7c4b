//! What a verification costs here and in scratchstack, beside the least that it costs anywhere: the same request in the
//! forms of boto3 and of JavaScript's SDK, body hashed, the key derived each time or at hand, both from the request as
//! their callers have it. `copy` is what the benchmark itself adds to scratchstack, which consumes what it is given.
//! Goals: at least five times as fast as scratchstack; with the key at hand at most 1.6 times the floor.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark of what fails is none, and it has no users")]

#[path = "../tests/support/mod.rs"]
mod support;

use aws_lc_rs::{digest, hmac};
use divan::{Bencher, black_box};
use inborn_sigv4::{Presented, Scratch, SigningKey, sha256};
use support::{ENDPOINT, HOST, Keys, NOW, REGION, SECRET, SERVICE, Wire, verdict_of_scratchstack, verdict_with};

/// Who signs, and how long the token is.
const CASES: [(&str, usize); 4] = [("boto3", 200), ("boto3", 1000), ("javascript", 200), ("javascript", 1000)];

fn main() {
    divan::main();
}

/// Of no form's own content type: scratchstack takes a form's body for a part of the query.
fn signed((client, token): (&str, usize)) -> Wire {
    let headers: &[(&str, &str)] = match client {
        "boto3" => &[("host", HOST), ("content-type", "application/json; charset=utf-8")],
        _ => &[
            ("host", HOST),
            ("content-type", "application/json"),
            ("content-length", "43"),
            (
                "x-amz-user-agent",
                "aws-sdk-js/3.1169.0 ua/2.1 os/linux#6.8.0 lang/js md/nodejs#22.12.0 api/sts#3.1169.0",
            ),
            ("amz-sdk-invocation-id", "4f1e8d3a-0b57-4a8e-9d4c-2f6a1c7e5b90"),
            ("amz-sdk-request", "attempt=1; max=3"),
            ("x-amz-content-sha256", "ab821ae955788b0e33ebd34c208442ccfc2d406e2edc5e7a39bd6458fbb4f843"),
        ],
    };
    Wire {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect(),
        body: b"Action=GetCallerIdentity&Version=2011-06-15".to_vec(),
        token: Some("A".repeat(token)),
    }
    .signed_by_aws()
}

fn key() -> SigningKey {
    SigningKey::derive(SECRET.as_bytes(), b"20261123", REGION, SERVICE)
}

/// SHA-256 of the canonical request and one HMAC with a key that is ready.
#[divan::bench(args = CASES, sample_size = 200)]
fn floor(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let wire = signed(case);
    let headers = wire.view();
    let (request, mut scratch) = (wire.request(&headers), Scratch::new());
    let presented = Presented::accept(&request, &ENDPOINT, NOW).unwrap();
    presented.verify(&request, &sha256(&wire.body), ENDPOINT.path_mode, &key(), &mut scratch).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    bencher.bench_local(|| {
        let hash = digest::digest(&digest::SHA256, black_box(scratch.canonical_request()));
        (hash, hmac::sign(&key, black_box(scratch.string_to_sign())))
    });
}

#[divan::bench(args = CASES, sample_size = 200)]
fn ours(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let wire = signed(case);
    let headers = wire.view();
    let (request, mut scratch) = (wire.request(&headers), Scratch::new());
    bencher.bench_local(|| {
        let presented = Presented::accept(black_box(&request), &ENDPOINT, NOW).unwrap();
        let scope = presented.scope();
        let key = SigningKey::derive(SECRET.as_bytes(), scope.date.as_bytes(), scope.region, scope.service);
        presented.verify(&request, &sha256(&wire.body), ENDPOINT.path_mode, &key, &mut scratch).unwrap();
    });
}

#[divan::bench(args = CASES, sample_size = 200)]
fn ours_key_at_hand(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let wire = signed(case);
    let headers = wire.view();
    let (request, mut scratch, key) = (wire.request(&headers), Scratch::new(), key());
    bencher.bench_local(|| {
        let presented = Presented::accept(black_box(&request), &ENDPOINT, NOW).unwrap();
        presented.verify(&request, &sha256(&wire.body), ENDPOINT.path_mode, &key, &mut scratch).unwrap();
    });
}

#[divan::bench(args = CASES, sample_size = 200)]
fn scratchstack(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let request = signed(case).http().unwrap();
    bencher.bench_local(|| verdict_of_scratchstack(black_box(&request).clone(), NOW).unwrap());
}

#[divan::bench(args = CASES, sample_size = 200)]
fn scratchstack_key_at_hand(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let (request, keys) = (signed(case).http().unwrap(), Keys::at_hand());
    bencher.bench_local(|| verdict_with(black_box(&request).clone(), NOW, keys.clone()).unwrap());
}

#[divan::bench(args = CASES, sample_size = 200)]
fn copy(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let (request, keys) = (signed(case).http().unwrap(), Keys::at_hand());
    bencher.bench_local(|| (black_box(&request).clone(), keys.clone()));
}
