//! `DeregisterManagedInstance`: an operator forgets an agent's key, as when the disk that held it is gone.
//!
//! AWS takes only hybrid machines here (`mi-…`), and leaves no way to replace the key of an EC2 one. We take instance ids.

use inborn_identity::InstanceId;
use inborn_wire::success;
use serde_json::json;

use super::refusal;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let text = call.parameters.require_text("InstanceId")?;
        let instance: InstanceId = text.parse().map_err(|_| refusal::not_registered(text))?;
        if call.machine(instance).is_none() {
            return Err(refusal::not_registered(text));
        }
        if !call.region.forget_agent(instance, call.now).await.map_err(refusal::of_store)? {
            return Err(refusal::not_registered(text));
        }
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}
