//! `TagResource`.

use super::refusal;
use super::request::{self, Input};
use super::tagged::{ARN, Tagged};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[ARN, "tags"])?;
        let tags = input.tags()?.ok_or_else(|| refusal::missing("tags"))?;
        Tagged::of(&call, &input)?.change(&call, |own| own.extend(tags.clone())).await?;
        Ok(request::no_content(&call))
    })
}
