//! `ListFilters`.

use serde_json::json;

use super::page::Page;
use super::request::{self, DETECTOR, Input};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, "maxResults", "nextToken"])?;
        let watched = request::detector(&call, &input)?;
        let (names, next) = Page::read(&input, &["filters", &watched.id])?.of_names(watched.filters.keys());
        Ok(request::answer(&call, &json!({"filterNames": names, "nextToken": next})))
    })
}
