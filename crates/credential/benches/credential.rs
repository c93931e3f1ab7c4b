//! What a credential costs: minted, opened, and verified in botocore's form, beside the least that a verifier must do.
//!
//! `floor` is SHA-256 of the canonical request and one HMAC with the key at hand. Goals on a machine with SHA
//! extensions: `authenticate_warm` at most twice the floor, `authenticate_cold` at most 3.5 µs.
#![allow(clippy::unwrap_used, reason = "a benchmark may stop at what it does not expect")]

#[path = "../tests/support/mod.rs"]
mod support;

use aws_lc_rs::{digest, hmac};
use divan::{Bencher, black_box};
use inborn_credential::{Authenticator, Keyring};
use inborn_identity::Partition;
use support::{BODY, NOW, STS, Signer, claims, keyring, region, request, sha256};

fn main() {
    divan::main();
}

fn signer(keyring: &Keyring) -> Signer {
    Signer::new(&keyring.mint(&claims()).unwrap())
}

#[divan::bench]
fn floor(bencher: Bencher<'_, '_>) {
    let signer = signer(&keyring(&[1], 1));
    let (signed, key) = (signer.sign(), hmac::Key::new(hmac::HMAC_SHA256, signer.key().as_ref()));
    bencher.bench_local(|| {
        let canonical = digest::digest(&digest::SHA256, black_box(signed.canonical_request.as_bytes()));
        (canonical, hmac::sign(&key, black_box(signed.string_to_sign.as_bytes())))
    });
}

#[divan::bench]
fn authenticate_warm(bencher: Bencher<'_, '_>) {
    let keyring = keyring(&[1], 1);
    let signed = signer(&keyring).sign();
    let headers = signed.headers();
    let (request, body) = (request(&headers), sha256(BODY));
    let authenticator = Authenticator::new(Partition::Aws, region(), keyring).unwrap();
    bencher.bench_local(|| authenticator.authenticate(black_box(&request), &body, &STS, NOW).unwrap());
}

/// A verifier that has not seen the token: opens it, derives the secret and the signing key, and remembers both.
#[divan::bench]
fn authenticate_cold(bencher: Bencher<'_, '_>) {
    let keyring = keyring(&[1], 1);
    let signed = signer(&keyring).sign();
    let headers = signed.headers();
    let (request, body) = (request(&headers), sha256(BODY));
    bencher
        .with_inputs(|| Authenticator::new(Partition::Aws, region(), keyring.clone()).unwrap())
        .bench_local_refs(|authenticator| authenticator.authenticate(black_box(&request), &body, &STS, NOW).unwrap());
}

#[divan::bench]
fn mint(bencher: Bencher<'_, '_>) {
    let (keyring, claims) = (keyring(&[1], 1), claims());
    bencher.bench_local(|| keyring.mint(black_box(&claims)).unwrap());
}

#[divan::bench]
fn open(bencher: Bencher<'_, '_>) {
    let keyring = keyring(&[1], 1);
    let credential = keyring.mint(&claims()).unwrap();
    let (id, token) = (credential.access_key_id.as_str(), credential.session_token.expose().as_bytes());
    bencher.bench_local(|| keyring.open(black_box(id), black_box(token)).unwrap());
}
