//! What an account demands of the host keys of its machines: a setting.

use inborn_identity::AccountId;
use inborn_ssh::Policy;
use inborn_store::{Conflict, SettingChange, StoreError};
use inborn_wire::error::Problem;
use serde_json::json;

use super::refusal;
use crate::RegionServer;
use crate::operation::JsonCall;

pub(super) const POLICY: &str = "Policy";
/// How often a setting is read again because somebody else has set it.
const TRIES: u32 = 5;

fn name(account: AccountId) -> String {
    format!("host-key-policy {account}")
}

pub(super) async fn of(region: &RegionServer, account: AccountId) -> Result<Policy, Problem> {
    match region.store().setting(&name(account)).await.map_err(refusal::of_store)? {
        None => Ok(Policy::default()),
        Some(bytes) => String::from_utf8(bytes).ok().and_then(|text| text.parse().ok()).ok_or_else(|| {
            // Nobody can know which was meant, and the weaker one must not be guessed.
            tracing::error!(%account, "the policy of host keys in the store is damaged: set it again");
            Problem::Internal
        }),
    }
}

pub(super) async fn set(call: &JsonCall<'_>) -> Result<Policy, Problem> {
    let text = call.parameters.require_text(POLICY)?;
    let policy: Policy = text.parse().map_err(|error: inborn_ssh::PolicyError| refusal::invalid(error.to_string()))?;
    let name = name(call.caller.principal.account());
    for _ in 0..TRIES {
        let expected = call.region.store().setting(&name).await.map_err(refusal::of_store)?;
        let change = SettingChange { name: name.clone(), expected, value: policy.as_str().as_bytes().to_vec() };
        match call.region.store().put_setting(change).await {
            Err(StoreError::Conflict(Conflict::SettingChanged(_))) => {}
            other => return other.map(|()| policy).map_err(refusal::of_store),
        }
    }
    Err(Problem::Unavailable)
}

pub(super) fn shown(policy: Policy) -> serde_json::Value {
    json!({ POLICY: policy.as_str() })
}
