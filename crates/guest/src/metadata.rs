//! A careful client of the EC2 metadata service: version 2 first, version 1 where a service knows no tokens.

use std::time::Duration;

use ::http::{Method, Request, Uri};
use bytes::Bytes;

use crate::http::{Client, HttpError, Limits, Reply};
use crate::{Secret, Settings};

const TOKEN_PATH: &str = "/latest/api/token";
const TOKEN_HEADER: &str = "x-aws-ec2-metadata-token";
const TTL_HEADER: &str = "x-aws-ec2-metadata-token-ttl-seconds";
/// What every SDK asks for, and the most there is.
const TTL_SECONDS: &str = "21600";
/// How often a request is made when the service fails or cannot be reached for a moment, as early in a machine's life.
pub const ATTEMPTS_MAX: u32 = 3;
/// The pause before the second attempt; it doubles.
const BACK_OFF: Duration = Duration::from_millis(100);

/// Why the metadata service did not help.
#[derive(Debug, thiserror::Error)]
pub enum MetadataError {
    /// Not reached, or no proper answer.
    #[error(
        "the metadata service does not answer: {0}. Run this inside a machine (`inborn run -- …`), or set AWS_EC2_METADATA_SERVICE_ENDPOINT to one's endpoint (`inborn launch --export`)"
    )]
    Http(#[source] HttpError),
    /// It answers 403 to everything.
    #[error(
        "the metadata service is switched off for this machine: set HttpEndpoint=enabled with `aws ec2 modify-instance-metadata-options`"
    )]
    Disabled,
    /// It wants a token that it did not give.
    #[error(
        "the metadata service refuses to answer without a token, and its tokens do not reach this place: is this a container? Raise HttpPutResponseHopLimit to 2"
    )]
    TokenRequired,
    /// It gives no token, and version 1 is not allowed.
    #[error("the metadata service gives no token, and AWS_EC2_METADATA_V1_DISABLED forbids to go on without")]
    V1Forbidden,
    /// Any other failure.
    #[error("the metadata service answered {path} with status {status}; try again")]
    Status {
        /// What was asked.
        path: String,
        /// What came.
        status: u16,
    },
    /// Something must be there and is not.
    #[error("the metadata service has no {path}: is this machine's service too old?")]
    Missing {
        /// What was asked.
        path: String,
    },
    /// Not text.
    #[error("the metadata service answered {path} with something that is not text")]
    NotText {
        /// What was asked.
        path: String,
    },
}

/// How to ask, once it is known.
enum Mode {
    V2(Secret),
    V1 {
        /// Whether a token may have been on its way.
        is_token_lost: bool,
    },
}

/// Asks the metadata service; the token is fetched with the first question and used for all.
pub struct MetadataClient {
    client: Client,
    token_client: Client,
    base: String,
    v1_allowed: bool,
    mode: Option<Mode>,
}

impl core::fmt::Debug for MetadataClient {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("MetadataClient").field("base", &self.base).finish_non_exhaustive()
    }
}

impl MetadataClient {
    /// A client for the service that `settings` name.
    #[must_use]
    pub fn new(settings: &Settings) -> Self {
        Self {
            client: Client::new(Limits::METADATA, None),
            token_client: Client::new(Limits::METADATA_TOKEN, None),
            base: settings.metadata_endpoint.to_string().trim_end_matches('/').to_owned(),
            v1_allowed: settings.metadata_v1,
            mode: None,
        }
    }

    /// The text at `path`, such as `/latest/meta-data/instance-id`; nothing if it is not there (404).
    ///
    /// # Errors
    /// See [`MetadataError`].
    pub async fn get(&mut self, path: &str) -> Result<Option<Secret>, MetadataError> {
        let mut reply = self.get_once(path).await?;
        if reply.status == 401 && matches!(self.mode, Some(Mode::V2(_) | Mode::V1 { is_token_lost: true })) {
            // The token has ended, belongs to a machine that was replaced, or was late, not lost. A fresh one is worth one attempt.
            self.mode = None;
            reply = self.get_once(path).await?;
        }
        match reply.status {
            200 => match String::from_utf8(reply.body.into()) {
                Ok(text) => Ok(Some(Secret::new(text))),
                Err(_) => Err(MetadataError::NotText { path: path.to_owned() }),
            },
            404 => Ok(None),
            401 => Err(MetadataError::TokenRequired),
            403 => Err(MetadataError::Disabled),
            status => Err(MetadataError::Status { path: path.to_owned(), status }),
        }
    }

    /// The text at `path`, which is no secret and must be there.
    ///
    /// # Errors
    /// See [`MetadataError`].
    pub async fn require(&mut self, path: &str) -> Result<String, MetadataError> {
        let text = self.get(path).await?.ok_or_else(|| MetadataError::Missing { path: path.to_owned() })?;
        Ok(text.expose().trim().to_owned())
    }

    async fn get_once(&mut self, path: &str) -> Result<Reply, MetadataError> {
        let mode = match self.mode.take() {
            Some(mode) => mode,
            None => self.choose_mode().await?,
        };
        let header = match &mode {
            Mode::V2(token) => Some((TOKEN_HEADER, token.expose())),
            Mode::V1 { .. } => None,
        };
        let reply = self.ask(&self.client, Method::GET, path, header).await.map_err(MetadataError::Http);
        self.mode = Some(mode);
        reply
    }

    /// A token, or the knowledge that there is none to be had.
    async fn choose_mode(&self) -> Result<Mode, MetadataError> {
        let header = Some((TTL_HEADER, TTL_SECONDS));
        let reply = match self.ask(&self.token_client, Method::PUT, TOKEN_PATH, header).await {
            Ok(reply) => reply,
            // Behind one network hop too many the answer with the token is lost, and only that one.
            Err(HttpError::AnswerTimeout { .. }) if self.v1_allowed => return Ok(Mode::V1 { is_token_lost: true }),
            Err(error) => return Err(MetadataError::Http(error)),
        };
        match reply.status {
            200 => match String::from_utf8(reply.body.into()) {
                Ok(token) => Ok(Mode::V2(Secret::new(token))),
                Err(_) => Err(MetadataError::NotText { path: TOKEN_PATH.to_owned() }),
            },
            403..=405 if self.v1_allowed => Ok(Mode::V1 { is_token_lost: false }),
            403..=405 => Err(MetadataError::V1Forbidden),
            status => Err(MetadataError::Status { path: TOKEN_PATH.to_owned(), status }),
        }
    }

    /// Asks until there is an answer other than 5xx, at most [`ATTEMPTS_MAX`] times. A lost answer is not asked for again:
    /// it would be lost again.
    async fn ask(
        &self,
        client: &Client,
        method: Method,
        path: &str,
        header: Option<(&str, &str)>,
    ) -> Result<Reply, HttpError> {
        let mut pause = BACK_OFF;
        for _ in 1..ATTEMPTS_MAX {
            match client.call(self.request(&method, path, header)?).await {
                Ok(reply) if reply.status < 500 => return Ok(reply),
                Err(error @ (HttpError::AnswerTimeout { .. } | HttpError::Url { .. } | HttpError::TooLarge { .. })) => {
                    return Err(error);
                }
                Ok(_) | Err(_) => tokio::time::sleep(pause).await,
            }
            pause *= 2;
        }
        client.call(self.request(&method, path, header)?).await
    }

    fn request(&self, method: &Method, path: &str, header: Option<(&str, &str)>) -> Result<Request<Bytes>, HttpError> {
        let unusable = || HttpError::Url { url: self.base.clone() };
        let url: Uri = format!("{}{path}", self.base).parse().map_err(|_| unusable())?;
        let mut request = Request::builder().method(method.clone()).uri(url);
        if let Some((name, value)) = header {
            request = request.header(name, value);
        }
        request.body(Bytes::new()).map_err(|_| unusable())
    }
}

#[cfg(test)]
pub(crate) mod tests;
