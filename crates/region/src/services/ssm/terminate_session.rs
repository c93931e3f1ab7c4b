//! `TerminateSession`: an operator ends a session, whoever began it.

use inborn_wire::success;
use serde_json::json;

use super::{refusal, session};
use crate::operation::{JsonCall, Outcome};
use crate::sessions::End;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let session = session::open_session(&call)?;
        session.close(End::terminated(format!("Terminated by {}.", call.caller.principal.arn()), ""));
        session.over().await.map_err(refusal::of_store)?;
        Ok(success::aws_json(call.request_id, &json!({"SessionId": session.record.id})).into())
    })
}
