//! `GetCallerIdentity`: says back who the verifier found the caller to be.

use inborn_wire::error::Dialect;
use inborn_wire::success;

use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let principal = &call.caller.principal;
        let (arn, user_id, account) = (principal.arn(), principal.user_id(), principal.account().to_string());
        let answer = match call.dialect {
            Dialect::QueryJson => success::caller_identity_json(&arn, &user_id, &account, call.request_id),
            _ => success::caller_identity(&arn, &user_id, &account, call.request_id),
        };
        Ok(answer.into())
    })
}
