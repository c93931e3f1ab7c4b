//! `DescribeRegions`: the regions of this deployment. All are on for every account: there is nothing to opt in to.

use std::collections::BTreeMap;

use inborn_wire::error::Problem;

use super::filter::{self, Filter, Filtered};
use super::{refusal, request, shape};
use crate::operation::{Call, Outcome};

/// What every region here is. Source: EC2 API reference, `Region`, `optInStatus`.
const OPT_IN_STATUS: &str = "opt-in-not-required";

/// A region as it is shown.
struct Shown {
    name: String,
    endpoint: String,
}

impl Filtered for Shown {
    fn field(name: &str) -> Option<fn(&Self) -> Option<String>> {
        Some(match name {
            "region-name" => |region| Some(region.name.clone()),
            "endpoint" => |region| Some(region.endpoint.clone()),
            "opt-in-status" => |_| Some(OPT_IN_STATUS.to_owned()),
            _ => return None,
        })
    }

    fn tags(&self) -> &BTreeMap<String, String> {
        static NONE: BTreeMap<String, String> = BTreeMap::new();
        &NONE
    }
}

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let names = root.list("RegionName");
        root.boolean("AllRegions").map_err(Problem::Parameter)?;
        let filters = filter::read(call.parameters)?;
        request::finish(call.parameters)?;
        let domain = &call.region.identity().domain;
        let shown = |name: String| Shown { endpoint: format!("ec2.{name}.{domain}"), name };
        let mut all: Vec<Shown> = call.region.region_names().iter().map(|region| shown(region.to_string())).collect();
        all.sort_by(|a, b| a.name.cmp(&b.name));
        if let Some(unknown) = names.iter().find(|name| !all.iter().any(|region| region.name == **name)) {
            let unknown: String = unknown.chars().take(64).collect();
            return Err(refusal::invalid_value(format!("Invalid region: [{unknown}]")));
        }
        all.retain(|region| names.is_empty() || names.contains(&region.name.as_str()));
        all.retain(|region| filters.iter().all(|filter: &Filter<'_, Shown>| filter.matches(region)));
        let answer = shape::response("DescribeRegions", call.request_id, |w| {
            w.list("regionInfo", "item", &all, |w, region| {
                w.leaf("regionName", &region.name);
                w.leaf("regionEndpoint", &region.endpoint);
                w.leaf("optInStatus", OPT_IN_STATUS);
            });
        });
        Ok(answer.into())
    })
}
