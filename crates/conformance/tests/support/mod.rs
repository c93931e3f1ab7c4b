//! One request, and three opinions about it: AWS's signer, our verifier, and scratchstack's.
#![allow(dead_code, unreachable_pub, reason = "shared by a test and a benchmark, each of which uses a part")]
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "a test may stop at what it does not expect")]

use std::future::{Ready, ready};
use std::time::{Duration, UNIX_EPOCH};

use aws_credential_types::Credentials as AwsCredentials;
use aws_sigv4::http_request::{
    PercentEncodingMode, SignableBody, SignableRequest, SigningSettings, UriPathNormalizationMode, sign as aws_sign,
};
use aws_sigv4::sign::v4;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use inborn_identity::UnixTime;
use inborn_sigv4::sign::{Credentials, Target, sign};
use inborn_sigv4::{Endpoint, Expires, Fault, Header, PathMode, Presented, Request, Scratch, SigningKey, sha256};
use scratchstack_aws_principal::User;
use scratchstack_aws_signature::{
    GetSigningKeyRequest, GetSigningKeyResponse, KSecretKey, KSigningKey, NO_ADDITIONAL_SIGNED_HEADERS,
    SignatureOptions, sigv4_validate_request,
};
use tower::{BoxError, Service};

pub const KEY_ID: &str = "ASIAIOSFODNN7EXAMPLE";
pub const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
pub const REGION: &str = "us-east-1";
pub const SERVICE: &str = "service";
pub const HOST: &str = "service.us-east-1.amazonaws.com";
pub const NOW: UnixTime = UnixTime::from_secs(1_795_411_740);

/// Both verifiers encode paths once.
pub const ENDPOINT: Endpoint<'static> = Endpoint {
    service: SERVICE,
    regions: &[REGION],
    path_mode: PathMode::NormalizedOnce,
    skew_seconds: 900,
    query_auth: false,
    expires: Expires::Ignored,
};

#[derive(Clone, Debug)]
pub struct Wire {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub token: Option<String>,
}

impl Wire {
    pub fn target(&self) -> String {
        if self.query.is_empty() { self.path.clone() } else { format!("{}?{}", self.path, self.query) }
    }

    pub fn view(&self) -> Vec<Header<'_>> {
        self.headers.iter().map(|(name, value)| Header { name: name.as_bytes(), value: value.as_bytes() }).collect()
    }

    pub fn request<'a>(&'a self, headers: &'a [Header<'a>]) -> Request<'a> {
        Request { method: &self.method, path: self.path.as_bytes(), query: self.query.as_bytes(), headers }
    }

    pub fn signed_by_us(mut self) -> Self {
        let view = self.view();
        let credentials = Credentials {
            access_key_id: KEY_ID,
            secret_access_key: SECRET.as_bytes(),
            session_token: self.token.as_deref(),
        };
        let target = Target { region: REGION, service: SERVICE, path_mode: ENDPOINT.path_mode };
        let added = sign(&self.request(&view), &self.body, &credentials, &target, NOW).unwrap();
        self.headers.extend(added.into_iter().map(|(name, value)| (name.to_owned(), value)));
        self
    }

    pub fn signed_by_aws(mut self) -> Self {
        let mut settings = SigningSettings::default();
        settings.percent_encoding_mode = PercentEncodingMode::Single;
        settings.uri_path_normalization_mode = UriPathNormalizationMode::Enabled;
        let identity = AwsCredentials::new(KEY_ID, SECRET, self.token.clone(), None, "test").into();
        let parameters = v4::SigningParams::builder()
            .identity(&identity)
            .region(REGION)
            .name(SERVICE)
            .time(UNIX_EPOCH + Duration::from_secs(NOW.as_secs()))
            .settings(settings)
            .build()
            .unwrap()
            .into();
        let url = format!("https://{HOST}{}", self.target());
        let headers = self.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        let signable =
            SignableRequest::new(self.method.as_str(), url, headers, SignableBody::Bytes(&self.body)).unwrap();
        let (added, _) = aws_sign(signable, &parameters).unwrap().into_parts();
        let added: Vec<_> = added.headers().map(|(name, value)| (name.to_owned(), value.to_owned())).collect();
        self.headers.extend(added);
        self
    }

    pub fn verdict_of_ours(&self, now: UnixTime) -> Result<(), Fault> {
        let view = self.view();
        let request = self.request(&view);
        let presented = Presented::accept(&request, &ENDPOINT, now)?;
        let scope = presented.scope();
        let key = SigningKey::derive(SECRET.as_bytes(), scope.date.as_bytes(), scope.region, scope.service);
        presented.verify(&request, &sha256(&self.body), ENDPOINT.path_mode, &key, &mut Scratch::new())
    }

    /// `None` for what scratchstack's HTTP library does not even take in.
    pub fn http(&self) -> Option<http::Request<Bytes>> {
        let mut builder = http::Request::builder().method(&*self.method).uri(self.target());
        for (name, value) in &self.headers {
            builder = builder.header(name, value);
        }
        builder.body(Bytes::from(self.body.clone())).ok()
    }
}

/// Scratchstack's answer. Its interface is asynchronous, but nothing in it waits.
pub fn verdict_of_scratchstack(request: http::Request<Bytes>, now: UnixTime) -> Result<(), String> {
    verdict_with(request, now, Keys::default())
}

/// The same, with keys that may be there already.
pub fn verdict_with(request: http::Request<Bytes>, now: UnixTime, mut keys: Keys) -> Result<(), String> {
    let now: DateTime<Utc> = DateTime::from_timestamp(now.as_secs().try_into().unwrap(), 0).unwrap();
    let verdict = sigv4_validate_request(
        request,
        REGION,
        SERVICE,
        &mut keys,
        now,
        &NO_ADDITIONAL_SIGNED_HEADERS,
        SignatureOptions::default(),
    );
    let mut verdict = std::pin::pin!(verdict);
    let mut context = std::task::Context::from_waker(std::task::Waker::noop());
    match verdict.as_mut().poll(&mut context) {
        std::task::Poll::Ready(verdict) => verdict.map(|_| ()).map_err(|error| error.to_string()),
        std::task::Poll::Pending => Err("pending".into()),
    }
}

/// What scratchstack asks for keys: derives one each time, as our `verdict_of_ours` does, or has it at hand.
#[derive(Clone, Default)]
pub struct Keys(pub Option<GetSigningKeyResponse>);

impl Keys {
    pub fn at_hand() -> Self {
        let date = DateTime::from_timestamp(NOW.as_secs().try_into().unwrap(), 0).unwrap().date_naive();
        let secret: KSecretKey = SECRET.parse().unwrap();
        Self(Some(response(secret.to_ksigning(date, REGION, SERVICE))))
    }
}

fn response(key: KSigningKey) -> GetSigningKeyResponse {
    let user = User::new("aws", "123456789012", "/", "user").expect("a user");
    GetSigningKeyResponse::builder().principal(user).signing_key(key).build().expect("an answer")
}

impl Service<GetSigningKeyRequest> for Keys {
    type Response = GetSigningKeyResponse;
    type Error = BoxError;
    type Future = Ready<Result<GetSigningKeyResponse, BoxError>>;

    fn poll_ready(&mut self, _: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), BoxError>> {
        std::task::Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: GetSigningKeyRequest) -> Self::Future {
        ready(Ok(self.0.take().unwrap_or_else(|| {
            let secret: KSecretKey = SECRET.parse().expect("a secret");
            response(secret.to_ksigning(request.request_date(), request.region(), request.service()))
        })))
    }
}
