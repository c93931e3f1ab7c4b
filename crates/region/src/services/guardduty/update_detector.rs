//! `UpdateDetector`.

use super::request::{self, DETECTOR, Input};
use super::{detector, refusal};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, "enable", detector::FREQUENCY, "dataSources", "features"])?;
        let watched = request::detector(&call, &input)?;
        let now = call.now.as_secs();
        let change = |settings: &mut _| detector::set(settings, &input, now);
        let changed = call.region.guardduty().change(watched.account, &watched.id, call.now, change).await;
        changed.map_err(refusal::of_change)?;
        Ok(request::done(&call))
    })
}
