//! `DeleteTags`: by key, or by key and value; without tags named, all of them.

use std::collections::{BTreeMap, BTreeSet};

use inborn_identity::InstanceId;
use inborn_store::{Change, ChangeRequest, TagRemoval};
use inborn_wire::error::Problem;

use super::create_tags::resources;
use super::{refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let instances = resources(&call)?;
        let named = removals(&call)?;
        request::finish(call.parameters)?;
        let account = call.caller.principal.account();
        let remove = if named.is_empty() { every_tag(&call, &instances) } else { named };
        let change = Change::Tags { set: BTreeMap::new(), remove };
        let request = ChangeRequest { account, instances, change };
        call.region.machines().change(request).await.map_err(refusal::of_store)?;
        Ok(shape::done("DeleteTags", call.request_id).into())
    })
}

/// Every key that one of the instances has: taking a key away where it is not does nothing.
fn every_tag(call: &Call<'_>, instances: &[InstanceId]) -> Vec<TagRemoval> {
    let machines = instances.iter().filter_map(|id| call.region.machines().get(*id));
    let keys: BTreeSet<String> =
        machines.flat_map(|machine| machine.tags.keys().cloned().collect::<Vec<_>>()).collect();
    keys.into_iter().map(|key| TagRemoval { key, value: None }).collect()
}

fn removals(call: &Call<'_>) -> Result<Vec<TagRemoval>, Problem> {
    let tags = call.parameters.root().structures("Tag");
    tags.into_iter()
        .map(|tag| {
            let key = tag.require("Key").map_err(|_| refusal::missing_parameter(&tag.whole_name("Key")))?;
            Ok(TagRemoval { key: key.to_owned(), value: tag.get("Value").map(str::to_owned) })
        })
        .collect()
}
