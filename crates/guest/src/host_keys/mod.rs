//! `inborn host-keys push`: tells the region which SSH host keys this machine has, and proves it.
//!
//! What AWS's package did until 2022, without asking whether the machine is one of EC2's: no DMI, no hypervisor, no shell.

mod local;
mod pause;

use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE, USER_AGENT};
use ::http::{Request, Uri};
use bytes::Bytes;
use inborn_identity::{AccountId, InstanceId, UnixTime};
use inborn_sigv4::PathMode;
use inborn_sigv4::sign::{Credentials as Signer, SignError, Target};
use inborn_ssh::proof_message;
use serde::Deserialize;
use serde_json::{Value, json};
use std::path::PathBuf;

use crate::http::{Client, HttpError, Limits, Reply};
use crate::signed::sign_request;
use crate::whoami::{DOMAIN_PATH, REGION_PATH, usual_endpoint};
use crate::{Credentials, CredentialsError, MetadataClient, MetadataError, Settings, credentials};

pub use local::{LocalKeys, LocalKeysError};
pub use pause::{ATTEMPTS_MAX, pause};

const SERVICE: &str = "ec2-instance-connect";
const PATH: &str = "/PutEC2HostKeys/";
const TARGET: &str = "com.amazon.aws.sshaccessproxyservice.AWSEC2InstanceConnectService.PutEC2HostKeys";
const ZONE_PATH: &str = "/latest/meta-data/placement/availability-zone";
const DOCUMENT_PATH: &str = "/latest/dynamic/instance-identity/document";

/// What the region made of the keys.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Pushed {
    /// Its word for it, as in `first`, `same` or `pending-not-by-old-key`; none from a region that says nothing.
    pub outcome: Option<String>,
    /// The name of the set.
    pub digest: String,
    /// Keys that could not be proven, with the reason.
    pub unproven: Vec<String>,
    /// Keys that were not published, with the reason: the region would have refused them, and the others with them.
    pub left_out: Vec<String>,
    /// Host certificates, where they were asked for and given: each is of one of the keys.
    pub certificates: Vec<Certificate>,
}

/// A certificate of a host key of this machine.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Certificate {
    /// Its line, as in a file `…-cert.pub`.
    pub line: String,
    /// The file of the key that it is of, without `.pub`.
    pub key: PathBuf,
}

/// Whether certificates of the keys are asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Certificates {
    /// Yes: the region gives them if its operators want it, and if every key was proven.
    Wanted,
    /// No.
    Unwanted,
}

impl Pushed {
    /// Whether an operator has to decide before the keys are served.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.outcome.as_deref().is_some_and(|outcome| outcome.starts_with("pending"))
    }
}

/// Why the region does not know the keys.
#[derive(Debug, thiserror::Error)]
pub enum PushError {
    /// There is nothing to tell.
    #[error(transparent)]
    Local(#[from] LocalKeysError),
    /// No credentials to sign with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// This machine does not know who it is.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The identity document is none.
    #[error("the identity document of this machine names no account and instance")]
    Document,
    /// Instance Connect was not reached.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The machine's metadata name a region that cannot be part of a name.
    #[error("the metadata service names no usable endpoint ({endpoint}); set AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT")]
    Endpoint {
        /// What came of it.
        endpoint: String,
    },
    /// The request cannot be signed.
    #[error("the request cannot be signed: {0}; set AWS_ENDPOINT_URL_EC2_INSTANCE_CONNECT to a URL")]
    Sign(#[from] SignError),
    /// Instance Connect says no.
    #[error("Instance Connect refused: {code}: {message}")]
    Refused {
        /// The status code.
        status: u16,
        /// As in `AuthException`.
        code: String,
        /// Its sentence.
        message: String,
    },
}

impl PushError {
    /// Whether the same may succeed a little later: early in a machine's life its network and its region may not be there.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::Local(_) | Self::Document | Self::Endpoint { .. } | Self::Sign(_) => false,
            Self::Credentials(_) | Self::Metadata(_) | Self::Http(_) => true,
            Self::Refused { status, code, .. } => *status >= 500 || code.contains("Throttling"),
        }
    }
}

/// Who this machine is.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    account_id: String,
    instance_id: String,
}

/// Tells the region of `keys` once. `now` dates the signature and the proofs.
///
/// # Errors
/// See [`PushError`].
pub async fn push(
    settings: &Settings,
    keys: &LocalKeys,
    certificates: Certificates,
    now: UnixTime,
) -> Result<Pushed, PushError> {
    let mut metadata = MetadataClient::new(settings);
    let document: Document =
        serde_json::from_str(&metadata.require(DOCUMENT_PATH).await?).map_err(|_| PushError::Document)?;
    let account: AccountId = document.account_id.parse().map_err(|_| PushError::Document)?;
    let instance: InstanceId = document.instance_id.parse().map_err(|_| PushError::Document)?;
    let zone = metadata.require(ZONE_PATH).await?;
    let region = metadata.require(REGION_PATH).await?;
    let endpoint = match &settings.instance_connect_endpoint {
        Some(endpoint) => endpoint.clone(),
        None => usual_endpoint(SERVICE, &region, &metadata.require(DOMAIN_PATH).await?)
            .map_err(|endpoint| PushError::Endpoint { endpoint })?,
    };
    let (proofs, unproven) = keys.prove(&proof_message(account, instance, now, keys.set())).await;
    let mut body = json!({
        "AccountID": document.account_id,
        "AvailabilityZone": zone,
        "HostKeys": keys.set().lines(),
        "InstanceId": document.instance_id,
    });
    if let Some(members) = body.as_object_mut().filter(|_| !proofs.is_empty()) {
        members.insert("Proofs".to_owned(), json!(proofs));
        members.insert("ProofTime".to_owned(), json!(now.as_secs()));
    }
    if let Some(members) = body.as_object_mut().filter(|_| certificates == Certificates::Wanted) {
        members.insert("Certificates".to_owned(), json!("wanted"));
    }
    let request = signed(&endpoint, &region, &credentials(&mut metadata).await?, &body, now)?;
    let reply = Client::new(Limits::REGION, settings.ca_bundle.clone()).call(request).await?;
    let Understood { outcome, certificates } = understand(&reply)?;
    // What comes from the region goes into the files of sshd: nothing but certificates of these very keys.
    let certificates = certificates.into_iter().filter_map(|line| keys.certified(line)).collect();
    let left_out = keys.left_out().to_vec();
    Ok(Pushed { outcome, digest: keys.set().digest(), unproven, left_out, certificates })
}

fn signed(
    endpoint: &Uri,
    region: &str,
    by: &Credentials,
    body: &Value,
    now: UnixTime,
) -> Result<Request<Bytes>, PushError> {
    let url = endpoint.to_string();
    let mut request = Request::post(format!("{}{PATH}", url.trim_end_matches('/')))
        .header(CONTENT_TYPE, "application/json")
        // Not a compression: the name of the encoding of the body, as the service has it.
        .header(CONTENT_ENCODING, "amz-1.0")
        .header("x-amz-target", TARGET)
        .header(USER_AGENT, concat!("inborn/", env!("CARGO_PKG_VERSION")))
        .body(Bytes::from(body.to_string()))
        .map_err(|_| PushError::Endpoint { endpoint: url })?;
    let signer = Signer {
        access_key_id: &by.access_key_id,
        secret_access_key: by.secret_access_key.expose().as_bytes(),
        session_token: Some(by.session_token.expose()),
    };
    let target = Target { region, service: SERVICE, path_mode: PathMode::Normalized };
    sign_request(&mut request, &signer, &target, now)?;
    Ok(request)
}

/// Characters of a refusal that are repeated.
const REFUSAL_LENGTH_MAX: usize = 300;

struct Understood {
    outcome: Option<String>,
    certificates: Vec<String>,
}

fn understand(reply: &Reply) -> Result<Understood, PushError> {
    let body: Value = serde_json::from_slice(&reply.body).unwrap_or_default();
    let output = body.get("Output").unwrap_or(&body);
    let text = |names: &[&str]| names.iter().find_map(|name| output.get(name)?.as_str()).map(str::to_owned);
    if reply.status == 200 {
        let lines = output.get("Certificates").and_then(Value::as_array).into_iter().flatten();
        let certificates = lines.filter_map(|line| line.as_str().map(str::to_owned)).collect();
        return Ok(Understood { outcome: text(&["Outcome"]), certificates });
    }
    let code = text(&["__type"]).unwrap_or_else(|| format!("status {}", reply.status));
    let code = code.rsplit('#').next().unwrap_or_default().to_owned();
    let message = text(&["message", "Message"]).unwrap_or_default();
    let message = message.chars().filter(|c| !c.is_control()).take(REFUSAL_LENGTH_MAX).collect();
    Err(PushError::Refused { status: reply.status, code, message })
}

#[cfg(test)]
mod tests;
