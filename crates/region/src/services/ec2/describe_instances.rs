//! `DescribeInstances`: all, some by id, some by filter, in pages.

use std::collections::BTreeMap;

use inborn_identity::InstanceId;
use inborn_store::{Instance, InstanceQuery, InstanceState, StateReason};
use inborn_wire::error::Problem;

use super::filter::Filter;
use super::{filter, refusal, request, shape};
use crate::TERMINATED_SHOWN_SECONDS;
use crate::operation::{Call, Outcome};

/// Bounds of `MaxResults`. Source: EC2 API reference.
const PAGE_MIN: i32 = 5;
const PAGE_MAX: i32 = 1000;
/// The reason for the state of an instance that is in quarantine. AWS has none.
const QUARANTINE: &str = "Inborn.Quarantine";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let named = request::parse_ids(&root.list("InstanceId"))?;
        let filters = filter::read(call.parameters)?;
        let limit = root.integer("MaxResults", PAGE_MIN..=PAGE_MAX).map_err(Problem::Parameter)?;
        let after = root.get("NextToken").filter(|token| !token.is_empty()).map(read_token).transpose()?;
        request::finish(call.parameters)?;
        if !named.is_empty() && limit.is_some() {
            let message = "The parameter instancesSet cannot be used with the parameter maxResults";
            return Err(refusal::invalid_combination(message));
        }
        let (mut instances, next) = if named.is_empty() {
            page(&call, &filters, after, limit.and_then(|limit| usize::try_from(limit).ok())).await?
        } else {
            (by_id(&call, &named, &filters).await?, None)
        };
        for instance in &mut instances {
            tell_quarantine(&call, instance);
        }
        let mut reservations: BTreeMap<&str, Vec<&Instance>> = BTreeMap::new();
        for instance in &instances {
            reservations.entry(&instance.reservation_id).or_default().push(instance);
        }
        let answer = shape::response("DescribeInstances", call.request_id, |w| {
            w.list("reservationSet", "item", reservations.into_values(), |w, mut instances| {
                instances.sort_by_key(|instance| instance.ami_launch_index);
                shape::reservation(w, call.region.identity(), &instances, |instance| shape::state(instance.state));
            });
            if let Some(next) = next {
                w.leaf("nextToken", &write_token(next));
            }
        });
        Ok(answer.into())
    })
}

/// The instances of these ids; each must exist.
async fn by_id(
    call: &Call<'_>,
    ids: &[InstanceId],
    filters: &[Filter<'_, Instance>],
) -> Result<Vec<Instance>, Problem> {
    let account = call.caller.principal.account();
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for id in ids {
        match call.region.store().instance(*id).await.map_err(refusal::of_store)? {
            Some(instance) if instance.account == account && is_shown(call, &instance) => found.push(instance),
            _ => missing.push(*id),
        }
    }
    if !missing.is_empty() {
        return Err(refusal::not_found(&missing));
    }
    found.retain(|instance| filters.iter().all(|filter| filter.matches(instance)));
    Ok(found)
}

/// The next instances that pass the filters, at most `limit`, and where to go on if there are more.
async fn page(
    call: &Call<'_>,
    filters: &[Filter<'_, Instance>],
    after: Option<InstanceId>,
    limit: Option<usize>,
) -> Result<(Vec<Instance>, Option<InstanceId>), Problem> {
    let account = Some(call.caller.principal.account());
    let mut query = InstanceQuery { account, after, limit: InstanceQuery::LIMIT_MAX };
    let mut found: Vec<Instance> = Vec::new();
    loop {
        let page = call.region.store().instances(query).await.map_err(refusal::of_store)?;
        for instance in page.instances {
            if !is_shown(call, &instance) || !filters.iter().all(|filter| filter.matches(&instance)) {
                continue;
            }
            if limit == Some(found.len()) {
                let last = found.last().map(|instance| instance.id);
                return Ok((found, last));
            }
            found.push(instance);
        }
        match page.next {
            Some(next) => query.after = Some(next),
            None => return Ok((found, None)),
        }
    }
}

/// An instance in quarantine says so where it says why it is as it is.
fn tell_quarantine(call: &Call<'_>, instance: &mut Instance) {
    if instance.state != InstanceState::Terminated
        && let Some(found) = call.region.quarantine_of(instance)
    {
        let (since, by) = (found.since.rfc3339(), &found.by);
        let reason = if found.reason.is_empty() { "no reason was given" } else { &found.reason };
        let message = format!("{QUARANTINE}: {reason} (of {}, since {since}, by {by})", found.scope);
        instance.state_reason = Some(StateReason { code: QUARANTINE.to_owned(), message });
    }
}

/// A terminated instance is shown for an hour.
fn is_shown(call: &Call<'_>, instance: &Instance) -> bool {
    instance.state != InstanceState::Terminated
        || instance.terminated_at.is_some_and(|at| call.now.since(at) <= TERMINATED_SHOWN_SECONDS)
}

/// A page's token is the id it continues after: nothing to keep, nothing to leak that the caller has not seen.
fn write_token(after: InstanceId) -> String {
    format!("page-1-{after}")
}

fn read_token(token: &str) -> Result<InstanceId, Problem> {
    token
        .strip_prefix("page-1-")
        .and_then(|id| id.parse().ok())
        .ok_or_else(|| refusal::invalid_value("Unable to parse pagination token"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_tokens_round_trip() {
        let id = "i-0123456789abcdef0".parse().unwrap();
        assert_eq!(read_token(&write_token(id)).unwrap(), id);
        for token in ["", "page-1-", "page-2-i-0123456789abcdef0", "i-0123456789abcdef0"] {
            assert!(read_token(token).is_err(), "{token}");
        }
    }
}
