//! `TerminateInstances`: from its answer on, nothing that was issued to the instances is accepted.

use inborn_store::{Change, StateReason};

use super::{shape, state_change};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let reason = StateReason {
            code: "Client.UserInitiatedShutdown".to_owned(),
            message: "Client.UserInitiatedShutdown: User initiated shutdown".to_owned(),
        };
        let all = state_change::change(&call, Change::Terminate { at: call.now, reason: Some(reason) }).await?;
        let answer = shape::state_changes("TerminateInstances", call.request_id, &all, shape::SHUTTING_DOWN);
        Ok(state_change::reply(answer, &all))
    })
}
