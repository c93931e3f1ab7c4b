//! `Inborn.PutHostKeyPolicy`: what the account demands of host keys from now on, also of those it has.

use super::{policy, request};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let policy = policy::set(&call).await?;
        Ok(request::answer(&call, &policy::shown(policy)).into())
    })
}
