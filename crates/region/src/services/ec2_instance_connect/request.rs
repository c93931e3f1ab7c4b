//! Which machine a call is about, and how it is answered.

use std::sync::Arc;

use inborn_identity::InstanceId;
use inborn_store::Instance;
use inborn_wire::Answer;
use inborn_wire::error::{Dialect, Problem};
use inborn_wire::success;
use serde_json::Value;

use super::refusal;
use crate::operation::JsonCall;

const INSTANCE_ID: &str = "InstanceId";
const ACCOUNT_ID: &str = "AccountID";
const ZONE: &str = "AvailabilityZone";

/// The machine that a call names, if the caller may speak of it: a machine of itself only, and then it must know its
/// account and zone, as the scripts say both. Source: AWS refuses every other instance id than the caller's own.
pub(super) fn machine(call: &JsonCall<'_>) -> Result<Arc<Instance>, Problem> {
    let text = call.parameters.require_text(INSTANCE_ID)?;
    let id: InstanceId = text.parse().map_err(|_| refusal::invalid("InstanceId is not the id of an instance"))?;
    let own = call.caller.principal.instance();
    if own.is_some_and(|own| own != id) {
        return Err(refusal::not_allowed("A machine may publish and read its own host keys only"));
    }
    let account = call.caller.principal.account();
    let machine = call.region.machines().get(id).filter(|machine| machine.account == account);
    let machine = machine.ok_or_else(|| refusal::not_found(id))?;
    for (name, expected) in [(ACCOUNT_ID, account.to_string()), (ZONE, machine.zone.to_string())] {
        let said =
            if own.is_some() { Some(call.parameters.require_text(name)?) } else { call.parameters.text(name)? };
        if said.is_some_and(|said| said != expected) {
            return Err(refusal::not_allowed(format!("{name} is not that of the instance")));
        }
    }
    Ok(machine)
}

/// A success, in the type that the caller sent.
pub(super) fn answer(call: &JsonCall<'_>, output: &Value) -> Answer {
    match call.dialect {
        Dialect::CoralJson => Answer::new(200, "application/json", call.request_id, output.to_string()),
        _ => success::aws_json(call.request_id, output),
    }
}
