//! What an account wants of the metadata options of new instances: `ModifyInstanceMetadataDefaults`.

use std::collections::BTreeSet;

use inborn_identity::{AccountId, HttpEndpoint, HttpTokens, MetadataOptions};
use inborn_store::{Conflict, MetadataOptionsChange, SettingChange, StoreError};
use inborn_wire::error::Problem;
use serde_json::{Map, Value, json};

use super::refusal;
use crate::RegionServer;
use crate::operation::Call;

/// How often a change is tried again that another one came before.
const ATTEMPTS_MAX: usize = 16;

/// The defaults of an account. What is `None` is no preference.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub(super) struct MetadataDefaults {
    /// What a launch gets that does not say otherwise.
    pub(super) options: MetadataOptionsChange,
    /// `HttpTokensEnforced`: whether nothing may be launched, or changed, to answer without a session token.
    pub(super) tokens_enforced: Option<bool>,
}

impl MetadataDefaults {
    /// The options of a launch that asked for `wanted`. Source: EC2 user guide, "Order of precedence for instance metadata
    /// options": launch, then account, then image (whose options are not known here).
    pub(super) fn launch_options(&self, wanted: MetadataOptionsChange) -> Result<MetadataOptions, Problem> {
        let options = wanted.apply(self.options.apply(MetadataOptions::default()));
        if self.tokens_enforced == Some(true) && options.http_tokens == HttpTokens::Optional {
            return Err(refusal::tokens_enforced_at_launch());
        }
        Ok(options)
    }

    /// Whether an instance's options may be changed so. Only what would let version 1 in again is refused.
    pub(super) fn check_change(&self, wanted: MetadataOptionsChange) -> Result<(), Problem> {
        match (self.tokens_enforced, wanted.http_tokens) {
            (Some(true), Some(HttpTokens::Optional)) => Err(refusal::tokens_enforced()),
            _ => Ok(()),
        }
    }

    fn to_json(self) -> Value {
        let MetadataOptionsChange { http_tokens, http_endpoint, hop_limit, ipv6: _, tags } = self.options;
        json!({
            "httpTokens": http_tokens.map(|value| value.to_string()),
            "httpEndpoint": http_endpoint.map(|value| value.to_string()),
            "httpPutResponseHopLimit": hop_limit,
            "instanceMetadataTags": tags,
            "httpTokensEnforced": self.tokens_enforced,
        })
    }

    /// `None` for what was never written there.
    fn from_json(text: &[u8]) -> Option<Self> {
        let members: Map<String, Value> = serde_json::from_slice(text).ok()?;
        let text = |name: &str| members.get(name).and_then(Value::as_str);
        let flag = |name: &str| members.get(name).and_then(Value::as_bool);
        let hop_limit = members.get("httpPutResponseHopLimit").and_then(Value::as_i64);
        Some(Self {
            options: MetadataOptionsChange {
                http_tokens: text("httpTokens").map(str::parse::<HttpTokens>).transpose().ok()?,
                http_endpoint: text("httpEndpoint").map(str::parse::<HttpEndpoint>).transpose().ok()?,
                hop_limit: hop_limit.map(MetadataOptions::check_hop_limit).transpose().ok()?,
                ipv6: None,
                tags: flag("instanceMetadataTags"),
            },
            tokens_enforced: flag("httpTokensEnforced"),
        })
    }
}

fn setting_name(account: AccountId) -> String {
    format!("ec2/metadata-defaults/{account}")
}

/// The defaults of the caller's account.
pub(super) async fn of_account(call: &Call<'_>) -> Result<MetadataDefaults, Problem> {
    let name = setting_name(call.caller.principal.account());
    let own = call.region.store().setting(&name).await.map_err(refusal::of_store)?;
    in_force(call.region, &name, own.as_deref()).await
}

/// What counts in a region that has `own`. One that has nothing yet, because it was not served or did not answer when the account was made,
/// has the home's until it has taken them over: version 1 is not let in meanwhile.
async fn in_force(region: &RegionServer, name: &str, own: Option<&[u8]>) -> Result<MetadataDefaults, Problem> {
    if own.is_some() || region.is_home() {
        return understood(own);
    }
    let of_home = region.home().store().setting(name).await.map_err(refusal::of_store)?;
    understood(of_home.as_deref())
}

fn understood(stored: Option<&[u8]>) -> Result<MetadataDefaults, Problem> {
    match stored {
        None => Ok(MetadataDefaults::default()),
        Some(text) => MetadataDefaults::from_json(text).ok_or_else(|| {
            // To go on without them could let version 1 in where the account forbids it.
            tracing::error!("the account's metadata defaults in the store are damaged: restore the data directory");
            Problem::Internal
        }),
    }
}

/// Changes the defaults of the caller's account; what others change at the same time is kept.
pub(super) async fn change(
    call: &Call<'_>,
    change: impl Fn(MetadataDefaults) -> MetadataDefaults,
) -> Result<(), Problem> {
    change_of(call.region, call.account(), change).await
}

/// The same of any account.
pub(super) async fn change_of(
    region: &RegionServer,
    account: AccountId,
    change: impl Fn(MetadataDefaults) -> MetadataDefaults,
) -> Result<(), Problem> {
    let name = setting_name(account);
    for _ in 0..ATTEMPTS_MAX {
        let expected = region.store().setting(&name).await.map_err(refusal::of_store)?;
        let before = in_force(region, &name, expected.as_deref()).await?;
        let value = change(before).to_json().to_string().into_bytes();
        match region.store().put_setting(SettingChange { name: name.clone(), expected, value }).await {
            Err(StoreError::Conflict(Conflict::SettingChanged(_))) => {}
            outcome => return outcome.map_err(refusal::of_store),
        }
    }
    Err(Problem::Unavailable)
}

/// Has a region that is not the home take over what accounts want, which it has nothing of yet: it was not served, or not there, when
/// they were made. Once for each account: what is changed in one region later is that region's.
pub(crate) async fn take_over(region: &RegionServer) -> Result<(), StoreError> {
    if region.is_home() {
        return Ok(());
    }
    let own: BTreeSet<String> = region.store().setting_names().await?.into_iter().collect();
    let accounts = region.accounts().all().into_iter().filter(|account| account.closed_at.is_none());
    let lacking = accounts.map(|account| setting_name(account.id)).filter(|name| !own.contains(name));
    for name in lacking {
        let nothing = || MetadataDefaults::default().to_json().to_string().into_bytes();
        let value = region.home().store().setting(&name).await?.unwrap_or_else(nothing);
        match region.store().put_setting(SettingChange { name, expected: None, value }).await {
            // Somebody has just said what the account wants here.
            Err(StoreError::Conflict(Conflict::SettingChanged(_))) => {}
            outcome => outcome?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn defaults(tokens_enforced: Option<bool>) -> MetadataDefaults {
        MetadataDefaults {
            options: MetadataOptionsChange {
                http_tokens: Some(HttpTokens::Optional),
                http_endpoint: Some(HttpEndpoint::Disabled),
                hop_limit: Some(64),
                ipv6: None,
                tags: Some(true),
            },
            tokens_enforced,
        }
    }

    #[test]
    fn what_is_stored_is_read_again() {
        for value in [MetadataDefaults::default(), defaults(Some(true)), defaults(Some(false)), defaults(None)] {
            assert_eq!(MetadataDefaults::from_json(value.to_json().to_string().as_bytes()), Some(value));
        }
        for damaged in ["", "[]", r#"{"httpTokens":"maybe"}"#, r#"{"httpPutResponseHopLimit":65}"#] {
            assert_eq!(MetadataDefaults::from_json(damaged.as_bytes()), None, "{damaged}");
        }
    }

    #[test]
    fn the_launch_comes_before_the_account() {
        let none = MetadataOptionsChange::default();
        let built_in = MetadataOptions::default();
        assert_eq!(MetadataDefaults::default().launch_options(none).unwrap(), built_in);
        let of_account = defaults(None).launch_options(none).unwrap();
        assert_eq!((of_account.http_tokens, of_account.hop_limit, of_account.tags), (HttpTokens::Optional, 64, true));
        let wanted = MetadataOptionsChange { http_tokens: Some(HttpTokens::Required), hop_limit: Some(2), ..none };
        let of_launch = defaults(None).launch_options(wanted).unwrap();
        assert_eq!((of_launch.http_tokens, of_launch.hop_limit, of_launch.tags), (HttpTokens::Required, 2, true));
    }

    #[test]
    fn enforced_tokens_cannot_be_given_up() {
        let none = MetadataOptionsChange::default();
        let optional = MetadataOptionsChange { http_tokens: Some(HttpTokens::Optional), ..none };
        let required = MetadataOptionsChange { http_tokens: Some(HttpTokens::Required), ..none };
        let enforced = MetadataDefaults { tokens_enforced: Some(true), ..MetadataDefaults::default() };
        assert!(enforced.launch_options(none).is_ok() && enforced.launch_options(optional).is_err());
        assert!(enforced.check_change(optional).is_err());
        assert!(enforced.check_change(required).is_ok() && enforced.check_change(none).is_ok());
        assert!(defaults(Some(true)).launch_options(none).is_err(), "the account's own default is refused too");
        assert!(defaults(Some(true)).launch_options(required).is_ok());
        assert!(
            defaults(Some(false)).launch_options(optional).is_ok() && defaults(None).check_change(optional).is_ok()
        );
    }
}
