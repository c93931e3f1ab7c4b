//! What a verification costs, beside the least that any verification costs in the same library: SHA-256 of the
//! canonical request and one HMAC with a key that is ready.
//!
//! `warm` has the signing key, `cold` derives it. Both begin with the request as parsed HTTP and the hash of its body.
//! Goals: warm at most 1.6 times the floor, without an allocation; cold at most three times.

#![allow(clippy::unwrap_used, missing_docs, reason = "a benchmark of what fails is none, and it has no users")]

use aws_lc_rs::{digest, hmac};
use divan::{AllocProfiler, Bencher, black_box};
use inborn_identity::UnixTime;
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Endpoint, Expires, Header, PathMode, Presented, Request, Scratch, SigningKey, sha256};

#[global_allocator]
static ALLOCATOR: AllocProfiler = AllocProfiler::system();

fn main() {
    divan::main();
}

const NOW: UnixTime = UnixTime::from_secs(1_795_411_740);
const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const BODY: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";
const BODY_SHA256: &str = "ab821ae955788b0e33ebd34c208442ccfc2d406e2edc5e7a39bd6458fbb4f843";
const STS: Endpoint<'static> = Endpoint {
    service: "sts",
    regions: &["us-east-1"],
    path_mode: PathMode::Normalized,
    skew_seconds: 900,
    query_auth: true,
    expires: Expires::Ignored,
};

/// Who signed, and how long the token is.
const CASES: [(&str, usize); 4] = [("boto3", 200), ("boto3", 1000), ("javascript", 200), ("javascript", 1000)];

struct Lab {
    headers: Vec<(&'static str, String)>,
    key: SigningKey,
}

fn lab((client, token_length): (&str, usize)) -> Lab {
    let signed: &[(&str, &str)] = match client {
        "boto3" => &[
            ("host", "sts.us-east-1.amazonaws.com"),
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ],
        _ => &[
            ("content-type", "application/x-www-form-urlencoded"),
            ("content-length", "43"),
            (
                "x-amz-user-agent",
                "aws-sdk-js/3.1169.0 ua/2.1 os/linux#6.8.0 lang/js md/nodejs#22.12.0 api/sts#3.1169.0",
            ),
            ("host", "sts.us-east-1.amazonaws.com"),
            ("amz-sdk-invocation-id", "4f1e8d3a-0b57-4a8e-9d4c-2f6a1c7e5b90"),
            ("amz-sdk-request", "attempt=1; max=3"),
            ("x-amz-content-sha256", BODY_SHA256),
        ],
    };
    let unsigned: &[(&str, &str)] = match client {
        "boto3" => &[
            ("accept-encoding", "identity"),
            ("user-agent", "Boto3/1.43.98 md/Botocore#1.43.98 ua/2.1 os/linux#6.8.0 lang/python#3.12.3"),
            ("content-length", "43"),
        ],
        _ => &[
            ("user-agent", "aws-sdk-js/3.1169.0 ua/2.1 os/linux#6.8.0 lang/js md/nodejs#22.12.0 api/sts#3.1169.0"),
            ("connection", "keep-alive"),
        ],
    };
    let own = |headers: &[(&'static str, &str)]| -> Vec<(&'static str, String)> {
        headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect()
    };
    let mut headers = own(signed);
    let token = "A".repeat(token_length);
    let credentials =
        Credentials { access_key_id: "ASIAIOSFODNN7EXAMPLE", secret_access_key: SECRET, session_token: Some(&token) };
    let target = Target { region: "us-east-1", service: "sts", path_mode: PathMode::Normalized };
    let view = view(&headers);
    let added = sign(&request(&view), BODY, &credentials, &target, NOW).unwrap();
    headers.extend(added);
    headers.extend(own(unsigned));
    Lab { headers, key: SigningKey::derive(SECRET, b"20261123", "us-east-1", "sts") }
}

fn view<'a>(headers: &'a [(&'static str, String)]) -> Vec<Header<'a>> {
    headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect()
}

fn request<'a>(headers: &'a [Header<'a>]) -> Request<'a> {
    Request { method: "POST", path: b"/", query: b"", headers }
}

#[divan::bench(args = CASES, sample_size = 500)]
fn floor(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let lab = lab(case);
    let headers = view(&lab.headers);
    let request = request(&headers);
    let mut scratch = Scratch::new();
    let presented = Presented::read(&request).unwrap();
    presented.verify(&request, &sha256(BODY), PathMode::Normalized, &lab.key, &mut scratch).unwrap();
    let key = hmac::Key::new(hmac::HMAC_SHA256, &[7; 32]);
    bencher.bench_local(|| {
        let hash = digest::digest(&digest::SHA256, black_box(scratch.canonical_request()));
        let tag = hmac::sign(&key, black_box(scratch.string_to_sign()));
        (hash, tag)
    });
}

#[divan::bench(args = CASES, sample_size = 500)]
fn warm(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let lab = lab(case);
    let headers = view(&lab.headers);
    let request = request(&headers);
    let body_sha256 = sha256(BODY);
    let mut scratch = Scratch::new();
    let mut verify = || {
        let request = black_box(&request);
        let presented = Presented::accept(request, &STS, NOW)?;
        presented.verify(request, &body_sha256, STS.path_mode, &lab.key, &mut scratch)
    };
    verify().unwrap();
    bencher.bench_local(verify);
}

#[divan::bench(args = CASES, sample_size = 500)]
fn cold(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let lab = lab(case);
    let headers = view(&lab.headers);
    let request = request(&headers);
    let body_sha256 = sha256(BODY);
    let mut scratch = Scratch::new();
    let mut verify = || {
        let request = black_box(&request);
        let presented = Presented::accept(request, &STS, NOW)?;
        let scope = presented.scope();
        let key = SigningKey::derive(black_box(SECRET), scope.date.as_bytes(), scope.region, scope.service);
        presented.verify(request, &body_sha256, STS.path_mode, &key, &mut scratch)
    };
    verify().unwrap();
    bencher.bench_local(verify);
}

/// The parts, for whoever wants to make them faster.
#[divan::bench(args = CASES, sample_size = 500)]
fn accept_only(bencher: Bencher<'_, '_>, case: (&str, usize)) {
    let lab = lab(case);
    let headers = view(&lab.headers);
    let request = request(&headers);
    bencher.bench_local(|| Presented::accept(black_box(&request), &STS, NOW).is_ok());
}

#[divan::bench(sample_size = 500)]
fn derive_only() -> SigningKey {
    SigningKey::derive(black_box(SECRET), b"20261123", "us-east-1", "sts")
}

#[divan::bench(sample_size = 500)]
fn body_only() -> [u8; 32] {
    sha256(black_box(BODY))
}
