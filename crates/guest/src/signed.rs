//! Signing a request that is about to be sent.

use ::http::header::HOST;
use ::http::{HeaderName, HeaderValue, Request};
use bytes::Bytes;
use inborn_identity::UnixTime;
use inborn_sigv4::sign::{Credentials, SignError, Target, sign};
use inborn_sigv4::{Header, Request as ToSign};

/// Adds `host` (from the URL, with its port) and the headers of a SigV4 signature to `request`. All its headers are
/// covered, so it must have the others already.
///
/// # Errors
/// A request that cannot be signed; one whose URL has no host is among them.
pub fn sign_request(
    request: &mut Request<Bytes>,
    credentials: &Credentials<'_>,
    target: &Target<'_>,
    now: UnixTime,
) -> Result<(), SignError> {
    let authority = request.uri().authority().map(ToString::to_string).ok_or(SignError::NoHost)?;
    let host = HeaderValue::try_from(authority).map_err(|_| SignError::NoHost)?;
    request.headers_mut().insert(HOST, host);
    let added = {
        let headers: Vec<Header<'_>> = request
            .headers()
            .iter()
            .map(|(name, value)| Header { name: name.as_str().as_bytes(), value: value.as_bytes() })
            .collect();
        let to_sign = ToSign {
            method: request.method().as_str(),
            path: request.uri().path().as_bytes(),
            query: request.uri().query().unwrap_or_default().as_bytes(),
            headers: &headers,
        };
        sign(&to_sign, request.body(), credentials, target, now)?
    };
    for (name, value) in added {
        if let Ok(mut value) = HeaderValue::try_from(value) {
            value.set_sensitive(true);
            request.headers_mut().insert(HeaderName::from_static(name), value);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_sigv4::PathMode;

    #[test]
    fn the_port_is_signed_and_secrets_stay_hidden() {
        let mut request = Request::post("http://127.0.0.1:4580/?x=y").body(Bytes::from_static(b"Action=A")).unwrap();
        let credentials =
            Credentials { access_key_id: "AKIAIOSFODNN7EXAMPLE", secret_access_key: b"s", session_token: Some("TOK") };
        let target = Target { region: "us-east-1", service: "sts", path_mode: PathMode::Normalized };
        sign_request(&mut request, &credentials, &target, UnixTime::from_secs(1_800_000_000)).unwrap();
        let header = |name: &str| request.headers()[name].to_str().unwrap();
        assert_eq!(header("host"), "127.0.0.1:4580");
        assert_eq!(header("x-amz-date"), "20270115T080000Z");
        assert_eq!(header("x-amz-security-token"), "TOK");
        assert!(header("authorization").contains("SignedHeaders=host;x-amz-date;x-amz-security-token, "));
        let shown = format!("{request:?}");
        assert!(!shown.contains("TOK") && !shown.contains("Signature="), "{shown}");
        let mut relative = Request::post("/x").body(Bytes::new()).unwrap();
        assert_eq!(
            sign_request(&mut relative, &credentials, &target, UnixTime::from_secs(0)).unwrap_err(),
            SignError::NoHost
        );
    }
}
