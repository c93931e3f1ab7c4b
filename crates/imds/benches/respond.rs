//! What an answer costs, beside the floor of any answer to a request with a token: opening the token.
//!
//! Goal: the credentials document with a token in at most 2 µs, without an allocation.

#![allow(clippy::unwrap_used)]

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use bytes::Bytes;
use divan::{AllocProfiler, Bencher, black_box};
use inborn_identity::{HttpTokens, InstanceId, MetadataOptions, Partition, UnixTime};
use inborn_imds::{
    Facts, PreparedCredential, PreparedCredentials, Request, TokenKey, TokenTtl, View, identity_document, respond,
};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const NOW: UnixTime = UnixTime::from_secs(1_795_000_000);
const CREDENTIALS: &str = "/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance";
const TOKEN: &str = "x-aws-ec2-metadata-token";

struct Lab {
    instance: InstanceId,
    facts: Facts,
    document: Bytes,
    credentials: PreparedCredentials,
    key: TokenKey,
    token: String,
}

fn lab() -> Lab {
    let instance = "i-0123456789abcdef0".parse().unwrap();
    let facts = Facts {
        zone_id: "use1-az1".into(),
        domain: "amazonaws.com".into(),
        image_id: "ami-0123456789abcdef0".into(),
        instance_type: "t3.micro".into(),
        architecture: "x86_64".into(),
        reservation_id: "r-0123456789abcdef0".into(),
        local_hostname: "ip-10-0-0-5.ec2.internal".into(),
        private_ip: Some([10, 0, 0, 5].into()),
        security_groups: vec!["default".into()],
        ..Facts::bare(
            "123456789012".parse().unwrap(),
            Partition::Aws,
            "us-east-1".parse().unwrap(),
            "us-east-1a".parse().unwrap(),
            NOW,
        )
    };
    let prepared =
        || PreparedCredential::render("ASIA52GPOBQCD6DF76FQ", &"s".repeat(40), &"t".repeat(200), NOW, NOW.plus(22_000));
    let key = TokenKey::from_bytes(&[7; TokenKey::BYTES]).unwrap();
    let token = key.mint(instance, TokenTtl::from_secs(21_600).unwrap(), NOW).unwrap();
    Lab {
        instance,
        document: identity_document(instance, &facts),
        credentials: PreparedCredentials::new(facts.account, prepared(), prepared()),
        facts,
        token: String::from_utf8(token.as_bytes().to_vec()).unwrap(),
        key,
    }
}

/// Times one request; the headers are there already, as they are for a listener.
fn time(
    bencher: Bencher<'_, '_>,
    method: &str,
    path: &str,
    header: impl Fn(&Lab) -> (&'static str, String),
    status: u16,
) {
    let lab = lab();
    let (name, value) = header(&lab);
    let headers = [("host", "169.254.169.254"), ("user-agent", "curl"), (name, value.as_str())];
    let view = View {
        instance: lab.instance,
        options: MetadataOptions { http_tokens: HttpTokens::Optional, ..MetadataOptions::default() },
        tags: &[],
        facts: &lab.facts,
        document: &lab.document,
        signatures: None,
        credentials: Some(&lab.credentials),
        is_withheld: false,
        managed_keys: None,
    };
    let request = Request { method, path: path.as_bytes(), headers: &headers };
    assert_eq!(respond(&request, &view, &lab.key, NOW).status, status);
    bencher.bench_local(|| respond(black_box(&request), black_box(&view), &lab.key, black_box(NOW)));
}

fn with_token(lab: &Lab) -> (&'static str, String) {
    (TOKEN, lab.token.clone())
}

fn without_token(_: &Lab) -> (&'static str, String) {
    ("accept", "*/*".into())
}

#[divan::bench]
fn floor_open_token(bencher: Bencher<'_, '_>) {
    let key = RandomizedNonceKey::new(&AES_256_GCM_SIV, &[7; 32]).unwrap();
    let mut sealed = [0; 24];
    let (plain, tag_at) = sealed.split_at_mut(8);
    let (nonce, tag) = key.seal_in_place_separate_tag(Aad::from([1; 13]), plain).unwrap();
    tag_at.copy_from_slice(tag.as_ref());
    let nonce = *nonce.as_ref();
    bencher.bench_local(|| {
        let mut sealed = black_box(sealed);
        let opened = key.open_in_place(Nonce::assume_unique_for_key(nonce), Aad::from([1; 13]), &mut sealed);
        opened.is_ok_and(|plain| plain.len() == 8)
    });
}

#[divan::bench]
fn credentials_v2(bencher: Bencher<'_, '_>) {
    time(bencher, "GET", CREDENTIALS, with_token, 200);
}

#[divan::bench]
fn credentials_v1(bencher: Bencher<'_, '_>) {
    time(bencher, "GET", CREDENTIALS, without_token, 200);
}

#[divan::bench]
fn instance_id_v2(bencher: Bencher<'_, '_>) {
    time(bencher, "GET", "/latest/meta-data/instance-id", with_token, 200);
}

#[divan::bench]
fn put_token(bencher: Bencher<'_, '_>) {
    let ttl = |_: &Lab| ("x-aws-ec2-metadata-token-ttl-seconds", "21600".to_owned());
    time(bencher, "PUT", "/latest/api/token", ttl, 200);
}

#[divan::bench]
fn not_found_v2(bencher: Bencher<'_, '_>) {
    time(bencher, "GET", "/latest/meta-data/iam/security-credentials/", with_token, 404);
}

#[divan::bench]
fn listing_v2(bencher: Bencher<'_, '_>) {
    time(bencher, "GET", "/latest/meta-data/", with_token, 200);
}
