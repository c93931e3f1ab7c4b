//! Signs requests in botocore's form, written apart from `inborn-sigv4` so that a mistake there does not cancel out.
#![allow(dead_code, unreachable_pub, reason = "shared by tests and benchmarks, each of which uses a part")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a test may stop at what it does not expect")]

use std::fmt::Write as _;
use std::sync::Arc;

use aws_lc_rs::{digest, hmac};
use inborn_credential::{Claims, Credential, Delivery, Epoch, EpochId, EpochRoot, Keyring, Kind};
use inborn_identity::{AccountId, Partition, Region, UnixTime};
use inborn_sigv4::{Endpoint, Expires, Header, PathMode, Request};

pub const NOW: UnixTime = UnixTime::from_secs(1_790_001_000);
pub const REGION: &str = "us-east-1";
pub const BODY: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";
pub const STS: Endpoint<'static> = Endpoint {
    service: "sts",
    regions: &[REGION],
    path_mode: PathMode::Normalized,
    skew_seconds: 900,
    query_auth: true,
    expires: Expires::Ignored,
};

pub fn claims() -> Claims {
    Claims {
        kind: Kind::Identity,
        account: AccountId::new(123_456_789_012).unwrap(),
        instance: "i-0123456789abcdef0".parse().unwrap(),
        region: region(),
        issued_at: NOW.minus(1000),
        expires_at: NOW.plus(21_000),
        delivery: Delivery::V2,
        boot_generation: 3,
        private_address: Some([10, 0, 0, 7].into()),
    }
}

pub fn region() -> Region {
    REGION.parse().unwrap()
}

/// A keyring of epochs whose roots follow from their numbers.
pub fn keyring(ids: &[u32], sealing: u32) -> Arc<Keyring> {
    let epoch = |id: &u32| {
        let root = EpochRoot::from_bytes([u8::try_from(*id).unwrap(); 32]);
        Epoch::new(EpochId(*id), &root, Partition::Aws).unwrap()
    };
    Arc::new(Keyring::new(ids.iter().map(epoch).collect(), EpochId(sealing)).unwrap())
}

/// What a request is signed with.
#[derive(Clone)]
pub struct Signer {
    pub access_key_id: String,
    pub secret: String,
    pub token: Option<String>,
    pub region: String,
    pub service: String,
    pub at: UnixTime,
}

impl Signer {
    pub fn new(credential: &Credential) -> Self {
        Self {
            access_key_id: credential.access_key_id.to_string(),
            secret: credential.secret_access_key.expose().into(),
            token: Some(credential.session_token.expose().into()),
            region: REGION.into(),
            service: "sts".into(),
            at: NOW,
        }
    }

    /// The signing key, by the four HMACs.
    pub fn key(&self) -> hmac::Tag {
        let date = &self.at.basic()[..8];
        let first = mac(format!("AWS4{}", self.secret).as_bytes(), date.as_bytes());
        [self.region.as_str(), &self.service, "aws4_request"]
            .iter()
            .fold(first, |key, part| mac(key.as_ref(), part.as_bytes()))
    }

    pub fn sign(&self) -> Signed {
        let timestamp = self.at.basic();
        let mut headers = vec![
            ("content-type", "application/x-www-form-urlencoded; charset=utf-8".to_owned()),
            ("host", "sts.us-east-1.amazonaws.com".to_owned()),
            ("x-amz-date", timestamp.clone()),
        ];
        headers.extend(self.token.clone().map(|token| ("x-amz-security-token", token)));
        let names = headers.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(";");
        let lines = headers.iter().map(|(name, value)| format!("{name}:{value}\n")).collect::<String>();
        let canonical_request = format!("POST\n/\n\n{lines}\n{names}\n{}", hex(&sha256(BODY)));
        let scope = format!("{}/{}/{}/aws4_request", &timestamp[..8], self.region, self.service);
        let string_to_sign =
            format!("AWS4-HMAC-SHA256\n{timestamp}\n{scope}\n{}", hex(&sha256(canonical_request.as_bytes())));
        let signature = hex(mac(self.key().as_ref(), string_to_sign.as_bytes()).as_ref());
        let id = &self.access_key_id;
        let authorization =
            format!("AWS4-HMAC-SHA256 Credential={id}/{scope}, SignedHeaders={names}, Signature={signature}");
        headers.push(("authorization", authorization));
        headers.push(("user-agent", "unsigned".into()));
        Signed { headers, canonical_request, string_to_sign }
    }
}

pub struct Signed {
    pub headers: Vec<(&'static str, String)>,
    pub canonical_request: String,
    pub string_to_sign: String,
}

impl Signed {
    pub fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect()
    }
}

pub fn request<'a>(headers: &'a [Header<'a>]) -> Request<'a> {
    Request { method: "POST", path: b"/", query: b"", headers }
}

pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    digest::digest(&digest::SHA256, bytes).as_ref().try_into().unwrap()
}

fn mac(key: &[u8], data: &[u8]) -> hmac::Tag {
    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), data)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}
