//! `DeleteDetector`: with all that was set up at it, and all that it found.

use super::refusal;
use super::request::{self, DETECTOR, Input};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR])?;
        let watched = request::detector(&call, &input)?;
        let deleted = call.region.guardduty().delete(watched.account, &watched.id).await;
        if deleted.map_err(refusal::of_store)? { Ok(request::done(&call)) } else { Err(refusal::not_owned()) }
    })
}
