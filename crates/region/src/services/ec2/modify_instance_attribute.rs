//! `ModifyInstanceAttribute`, of user data: the other attributes have nothing here that they could change.

use inborn_store::{Change, ChangeRequest, UserData};
use inborn_wire::error::Problem;

use super::{refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let id = request::instance_id(call.parameters)?;
        let data = user_data(&call)?;
        request::finish(call.parameters)?;
        let (account, change) = (call.caller.principal.account(), Change::UserData(data));
        let request = ChangeRequest { account, instances: vec![id], change };
        call.region.machines().change(request).await.map_err(|error| refusal::of_attribute(error, "userData"))?;
        Ok(shape::done("ModifyInstanceAttribute", call.request_id).into())
    })
}

/// `UserData.Value`, or `Attribute=userData` with `Value`; base64 both. Empty takes it away.
fn user_data(call: &Call<'_>) -> Result<Option<UserData>, Problem> {
    let root = call.parameters.root();
    let text = match (root.get("Attribute"), root.structure("UserData").get("Value")) {
        (None | Some("userData"), Some(text)) => text,
        (Some("userData"), None) => root.get("Value").ok_or_else(|| refusal::missing_parameter("Value"))?,
        (Some(_), _) => return Err(refusal::unsupported("Of an instance's attributes only userData can be changed.")),
        (None, None) if is_another(call) => {
            return Err(refusal::unsupported("Of an instance's attributes only userData can be changed."));
        }
        (None, None) => return Err(refusal::invalid_combination("No attributes specified.")),
    };
    let data = request::user_data(text)?;
    Ok(Some(data).filter(|data| !data.as_bytes().is_empty()))
}

/// Whether an attribute is named that is EC2's but not ours.
fn is_another(call: &Call<'_>) -> bool {
    const ATTRIBUTES: [&str; 11] = [
        "DisableApiStop",
        "DisableApiTermination",
        "EbsOptimized",
        "EnaSupport",
        "InstanceInitiatedShutdownBehavior",
        "InstanceType",
        "Kernel",
        "Ramdisk",
        "SourceDestCheck",
        "SriovNetSupport",
        "BlockDeviceMapping",
    ];
    let root = call.parameters.root();
    ATTRIBUTES.iter().any(|name| root.structure(name).is_present() || root.get(name).is_some())
        || !root.list("GroupId").is_empty()
}
