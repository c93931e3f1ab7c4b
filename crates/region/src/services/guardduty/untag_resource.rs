//! `UntagResource`.

use super::refusal;
use super::request::{self, Input};
use super::tagged::{ARN, Tagged};
use crate::operation::{JsonCall, Outcome};

/// Most keys. Source: botocore's model.
const KEYS_MAX: usize = 200;
const KEYS: &str = "tagKeys";

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[ARN, KEYS])?;
        let keys =
            input.texts(KEYS, KEYS_MAX)?.filter(|keys| !keys.is_empty()).ok_or_else(|| refusal::missing(KEYS))?;
        let change = |tags: &mut crate::guardduty::settings::Tags| tags.retain(|key, _| !keys.contains(&key.as_str()));
        Tagged::of(&call, &input)?.change(&call, change).await?;
        Ok(request::no_content(&call))
    })
}
