//! `Inborn.RevokeJoinTokens`: no token that was made lets a host join any more.

use serde_json::json;

use super::{host, refusal, request, shape};
use crate::operation::{Call, Outcome, Reply};

const NAME: &str = "Inborn.RevokeJoinTokens";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        host::check_caller(&call, NAME)?;
        request::finish(call.parameters)?;
        let revoked = call.region.revoke_join_tokens(call.now).await.map_err(refusal::of_store)?;
        let answer = shape::response(NAME, call.request_id, |w| w.leaf("revokedTokenCount", &revoked.to_string()));
        Ok(Reply { answer, response_elements: json!({ "revokedTokenCount": revoked }) })
    })
}
