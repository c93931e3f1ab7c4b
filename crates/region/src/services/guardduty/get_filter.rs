//! `GetFilter`.

use serde_json::json;

use super::request::{self, DETECTOR, Input};
use super::{filter, refusal};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, "filterName"])?;
        let watched = request::detector(&call, &input)?;
        let name = input.name("filterName", 1..=300)?;
        let (own, _) = watched.filters.get(name).ok_or_else(refusal::not_found)?;
        let output = json!({
            "name": name,
            "description": own.description,
            "action": filter::action(own),
            "rank": own.rank,
            "findingCriteria": {"criterion": own.criteria},
            "tags": own.tags,
            "createdAt": own.created_at,
            "updatedAt": own.updated_at,
            "version": own.version,
        });
        Ok(request::answer(&call, &output))
    })
}
