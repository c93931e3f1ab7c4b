//! `UpdateInstanceInformation`: an agent is there, and says what it runs on.

use inborn_store::Node;
use inborn_wire::{constraint, success};
use serde_json::json;

use super::{agent, refusal};
use crate::operation::{JsonCall, Outcome};

/// Longest text that an agent says. Source: botocore's model, `ComputerName`; others are shorter.
const TEXT_LENGTH_MAX: usize = 255;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let instance = agent::own_target(&call, "ssm", "UpdateInstanceInformation", "InstanceId")?;
        let mut said = [None; Node::FACTS.len()];
        for (said, name) in said.iter_mut().zip(Node::FACTS) {
            *said = call.parameters.text(name)?;
            constraint::length(name, said.unwrap_or_default(), 0..=TEXT_LENGTH_MAX)?;
        }
        if let Some(platform) = call.parameters.text("PlatformType")? {
            constraint::one_of("PlatformType", platform, &["Windows", "Linux", "MacOS"])?;
        }
        // Of this start, which another server may have dated by a clock that is ahead.
        let started_at = call.machine(instance).map(|machine| machine.launch_time).unwrap_or_default();
        call.region.nodes().heard(instance, said, call.now.max(started_at)).await.map_err(refusal::of_store)?;
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}
