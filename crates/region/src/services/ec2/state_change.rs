//! What the operations that change an instance's state have in common.

use inborn_identity::InstanceId;
use inborn_store::{Change, ChangeRequest, Changed};
use inborn_wire::Answer;
use inborn_wire::error::Problem;
use serde_json::{Value, json};

use super::{refusal, request};
use crate::operation::{Call, Reply};

/// Changes the instances that the call names, all of them or none.
pub(super) async fn change(call: &Call<'_>, change: Change) -> Result<Vec<Changed>, Problem> {
    let instances = request::instance_ids(call.parameters)?;
    request::finish(call.parameters)?;
    let request = ChangeRequest { account: call.caller.principal.account(), instances, change };
    call.region.machines().change(request).await.map_err(refusal::of_store)
}

/// The reply, whose audit names the instances.
pub(super) fn reply(answer: Answer, all: &[Changed]) -> Reply {
    Reply { answer, response_elements: instances_set(all.iter().map(|changed| changed.after.id)) }
}

/// Instances as CloudTrail lists them in `responseElements`.
pub(super) fn instances_set(ids: impl Iterator<Item = InstanceId>) -> Value {
    let items: Vec<Value> = ids.map(|id| json!({ "instanceId": id.to_string() })).collect();
    json!({ "instancesSet": { "items": items } })
}
