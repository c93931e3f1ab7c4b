//! The client's side: signing a request.

use core::fmt;

use inborn_identity::UnixTime;

use crate::canonical::Frame;
use crate::fields::{self, Fields};
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
    /// The query has a parameter that signing adds, in whatever letters.
    #[error("the query has authentication parameters already")]
    AlreadyInQuery,
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
    check(request)?;
    crate::query::check(request.query)?;
    let timestamp = now.basic();
    let mut headers = request.headers.to_vec();
    headers.push(Header { name: b"x-amz-date", value: timestamp.as_bytes() });
    if let Some(token) = credentials.session_token {
        headers.push(Header { name: b"x-amz-security-token", value: token.as_bytes() });
    }
    let list = signed_headers(&headers)?;
    let signature = {
        let request = Request { headers: &headers, ..*request };
        target.sign(&request, body, credentials, &timestamp, &list)?
    };
    let authorization = format!(
        "{ALGORITHM} Credential={}/{}, SignedHeaders={list}, Signature={signature}",
        credentials.access_key_id,
        target.scope(&timestamp),
    );
    let mut added = vec![("x-amz-date", timestamp.clone())];
    added.extend(credentials.session_token.map(|token| ("x-amz-security-token", token.to_owned())));
    added.push(("authorization", authorization));
    Ok(added)
}

/// Signs `request` in its query and returns that query, complete: what `request` has there already, and the parameters
/// that authenticate. All headers that `request` has are signed but those of [`UNSIGNED`]; whoever sends the request must
/// send them, so it should have none but `host` and what the receiver insists on.
///
/// `expires` are the seconds that the signature is to be good for, where the receiver cares; STS does not. The body, which
/// is empty as a rule, is signed as well.
///
/// # Errors
/// See [`SignError`].
pub fn presign(
    request: &Request<'_>,
    body: &[u8],
    credentials: &Credentials<'_>,
    target: &Target<'_>,
    expires: u64,
    now: UnixTime,
) -> Result<String, SignError> {
    check(request)?;
    if crate::query::check(request.query)? {
        return Err(SignError::AlreadyInQuery);
    }
    let (timestamp, list) = (now.basic(), signed_headers(request.headers)?);
    let scope = target.scope(&timestamp);
    let credential = format!("{}/{scope}", credentials.access_key_id);
    let mut query = request.query.to_vec();
    let expires = expires.to_string();
    let parameters = [
        ("X-Amz-Algorithm", Some(ALGORITHM)),
        ("X-Amz-Credential", Some(&*credential)),
        ("X-Amz-Date", Some(&*timestamp)),
        ("X-Amz-Expires", Some(&*expires)),
        ("X-Amz-SignedHeaders", Some(&*list)),
        ("X-Amz-Security-Token", credentials.session_token),
    ];
    for (name, value) in parameters {
        let Some(value) = value else { continue };
        if !query.is_empty() {
            query.push(b'&');
        }
        query.extend_from_slice(name.as_bytes());
        query.push(b'=');
        value.bytes().for_each(|byte| hex::percent(byte, &mut query));
    }
    let signature = {
        let request = Request { query: &query, ..*request };
        target.sign(&request, body, credentials, &timestamp, &list)?
    };
    query.extend_from_slice(b"&X-Amz-Signature=");
    query.extend_from_slice(signature.as_bytes());
    String::from_utf8(query).map_err(|_| SignError::Request(Fault::NotText))
}

/// What must hold of a request wherever its signature goes.
fn check(request: &Request<'_>) -> Result<(), SignError> {
    crate::path::check(request.path)?;
    let is_there = |name: &str| request.headers.iter().any(|header| header.name == name.as_bytes());
    if let Some(name) = ADDED.into_iter().find(|name| is_there(name)) {
        return Err(SignError::Already(name));
    }
    if is_there("host") { Ok(()) } else { Err(SignError::NoHost) }
}

impl Target<'_> {
    fn scope(&self, timestamp: &str) -> String {
        let date = timestamp.get(..8).unwrap_or_default();
        format!("{date}/{}/{}/{TERMINATOR}", self.region, self.service)
    }

    /// The signature of a request that has everything but it.
    fn sign(
        &self,
        request: &Request<'_>,
        body: &[u8],
        credentials: &Credentials<'_>,
        timestamp: &str,
        list: &str,
    ) -> Result<String, SignError> {
        fields::check(request.headers)?;
        let frame = Frame {
            signed: &Signed::read(list.into(), &Fields::new(request.headers))?,
            timestamp: timestamp.as_bytes(),
            scope: &self.scope(timestamp),
            payload: &hex::lower(&sha256(body)),
        };
        let date = timestamp.get(..8).unwrap_or_default().as_bytes();
        let key = SigningKey::derive(credentials.secret_access_key, date, self.region, self.service);
        let signature = frame.signature(request, self.path_mode, &key, &mut Scratch::new())?;
        Ok(signature.map(char::from).iter().collect())
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{HEADERS_MAX, Limit};

    /// Signing adds `x-amz-date`, which the server counts.
    #[test]
    fn no_more_headers_than_a_server_takes() {
        let credentials = Credentials { access_key_id: "AKID", secret_access_key: b"secret", session_token: None };
        let target = Target { region: "us-east-1", service: "sts", path_mode: PathMode::Normalized };
        for (count, is_good) in [(HEADERS_MAX - 2, true), (HEADERS_MAX - 1, true), (HEADERS_MAX, false)] {
            let mut headers = vec![Header { name: b"x", value: b"1" }; count];
            headers[0].name = b"host";
            let request = Request { method: "GET", path: b"/", query: b"", headers: &headers };
            let signed = sign(&request, b"", &credentials, &target, UnixTime::from_secs(0));
            let expected = (!is_good).then_some(SignError::Request(Fault::TooLarge(Limit::Headers)));
            assert_eq!(signed.err(), expected, "{count}");
        }
    }
}
