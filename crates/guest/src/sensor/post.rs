//! Sending to the region: `POST /v1/logs`, signed as this machine, and what its answers mean.

use std::time::Duration;

use ::http::header::{CONTENT_ENCODING, CONTENT_TYPE, RETRY_AFTER, USER_AGENT};
use ::http::{Request, Uri};
use bytes::Bytes;
use inborn_identity::{InstanceId, UnixTime};
use inborn_sigv4::PathMode;
use inborn_sigv4::sign::{Credentials as Signer, Target};
use serde::Deserialize;
use serde_json::Value;
use tokio::time::Instant;

use super::batch::{Batch, Resource};
use super::source::Now;
use crate::http::{Client, Limits, Reply};
use crate::signed::sign_request;
use crate::whoami::{DOMAIN_PATH, REGION_PATH, usual_endpoint};
use crate::{Credentials, MetadataClient, MetadataError, Settings, credentials};

/// Whose name the signature is for, and the host of the region that takes telemetry.
const SIGNING_SERVICE: &str = "guardduty";
const HOST: &str = "guardduty-data";
const PATH: &str = "/v1/logs";
const INSTANCE_PATH: &str = "/latest/meta-data/instance-id";
/// How long credentials are used before they are asked for anew. They are good for hours, and cut off at any moment.
const CREDENTIALS_KEPT: Duration = Duration::from_secs(300);
/// The longest pause that an answer can ask for.
pub(crate) const RETRY_AFTER_MAX: Duration = Duration::from_secs(300);
/// Bytes of an answer: it holds a sentence.
const REPLY_BYTES_MAX: usize = 64 * 1024;
/// Characters of an answer's sentence that are repeated.
const SENTENCE_LENGTH_MAX: usize = 300;

/// What became of a batch.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Outcome {
    /// It need not be sent again: so many events are stored, so many the region will never take.
    Done { delivered: u64, refused: u64, why: Option<String> },
    /// It has to be sent again.
    Later { after: Option<Duration>, why: String, is_fault: bool },
    /// The computer around has given this place to another machine, which did not see what is in the batch.
    OtherMachine,
}

/// Why the region cannot be found.
#[derive(Debug, thiserror::Error)]
pub enum PostError {
    /// The metadata service did not help.
    #[error(transparent)]
    Metadata(#[from] MetadataError),
    /// The machine's metadata name a region that cannot be part of a name, or no instance.
    #[error("the metadata service names no usable endpoint ({endpoint}); set AWS_ENDPOINT_URL_GUARDDUTY_DATA")]
    Endpoint {
        /// What came of it.
        endpoint: String,
    },
}

/// The way to the region.
pub(crate) struct Post {
    metadata: MetadataClient,
    client: Client,
    endpoint: Uri,
    resource: Resource,
    credentials: Option<(Credentials, Instant)>,
    now: Now,
}

impl Post {
    /// Asks the metadata service who this machine is and where its region.
    ///
    /// # Errors
    /// See [`PostError`].
    pub(crate) async fn find(settings: &Settings, hostname: Option<String>, now: Now) -> Result<Self, PostError> {
        let mut metadata = MetadataClient::new(settings);
        let instance = metadata.require(INSTANCE_PATH).await?;
        // It names a directory of the spool.
        let instance: InstanceId =
            instance.parse().map_err(|_| PostError::Endpoint { endpoint: instance.escape_default().to_string() })?;
        let region = metadata.require(REGION_PATH).await?;
        let endpoint = match &settings.guardduty_data_endpoint {
            Some(endpoint) => endpoint.clone(),
            None => usual_endpoint(HOST, &region, &metadata.require(DOMAIN_PATH).await?)
                .map_err(|endpoint| PostError::Endpoint { endpoint })?,
        };
        let limits = Limits { body_bytes_max: REPLY_BYTES_MAX, ..Limits::REGION };
        Ok(Self {
            metadata,
            client: Client::new(limits, settings.ca_bundle.clone()),
            endpoint,
            resource: Resource { instance: instance.to_string(), region, hostname },
            credentials: None,
            now,
        })
    }

    /// This machine.
    pub(crate) fn instance(&self) -> &str {
        &self.resource.instance
    }

    /// Says that this sensor is there.
    pub(crate) async fn heartbeat(&mut self) -> Outcome {
        match self.resource.heartbeat() {
            Ok(body) => self.send(body.into(), 0).await,
            Err(error) => later(None, format!("cannot compress: {error}")),
        }
    }

    /// Sends a batch. What is too large is sent in halves, and one event that is too large by itself is given up.
    pub(crate) async fn batch(&mut self, batch: &Batch) -> Outcome {
        let mut rest = vec![batch.lines()];
        let (mut delivered, mut refused, mut why) = (0, 0, None);
        while let Some(lines) = rest.pop() {
            let count = u64::try_from(lines.len()).unwrap_or_default();
            let body = match self.resource.body(lines) {
                Ok(body) => body,
                Err(error) => return later(None, format!("cannot compress: {error}")),
            };
            match self.send(body.into(), count).await {
                Outcome::Done { why: Some(reason), .. } if reason == TOO_LARGE && lines.len() > 1 => {
                    let (first, second) = lines.split_at(lines.len() / 2);
                    rest.extend([second, first]);
                }
                Outcome::Done { delivered: stored, refused: lost, why: reason } => {
                    delivered += stored;
                    refused += lost;
                    why = reason.or(why);
                }
                // What of it is stored already is known by its `metadata.uid`.
                other => return other,
            }
        }
        Outcome::Done { delivered, refused, why }
    }

    async fn send(&mut self, body: Bytes, count: u64) -> Outcome {
        let mut is_fresh = false;
        loop {
            if self.credentials.as_ref().is_none_or(|(_, since)| since.elapsed() >= CREDENTIALS_KEPT) {
                match self.fresh_credentials().await {
                    Ok(true) => is_fresh = true,
                    Ok(false) => return Outcome::OtherMachine,
                    Err(why) => return later(None, why),
                }
            }
            let request = match self.signed(body.clone()) {
                Ok(request) => request,
                Err(why) => return later(None, why),
            };
            let reply = match self.client.call(request).await {
                Ok(reply) => reply,
                Err(error) => return later(None, error.to_string()),
            };
            if matches!(reply.status, 401 | 403) {
                self.credentials = None;
                if !is_fresh {
                    continue;
                }
            }
            return understand(&reply, count);
        }
    }

    /// False if this is another machine now.
    async fn fresh_credentials(&mut self) -> Result<bool, String> {
        let instance = self.metadata.require(INSTANCE_PATH).await.map_err(|error| error.to_string())?;
        if instance != self.resource.instance {
            return Ok(false);
        }
        let fresh = credentials(&mut self.metadata).await.map_err(|error| error.to_string())?;
        self.credentials = Some((fresh, Instant::now()));
        Ok(true)
    }

    fn signed(&self, body: Bytes) -> Result<Request<Bytes>, String> {
        let Some((by, _)) = &self.credentials else { return Err("there are no credentials".to_owned()) };
        let url = self.endpoint.to_string();
        let mut request = Request::post(format!("{}{PATH}", url.trim_end_matches('/')))
            .header(CONTENT_TYPE, "application/json")
            .header(CONTENT_ENCODING, "gzip")
            .header(USER_AGENT, concat!("inborn-sensor/", env!("CARGO_PKG_VERSION")))
            .body(body)
            .map_err(|_| format!("{url} is no URL"))?;
        let signer = Signer {
            access_key_id: &by.access_key_id,
            secret_access_key: by.secret_access_key.expose().as_bytes(),
            session_token: Some(by.session_token.expose()),
        };
        let target =
            Target { region: &self.resource.region, service: SIGNING_SERVICE, path_mode: PathMode::Normalized };
        let now = UnixTime::from_secs(u64::try_from((self.now)() / 1000).unwrap_or(0));
        sign_request(&mut request, &signer, &target, now).map_err(|error| format!("cannot be signed: {error}"))?;
        Ok(request)
    }
}

/// What stands in place of a sentence when a body was too large.
const TOO_LARGE: &str = "too large";

fn later(after: Option<Duration>, why: String) -> Outcome {
    Outcome::Later { after, why, is_fault: false }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Response {
    #[serde(default)]
    partial_success: Partial,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Partial {
    /// A number, or the text of one: 64-bit numbers are texts in protobuf's JSON.
    rejected_log_records: Value,
    error_message: String,
}

/// The rules of OTLP: 429, 502, 503 and 504 may be tried again, after `Retry-After`; what was refused for what it says, 400 and
/// 413, never.
fn understand(reply: &Reply, count: u64) -> Outcome {
    let sentence = || printable(&String::from_utf8_lossy(&reply.body));
    match reply.status {
        200 => {
            let partial = serde_json::from_slice::<Response>(&reply.body)
                .map(|response| response.partial_success)
                .unwrap_or_default();
            let rejected = partial.rejected_log_records;
            let rejected = rejected.as_u64().or_else(|| rejected.as_str()?.parse().ok()).unwrap_or(0).min(count);
            let why = (rejected > 0).then(|| printable(&partial.error_message));
            Outcome::Done { delivered: count - rejected, refused: rejected, why }
        }
        400 => Outcome::Done { delivered: 0, refused: count, why: Some(sentence()) },
        413 => Outcome::Done { delivered: 0, refused: count, why: Some(TOO_LARGE.to_owned()) },
        500 => Outcome::Later { after: retry_after(reply), why: format!("status 500: {}", sentence()), is_fault: true },
        status => later(retry_after(reply), format!("status {status}: {}", sentence())),
    }
}

fn retry_after(reply: &Reply) -> Option<Duration> {
    let seconds: u64 = reply.headers.get(RETRY_AFTER)?.to_str().ok()?.trim().parse().ok()?;
    Some(Duration::from_secs(seconds).min(RETRY_AFTER_MAX))
}

fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(SENTENCE_LENGTH_MAX).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ::http::HeaderMap;

    fn reply(status: u16, headers: &[(&'static str, &str)], body: &str) -> Reply {
        let mut map = HeaderMap::new();
        headers.iter().for_each(|(name, value)| drop(map.insert(*name, value.parse().unwrap())));
        Reply { status, headers: map, body: Bytes::copy_from_slice(body.as_bytes()) }
    }

    fn done(delivered: u64, refused: u64, why: Option<&str>) -> Outcome {
        Outcome::Done { delivered, refused, why: why.map(str::to_owned) }
    }

    #[test]
    fn answers() {
        let of = |status, body| understand(&reply(status, &[], body), 10);
        assert_eq!(of(200, "{}"), done(10, 0, None));
        assert_eq!(of(200, ""), done(10, 0, None));
        let partial = r#"{"partialSuccess":{"rejectedLogRecords":"3","errorMessage":"no class_uid\n"}}"#;
        assert_eq!(of(200, partial), done(7, 3, Some("no class_uid ")));
        assert_eq!(of(200, r#"{"partialSuccess":{"rejectedLogRecords":30}}"#), done(0, 10, Some("")));
        assert_eq!(of(400, "no"), done(0, 10, Some("no")));
        assert_eq!(of(413, ""), done(0, 10, Some(TOO_LARGE)));
        assert!(matches!(of(500, ""), Outcome::Later { is_fault: true, .. }));
        for status in [401, 403, 404, 429, 502, 503, 504] {
            assert!(matches!(of(status, ""), Outcome::Later { after: None, is_fault: false, .. }), "{status}");
        }
    }

    #[test]
    fn pauses_below_at_and_above_the_limit() {
        for (text, expected) in
            [("299", Some(299)), ("300", Some(300)), ("301", Some(300)), ("soon", None), ("-1", None)]
        {
            let Outcome::Later { after, .. } = understand(&reply(503, &[("retry-after", text)], ""), 1) else {
                panic!()
            };
            assert_eq!(after, expected.map(Duration::from_secs), "{text}");
        }
    }
}
