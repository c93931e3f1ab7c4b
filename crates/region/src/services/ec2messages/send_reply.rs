//! `SendReply`: the machine tells how far it is with a command.

use inborn_wire::error::Problem;
use inborn_wire::message_gateway::report::{REPORT_BYTES_MAX, Report};
use inborn_wire::{constraint, success};
use serde_json::json;

use super::message;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let (command, own) = message::own(&call, "SendReply")?;
        let reply = call.parameters.require_text("ReplyId")?;
        constraint::length("ReplyId", reply, 1..=message::ID_LENGTH_MAX)?;
        let payload = call.parameters.require_text("Payload")?;
        let report = Report::read(payload).ok_or_else(|| Problem::Validation {
            message: format!("Payload is not a reply of an agent of at most {REPORT_BYTES_MAX} bytes."),
        })?;
        call.region.run_command().reported(&command, own, report).await.map_err(message::of_store)?;
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}
