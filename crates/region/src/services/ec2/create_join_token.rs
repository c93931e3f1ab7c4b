//! `Inborn.CreateJoinToken`: what lets one host join, once and not for long.

use std::collections::BTreeSet;

use inborn_identity::AccountId;
use inborn_store::Host;
use inborn_wire::error::Problem;
use serde_json::json;

use super::{account, host, refusal, request, shape};
use crate::OpenError;
use crate::hosts::{JOIN_TOKEN_SECONDS, JOIN_TOKEN_SECONDS_DEFAULT};
use crate::operation::{Call, Outcome, Reply};

const NAME: &str = "Inborn.CreateJoinToken";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        host::check_caller(&call, NAME)?;
        let root = call.parameters.root();
        let accounts = accounts(&root.list("AccountId"), call.caller.principal.account())?;
        let seconds = root.integer("Seconds", JOIN_TOKEN_SECONDS).map_err(Problem::Parameter)?;
        let seconds = seconds.and_then(|seconds| u64::try_from(seconds).ok()).unwrap_or(JOIN_TOKEN_SECONDS_DEFAULT);
        request::finish(call.parameters)?;
        call.region.must_be_open(&accounts).await.map_err(account::of_error)?;
        let shown: Vec<String> = accounts.iter().map(AccountId::to_string).collect();
        let made = call.region.create_join_token(accounts, seconds, call.now).await;
        let (token, expires_at) = made.map_err(|error| match error {
            OpenError::Store(error) => refusal::of_store(error),
            error => {
                tracing::error!(%error, "no join token could be made");
                Problem::Internal
            }
        })?;
        let answer = shape::response(NAME, call.request_id, |w| {
            w.leaf("joinToken", &token.expose());
            w.leaf("expirationTime", &shape::milliseconds(expires_at));
            w.list("accountSet", "item", &shown, |w, account| w.leaf("accountId", account));
        });
        Ok(Reply { answer, response_elements: json!({ "expirationTime": expires_at.rfc3339(), "accountSet": shown }) })
    })
}

/// The accounts whose machines the host may have; the caller's own if none is named.
fn accounts(texts: &[&str], own: AccountId) -> Result<BTreeSet<AccountId>, Problem> {
    let invalid = |text: &str| {
        let shown: String = text.chars().take(64).collect();
        refusal::invalid_value(format!("Value ({shown}) for parameter AccountId is invalid. It has 12 digits"))
    };
    let mut accounts: BTreeSet<AccountId> =
        texts.iter().map(|text| text.parse().map_err(|_| invalid(text))).collect::<Result<_, _>>()?;
    if accounts.is_empty() {
        accounts.insert(own);
    }
    if accounts.len() > Host::ACCOUNTS_MAX {
        return Err(refusal::invalid_value(format!("A host serves at most {} accounts", Host::ACCOUNTS_MAX)));
    }
    Ok(accounts)
}
