//! `Inborn.GetHostKeyPolicy`: what the account demands of host keys, whether they are certified, and by whom.

use super::{policy, request};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let settings = policy::shown(&call).await?;
        Ok(request::answer(&call, &settings).into())
    })
}
