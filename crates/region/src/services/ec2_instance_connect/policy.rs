//! What an account demands of the host keys of its machines, and whether they are certified: settings.

use inborn_identity::AccountId;
use inborn_ssh::Policy;
use inborn_wire::error::Problem;
use serde_json::json;

use super::{certificates, refusal, setting};
use crate::RegionServer;
use crate::operation::JsonCall;

pub(super) const POLICY: &str = "Policy";

fn name(account: AccountId) -> String {
    format!("host-key-policy {account}")
}

pub(super) async fn of(region: &RegionServer, account: AccountId) -> Result<Policy, Problem> {
    let name = name(account);
    match setting::read(region, &name).await? {
        None => Ok(Policy::default()),
        Some(text) => text.parse().map_err(|_| setting::damaged(&name)),
    }
}

pub(super) async fn set(call: &JsonCall<'_>, text: &str) -> Result<(), Problem> {
    let policy: Policy = text.parse().map_err(|error: inborn_ssh::PolicyError| refusal::invalid(error.to_string()))?;
    setting::write(call.region, &name(call.caller.principal.account()), policy.as_str()).await
}

/// Both settings of the caller's account, and the key that signs certificates.
pub(super) async fn shown(call: &JsonCall<'_>) -> Result<serde_json::Value, Problem> {
    let account = call.caller.principal.account();
    Ok(json!({
        POLICY: of(call.region, account).await?.as_str(),
        certificates::CERTIFICATES: certificates::word(certificates::are_enabled(call.region, account).await?),
        "CertificateAuthority": call.region.ssh_authority().public_key().bare_line(),
    }))
}
