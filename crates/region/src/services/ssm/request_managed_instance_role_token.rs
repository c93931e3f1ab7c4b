//! `RequestManagedInstanceRoleToken`: an agent that has registered is given a session of the role that is passed.

use inborn_wire::success;
use serde_json::json;

use super::{agent, refusal};
use crate::operation::{JsonCall, Outcome, Reply};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let instance = agent::own_fingerprint(&call)?;
        agent::proven_key(&call, instance).await?;
        let account = call.caller.principal.account();
        let issued =
            call.region.issue_management(instance, call.now).ok_or_else(|| refusal::not_configured(account))?;
        let credential = &issued.credential;
        let output = json!({
            "AccessKeyId": credential.access_key_id.to_string(),
            "SecretAccessKey": credential.secret_access_key.expose(),
            "SessionToken": credential.session_token.expose(),
            "TokenExpirationDate": credential.expires_at.as_secs(),
            "UpdateKeyPair": false,
        });
        let response_elements = json!({
            "accessKeyId": credential.access_key_id.to_string(),
            "tokenExpirationDate": credential.expires_at.rfc3339(),
        });
        Ok(Reply { answer: success::aws_json(call.request_id, &output), response_elements })
    })
}
