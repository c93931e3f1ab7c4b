//! `StopInstances`: the machine is off, so what was issued to it ends; after a start it gets new credentials.

use inborn_store::{Change, StateReason};

use super::{shape, state_change};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        // Both are about how a guest is shut down, and there is no guest to shut down here.
        ["Force", "Hibernate", "SkipOsShutdown"].iter().for_each(|name| call.parameters.ignore(name));
        let reason = StateReason {
            code: "Client.UserInitiatedShutdown".to_owned(),
            message: "Client.UserInitiatedShutdown: User initiated shutdown".to_owned(),
        };
        let change = Change::Stop { at: call.now, reason: Some(reason), cut_off: true };
        let all = state_change::change(&call, change).await?;
        let answer = shape::state_changes("StopInstances", call.request_id, &all, shape::STOPPING);
        Ok(state_change::reply(answer, &all))
    })
}
