//! `Inborn.EndQuarantine`: machines are given credentials again; what they had before has ended for good.

use std::sync::Arc;

use inborn_store::Quarantine;

use super::{put_quarantine, quarantine, refusal, request, shape};
use crate::operation::{Call, Outcome, Reply};
use crate::quarantine::{QuarantineError, is_everywhere, may_end};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let scopes = quarantine::subjects(call.parameters)?;
        request::finish(call.parameters)?;
        let (account, region) = (call.caller.principal.account(), call.region.identity().account);
        let mut mine = known(&call);
        // Another server may have put it there a moment ago.
        if scopes.iter().any(|scope| mine.iter().all(|found| found.scope != *scope)) {
            call.region.hear_quarantines().await.map_err(refusal::of_store)?;
            mine = known(&call);
        }
        for scope in &scopes {
            let mut found = mine.iter().filter(|found| found.scope == *scope).peekable();
            if found.peek().is_none() {
                return Err(refusal::invalid_value(format!("{scope} is not in quarantine")));
            }
            // In any region: what the operators have there, the account does not undo by what it has elsewhere.
            if found.any(|found| !may_end(found, account, region)) {
                return Err(refusal::invalid_value(QuarantineError::NotYours(*scope).to_string()));
            }
        }
        for scope in &scopes {
            if !call.region.release(*scope, account, call.now).await.map_err(put_quarantine::refused)? {
                return Err(refusal::invalid_value(format!("{scope} is not in quarantine")));
            }
        }
        let answer = shape::done("Inborn.EndQuarantine", call.request_id);
        Ok(Reply { answer, response_elements: quarantine::subject_set(&scopes) })
    })
}

/// What the caller may see and end: here, and in every region what is in quarantine everywhere.
fn known(call: &Call<'_>) -> Vec<Arc<Quarantine>> {
    let mut known = quarantine::of_caller(call, call.region);
    for region in call.region.regions() {
        let there = quarantine::of_caller(call, &region);
        known.extend(there.into_iter().filter(|found| is_everywhere(found.scope)));
    }
    known
}
