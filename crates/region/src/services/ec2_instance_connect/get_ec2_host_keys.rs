//! `GetEC2HostKeys`: the host keys of a machine, for itself and for operators.

use serde_json::json;

use super::{host_keys, policy, refusal, request};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let machine = request::machine(&call)?;
        let policy = policy::of(call.region, machine.account).await?;
        let (_, record) = call.region.store().host_keys(machine.id).await.map_err(refusal::of_store)?;
        let lines = host_keys::served(policy, &record).map(|set| set.lines.as_slice()).unwrap_or_default();
        // The one member, and RSA the last of it: AWS's own test cuts the key out by what follows it.
        Ok(request::answer(&call, &json!({ "HostKeys": lines })).into())
    })
}
