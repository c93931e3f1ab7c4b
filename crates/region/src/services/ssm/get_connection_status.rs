//! `GetConnectionStatus`: whether a session could be started on a machine.

use inborn_identity::InstanceId;
use inborn_wire::success;
use serde_json::json;

use super::session;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let target = session::target(&call)?;
        let instance = target.parse::<InstanceId>().ok().filter(|instance| call.machine(*instance).is_some());
        let is_connected = instance.is_some_and(|instance| call.region.channels().is_connected(instance));
        // As the service answers; botocore's model says so too.
        let status = if is_connected { "connected" } else { "notconnected" };
        Ok(success::aws_json(call.request_id, &json!({"Target": target, "Status": status})).into())
    })
}
