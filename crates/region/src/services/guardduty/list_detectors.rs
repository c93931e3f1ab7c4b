//! `ListDetectors`: none or one.

use serde_json::json;

use super::page::Page;
use super::request::{self, Input};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &["maxResults", "nextToken"])?;
        let page = Page::read(&input, &["detectors"])?;
        let watched = call.region.guardduty().of(request::account(&call));
        let (ids, next) = page.of_names(watched.iter().map(|watched| &watched.id));
        Ok(request::answer(&call, &json!({"detectorIds": ids, "nextToken": next})))
    })
}
