//! `ListCoverage`.

use std::collections::BTreeMap;

use serde_json::{Value, json};

use super::coverage::{self, Filter};
use super::page::{Page, Place, SortKey};
use super::refusal;
use super::request::{self, DETECTOR, Input};
use crate::operation::{JsonCall, Outcome};

const SORT: &str = "sortCriteria";
const ATTRIBUTES: [&str; 9] = [
    "ACCOUNT_ID",
    "COVERAGE_STATUS",
    "ISSUE",
    "ADDON_VERSION",
    "UPDATED_AT",
    "CLUSTER_NAME",
    "EKS_CLUSTER_NAME",
    "ECS_CLUSTER_NAME",
    "INSTANCE_ID",
];

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, "nextToken", "maxResults", coverage::FILTER, SORT])?;
        let watched = request::detector(&call, &input)?;
        let filter = Filter::read(&input)?;
        let sort = input.object(SORT, &["attributeName", "orderBy"])?;
        let (attribute, descends) = match &sort {
            None => ("INSTANCE_ID", false),
            Some(sort) => {
                let attribute = sort.one_of("attributeName", &ATTRIBUTES)?.unwrap_or("INSTANCE_ID");
                (attribute, sort.one_of("orderBy", &["ASC", "DESC"])? == Some("DESC"))
            }
        };
        // Source: API reference, `CoverageSortCriteria`: for machines this is an error.
        if attribute == "ISSUE" {
            return Err(refusal::invalid(SORT));
        }
        let direction = if descends { "down" } else { "up" };
        let page = Page::read(&input, &["coverage", &watched.id, &filter.text(), attribute, direction])?;
        let resources = coverage::resources(call.region, &watched, call.now);
        let meant = resources.iter().filter(|resource| filter.passes(resource));
        let meant: BTreeMap<&str, &coverage::Resource> = meant.map(|one| (one.instance.as_str(), one)).collect();
        let key = |resource: &coverage::Resource| match attribute {
            "UPDATED_AT" => SortKey::Number(resource.updated_at().as_secs() as f64),
            attribute => resource.get(attribute).map_or(SortKey::Absent, |text| SortKey::Text(text.to_owned())),
        };
        let places = meant.iter().map(|(name, resource)| Place::new(key(resource), name)).collect();
        let (ids, next) = page.of(places, descends);
        let shown = ids.iter().filter_map(|id| meant.get(id.as_str())).map(|resource| resource.shown(&watched.id));
        Ok(request::answer(&call, &json!({"resources": shown.collect::<Vec<Value>>(), "nextToken": next})))
    })
}
