//! `ModifyInstanceMetadataOptions`: in force with the next request to the metadata service.

use inborn_identity::{HttpEndpoint, InstanceId};
use inborn_store::{Change, ChangeRequest, MetadataOptionsChange};
use inborn_wire::error::Problem;

use super::{metadata_defaults, refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let root = call.parameters.root();
        let id = request::instance_id(call.parameters)?;
        let options = request::metadata_options(&root)?;
        if options == MetadataOptionsChange::default() {
            return Err(refusal::invalid_combination("No options were specified to be modified."));
        }
        check_endpoint(&call, id, options)?;
        check_tags(&call, id, options)?;
        metadata_defaults::of_account(&call).await?.check_change(options)?;
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

/// Tokens and hop limit belong to an endpoint that is on: they are refused for one that is off, or is being switched off.
///
/// EC2's guide wants `HttpEndpoint=enabled` in the same call; a call that leaves it out for an endpoint that is on is taken,
/// since scripts are written so and EC2 takes them.
fn check_endpoint(call: &Call<'_>, id: InstanceId, options: MetadataOptionsChange) -> Result<(), Problem> {
    let present = call.machine(id).map(|instance| instance.metadata_options.http_endpoint);
    let endpoint = options.http_endpoint.or(present);
    let needs_endpoint = options.http_tokens.is_some() || options.hop_limit.is_some();
    if needs_endpoint && endpoint == Some(HttpEndpoint::Disabled) {
        let message = "HttpTokens and HttpPutResponseHopLimit can be set only with HttpEndpoint enabled: add \
                       HttpEndpoint=enabled.";
        return Err(refusal::invalid_combination(message));
    }
    Ok(())
}

/// Tags whose keys could not be paths cannot be shown in metadata.
fn check_tags(call: &Call<'_>, id: InstanceId, options: MetadataOptionsChange) -> Result<(), Problem> {
    match call.machine(id) {
        Some(instance) if options.tags == Some(true) => request::check_tags_in_metadata(instance.tags.keys()),
        _ => Ok(()),
    }
}
