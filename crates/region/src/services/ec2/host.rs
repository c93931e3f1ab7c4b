//! What the operations for hosts read and answer in the same way. AWS has hosts that are dedicated to somebody; that one joins,
//! is drained or evicted it has no word for, so the operations are ours.

use inborn_identity::HostId;
use inborn_store::{Host, HostState, QuarantineScope, StoreError};
use inborn_wire::error::Problem;
use inborn_wire::query::Structure;
use inborn_wire::xml::Writer;
use serde_json::json;

use super::{refusal, request, shape};
use crate::hosts::MACHINES_MAX;
use crate::operation::{Call, Reply};

/// Hosts serve several accounts: they are for operators of the region's own.
pub(super) fn check_caller(call: &Call<'_>, operation: &str) -> Result<(), Problem> {
    let principal = &call.caller.principal;
    if principal.account() == call.region.identity().account {
        return Ok(());
    }
    Err(Problem::AccessDenied { principal: principal.arn(), action: format!("ec2:{operation}"), resource: None })
}

/// `HostId`.
pub(super) fn id(root: &Structure<'_>) -> Result<HostId, Problem> {
    parse_id(root.get("HostId").ok_or_else(|| refusal::missing_parameter("HostId"))?)
}

fn parse_id(text: &str) -> Result<HostId, Problem> {
    text.parse().map_err(|_| refusal::malformed_host_id(text))
}

/// `Placement.HostId`.
pub(super) fn placement(placement: &Structure<'_>) -> Result<Option<HostId>, Problem> {
    placement.get("HostId").map(parse_id).transpose()
}

/// Whether so many machines of the caller's account may be placed on a host. The store asks again when it is done.
pub(super) async fn check_placement(call: &Call<'_>, id: HostId, count: usize) -> Result<(), Problem> {
    let account = call.caller.principal.account();
    let host = call.region.host_soon(id).await.map_err(refusal::of_store)?;
    let host = host.filter(|host| host.accounts.contains(&account));
    // Whoever may not use a host does not learn that there is one.
    let host = host.ok_or_else(|| refusal::host_not_found(id))?;
    if host.state != HostState::Active {
        return Err(refusal::host_state(id));
    }
    if call.region.hosts().count_on(id) + count > MACHINES_MAX {
        return Err(refusal::host_capacity(id));
    }
    Ok(())
}

/// Drains or evicts a host.
pub(super) async fn change<'a, F>(
    call: &Call<'a>,
    operation: &'static str,
    change: impl FnOnce(HostId) -> F,
) -> Result<Reply, Problem>
where
    F: Future<Output = Result<Option<std::sync::Arc<Host>>, StoreError>>,
{
    check_caller(call, operation)?;
    let id = id(&call.parameters.root())?;
    request::finish(call.parameters)?;
    let changed = change(id).await.map_err(refusal::of_store)?;
    let host = changed.ok_or_else(|| refusal::host_not_found(id))?;
    let answer = shape::response(operation, call.request_id, |w| write(w, call, &host));
    Ok(Reply { answer, response_elements: json!({ "hostId": id.to_string(), "state": host.state.as_str() }) })
}

/// A host and what is on it.
pub(super) fn write(w: &mut Writer, call: &Call<'_>, host: &Host) {
    w.leaf("hostId", &host.id.to_string());
    w.leaf("name", &host.name);
    w.leaf("state", host.state.as_str());
    let is_quarantined = call.region.quarantines().has(QuarantineScope::Host(host.id));
    w.boolean("isQuarantined", is_quarantined);
    w.list("accountSet", "item", &host.accounts, |w, account| w.leaf("accountId", &account.to_string()));
    w.integer("instanceCount", i64::try_from(call.region.hosts().count_on(host.id)).unwrap_or(i64::MAX));
    w.leaf("joinTime", &shape::milliseconds(host.joined_at));
    w.leaf("seenTime", &shape::milliseconds(call.region.hosts().seen_at(host)));
}
