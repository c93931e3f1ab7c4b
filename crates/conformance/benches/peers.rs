//! What a verification costs here and in scratchstack: the same request, body hashed, the key derived each time or at
//! hand, both from the request as their callers have it. `copy` is what the benchmark itself adds to scratchstack, which
//! consumes what it is given. Goal: at least five times as fast.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark of what fails is none, and it has no users")]

#[path = "../tests/support/mod.rs"]
mod support;

use divan::{Bencher, black_box};
use inborn_sigv4::{Presented, Scratch, SigningKey, sha256};
use support::{ENDPOINT, HOST, Keys, NOW, REGION, SECRET, SERVICE, Wire, verdict_of_scratchstack, verdict_with};

const TOKENS: [usize; 2] = [200, 400];

fn main() {
    divan::main();
}

fn signed(token: usize) -> Wire {
    let headers = [("host", HOST), ("content-type", "application/json")];
    Wire {
        method: "POST".into(),
        path: "/".into(),
        query: String::new(),
        headers: headers.map(|(name, value)| (name.to_owned(), value.to_owned())).to_vec(),
        body: b"Action=GetCallerIdentity&Version=2011-06-15".to_vec(),
        token: Some("A".repeat(token)),
    }
    .signed_by_aws()
}

#[divan::bench(args = TOKENS, sample_size = 200)]
fn ours(bencher: Bencher<'_, '_>, token: usize) {
    let wire = signed(token);
    let headers = wire.view();
    let (request, mut scratch) = (wire.request(&headers), Scratch::new());
    bencher.bench_local(|| {
        let presented = Presented::accept(black_box(&request), &ENDPOINT, NOW).unwrap();
        let scope = presented.scope();
        let key = SigningKey::derive(SECRET.as_bytes(), scope.date.as_bytes(), scope.region, scope.service);
        presented.verify(&request, &sha256(&wire.body), ENDPOINT.path_mode, &key, &mut scratch).unwrap();
    });
}

#[divan::bench(args = TOKENS, sample_size = 200)]
fn ours_key_at_hand(bencher: Bencher<'_, '_>, token: usize) {
    let wire = signed(token);
    let headers = wire.view();
    let (request, mut scratch) = (wire.request(&headers), Scratch::new());
    let key = SigningKey::derive(SECRET.as_bytes(), b"20261123", REGION, SERVICE);
    bencher.bench_local(|| {
        let presented = Presented::accept(black_box(&request), &ENDPOINT, NOW).unwrap();
        presented.verify(&request, &sha256(&wire.body), ENDPOINT.path_mode, &key, &mut scratch).unwrap();
    });
}

#[divan::bench(args = TOKENS, sample_size = 200)]
fn scratchstack(bencher: Bencher<'_, '_>, token: usize) {
    let request = signed(token).http().unwrap();
    bencher.bench_local(|| verdict_of_scratchstack(black_box(&request).clone(), NOW).unwrap());
}

#[divan::bench(args = TOKENS, sample_size = 200)]
fn scratchstack_key_at_hand(bencher: Bencher<'_, '_>, token: usize) {
    let (request, keys) = (signed(token).http().unwrap(), Keys::at_hand());
    bencher.bench_local(|| verdict_with(black_box(&request).clone(), NOW, keys.clone()).unwrap());
}

#[divan::bench(args = TOKENS, sample_size = 200)]
fn copy(bencher: Bencher<'_, '_>, token: usize) {
    let (request, keys) = (signed(token).http().unwrap(), Keys::at_hand());
    bencher.bench_local(|| (black_box(&request).clone(), keys.clone()));
}
