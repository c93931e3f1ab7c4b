//! `FailMessage`: the machine cannot do anything with the message.

use inborn_wire::{constraint, success};
use serde_json::json;

use super::message;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let (command, own) = message::own(&call, "FailMessage")?;
        let kind = call.parameters.require_text("FailureType")?;
        constraint::length("FailureType", kind, 1..=message::ID_LENGTH_MAX)?;
        let why = format!("The agent cannot do anything with the message: {kind}");
        call.region.run_command().refused(&command, own, &why).await.map_err(message::of_store)?;
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}
