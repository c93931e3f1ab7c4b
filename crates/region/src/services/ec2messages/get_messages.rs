//! `GetMessages`: an agent waits for messages. Nobody can send one yet, so it waits in vain, and asks again.

use std::time::Duration;

use inborn_wire::{constraint, success};
use serde_json::json;

use crate::operation::{JsonCall, Outcome};
use crate::services::ssm::own_target;

/// How long an agent is kept waiting. It counts an error in less than ten seconds as a fault, and gives up after thirty.
const WAIT: Duration = Duration::from_secs(20);

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let instance = own_target(&call, "ec2messages", "GetMessages", "Destination")?;
        let id = call.parameters.require_text("MessagesRequestId")?;
        constraint::length("MessagesRequestId", id, 1..=128)?;
        tokio::time::sleep(WAIT).await;
        let output = json!({"Destination": instance.to_string(), "MessagesRequestId": id, "Messages": []});
        Ok(success::aws_json(call.request_id, &output).into())
    })
}
