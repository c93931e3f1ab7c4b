//! `GetEndpoint`: where a machine is to ask for its messages: where it asked.

use inborn_wire::success;
use serde_json::json;

use crate::operation::{JsonCall, Outcome};
use crate::services::ssm::own_target;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        own_target(&call, "ec2messages", "GetEndpoint", "Destination")?;
        let identity = call.region.identity();
        let output = json!({"Endpoint": format!("ec2messages.{}.{}", identity.region, identity.domain)});
        Ok(success::aws_json(call.request_id, &output).into())
    })
}
