//! `DeleteTags`: by key, or by key and value; without tags named, all of them.

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
        for id in instances {
            let remove = match (&named[..], call.region.machines().get(id)) {
                ([], Some(instance)) => {
                    instance.tags.keys().map(|key| TagRemoval { key: key.clone(), value: None }).collect()
                }
                (named, _) => named.to_vec(),
            };
            let change = Change::Tags { set: Default::default(), remove };
            let request = ChangeRequest { account, instances: vec![id], change };
            call.region.machines().change(request).await.map_err(refusal::of_store)?;
        }
        Ok(shape::done("DeleteTags", call.request_id).into())
    })
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
