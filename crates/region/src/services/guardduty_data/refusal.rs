//! Refusals, and when to come again.

use core::sync::atomic::Ordering;

use inborn_telemetry::Form;
use inborn_wire::error::{Problem, Refusal};
use inborn_wire::{Answer, ERROR_TYPE_HEADER};
use serde_json::json;

use super::request;
use crate::Service;
use crate::operation::Upload;

/// Says after how many seconds the client may come again. OTLP's clients wait so long, and without it as they like.
const RETRY_AFTER: &str = "Retry-After";
/// So long, where nothing else is known.
const RETRY_SECONDS: u64 = 1;

/// A refusal to a caller who was let in: `google.rpc.Status` in the encoding of the request, as OTLP wants it. Whoever is
/// denied, or says nothing that is known, is told in the service's own form.
pub(super) fn answer(upload: &Upload, refusal: &Refusal, request_id: &str) -> Answer {
    let form = request::form(upload).ok().filter(|_| refusal.status != 403);
    let (kind, body) = match form {
        Some(form @ (Form::OtlpProtobuf | Form::OtlpJson)) => (form.content_type(), form.status(&refusal.message)),
        _ => ("application/json", json!({"message": refusal.message}).to_string().into_bytes()),
    };
    let mut answer = Answer::new(refusal.status, kind, request_id, body);
    answer.headers.push((ERROR_TYPE_HEADER, refusal.code.to_owned()));
    let seconds = upload.retry_after.load(Ordering::Relaxed);
    if seconds > 0 {
        answer.headers.push((RETRY_AFTER, seconds.to_string()));
    }
    answer
}

/// Whoever is put off is told for how long, also where that was decided before it was known what for.
pub(crate) fn advise(service: Option<&Service>, answer: &mut Answer) {
    let is_ours = service.is_some_and(|service| service.name == super::NAME);
    let is_put_off = matches!(answer.status, 429 | 503);
    if is_ours && is_put_off && !answer.headers.iter().any(|(name, _)| *name == RETRY_AFTER) {
        answer.headers.push((RETRY_AFTER, RETRY_SECONDS.to_string()));
    }
}

/// Of a type or an encoding that is not taken.
pub(super) fn unsupported(message: &str) -> Problem {
    Problem::Service { status: 415, code: "UnsupportedMediaTypeException", message: message.to_owned() }
}

/// Not what it says it is.
pub(super) fn bad_request(message: &str) -> Problem {
    Problem::Service { status: 400, code: "BadRequestException", message: message.to_owned() }
}

/// More than is taken at a time: it may be sent again in parts.
pub(super) fn too_large(message: &str) -> Problem {
    Problem::Service { status: 413, code: "RequestEntityTooLargeException", message: message.to_owned() }
}

/// There is no room for it now.
pub(super) fn unavailable(message: &str) -> Problem {
    Problem::Service { status: 503, code: "ServiceUnavailableException", message: message.to_owned() }
}

/// This machine has brought more than its share.
pub(super) fn over_quota() -> Problem {
    let message = "This instance sends more telemetry than its quota allows.".to_owned();
    Problem::Service { status: 429, code: "ThrottlingException", message }
}
