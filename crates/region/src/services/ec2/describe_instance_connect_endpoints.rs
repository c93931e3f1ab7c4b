//! `DescribeInstanceConnectEndpoints`: one endpoint in each subnet. They need not be made.

use std::collections::BTreeMap;

use inborn_wire::error::Problem;

use super::filter::{self, Filtered};
use super::{refusal, request, shape};
use crate::network::FOREIGN_SUBNET_BITS;
use crate::network::{ConnectEndpoint, Place};
use crate::operation::{Call, Outcome};

/// Bounds of `MaxResults`. Source: EC2 API reference.
const PAGE_MIN: i32 = 1;
const PAGE_MAX: i32 = 50;
const STATE: &str = "create-complete";

/// An endpoint with where it is.
struct Shown {
    place: Place,
    endpoint: ConnectEndpoint,
    zone: String,
}

static NO_TAGS: BTreeMap<String, String> = BTreeMap::new();

impl Filtered for Shown {
    fn field(name: &str) -> Option<fn(&Self) -> Option<String>> {
        Some(match name {
            "instance-connect-endpoint-id" => |shown| Some(shown.endpoint.id.clone()),
            "state" => |_| Some(STATE.to_owned()),
            "subnet-id" => |shown| Some(shown.place.subnet_id.clone()),
            "vpc-id" => |shown| Some(shown.place.vpc_id.clone()),
            "availability-zone" => |shown| Some(shown.zone.clone()),
            _ => return None,
        })
    }

    fn tags(&self) -> &BTreeMap<String, String> {
        &NO_TAGS
    }
}

fn endpoints(call: &Call<'_>) -> Vec<(Place, ConnectEndpoint)> {
    let addresses = call.region.machines().blocks(call.caller.principal.account(), FOREIGN_SUBNET_BITS);
    call.region.identity().connect_endpoints(call.account(), addresses.into_iter())
}

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let ids = root.list("InstanceConnectEndpointId");
        let filters = filter::read::<Shown>(call.parameters)?;
        let limit = root.integer("MaxResults", PAGE_MIN..=PAGE_MAX).map_err(Problem::Parameter)?;
        let after = root.get("NextToken").filter(|token| !token.is_empty());
        request::finish(call.parameters)?;
        let identity = call.region.identity();
        let account = call.caller.principal.account();
        let shown = |(place, endpoint)| Shown { place, endpoint, zone: identity.zone().to_string() };
        let mut found: Vec<Shown> = endpoints(&call).into_iter().map(shown).collect();
        if let Some(id) = ids.iter().find(|id| !found.iter().any(|shown| shown.endpoint.id == **id)) {
            return Err(refusal::connect_endpoint_not_found(id));
        }
        found.retain(|shown| ids.is_empty() || ids.contains(&shown.endpoint.id.as_str()));
        found.retain(|shown| filters.iter().all(|filter| filter.matches(shown)));
        // A page's token is the id of the last before it.
        found.retain(|shown| after.is_none_or(|after| shown.endpoint.id.as_str() > after));
        let limit = limit.and_then(|limit| usize::try_from(limit).ok()).unwrap_or(found.len());
        let (page, rest) = found.split_at(limit.min(found.len()));
        let next = page.last().filter(|_| !rest.is_empty()).map(|last| last.endpoint.id.as_str());
        let answer = shape::response("DescribeInstanceConnectEndpoints", call.request_id, |w| {
            w.list("instanceConnectEndpointSet", "item", page, |w, Shown { place, endpoint, zone }| {
                w.leaf("ownerId", &account.to_string());
                w.leaf("instanceConnectEndpointId", &endpoint.id);
                w.leaf("instanceConnectEndpointArn", &endpoint.arn);
                w.leaf("state", STATE);
                w.leaf("stateMessage", "");
                w.leaf("dnsName", &endpoint.dns_name);
                w.leaf("fipsDnsName", &endpoint.fips_dns_name);
                w.element("networkInterfaceIdSet", |w| w.leaf("item", &endpoint.interface_id));
                w.leaf("vpcId", &place.vpc_id);
                w.leaf("availabilityZone", zone);
                w.leaf("subnetId", &place.subnet_id);
                w.boolean("preserveClientIp", false);
                w.element("securityGroupIdSet", |w| w.leaf("item", &place.security_group_id));
                shape::tags(w, &NO_TAGS);
            });
            w.optional("nextToken", next);
        });
        Ok(answer.into())
    })
}
