//! `Inborn.EndQuarantine`: machines are given credentials again; what they had before has ended for good.

use super::{put_quarantine, quarantine, refusal, request, shape};
use crate::operation::{Call, Outcome, Reply};
use crate::quarantine::{QuarantineError, is_everywhere, may_end};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let scopes = quarantine::subjects(call.parameters)?;
        request::finish(call.parameters)?;
        let (account, region) = (call.caller.principal.account(), call.region.identity().account);
        let mut mine = quarantine::of_caller(&call, call.region);
        for region in call.region.regions() {
            let there = quarantine::of_caller(&call, &region);
            mine.extend(there.into_iter().filter(|found| is_everywhere(found.scope)));
        }
        for scope in &scopes {
            match mine.iter().find(|found| found.scope == *scope) {
                None => return Err(refusal::invalid_value(format!("{scope} is not in quarantine"))),
                Some(found) if !may_end(found, account, region) => {
                    return Err(refusal::invalid_value(QuarantineError::NotYours(*scope).to_string()));
                }
                Some(_) => {}
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
