//! What a verification costs here and in scratchstack: the same request, both with the key derived each time, both from
//! the request as their callers have it. `copy` is what the benchmark itself adds to scratchstack, which consumes the
//! request. Goal: at least five times as fast.
#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark of what fails is none, and it has no users")]

#[path = "../tests/support/mod.rs"]
mod support;

use divan::{Bencher, black_box};
use support::{HOST, NOW, Wire, verdict_of_scratchstack};

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
    bencher.bench_local(|| black_box(&wire).verdict_of_ours(NOW).unwrap());
}

#[divan::bench(args = TOKENS, sample_size = 200)]
fn scratchstack(bencher: Bencher<'_, '_>, token: usize) {
    let request = signed(token).http().unwrap();
    bencher.bench_local(|| verdict_of_scratchstack(black_box(&request).clone(), NOW).unwrap());
}

#[divan::bench(args = TOKENS, sample_size = 200)]
fn copy(bencher: Bencher<'_, '_>, token: usize) {
    let request = signed(token).http().unwrap();
    bencher.bench_local(|| black_box(&request).clone());
}
