//! `GetCoverageStatistics`.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::coverage::{self, Filter};
use super::refusal;
use super::request::{self, DETECTOR, Input};
use crate::operation::{JsonCall, Outcome};

const TYPES: &str = "statisticsType";

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, coverage::FILTER, TYPES])?;
        let watched = request::detector(&call, &input)?;
        let filter = Filter::read(&input)?;
        let types = input.texts(TYPES, 10)?.filter(|types| !types.is_empty()).ok_or_else(|| refusal::missing(TYPES))?;
        let resources = coverage::resources(call.region, &watched, call.now);
        let mut statistics = Map::new();
        for kind in types {
            let (key, name) = match kind {
                "COUNT_BY_RESOURCE_TYPE" => ("RESOURCE_TYPE", "countByResourceType"),
                "COUNT_BY_COVERAGE_STATUS" => ("COVERAGE_STATUS", "countByCoverageStatus"),
                _ => return Err(refusal::invalid(TYPES)),
            };
            let mut counts: BTreeMap<&str, u64> = BTreeMap::new();
            for value in resources.iter().filter(|one| filter.passes(one)).filter_map(|one| one.get(key)) {
                *counts.entry(value).or_default() += 1;
            }
            statistics.insert(name.to_owned(), json!(counts));
        }
        Ok(request::answer(&call, &json!({"coverageStatistics": Value::Object(statistics)})))
    })
}
