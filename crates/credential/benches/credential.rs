//! What a credential costs: minted, opened, and verified in botocore's form, beside the least that a verifier must do.
//!
//! `floor` is SHA-256 of the canonical request and one HMAC with the key at hand, both in the library's one-shot form:
//! the HMAC as two hashes of padded blocks, which is less than `floor_with_contexts`, the library's own HMAC, that copies
//! and allocates a context. A verifier that writes nothing, reads nothing and compares nothing would take as long.
//! Goals on a machine with SHA extensions: `authenticate_warm` at most 1.6 times the floor (it is at 2.1),
//! `authenticate_cold` at most three times (it is at six).
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a benchmark may stop at what it does not expect")]

#[path = "../tests/support/mod.rs"]
mod support;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{KeyPair, RSA_PSS_2048_8192_SHA256, RSA_PSS_SHA256, RsaKeyPair, UnparsedPublicKey};
use aws_lc_rs::{digest, hmac};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use divan::{Bencher, black_box};
use inborn_credential::{AgentKey, Authenticator, Claims, Keyring, SecondSignature};
use inborn_identity::Partition;
use inborn_sigv4::{PathMode, Presented, Scratch, SigningKey};
use support::{BODY, NOW, REGION, STS, Signed, Signer, claims, keyring, region, request, sha256};

/// More than twice as many as a verifier remembers.
const TOKENS: u32 = 10_000;

fn main() {
    // Hundreds of calls per sample: the timer ticks in tens of nanoseconds, and a first call pays for cold caches.
    divan::Divan::from_args().sample_count(300).sample_size(200).main();
}

fn signer(keyring: &Keyring) -> Signer {
    Signer::new(&keyring.mint(&claims()).unwrap())
}

#[divan::bench]
fn floor(bencher: Bencher<'_, '_>) {
    let signer = signer(&keyring(&[1], 1));
    let (signed, key) = (signer.sign(), signer.key());
    let text = signed.string_to_sign.as_bytes();
    let pad = |byte: u8| key.as_ref().iter().chain(&[0; 32]).map(|key| key ^ byte).collect::<Vec<u8>>();
    let inner = [pad(0x36), text.to_vec()].concat();
    let mut outer = [pad(0x5c), vec![0; 32]].concat();
    let mut floor = || {
        let canonical = digest::digest(&digest::SHA256, black_box(signed.canonical_request.as_bytes()));
        let hash = digest::digest(&digest::SHA256, black_box(&inner));
        outer[64..].copy_from_slice(hash.as_ref());
        (canonical, digest::digest(&digest::SHA256, &outer))
    };
    let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_ref()), text);
    assert_eq!(floor().1.as_ref(), expected.as_ref());
    bencher.bench_local(floor);
}

#[divan::bench]
fn floor_with_contexts(bencher: Bencher<'_, '_>) {
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

/// Tokens the verifier does not remember: so many in turn that each was forgotten when it comes again. Each is opened,
/// its secret and signing key are derived, and both are remembered.
#[divan::bench]
fn authenticate_cold(bencher: Bencher<'_, '_>) {
    let keyring = keyring(&[1], 1);
    let signed: Vec<_> = (0..TOKENS)
        .map(|boot_generation| Signer::new(&keyring.mint(&Claims { boot_generation, ..claims() }).unwrap()).sign())
        .collect();
    let headers: Vec<_> = signed.iter().map(Signed::headers).collect();
    let (body, mut next) = (sha256(BODY), headers.iter().cycle());
    let authenticator = Authenticator::new(Partition::Aws, region(), keyring).unwrap();
    bencher.bench_local(|| {
        let request = request(next.next().unwrap());
        authenticator.authenticate(black_box(&request), &body, &STS, NOW).unwrap()
    });
}

/// The part of the work that is the signature's: the form, the canonical request, the comparison.
#[divan::bench]
fn verify_key_at_hand(bencher: Bencher<'_, '_>) {
    let signer = signer(&keyring(&[1], 1));
    let signed = signer.sign();
    let headers = signed.headers();
    let (request, body, mut scratch) = (request(&headers), sha256(BODY), Scratch::new());
    let key = SigningKey::derive(signer.secret.as_bytes(), &signer.at.basic().as_bytes()[..8], REGION, "sts");
    bencher.bench_local(|| {
        let presented = Presented::accept(black_box(&request), &STS, NOW).unwrap();
        presented.verify(&request, &body, PathMode::Normalized, &key, &mut scratch).unwrap();
    });
}

#[divan::bench]
fn derive_signing_key(bencher: Bencher<'_, '_>) {
    let secret = signer(&keyring(&[1], 1)).secret;
    bencher.bench_local(|| SigningKey::derive(black_box(secret.as_bytes()), b"20260921", REGION, "sts"));
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

/// An agent's key of 2048 bits and what it signs: its public half, the text, the signature.
fn agent() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let text = b"AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20261123/us-east-1/ssm/aws4_request, Signature=6b26".to_vec();
    let mut signature = vec![0; pair.public_modulus_len()];
    pair.sign(&RSA_PSS_SHA256, &SystemRandom::new(), &text, &mut signature).unwrap();
    (pair.public_key().as_der().unwrap().as_ref().to_vec(), text, signature)
}

/// The bare RSA, with the key read anew.
#[divan::bench(sample_count = 50, sample_size = 50)]
fn second_signature_floor(bencher: Bencher<'_, '_>) {
    let (key, text, signature) = agent();
    let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, key);
    bencher.bench_local(|| key.verify(black_box(&text), &signature).unwrap());
}

/// As a request has it: the stored key and the header are read, then the signature is verified.
#[divan::bench(sample_count = 50, sample_size = 50)]
fn second_signature(bencher: Bencher<'_, '_>) {
    let (key, text, signature) = agent();
    let header = format!("Signature={}", BASE64.encode(signature));
    bencher.bench_local(|| {
        let key = AgentKey::from_der(key.clone()).unwrap();
        let found = SecondSignature::read([header.as_bytes()].into_iter(), black_box(&text)).unwrap();
        assert!(found.is_by(&key));
    });
}
