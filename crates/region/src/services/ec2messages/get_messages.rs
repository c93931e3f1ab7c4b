//! `GetMessages`: an agent waits for messages, and is answered when there is one.

use std::time::Duration;

use inborn_identity::InstanceId;
use inborn_wire::{constraint, success};
use serde_json::{Value, json};

use super::message;
use crate::operation::{JsonCall, Outcome};
use crate::run_command::Job;
use crate::services::ssm::own_target;

/// How long an agent is kept waiting. It counts an error in less than ten seconds as a fault, and gives up after thirty.
const WAIT: Duration = Duration::from_secs(20);

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let instance = own_target(&call, "ec2messages", "GetMessages", "Destination")?;
        let id = call.parameters.require_text("MessagesRequestId")?;
        constraint::length("MessagesRequestId", id, 1..=message::ID_LENGTH_MAX)?;
        let waiting = call.region.run_command().poll(instance).await.map_err(message::of_store)?;
        let jobs = match tokio::time::timeout(WAIT, waiting).await {
            Ok(Ok(jobs)) => jobs,
            // Nothing came, or the machine has asked again meanwhile.
            Ok(Err(_)) | Err(_) => Vec::new(),
        };
        // A session may have ended while it waited. What it is not told is told again, to one that is good.
        let is_good = call.caller.claims.as_deref().is_some_and(|claims| call.region.holds(claims));
        let created = call.region.now().rfc3339();
        let messages: Vec<Value> = jobs.iter().filter(|_| is_good).map(|job| shown(job, instance, &created)).collect();
        let output = json!({"Destination": instance.to_string(), "MessagesRequestId": id, "Messages": messages});
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

fn shown(job: &Job, instance: InstanceId, created: &str) -> Value {
    let digest: String =
        inborn_sigv4::sha256(job.content.as_bytes()).iter().map(|byte| format!("{byte:02x}")).collect();
    json!({
        "CreatedDate": created,
        "Destination": instance.to_string(),
        "MessageId": job.id,
        "Payload": job.content,
        "PayloadDigest": digest,
        "Topic": job.topic,
    })
}
