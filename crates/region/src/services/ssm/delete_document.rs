//! `DeleteDocument`. Commands that run it go on: they have its text.

use inborn_wire::{constraint, success};
use serde_json::json;

use super::{document, refusal};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let name = call.parameters.require_text("Name")?;
        if !document::is_name(name, false) {
            return Err(constraint::pattern("Name", name, "^[a-zA-Z0-9_\\-.]{3,128}$"));
        }
        let found = document::find(&call, name)?;
        document::check_version(call.parameters, &found)?;
        if !call.region.documents().delete(call.account(), name).await.map_err(refusal::of_store)? {
            return Err(refusal::document(name));
        }
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}
