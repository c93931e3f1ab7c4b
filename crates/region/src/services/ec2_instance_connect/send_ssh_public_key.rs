//! `SendSSHPublicKey`: an operator may log in to a machine with a key for a minute.

use serde_json::json;

use super::{refusal, request, user_key};
use crate::operation::{JsonCall, Outcome};
use crate::user_keys::Sending;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let (id, user) = (user_key::instance(&call)?, user_key::user(&call)?);
        let (key, zone) = (user_key::key(&call)?, user_key::zone(&call)?);
        let machine = user_key::running(&call, id, zone).await?;
        let caller = call.caller.principal.arn();
        let sending =
            Sending { machine: &machine, user, key: &key, caller: &caller, request_id: call.request_id, now: call.now };
        call.region.send_user_key(&sending).map_err(refusal::not_sent)?;
        Ok(request::answer(&call, &json!({ "RequestId": call.request_id, "Success": true })).into())
    })
}
