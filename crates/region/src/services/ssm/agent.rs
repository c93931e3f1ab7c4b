//! What the operations of an agent have in common: whose it is, and its key.

use inborn_credential::AgentKey;
use inborn_identity::InstanceId;
use inborn_wire::constraint;
use inborn_wire::error::Problem;

use super::refusal;
use crate::operation::JsonCall;

/// Shortest public key in base64: RSA of 2048 bits. Source: botocore's model, `PublicKey`.
const PUBLIC_KEY_LENGTH_MIN: usize = 392;
/// Longest: RSA of 8192 bits has 1416 characters.
const PUBLIC_KEY_LENGTH_MAX: usize = 2048;

/// The machine that called, which must also be the one that it says it is.
pub(super) fn own_fingerprint(call: &JsonCall<'_>) -> Result<InstanceId, Problem> {
    let own = own_instance(call)?;
    let fingerprint = call.parameters.require_text("Fingerprint")?;
    if fingerprint == own.to_string() { Ok(own) } else { Err(refusal::fingerprint()) }
}

/// The machine that called.
pub(super) fn own_instance(call: &JsonCall<'_>) -> Result<InstanceId, Problem> {
    // The table lets only machines in.
    call.caller.principal.instance().ok_or(Problem::Internal)
}

/// The machine that called with its management session, which must also be the one that `member` names: what is passed to a
/// machine is for itself alone.
pub(crate) fn own_target(
    call: &JsonCall<'_>,
    service: &str,
    operation: &str,
    member: &str,
) -> Result<InstanceId, Problem> {
    let own = own_instance(call)?;
    let target = call.parameters.require_text(member)?;
    if target == own.to_string() {
        return Ok(own);
    }
    let identity = call.region.identity();
    let shown: String = target.chars().take(128).collect();
    Err(Problem::AccessDenied {
        principal: call.caller.principal.arn(),
        action: format!("{service}:{operation}"),
        resource: Some(format!(
            "arn:{}:ec2:{}:{}:instance/{shown}",
            identity.partition,
            identity.region,
            call.account()
        )),
    })
}

/// The public key in `member`, and its type in the member beside it.
pub(super) fn public_key(call: &JsonCall<'_>, member: &str) -> Result<AgentKey, Problem> {
    let text = call.parameters.require_text(member)?;
    constraint::length(member, text, PUBLIC_KEY_LENGTH_MIN..=PUBLIC_KEY_LENGTH_MAX)?;
    if call.parameters.require_text(&format!("{member}Type"))? != "Rsa" {
        return Err(refusal::public_key());
    }
    AgentKey::parse(text).ok_or_else(refusal::public_key)
}

/// The key that the machine has registered, which has made the second signature of this request.
pub(super) async fn proven_key(call: &JsonCall<'_>, instance: InstanceId) -> Result<AgentKey, Problem> {
    let found = call.region.agents().find(instance).await.map_err(refusal::of_store)?;
    let found = found.ok_or_else(|| refusal::not_registered(&instance.to_string()))?;
    let key = AgentKey::from_der(found.public_key).ok_or_else(|| {
        tracing::error!(%instance, "the stored key of an agent is damaged");
        Problem::Internal
    })?;
    if !call.second_signature.is_some_and(|signature| signature.is_by(&key)) {
        return Err(refusal::second_signature());
    }
    // It may have registered at another server a moment ago. Only who has proved that it did makes this one look, and once.
    // Of an earlier registration it would be given what the others do not let in.
    if call.region.agents().since(instance) != Some(found.registered_at) {
        call.region.hear_agent(instance).await.map_err(refusal::of_store)?;
    }
    Ok(key)
}
