//! `UpdateManagedInstancePublicKey`: an agent changes its key, which the old one vouches for.

use inborn_wire::success;
use serde_json::json;

use super::{agent, refusal};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let instance = agent::own_instance(&call)?;
        let new = agent::public_key(&call, "NewPublicKey")?;
        let old = agent::proven_key(&call, instance).await?;
        if old == new {
            return Err(refusal::key_already_registered());
        }
        let agents = call.region.agents();
        let changed = agents.change_key(instance, &old, &new, call.now).await;
        call.region.high_water.count_end_by(&changed);
        if !changed.map_err(refusal::of_store)? {
            return Err(refusal::too_many_updates());
        }
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}
