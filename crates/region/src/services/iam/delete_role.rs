//! `DeleteRole`: a role goes, and its sessions are nobody's.

use super::{refusal, request, shape};
use crate::RegionServer;
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let name = request::role_name(call.parameters)?;
        request::finish(call.parameters)?;
        let role =
            call.region.roles().get(call.account(), &name).ok_or_else(|| refusal::no_such_role(name.as_str()))?;
        if request::is_protected(&name) {
            return Err(refusal::protected(role.name.as_str()));
        }
        let is_passed = |region: &RegionServer| {
            region.host_management().of(call.account()).setting().role().as_ref() == Some(&role.name)
        };
        if call.region.regions().iter().any(|region| is_passed(region)) {
            return Err(refusal::passed(role.name.as_str()));
        }
        let deleted = call.region.roles().delete(call.account(), &name).await;
        call.region.home().high_water.count_end_by(&deleted);
        if !deleted.map_err(refusal::of_store)? {
            return Err(refusal::no_such_role(name.as_str()));
        }
        // Its sessions in other regions may have something open.
        call.region.end_everywhere_what_no_longer_stands();
        Ok(shape::done("DeleteRole", call.request_id).into())
    })
}
