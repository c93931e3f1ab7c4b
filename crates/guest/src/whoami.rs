//! `inborn whoami`: who STS says this machine is.

use ::http::header::{ACCEPT, CONTENT_TYPE, USER_AGENT};
use ::http::{Request, Uri};
use bytes::Bytes;
use inborn_identity::UnixTime;
use inborn_sigv4::PathMode;
use inborn_sigv4::sign::{Credentials as Signer, SignError, Target};
use serde::Deserialize;

use crate::http::{Client, HttpError, Limits, Reply};
use crate::signed::sign_request;
use crate::{Credentials, CredentialsError, MetadataClient, MetadataError, Settings, credentials};

pub(crate) const REGION_PATH: &str = "/latest/meta-data/placement/region";
pub(crate) const DOMAIN_PATH: &str = "/latest/meta-data/services/domain";
const BODY: &str = "Action=GetCallerIdentity&Version=2011-06-15";

/// Who signed the request.
#[derive(Clone, PartialEq, Eq, Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Identity {
    /// Twelve digits.
    pub account: String,
    /// `arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0`.
    pub arn: String,
    /// `123456789012:aws:ec2-instance:i-0123456789abcdef0`.
    pub user_id: String,
}

/// Why it is not known who this is.
#[derive(Debug, thiserror::Error)]
pub enum WhoamiError {
    /// No credentials to ask with.
    #[error(transparent)]
    Credentials(#[from] CredentialsError),
    /// No region to ask.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// STS was not reached.
    #[error(transparent)]
    Http(#[from] HttpError),
    /// The machine's metadata name a region that cannot be part of a name.
    #[error("the metadata service names no usable endpoint ({endpoint}); set AWS_ENDPOINT_URL_STS")]
    Endpoint {
        /// What came of it.
        endpoint: String,
    },
    /// The request cannot be signed.
    #[error(
        "the request cannot be signed: {0}; set AWS_ENDPOINT_URL_STS to a URL like https://sts.us-east-1.amazonaws.com"
    )]
    Sign(#[from] SignError),
    /// STS says no.
    #[error("STS refused: {code}: {message}")]
    Refused {
        /// As in `InvalidClientTokenId`.
        code: String,
        /// Its sentence.
        message: String,
    },
    /// STS answered something else.
    #[error("STS answered with status {status} and nothing that is understood; is {url} an STS endpoint?")]
    NotUnderstood {
        /// The status code.
        status: u16,
        /// Who was asked.
        url: String,
    },
}

/// Fetches the machine's credentials and asks STS who they belong to. `now` dates the signature.
///
/// # Errors
/// See [`WhoamiError`].
pub async fn whoami(settings: &Settings, now: UnixTime) -> Result<Identity, WhoamiError> {
    let mut metadata = MetadataClient::new(settings);
    let credentials = credentials(&mut metadata).await?;
    let region = metadata.require(REGION_PATH).await?;
    let endpoint = match &settings.sts_endpoint {
        Some(endpoint) => endpoint.clone(),
        None => usual_endpoint("sts", &region, &metadata.require(DOMAIN_PATH).await?)
            .map_err(|endpoint| WhoamiError::Endpoint { endpoint })?,
    };
    let request = signed(&endpoint, &region, &credentials, now)?;
    let reply = Client::new(Limits::REGION, settings.ca_bundle.clone()).call(request).await?;
    understand(&reply, &endpoint)
}

/// `https://SERVICE.REGION.DOMAIN`; what came of it, fit to be shown, if that is no name.
pub(crate) fn usual_endpoint(service: &str, region: &str, domain: &str) -> Result<Uri, String> {
    let endpoint = format!("https://{service}.{region}.{domain}");
    let is_name = |text: &str| text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-.".contains(&byte));
    match endpoint.parse() {
        Ok(uri) if is_name(region) && is_name(domain) => Ok(uri),
        _ => Err(endpoint.escape_default().to_string()),
    }
}

fn signed(endpoint: &Uri, region: &str, by: &Credentials, now: UnixTime) -> Result<Request<Bytes>, WhoamiError> {
    let url = endpoint.to_string();
    let mut request = Request::post(format!("{}/", url.trim_end_matches('/')))
        .header(CONTENT_TYPE, "application/x-www-form-urlencoded; charset=utf-8")
        .header(ACCEPT, "application/json")
        .header(USER_AGENT, concat!("inborn/", env!("CARGO_PKG_VERSION")))
        .body(Bytes::from_static(BODY.as_bytes()))
        .map_err(|_| WhoamiError::Endpoint { endpoint: url })?;
    let signer = Signer {
        access_key_id: &by.access_key_id,
        secret_access_key: by.secret_access_key.expose().as_bytes(),
        session_token: Some(by.session_token.expose()),
    };
    let target = Target { region, service: "sts", path_mode: PathMode::Normalized };
    sign_request(&mut request, &signer, &target, now)?;
    Ok(request)
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Success {
    get_caller_identity_response: Response,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Response {
    get_caller_identity_result: Identity,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Failure {
    error: Problem,
}

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Problem {
    code: String,
    #[serde(default)]
    message: String,
}

fn understand(reply: &Reply, endpoint: &Uri) -> Result<Identity, WhoamiError> {
    if reply.status == 200
        && let Ok(success) = serde_json::from_slice::<Success>(&reply.body)
    {
        return Ok(success.get_caller_identity_response.get_caller_identity_result);
    }
    match serde_json::from_slice::<Failure>(&reply.body) {
        Ok(Failure { error: Problem { code, message } }) => Err(WhoamiError::Refused { code, message }),
        Err(_) => Err(WhoamiError::NotUnderstood { status: reply.status, url: endpoint.to_string() }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::metadata::tests::{Script, answer, settings};

    const CREDENTIALS: &str = r#"{ "Code" : "Success", "AccessKeyId" : "ASIAQNZGKIQY56JQ7WML",
        "SecretAccessKey" : "SECRET", "Token" : "TOKEN", "Expiration" : "2026-11-23T11:49:00Z" }"#;
    const IDENTITY: &str = r#"{"GetCallerIdentityResponse":{"GetCallerIdentityResult":{"Account":"123456789012",
        "Arn":"arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0",
        "UserId":"123456789012:aws:ec2-instance:i-0123456789abcdef0"},"ResponseMetadata":{"RequestId":"x"}}}"#;

    /// Asks a metadata service and an STS that are both scripts; returns the STS's request too.
    async fn ask(sts_answer: String) -> (Result<Identity, WhoamiError>, Vec<String>) {
        let metadata =
            Script::start(vec![answer(404, "", ""), answer(200, "", CREDENTIALS), answer(200, "", "eu-west-1")]).await;
        let sts = Script::start(vec![sts_answer]).await;
        let settings = Settings { sts_endpoint: Some(sts.url().parse().unwrap()), ..settings(&metadata.url()) };
        (whoami(&settings, UnixTime::from_secs(1_800_000_000)).await, sts.seen())
    }

    #[tokio::test]
    async fn the_machine_is_told_who_it_is() {
        let (identity, seen) = ask(answer(200, "", IDENTITY)).await;
        let identity = identity.unwrap();
        assert_eq!(identity.account, "123456789012");
        assert_eq!(identity.arn, "arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0");
        assert_eq!(identity.user_id, "123456789012:aws:ec2-instance:i-0123456789abcdef0");
        let request = &seen[0];
        assert!(request.starts_with("POST / HTTP/1.1\r\n") && request.ends_with(BODY), "{request}");
        assert!(request.contains("accept: application/json\r\n"));
        assert!(request.contains("Credential=ASIAQNZGKIQY56JQ7WML/20270115/eu-west-1/sts/aws4_request"), "{request}");
        assert!(request.contains("SignedHeaders=accept;content-type;host;x-amz-date;x-amz-security-token"));
        assert!(!request.contains("SECRET"));
    }

    #[tokio::test]
    async fn a_refusal_is_told_in_the_words_of_sts() {
        let body =
            r#"{"Error":{"Code":"InvalidClientTokenId","Message":"The security token is invalid","Type":"Sender"}}"#;
        let (identity, _) = ask(answer(403, "", body)).await;
        assert_eq!(
            identity.unwrap_err().to_string(),
            "STS refused: InvalidClientTokenId: The security token is invalid"
        );
        for (status, body) in [(200, "{}"), (502, "<html>"), (200, "")] {
            let (identity, _) = ask(answer(status, "", body)).await;
            let error = identity.unwrap_err();
            assert!(matches!(error, WhoamiError::NotUnderstood { status: s, .. } if s == status), "{error}");
        }
    }

    #[test]
    fn the_usual_endpoint() {
        assert_eq!(
            usual_endpoint("sts", "us-gov-west-1", "amazonaws.com").unwrap(),
            "https://sts.us-gov-west-1.amazonaws.com"
        );
        for (region, domain) in [("us east", "amazonaws.com"), ("x", "evil.example/y"), ("", "a@b"), ("x", "y:1")] {
            assert!(usual_endpoint("sts", region, domain).is_err(), "{region} {domain}");
        }
    }
}
