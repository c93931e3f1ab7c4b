//! `ListInstanceAssociations`: what a machine's agent is to keep in a state. Nothing can be associated here, so it is nothing.

use inborn_wire::{constraint, success};
use serde_json::json;

use super::agent;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        agent::own_target(&call, "ssm", "ListInstanceAssociations", "InstanceId")?;
        if let Some(most) = call.parameters.integer("MaxResults")? {
            constraint::range("MaxResults", most, 1..=50)?;
        }
        Ok(success::aws_json(call.request_id, &json!({"Associations": []})).into())
    })
}
