//! `StartInstances`: a new boot generation, and with it new credentials.

use inborn_store::Change;

use super::{shape, state_change};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let all = state_change::change(&call, Change::Start { at: call.now, cut_off: false }).await?;
        let answer = shape::state_changes("StartInstances", call.request_id, &all, shape::PENDING);
        Ok(state_change::reply(answer, &all))
    })
}
