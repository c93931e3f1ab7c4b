//! From an answer to an HTTP response.

use bytes::Bytes;
use http::header::{CONNECTION, CONTENT_TYPE, DATE};
use http::{HeaderName, HeaderValue, Response, StatusCode};
use http_body_util::Full;
use inborn_identity::UnixTime;
use inborn_wire::Answer;
use inborn_wire::uuid::Uuid;

/// The response; `close` ends the connection with it.
pub(super) fn response(answer: Answer, now: UnixTime, close: bool) -> Response<Full<Bytes>> {
    let Answer { status, content_type, headers, body } = answer;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let map = response.headers_mut();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            map.insert(name, value);
        }
    };
    for (name, value) in headers {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            put(name, &value);
        }
    }
    if !content_type.is_empty() {
        put(CONTENT_TYPE, content_type);
    }
    // Accurate, on errors too: SDKs correct their clocks from it.
    put(DATE, &now.http_date());
    if close {
        put(CONNECTION, "close");
    }
    response
}

/// A random UUID (version 4), as AWS's request ids are.
pub(crate) fn new_uuid() -> Uuid {
    let mut bytes = [0u8; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::error!("this machine has no source of random bytes");
    }
    Uuid::from_random(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_version_4_uuids() {
        let id = new_uuid().to_string();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, new_uuid().to_string());
    }
}
