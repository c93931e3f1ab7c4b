//! The client's side: signing a request.

use core::fmt;

use inborn_identity::UnixTime;

use crate::canonical::Frame;
use crate::fields::Fields;
use crate::signed::Signed;
use crate::{ALGORITHM, Fault, Header, PathMode, Request, Scratch, SigningKey, TERMINATOR, hex, sha256};

/// Headers that something between client and server may add, change or take away: never signed.
pub const UNSIGNED: [&str; 6] =
    ["authorization", "connection", "expect", "transfer-encoding", "user-agent", "x-amzn-trace-id"];

/// Headers that signing adds; a request that has one already is not signed again.
const ADDED: [&str; 3] = ["authorization", "x-amz-date", "x-amz-security-token"];

/// Whom a request is signed as.
#[derive(Clone, Copy)]
pub struct Credentials<'a> {
    /// The access key id.
    pub access_key_id: &'a str,
    /// The secret access key.
    pub secret_access_key: &'a [u8],
    /// The session token of temporary credentials.
    pub session_token: Option<&'a str>,
}

/// What a request is signed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Target<'a> {
    /// The region.
    pub region: &'a str,
    /// The signing name of the service, `sts`.
    pub service: &'a str,
    /// How the service canonicalises paths.
    pub path_mode: PathMode,
}

/// A request that cannot be signed so that any server could verify it.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum SignError {
    /// There is no `host` header to sign.
    #[error("the request has no host header")]
    NoHost,
    /// A header that signing adds is there already.
    #[error("the request has the header {0} already")]
    Already(&'static str),
    /// Path, query or headers are malformed or over a limit.
    #[error(transparent)]
    Request(#[from] Fault),
}

/// Signs `request`, which has all the headers that it will be sent with, `host` included, except those that are
/// returned: `x-amz-date`, `x-amz-security-token` if there is a token, and `authorization`, in this order. All headers
/// are signed but those of [`UNSIGNED`].
///
/// # Errors
/// See [`SignError`].
pub fn sign(
    request: &Request<'_>,
    body: &[u8],
    credentials: &Credentials<'_>,
    target: &Target<'_>,
    now: UnixTime,
) -> Result<Vec<(&'static str, String)>, SignError> {
    crate::path::check(request.path)?;
    crate::query::check(request.query)?;
    let is_there = |name: &str| request.headers.iter().any(|header| header.name == name.as_bytes());
    if let Some(name) = ADDED.into_iter().find(|name| is_there(name)) {
        return Err(SignError::Already(name));
    }
    if !is_there("host") {
        return Err(SignError::NoHost);
    }

    let timestamp = now.basic();
    let mut headers = request.headers.to_vec();
    headers.push(Header { name: b"x-amz-date", value: timestamp.as_bytes() });
    if let Some(token) = credentials.session_token {
        headers.push(Header { name: b"x-amz-security-token", value: token.as_bytes() });
    }
    let list = signed_headers(&headers)?;
    let date = timestamp.get(..8).unwrap_or_default();
    let Target { region, service, path_mode } = *target;
    let scope = format!("{date}/{region}/{service}/{TERMINATOR}");
    let frame = Frame {
        signed: &Signed::read(&list, &Fields::new(&headers)?)?,
        timestamp: timestamp.as_bytes(),
        scope: &scope,
        payload: &hex::lower(&sha256(body)),
    };
    let key = SigningKey::derive(credentials.secret_access_key, date.as_bytes(), region, service);
    let request = Request { headers: &headers, ..*request };
    let signature = frame.signature(&request, path_mode, &key, &mut Scratch::new())?;

    let authorization = format!(
        "{ALGORITHM} Credential={}/{scope}, SignedHeaders={list}, Signature={}",
        credentials.access_key_id,
        signature.map(char::from).iter().collect::<String>()
    );
    let mut added = vec![("x-amz-date", timestamp.clone())];
    added.extend(credentials.session_token.map(|token| ("x-amz-security-token", token.to_owned())));
    added.push(("authorization", authorization));
    Ok(added)
}

/// The list of signed headers, sorted and each once.
fn signed_headers(headers: &[Header<'_>]) -> Result<String, Fault> {
    let mut names = Vec::new();
    for header in headers {
        let name = core::str::from_utf8(header.name).map_err(|_| Fault::SignedHeadersForm)?;
        if !UNSIGNED.contains(&name) {
            names.push(name);
        }
    }
    names.sort_unstable();
    names.dedup();
    Ok(names.join(";"))
}

impl fmt::Debug for Credentials<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Credentials").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}
