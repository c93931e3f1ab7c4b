//! `inborn credentials --serve`: this machine's credentials in the form of a container's, for SDKs that know no other.
//!
//! On the loopback interface only, and only for who shows the token: any process of this computer can connect, and a page in a
//! browser can make one do so.

use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::net::SocketAddr;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use ::http::header::{AUTHORIZATION, CACHE_CONTROL, CONTENT_TYPE};
use ::http::{HeaderValue, Method, Request, Response, StatusCode};
use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::rand;
use bytes::Bytes;
use http_body_util::Full;
use inborn_listener::Limits;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::{Mutex, watch};
use tokio::time::Instant;
use zeroize::Zeroizing;

use crate::{Credentials, MetadataClient, Secret, Settings, credentials};

/// Where SDKs ask.
pub const PATH: &str = "/v1/credentials";
/// Connections at a time: SDKs ask once an hour.
const CONNECTIONS_MAX: usize = 64;
/// How long an answer of the metadata service is repeated.
const CREDENTIALS_KEPT: Duration = Duration::from_secs(30);
/// Characters of a token that is taken from a file.
pub const TOKEN_LENGTH_MIN: usize = 16;
/// And at most.
pub const TOKEN_LENGTH_MAX: usize = 1024;
/// Bytes of randomness in a token that is made.
const TOKEN_BYTES: usize = 32;

/// Why nothing is served.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    /// Others could reach it.
    #[error("{0} is not on the loopback interface: credentials are served at 127.0.0.1 or [::1] only")]
    NotLoopback(SocketAddr),
    /// The address cannot be had.
    #[error("cannot listen at {address}: {source}")]
    Listen {
        /// Which.
        address: SocketAddr,
        /// Why not.
        source: io::Error,
    },
    /// The token's file cannot be made or read.
    #[error("cannot use the token file {path}: {source}")]
    TokenFile {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// Somebody else could read or write the token.
    #[error("the token file {0} is not this user's alone: give it mode 0600, or name another")]
    Exposed(PathBuf),
    /// What is in it is no token.
    #[error("the token file {0} holds no token of 16 to 1024 printable characters: remove it, or name another")]
    Token(PathBuf),
    /// No randomness.
    #[error("the system gives no random numbers")]
    Random,
}

/// A socket, and the token that has to be shown there.
#[derive(Debug)]
pub struct CredentialsServer {
    listener: TcpListener,
    address: SocketAddr,
    token: Secret,
}

/// Takes the token from a file that is this user's alone, or makes both.
///
/// # Errors
/// See [`ServeError`].
pub fn token_from(path: &Path) -> Result<Secret, ServeError> {
    let failed = |source| ServeError::TokenFile { path: path.to_owned(), source };
    let mut make = OpenOptions::new();
    match make.write(true).create_new(true).mode(0o600).open(path) {
        Ok(mut file) => {
            let token = fresh_token()?;
            file.write_all(token.expose().as_bytes()).map_err(failed)?;
            return Ok(token);
        }
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(failed(error)),
    }
    let meta = fs::symlink_metadata(path).map_err(failed)?;
    let is_own = meta.is_file() && meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o077 == 0;
    if !is_own {
        return Err(ServeError::Exposed(path.to_owned()));
    }
    let text = Zeroizing::new(fs::read_to_string(path).map_err(failed)?);
    let token = text.trim_end();
    let is_token = (TOKEN_LENGTH_MIN..=TOKEN_LENGTH_MAX).contains(&token.len())
        && token.bytes().all(|byte| byte.is_ascii_graphic());
    if is_token { Ok(Secret::new(token.to_owned())) } else { Err(ServeError::Token(path.to_owned())) }
}

fn fresh_token() -> Result<Secret, ServeError> {
    let mut bytes = Zeroizing::new([0; TOKEN_BYTES]);
    rand::fill(bytes.as_mut()).map_err(|_| ServeError::Random)?;
    let mut token = String::with_capacity(TOKEN_BYTES * 2);
    bytes.iter().for_each(|byte| token.push_str(&format!("{byte:02x}")));
    Ok(Secret::new(token))
}

impl CredentialsServer {
    /// Listens at an address of the loopback interface.
    ///
    /// # Errors
    /// See [`ServeError`].
    pub async fn open(address: SocketAddr, token: Secret) -> Result<Self, ServeError> {
        if !address.ip().is_loopback() {
            return Err(ServeError::NotLoopback(address));
        }
        let failed = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let address = listener.local_addr().map_err(failed)?;
        Ok(Self { listener, address, token })
    }

    /// What SDKs are to ask: `AWS_CONTAINER_CREDENTIALS_FULL_URI`.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}{PATH}", self.address)
    }

    /// Answers until `stop` turns true.
    pub async fn serve(self, settings: &Settings, stop: watch::Receiver<bool>) {
        let vault = Arc::new(Vault { metadata: Mutex::new((MetadataClient::new(settings), None)), token: self.token });
        let limits = Limits { connections_max: CONNECTIONS_MAX, ..Limits::DEFAULT };
        inborn_listener::serve(self.listener, None, limits, stop, move |request, _| {
            let vault = Arc::clone(&vault);
            // The body says nothing that is asked for here, and is not read.
            async move { vault.answer(request.map(drop)).await }
        })
        .await;
    }
}

struct Vault {
    metadata: Mutex<(MetadataClient, Option<(Credentials, Instant)>)>,
    token: Secret,
}

impl Vault {
    async fn answer(&self, request: Request<()>) -> Response<Full<Bytes>> {
        if request.headers().contains_key("x-forwarded-for") {
            return refusal(StatusCode::FORBIDDEN, "Forwarded", "this endpoint is for processes of this machine");
        }
        let mut shown = request.headers().get_all(AUTHORIZATION).iter();
        let is_shown = shown.next().is_some_and(|shown| self.is_token(shown)) && shown.next().is_none();
        if !is_shown {
            return refusal(
                StatusCode::UNAUTHORIZED,
                "Unauthorized",
                "Authorization is not the token of this endpoint",
            );
        }
        if request.uri().path() != PATH {
            return refusal(StatusCode::NOT_FOUND, "NotFound", "there is nothing here");
        }
        if request.method() != Method::GET {
            return refusal(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed", "credentials are asked for by GET");
        }
        match self.credentials().await {
            Ok(credentials) => json_answer(StatusCode::OK, document(&credentials)),
            Err(why) => refusal(StatusCode::INTERNAL_SERVER_ERROR, "Unavailable", &why),
        }
    }

    fn is_token(&self, shown: &HeaderValue) -> bool {
        verify_slices_are_equal(shown.as_bytes(), self.token.expose().as_bytes()).is_ok()
    }

    async fn credentials(&self) -> Result<Credentials, String> {
        let mut metadata = self.metadata.lock().await;
        let (client, kept) = &mut *metadata;
        if let Some((credentials, since)) = kept
            && since.elapsed() < CREDENTIALS_KEPT
        {
            return Ok(credentials.clone());
        }
        let fresh = credentials(client).await.map_err(|error| error.to_string())?;
        *kept = Some((fresh.clone(), Instant::now()));
        Ok(fresh)
    }
}

/// The four members that SDKs read.
fn document(credentials: &Credentials) -> Zeroizing<String> {
    let quote = |text: &str| Zeroizing::new(serde_json::Value::from(text).to_string());
    Zeroizing::new(format!(
        "{{\"AccessKeyId\":{},\"SecretAccessKey\":{},\"Token\":{},\"Expiration\":{}}}",
        *quote(&credentials.access_key_id),
        *quote(credentials.secret_access_key.expose()),
        *quote(credentials.session_token.expose()),
        *quote(&credentials.expiration),
    ))
}

fn refusal(status: StatusCode, code: &str, message: &str) -> Response<Full<Bytes>> {
    json_answer(status, Zeroizing::new(json!({ "code": code, "message": message }).to_string()))
}

fn json_answer(status: StatusCode, body: Zeroizing<String>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::copy_from_slice(body.as_bytes())));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests;
