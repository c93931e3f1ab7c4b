//! `ListTagsForResource`.

use serde_json::json;

use super::request::{self, Input};
use super::tagged::{ARN, Tagged};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[ARN])?;
        let tagged = Tagged::of(&call, &input)?;
        Ok(request::answer(&call, &json!({"tags": tagged.tags()})))
    })
}
