//! `TerminateSession`: an operator ends a session, whoever began it.

use inborn_store::SessionEnd;
use inborn_wire::error::Problem;
use inborn_wire::success;
use serde_json::json;

use super::{refusal, session};
use crate::operation::{JsonCall, Outcome};
use crate::sessions::End;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let details = format!("Terminated by {}.", call.caller.principal.arn());
        let id = session::session_id(&call)?;
        let is_here = call.region.sessions().get(id).is_some_and(|session| !session.has_moved());
        let is_carried = if is_here || call.region.fleet().is_none() {
            let session = session::open_session(&call)?;
            session.close(End::by_operator(details.clone()));
            session.over().await.map_err(refusal::of_store)?;
            // Another server has taken it up in this moment.
            session.has_moved()
        } else {
            true
        };
        if is_carried {
            end_elsewhere(&call, id, details).await?;
        }
        Ok(success::aws_json(call.request_id, &json!({"SessionId": id})).into())
    })
}

/// Ends a session whichever server carries it, or none: that one hears of it.
async fn end_elsewhere(call: &JsonCall<'_>, id: &str, details: String) -> Result<(), Problem> {
    let (region, account) = (call.region, call.caller.principal.account());
    let found = region.store().session(id.to_owned()).await.map_err(refusal::of_store)?;
    let record = found.filter(|record| record.account == account).ok_or_else(|| refusal::no_session(id))?;
    let end = SessionEnd { at: call.now, status: "Terminated".to_owned(), details };
    if !region.store().end_session(id.to_owned(), end.clone(), None).await.map_err(refusal::of_store)? {
        return Err(refusal::no_session(id));
    }
    region.record_end_of_session(&record, &end.status, &end.details, call.now);
    Ok(())
}
