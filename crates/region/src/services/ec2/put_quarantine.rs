//! `Inborn.PutQuarantine`: machines are let in nowhere, until they are released.

use inborn_store::Quarantine;
use inborn_wire::error::Problem;

use super::{quarantine, refusal, request, shape};
use crate::operation::{Call, Outcome, Reply};
use crate::quarantine::QuarantineError;

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let scopes = quarantine::subjects(call.parameters)?;
        let reason = call.parameters.root().get("Reason").unwrap_or_default();
        if reason.len() > Quarantine::REASON_BYTES_MAX {
            let message = format!("Reason has at most {} bytes", Quarantine::REASON_BYTES_MAX);
            return Err(refusal::invalid_value(message));
        }
        if reason.chars().any(char::is_control) {
            return Err(refusal::invalid_value("Reason is one line, without control characters"));
        }
        request::finish(call.parameters)?;
        quarantine::check(&call, &scopes).await?;
        for scope in &scopes {
            let by = call.caller.principal.arn();
            let quarantine = Quarantine { scope: *scope, reason: reason.to_owned(), by, since: call.now };
            call.region.put_into_quarantine(quarantine, call.caller.principal.account()).await.map_err(refused)?;
        }
        let answer = shape::done("Inborn.PutQuarantine", call.request_id);
        Ok(Reply { answer, response_elements: quarantine::subject_set(&scopes) })
    })
}

/// Why it was not done, or not everywhere.
pub(super) fn refused(error: QuarantineError) -> Problem {
    match error {
        error @ QuarantineError::TooMany => {
            Problem::Service { status: 400, code: "QuarantineLimitExceeded", message: error.to_string() }
        }
        // As of a store that is away: who tries again loses nothing.
        error @ QuarantineError::NotEverywhere(_) => {
            Problem::Service { status: 503, code: "Unavailable", message: error.to_string() }
        }
        error @ QuarantineError::NotYours(_) => refusal::invalid_value(error.to_string()),
        QuarantineError::Store(error) => refusal::of_store(error),
    }
}
