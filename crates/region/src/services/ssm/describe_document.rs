//! `DescribeDocument`: what there is to know of a document but its text.

use inborn_wire::success;
use serde_json::json;

use super::document;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let found = document::named(&call)?;
        let output = json!({"Document": document::description(&found)});
        Ok(success::aws_json(call.request_id, &output).into())
    })
}
