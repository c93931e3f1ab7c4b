//! `Inborn.GetHostKeyPolicy`: what the account demands of host keys.

use super::{policy, request};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let policy = policy::of(call.region, call.caller.principal.account()).await?;
        Ok(request::answer(&call, &policy::shown(policy)).into())
    })
}
