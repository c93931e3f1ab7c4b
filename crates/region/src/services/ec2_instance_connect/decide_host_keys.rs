//! `Inborn.DecideHostKeys`: an operator approves or rejects the set that waits.

use serde_json::json;

use super::{host_keys, refusal, request};
use crate::operation::{JsonCall, Outcome};

const APPROVE: &str = "approve";
const REJECT: &str = "reject";

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let machine = request::machine(&call)?;
        let digest = call.parameters.require_text("Digest")?;
        let is_approved = match call.parameters.require_text("Decision")? {
            APPROVE => true,
            REJECT => false,
            _ => return Err(refusal::invalid(format!("Decision is {APPROVE} or {REJECT}"))),
        };
        let step =
            |record: &mut inborn_store::HostKeys| host_keys::decide_pending(record, digest, is_approved, call.now);
        host_keys::update(call.region, machine.id, step).await?;
        Ok(request::answer(&call, &json!({ "Digest": digest })).into())
    })
}
