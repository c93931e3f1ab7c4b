//! `DescribeInstanceAttribute`: one attribute of one instance.

use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use inborn_store::{Instance, InstanceState};
use inborn_wire::error::Problem;
use inborn_wire::xml::Writer;

use super::{refusal, request, shape};
use crate::operation::{Call, Outcome};
use crate::{ROOT_DEVICE, TERMINATED_SHOWN_SECONDS};

/// What can be asked for. Source: EC2 API reference.
const ATTRIBUTES: [&str; 16] = [
    "instanceType",
    "kernel",
    "ramdisk",
    "userData",
    "disableApiTermination",
    "instanceInitiatedShutdownBehavior",
    "rootDeviceName",
    "blockDeviceMapping",
    "productCodes",
    "sourceDestCheck",
    "groupSet",
    "ebsOptimized",
    "sriovNetSupport",
    "enaSupport",
    "enclaveOptions",
    "disableApiStop",
];

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let id = request::instance_id(call.parameters)?;
        let attribute = call.parameters.root().one_of("Attribute", &ATTRIBUTES).map_err(Problem::Parameter)?;
        let attribute = attribute.ok_or_else(|| refusal::missing_parameter("Attribute"))?;
        request::finish(call.parameters)?;
        let account = call.caller.principal.account();
        let found = call.region.store().instance(id).await.map_err(refusal::of_store)?;
        let is_shown = |instance: &Instance| {
            instance.terminated_at.is_none_or(|at| call.now.since(at) <= TERMINATED_SHOWN_SECONDS)
        };
        let instance = found
            .filter(|instance| instance.account == account && is_shown(instance))
            .ok_or_else(|| refusal::not_found(&[id]))?;
        let answer = shape::response("DescribeInstanceAttribute", call.request_id, |w| {
            w.leaf("instanceId", &id.to_string());
            write(w, &call, &instance, attribute);
        });
        Ok(answer.into())
    })
}

/// What nothing here can be is told as what it is not.
fn write(w: &mut Writer, call: &Call<'_>, instance: &Instance, attribute: &str) {
    let value = |w: &mut Writer, name, text: Option<&str>| w.element(name, |w| w.optional("value", text));
    let flag = |w: &mut Writer, name, is_on| w.element(name, |w| w.boolean("value", is_on));
    match attribute {
        "instanceType" => value(w, "instanceType", Some(&instance.instance_type)),
        "kernel" => value(w, "kernel", None),
        "ramdisk" => value(w, "ramdisk", None),
        "userData" => {
            let text = instance.user_data.as_ref().map(|data| BASE64.encode(data.as_bytes()));
            value(w, "userData", text.as_deref().filter(|text| !text.is_empty()));
        }
        "disableApiTermination" => flag(w, "disableApiTermination", false),
        "instanceInitiatedShutdownBehavior" => value(w, "instanceInitiatedShutdownBehavior", Some("stop")),
        "rootDeviceName" => value(w, "rootDeviceName", Some(ROOT_DEVICE)),
        "blockDeviceMapping" => w.element("blockDeviceMapping", |_| {}),
        "productCodes" => w.element("productCodes", |_| {}),
        "sourceDestCheck" => flag(w, "sourceDestCheck", true),
        "groupSet" => {
            let is_gone = instance.state == InstanceState::Terminated;
            let place = (!is_gone).then(|| call.region.identity().place(instance.account, instance.private_address));
            shape::groups(w, place.as_ref());
        }
        "ebsOptimized" => flag(w, "ebsOptimized", false),
        "sriovNetSupport" => value(w, "sriovNetSupport", None),
        "enaSupport" => flag(w, "enaSupport", false),
        "enclaveOptions" => w.element("enclaveOptions", |w| w.boolean("enabled", false)),
        _ => flag(w, "disableApiStop", false),
    }
}
