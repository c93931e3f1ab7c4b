//! What it costs to sign what machines show to others, beside the bare RSA-2048 signature that each of it needs.
//!
//! A document has two (its signature, and the one in its container); a block of SSH keys has one; a staple has none, but one
//! of P-256. What is above the floor times two, or one, is ours: encoding, hashing, base64.
#![allow(clippy::unwrap_used, reason = "a benchmark may stop at what it does not expect")]

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::rsa::KeySize;
use aws_lc_rs::signature::{RSA_PKCS1_SHA256, RsaKeyPair};
use divan::{Bencher, black_box};
use inborn_identity::UnixTime;
use inborn_pki::{DocumentSigner, InstanceConnectSigner};

const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);
/// As long as a document.
const DOCUMENT: [u8; 476] = [b'x'; 476];

fn main() {
    divan::Divan::from_args().sample_count(100).main();
}

#[divan::bench]
fn floor(bencher: Bencher<'_, '_>) {
    let key = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
    let (random, mut signature) = (SystemRandom::new(), vec![0; key.public_modulus_len()]);
    bencher.bench_local(|| key.sign(&RSA_PKCS1_SHA256, &random, black_box(&DOCUMENT), &mut signature).unwrap());
}

#[divan::bench]
fn document(bencher: Bencher<'_, '_>) {
    let signer = DocumentSigner::create(&"us-east-1".parse().unwrap(), NOW).unwrap().0;
    bencher.bench_local(|| signer.sign(black_box(&DOCUMENT), NOW).unwrap());
}

fn instance_connect() -> InstanceConnectSigner {
    InstanceConnectSigner::create(&"us-east-1".parse().unwrap(), "amazonaws.com", NOW).unwrap().0
}

#[divan::bench]
fn block_of_keys(bencher: Bencher<'_, '_>) {
    let (signer, block) = (instance_connect(), "x".repeat(400));
    bencher.bench_local(|| signer.sign(black_box(&block)).unwrap());
}

#[divan::bench]
fn staples(bencher: Bencher<'_, '_>) {
    let signer = instance_connect();
    bencher.bench_local(|| signer.staples(black_box(NOW)).unwrap());
}
