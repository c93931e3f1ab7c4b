//! `ModifyInstanceMetadataOptions`: in force with the next request to the metadata service.

use inborn_identity::InstanceId;
use inborn_store::{Change, ChangeRequest, MetadataOptionsChange};
use inborn_wire::error::Problem;

use super::{refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let text = root.get("InstanceId").ok_or_else(|| refusal::missing_parameter("InstanceId"))?;
        let id: InstanceId = text.parse().map_err(|_| refusal::malformed_id(text, "i-"))?;
        let options = request::metadata_options(&root)?;
        if options == MetadataOptionsChange::default() {
            return Err(refusal::invalid_combination("No options were specified to be modified."));
        }
        check_tags(&call, id, options)?;
        request::finish(call.parameters)?;
        let account = call.caller.principal.account();
        let request = ChangeRequest { account, instances: vec![id], change: Change::MetadataOptions(options) };
        let all = call.region.machines().change(request).await.map_err(refusal::of_store)?;
        let answer = shape::response("ModifyInstanceMetadataOptions", call.request_id, |w| {
            w.leaf("instanceId", &id.to_string());
            if let Some(changed) = all.first() {
                // EC2 says `pending` here and `applied` a moment later in DescribeInstances.
                w.element("instanceMetadataOptions", |w| {
                    shape::metadata_options(w, changed.after.metadata_options, "pending");
                });
            }
        });
        Ok(answer.into())
    })
}

/// Tags whose keys could not be paths cannot be shown in metadata.
fn check_tags(call: &Call<'_>, id: InstanceId, options: MetadataOptionsChange) -> Result<(), Problem> {
    match call.region.machines().get(id) {
        Some(instance) if options.tags == Some(true) => request::check_tags_in_metadata(instance.tags.keys()),
        _ => Ok(()),
    }
}
