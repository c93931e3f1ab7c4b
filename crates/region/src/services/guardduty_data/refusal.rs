//! Refusals to callers who were let in.

use inborn_wire::error::Refusal;
use inborn_wire::{Answer, ERROR_TYPE_HEADER};
use serde_json::json;

use crate::operation::Upload;

/// A refusal.
pub(super) fn answer(_upload: &Upload, refusal: &Refusal, request_id: &str) -> Answer {
    let body = json!({"message": refusal.message}).to_string();
    let mut answer = Answer::new(refusal.status, "application/json", request_id, body);
    answer.headers.push((ERROR_TYPE_HEADER, refusal.code.to_owned()));
    answer
}
