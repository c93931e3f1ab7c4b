//! `ListFindings`: ids, by criteria, in an order.

use serde_json::json;

use super::finding::{self, Order};
use super::page::{Page, Place};
use super::refusal;
use super::request::{self, DETECTOR, Input};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let known = [DETECTOR, "findingCriteria", finding::SORT, "maxResults", "nextToken"];
        let input = Input::of(&call, &known)?;
        let watched = request::detector(&call, &input)?;
        let (given, criteria) = input.criteria()?.unwrap_or_default();
        let order = Order::read(&input)?;
        let criterion = serde_json::Value::Object(given).to_string();
        let list = ["findings", &watched.id, &criterion, &order.place, if order.descends { "down" } else { "up" }];
        let page = Page::read(&input, &list)?;
        let mut places = Vec::new();
        let look = |found: serde_json::Value| {
            if criteria.meets(&found) {
                places.push(Place::new(order.key(&found), finding::text(&found, "id")));
            }
        };
        call.region.guardduty().each_finding(&watched.id, look).await.map_err(refusal::of_store)?;
        let (ids, next) = page.of(places, order.descends);
        // An empty text ends the list, as at AWS: some clients look at nothing else.
        Ok(request::answer(&call, &json!({"findingIds": ids, "nextToken": next.unwrap_or_default()})))
    })
}
