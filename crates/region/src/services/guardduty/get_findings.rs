//! `GetFindings`: those that are there of those that are named.

use serde_json::json;

use super::finding::{self, Order};
use super::page::{Page, Place};
use super::refusal;
use super::request::{self, DETECTOR, Input};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, finding::IDS, finding::SORT])?;
        let watched = request::detector(&call, &input)?;
        let (ids, is_sorted) = (finding::ids(&input)?, input.has(finding::SORT));
        let order = Order::read(&input)?;
        let mut found = call.region.guardduty().findings(&watched.id, ids).await.map_err(refusal::of_store)?;
        if is_sorted {
            let places = found.iter().map(|found| Place::new(order.key(found), finding::text(found, "id"))).collect();
            let (sorted, _) = Page::read(&input, &["sorted"])?.of(places, order.descends);
            found.sort_by_key(|found| sorted.iter().position(|id| id == finding::text(found, "id")));
        }
        Ok(request::answer(&call, &json!({"findings": found})))
    })
}
