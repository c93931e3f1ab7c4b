//! `AcknowledgeMessage`: the machine has the message.

use inborn_wire::success;
use serde_json::json;

use super::message;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let (command, own) = message::own(&call, "AcknowledgeMessage")?;
        call.region.run_command().acknowledged(&command, own).await.map_err(message::of_store)?;
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}
