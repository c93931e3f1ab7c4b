//! `GetDetector`.

use super::detector;
use super::request::{self, DETECTOR, Input};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR])?;
        let watched = request::detector(&call, &input)?;
        Ok(request::answer(&call, &detector::shown(&call, &watched)))
    })
}
