//! `CreateTags`, on instances: nothing else here has tags.

use std::collections::BTreeMap;

use inborn_identity::InstanceId;
use inborn_store::{Change, ChangeRequest};
use inborn_wire::error::Problem;

use super::{refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let instances = resources(&call)?;
        let set = request::tags(&call.parameters.root())?;
        if set.is_empty() {
            return Err(refusal::missing_parameter("Tag"));
        }
        for id in &instances {
            check(&call, *id, &set)?;
        }
        request::finish(call.parameters)?;
        let change = Change::Tags { set, remove: Vec::new() };
        let request = ChangeRequest { account: call.caller.principal.account(), instances, change };
        call.region.machines().change(request).await.map_err(refusal::of_store)?;
        Ok(shape::done("CreateTags", call.request_id).into())
    })
}

/// `ResourceId.1`, …, all of them instances.
pub(super) fn resources(call: &Call<'_>) -> Result<Vec<InstanceId>, Problem> {
    let texts = call.parameters.root().list("ResourceId");
    if texts.is_empty() {
        return Err(refusal::missing_parameter("ResourceId"));
    }
    request::parse_ids(&texts)
}

/// The limit counts what the instance has already.
fn check(call: &Call<'_>, id: InstanceId, set: &BTreeMap<String, String>) -> Result<(), Problem> {
    let Some(instance) = call.machine(id) else { return Ok(()) };
    let new = set.keys().filter(|key| !instance.tags.contains_key(*key)).count();
    if instance.tags.len() + new > request::TAGS_MAX {
        return Err(refusal::tag_limit());
    }
    if instance.metadata_options.tags { request::check_tags_in_metadata(set.keys()) } else { Ok(()) }
}
