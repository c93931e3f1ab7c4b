//! `UpdateFilter`.

use serde_json::json;

use super::request::{self, DETECTOR, Input};
use super::{filter, refusal};
use crate::guardduty::settings::Filter;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let known = [DETECTOR, "filterName", "description", "action", "rank", "findingCriteria"];
        let input = Input::of(&call, &known)?;
        let watched = request::detector(&call, &input)?;
        let name = input.name("filterName", 1..=300)?;
        let change = |before: Option<&Filter>, _| {
            let mut own = before.ok_or_else(refusal::not_found)?.clone();
            let criteria = filter::set(&mut own, &input)?;
            (own.updated_at, own.version) = (call.now.as_secs(), own.version.saturating_add(1));
            Ok((own, criteria))
        };
        let put = call.region.guardduty().put_filter(watched.account, &watched.id, name, change).await;
        put.map_err(refusal::of_change)?;
        Ok(request::answer(&call, &json!({"name": name})))
    })
}
