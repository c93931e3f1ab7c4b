//! From a request to a WebSocket (RFC 6455): the handshake, and the stream that comes after it.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use http::header::{CONNECTION, SEC_WEBSOCKET_ACCEPT, SEC_WEBSOCKET_KEY, SEC_WEBSOCKET_VERSION, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName};
use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use inborn_wire::Answer;
use inborn_wire::error::Problem;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::protocol::{Role, WebSocketConfig};

/// A WebSocket whose client sent the request.
pub(crate) type Socket = WebSocketStream<TokioIo<Upgraded>>;

/// The only version there is.
const VERSION: &str = "13";
/// Bytes of the random key that a client sends.
const KEY_BYTES: usize = 16;
/// What is appended to the key before it is digested. Source: RFC 6455, section 1.3.
const ACCEPT_SUFFIX: &str = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11";

/// A client that asks for a WebSocket and waits for the answer.
#[derive(Clone, Debug)]
pub(crate) struct Handshake {
    accept: String,
    upgrade: OnUpgrade,
}

impl Handshake {
    /// What the head of a request asks for, if that is a WebSocket.
    pub(super) fn of(parts: &Parts) -> Option<Self> {
        let headers = &parts.headers;
        let is_one = names(headers, &UPGRADE, "websocket")
            && names(headers, &CONNECTION, "upgrade")
            && names(headers, &SEC_WEBSOCKET_VERSION, VERSION);
        let key = headers.get(SEC_WEBSOCKET_KEY).filter(|_| is_one)?.to_str().ok()?;
        BASE64.decode(key).ok().filter(|bytes| bytes.len() == KEY_BYTES)?;
        Some(Self { accept: accept(key), upgrade: parts.extensions.get::<OnUpgrade>()?.clone() })
    }

    /// What is answered to who does not ask for one where there is nothing else.
    pub(crate) fn missing() -> Problem {
        let message = "The request is not the handshake of a WebSocket, version 13.";
        Problem::Service { status: 426, code: "UpgradeRequired", message: message.to_owned() }
    }

    /// The answer that says yes.
    pub(crate) fn answer(&self, request_id: &str) -> Answer {
        let mut answer = Answer::new(101, "", request_id, "");
        answer.headers.push((CONNECTION.as_str(), "upgrade".to_owned()));
        answer.headers.push((UPGRADE.as_str(), "websocket".to_owned()));
        answer.headers.push((SEC_WEBSOCKET_ACCEPT.as_str(), self.accept.clone()));
        answer
    }

    /// The WebSocket, once the answer is on its way. `None` if the client did not wait for it.
    pub(crate) async fn socket(self, config: WebSocketConfig) -> Option<Socket> {
        let stream = TokioIo::new(self.upgrade.await.ok()?);
        Some(WebSocketStream::from_raw_socket(stream, Role::Server, Some(config)).await)
    }
}

/// Whether one of the comma-separated words of a header is `word`, in whatever letters.
fn names(headers: &HeaderMap, name: &HeaderName, word: &str) -> bool {
    let values = headers.get_all(name).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split(',')).any(|part| part.trim().eq_ignore_ascii_case(word))
}

/// What shows the client that its handshake was understood.
fn accept(key: &str) -> String {
    BASE64.encode(digest(&SHA1_FOR_LEGACY_USE_ONLY, format!("{key}{ACCEPT_SUFFIX}").as_bytes()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The example of RFC 6455, section 1.3.
    #[test]
    fn a_handshake_is_answered_as_the_rfc_does() {
        assert_eq!(accept("dGhlIHNhbXBsZSBub25jZQ=="), "s3pPLMBiTxaQ9kYGzzhZRbK+xOo=");
    }

    #[test]
    fn words_are_found_in_lists_and_in_any_letters() {
        let headers = HeaderMap::from_iter([
            (CONNECTION, http::HeaderValue::from_static("keep-alive, Upgrade")),
            (UPGRADE, http::HeaderValue::from_static("WebSocket")),
        ]);
        assert!(names(&headers, &CONNECTION, "upgrade") && names(&headers, &UPGRADE, "websocket"));
        assert!(!names(&headers, &CONNECTION, "websocket") && !names(&headers, &SEC_WEBSOCKET_VERSION, "13"));
    }
}
