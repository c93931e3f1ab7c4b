//! Requests as clients send them, with signatures that were made elsewhere: by an independent script from the published
//! description of SigV4, and, where it says so, by botocore 1.43 itself.
#![allow(dead_code, unreachable_pub, missing_docs, reason = "shared by tests, each of which uses a part")]
#![allow(clippy::unwrap_used, reason = "test code")]

use inborn_identity::UnixTime;
use inborn_sigv4::{Endpoint, Expires, Fault, Header, PathMode, Presented, Request, Scratch, SigningKey, sha256};

pub const KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
pub const SECRET: &[u8] = b"wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub const TOKEN: &str = "AQabcdefghijklmnopqrstuvwxyz0123456789-_abcdefghijklmnopqrstuvwxyz0123456789-_\
    abcdefghijklmnopqrstuvwxyz0123456789-_abcdefghijklmnopqrstuvwxyz0123456789-_abcdefghijklmnopqrstuvwxyz0123456789-_";
pub const DATE: &str = "20261123T052900Z";
/// [`DATE`] in seconds.
pub const NOW: UnixTime = UnixTime::from_secs(1_795_411_740);
pub const BODY: &[u8] = b"Action=GetCallerIdentity&Version=2011-06-15";
pub const BODY_SHA256: &str = "ab821ae955788b0e33ebd34c208442ccfc2d406e2edc5e7a39bd6458fbb4f843";
pub const STS: Endpoint<'static> = Endpoint {
    service: "sts",
    regions: &["us-east-1"],
    path_mode: PathMode::Normalized,
    skew_seconds: 900,
    query_auth: true,
    expires: Expires::Ignored,
};

/// A request that owns its parts, so that a test can change them.
#[derive(Clone, Debug)]
pub struct Wire {
    pub method: String,
    pub path: Vec<u8>,
    pub query: Vec<u8>,
    pub headers: Vec<(String, Vec<u8>)>,
    pub body: Vec<u8>,
}

impl Wire {
    /// A POST of [`BODY`] to `/` with these headers and no signature.
    pub fn new(headers: &[(&str, &str)]) -> Self {
        let headers = headers.iter().map(|(name, value)| ((*name).to_owned(), value.as_bytes().to_vec())).collect();
        Self { method: "POST".into(), path: b"/".to_vec(), query: Vec::new(), headers, body: BODY.to_vec() }
    }

    pub fn authorized(self, signed_headers: &str, signature: &str) -> Self {
        self.authorized_for("20261123/us-east-1/sts/aws4_request", signed_headers, signature)
    }

    pub fn authorized_for(self, scope: &str, signed_headers: &str, signature: &str) -> Self {
        let value = format!(
            "AWS4-HMAC-SHA256 Credential={KEY_ID}/{scope}, SignedHeaders={signed_headers}, Signature={signature}"
        );
        self.with("authorization", &value)
    }

    /// One more header field.
    pub fn with(mut self, name: &str, value: &str) -> Self {
        self.headers.push((name.into(), value.as_bytes().to_vec()));
        self
    }

    /// The header fields of this name gone.
    pub fn without(mut self, name: &str) -> Self {
        self.headers.retain(|(own, _)| own != name);
        self
    }

    /// In the value of a header, one text for another.
    pub fn replacing(mut self, name: &str, from: &str, to: &str) -> Self {
        let (_, value) = self.headers.iter_mut().find(|(own, _)| own == name).unwrap();
        let text = String::from_utf8(value.clone()).unwrap();
        assert!(text.contains(from), "{from} is not in {text}");
        *value = text.replace(from, to).into_bytes();
        self
    }

    pub fn headers(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value }).collect()
    }

    pub fn request<'a>(&'a self, headers: &'a [Header<'a>]) -> Request<'a> {
        Request { method: &self.method, path: &self.path, query: &self.query, headers }
    }

    /// All steps for an endpoint at a moment, with [`SECRET`].
    pub fn verify_at(&self, endpoint: &Endpoint<'_>, now: UnixTime) -> Result<(), Fault> {
        let headers = self.headers();
        let request = self.request(&headers);
        let presented = Presented::accept(&request, endpoint, now)?;
        let scope = presented.scope();
        let key = SigningKey::derive(SECRET, scope.date.as_bytes(), scope.region, scope.service);
        presented.verify(&request, &sha256(&self.body), endpoint.path_mode, &key, &mut Scratch::new())
    }

    /// All steps for [`STS`] at [`NOW`].
    pub fn verify(&self) -> Result<(), Fault> {
        self.verify_at(&STS, NOW)
    }

    /// Whether the signature covers the header.
    pub fn covers(&self, header: &str) -> bool {
        let headers = self.headers();
        Presented::read(&self.request(&headers)).unwrap().covers(header.as_bytes())
    }
}

/// boto3. The signature is botocore's own.
pub fn botocore() -> Wire {
    Wire::new(&[
        ("host", "sts.us-east-1.amazonaws.com"),
        ("accept-encoding", "identity"),
        ("content-type", "application/x-www-form-urlencoded; charset=utf-8"),
        ("user-agent", "Boto3/1.43.98 md/Botocore#1.43.98"),
        ("x-amz-date", DATE),
        ("x-amz-security-token", TOKEN),
        ("content-length", "43"),
    ])
    .authorized(
        "content-type;host;x-amz-date;x-amz-security-token",
        "b42ac246bb7766288bc2768dbe4da2d0c6b574cdd7a7209285662a1051d24bf7",
    )
}

/// The AWS SDK for JavaScript, version 3.
pub fn javascript_v3() -> Wire {
    Wire::new(&[
        ("content-type", "application/x-www-form-urlencoded"),
        ("content-length", "43"),
        ("x-amz-user-agent", "aws-sdk-js/3.1169.0"),
        ("user-agent", "aws-sdk-js/3.1169.0 ua/2.1 os/linux lang/js md/nodejs"),
        ("host", "sts.us-east-1.amazonaws.com"),
        ("amz-sdk-invocation-id", "4f1e8d3a-0b57-4a8e-9d4c-2f6a1c7e5b90"),
        ("amz-sdk-request", "attempt=1; max=3"),
        ("x-amz-date", DATE),
        ("x-amz-security-token", TOKEN),
        ("x-amz-content-sha256", BODY_SHA256),
        ("connection", "keep-alive"),
    ])
    .authorized(
        "amz-sdk-invocation-id;amz-sdk-request;content-length;content-type;host;x-amz-content-sha256;x-amz-date;\
         x-amz-security-token;x-amz-user-agent",
        "8d9f1cd5cad2a38796d4fae8f1aa928a91aeb00e4942034ea93788162a34fb6b",
    )
}

pub const EIC: Endpoint<'static> = Endpoint { service: "ec2-instance-connect", ..STS };

/// The host-key script of older images: the least that anybody signs, with the operation in a header it does not sign.
pub fn harvester() -> Wire {
    let mut wire = Wire::new(&[
        ("host", "ec2-instance-connect.us-east-1.amazonaws.com"),
        ("content-encoding", "amz-1.0"),
        ("content-type", "application/json"),
        ("x-amz-content-sha256", "5b81d65fbb0e31fe48b850d676c0bde490d6eb68276cbab9a8c7c4d48a22cfe6"),
        ("x-amz-date", DATE),
        ("x-amz-security-token", TOKEN),
        ("x-amz-target", "com.amazon.aws.sshaccessproxyservice.AWSEC2InstanceConnectService.PutEC2HostKeys"),
    ]);
    wire.path = b"/PutEC2HostKeys/".to_vec();
    wire.body = br#"{"AccountID":"123456789012"}"#.to_vec();
    wire.authorized_for(
        "20261123/us-east-1/ec2-instance-connect/aws4_request",
        "host;x-amz-date;x-amz-security-token",
        "40e40ed69fd7ea869c058fe69614a6919b5ea815460e0bc9911c2eebf1cedfe5",
    )
}

/// A request signed in its query, without a body, with the parameters in botocore's order.
fn presigned(method: &str, expires: u64, signed_headers: &str, signature: &str) -> Wire {
    let query = format!(
        "Action=GetCallerIdentity&Version=2011-06-15&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential={KEY_ID}\
         %2F20261123%2Fus-east-1%2Fsts%2Faws4_request&X-Amz-Date={DATE}&X-Amz-Expires={expires}\
         &X-Amz-SignedHeaders={signed_headers}&X-Amz-Security-Token={TOKEN}&X-Amz-Signature={signature}"
    );
    let wire = Wire::new(&[("host", "sts.us-east-1.amazonaws.com"), ("accept", "application/json")]);
    Wire { method: method.into(), query: query.into_bytes(), body: Vec::new(), ..wire }
}

/// The token of an EKS client, unwrapped and sent on by the cluster. Good for 60 seconds, it says.
pub fn eks() -> Wire {
    presigned("GET", 60, "host%3Bx-k8s-aws-id", "64e231d5aae4a16e65a3db5c995b99cdf80de0ca15d48facbd9c0a254c0fb9e5")
        .with("x-k8s-aws-id", "cluster")
}

/// What botocore's `generate_presigned_url` makes of GetCallerIdentity: a POST.
pub fn presigned_post() -> Wire {
    presigned("POST", 3600, "host", "1ce970a4bebf281b1d3ae7722b09341021077d4e74a38e303a7f8ad8633f71ca")
}
