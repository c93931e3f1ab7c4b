//! `RebootInstances`: a new boot generation, and with it new credentials. The old ones stay good until their own
//! expiration, as on EC2: whoever in the guest still holds one is the same machine.

use inborn_store::Change;

use super::{shape, state_change};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let all = state_change::change(&call, Change::Reboot { at: call.now, cut_off: false }).await?;
        Ok(state_change::reply(shape::done("RebootInstances", call.request_id), &all))
    })
}
