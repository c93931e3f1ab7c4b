//! `Inborn.DescribeHostKeys`: everything that is known of a machine's host keys, for an operator who has to decide.

use inborn_ssh::PublicKey;
use inborn_store::HostKeySet;
use inborn_wire::error::Problem;
use serde_json::{Value, json};

use super::{host_keys, policy, refusal, request};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let machine = request::machine(&call)?;
        let policy = policy::of(call.region, machine.account).await?;
        let (_, record) = call.region.store().host_keys(machine.id).await.map_err(refusal::of_store)?;
        let output = json!({
            "InstanceId": machine.id.to_string(),
            "Policy": policy.as_str(),
            "Served": host_keys::served(policy, &record).is_some(),
            "Current": record.current.as_ref().map(shown).transpose()?,
            "Pending": record.pending.as_ref().map(shown).transpose()?,
            "Past": record.past.iter().map(shown).collect::<Result<Vec<_>, _>>()?,
        });
        Ok(request::answer(&call, &output).into())
    })
}

fn shown(set: &HostKeySet) -> Result<Value, Problem> {
    let keys = host_keys::keys(set)?;
    let key = |key: &PublicKey| json!({ "Line": key.line(), "Fingerprint": key.fingerprint() });
    Ok(json!({
        "Digest": keys.digest(),
        "Keys": keys.iter().map(key).collect::<Vec<_>>(),
        "Basis": set.basis.as_str(),
        "Proven": set.proven,
        "FirstSeen": set.first_seen.rfc3339(),
        "LastSeen": set.last_seen.rfc3339(),
        "BootGeneration": set.boot_generation,
        "AccessKeyId": set.access_key_id,
        "SourceAddress": set.source_address,
    }))
}
