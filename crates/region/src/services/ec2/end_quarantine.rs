//! `Inborn.EndQuarantine`: machines are given credentials again; what they had before has ended for good.

use inborn_store::QuarantineScope;

use super::{quarantine, refusal, request, shape};
use crate::operation::{Call, Outcome, Reply};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let scopes = quarantine::subjects(call.parameters)?;
        request::finish(call.parameters)?;
        let mine: Vec<QuarantineScope> = quarantine::of_caller(&call).iter().map(|found| found.scope).collect();
        if let Some(other) = scopes.iter().find(|scope| !mine.contains(scope)) {
            return Err(refusal::invalid_value(format!("{other} is not in quarantine")));
        }
        for scope in &scopes {
            if !call.region.release(*scope, call.now).await.map_err(refusal::of_store)? {
                return Err(refusal::invalid_value(format!("{scope} is not in quarantine")));
            }
        }
        let answer = shape::done("Inborn.EndQuarantine", call.request_id);
        Ok(Reply { answer, response_elements: quarantine::subject_set(&scopes) })
    })
}
