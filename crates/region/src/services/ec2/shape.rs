//! The XML of EC2's answers. Element names and their order are those of botocore's model and of captures.

use std::collections::BTreeMap;

use inborn_identity::{MetadataOptions, UnixTime};
use inborn_store::{Changed, Instance, InstanceState};
use inborn_wire::Answer;
use inborn_wire::success;
use inborn_wire::xml::Writer;

use crate::network::{self, Place, SECURITY_GROUP};
use crate::{ARCHITECTURE, ROOT_DEVICE, RegionIdentity};

/// The passing states, which take no time here but which clients expect to be told of.
pub(super) const PENDING: (u8, &str) = (0, "pending");
pub(super) const SHUTTING_DOWN: (u8, &str) = (32, "shutting-down");
pub(super) const STOPPING: (u8, &str) = (64, "stopping");

/// A state's code and name.
pub(super) const fn state(state: InstanceState) -> (u8, &'static str) {
    (state.code(), state.as_str())
}

/// `ACTIONResponse` with its request id and what `content` writes.
pub(super) fn response(action: &'static str, request_id: &str, content: impl FnOnce(&mut Writer)) -> Answer {
    success::ec2(action, request_id, content)
}

/// `ACTIONResponse` with `<return>true</return>`.
pub(super) fn done(action: &'static str, request_id: &str) -> Answer {
    success::ec2_done(action, request_id)
}

/// `instancesSet` of the operations that change states.
pub(super) fn state_changes(
    action: &'static str,
    request_id: &str,
    all: &[Changed],
    passing: (u8, &'static str),
) -> Answer {
    response(action, request_id, |w| {
        w.list("instancesSet", "item", all, |w, changed| {
            let is_changed = changed.before.state != changed.after.state;
            w.leaf("instanceId", &changed.after.id.to_string());
            write_state(w, "currentState", if is_changed { passing } else { state(changed.after.state) });
            write_state(w, "previousState", state(changed.before.state));
        });
    })
}

fn write_state(w: &mut Writer, name: &'static str, (code, word): (u8, &str)) {
    w.element(name, |w| {
        w.integer("code", i64::from(code));
        w.leaf("name", word);
    });
}

/// A reservation: what was launched together.
pub(super) fn reservation(
    w: &mut Writer,
    region: &RegionIdentity,
    instances: &[&Instance],
    shown_state: impl Fn(&Instance) -> (u8, &'static str),
) {
    let first = instances.first();
    w.leaf("reservationId", first.map_or("", |instance| &instance.reservation_id));
    w.leaf("ownerId", &first.map_or(region.account, |instance| instance.account).to_string());
    w.element("groupSet", |_| {});
    w.list("instancesSet", "item", instances, |w, one| instance(w, region, one, shown_state(one)));
}

/// One instance.
fn instance(w: &mut Writer, region: &RegionIdentity, instance: &Instance, shown_state: (u8, &'static str)) {
    let is_gone = instance.state == InstanceState::Terminated;
    w.leaf("instanceId", &instance.id.to_string());
    w.leaf("imageId", &instance.image_id);
    write_state(w, "instanceState", shown_state);
    // A terminated instance has no name or address any more.
    let private_name = if is_gone { String::new() } else { region.private_dns_name(instance.private_address) };
    w.leaf("privateDnsName", &private_name);
    w.leaf("dnsName", "");
    w.leaf("reason", instance.state_reason.as_ref().map_or("", |reason| &reason.message));
    w.optional("keyName", instance.key_name.as_deref());
    w.integer("amiLaunchIndex", i64::from(instance.ami_launch_index));
    w.element("productCodes", |_| {});
    w.leaf("instanceType", &instance.instance_type);
    w.leaf("launchTime", &milliseconds(instance.launch_time));
    w.element("placement", |w| {
        w.leaf("availabilityZone", instance.zone.as_str());
        w.leaf("groupName", instance.placement_group.as_deref().unwrap_or_default());
        if let Some(number) = instance.placement_partition {
            w.integer("partitionNumber", i64::from(number));
        }
        w.optional("hostId", instance.host.map(|host| host.to_string()).as_deref());
        w.leaf("tenancy", if instance.host.is_some() { "host" } else { "default" });
    });
    w.element("monitoring", |w| w.leaf("state", "disabled"));
    // Nor is it anywhere.
    let place = (!is_gone).then(|| region.place(instance.account, instance.private_address));
    if let Some(place) = &place {
        w.leaf("subnetId", &place.subnet_id);
        w.leaf("vpcId", &place.vpc_id);
        w.leaf("privateIpAddress", &instance.private_address.to_string());
        w.boolean("sourceDestCheck", true);
    }
    groups(w, place.as_ref());
    if let Some(reason) = &instance.state_reason {
        w.element("stateReason", |w| {
            w.leaf("code", &reason.code);
            w.leaf("message", &reason.message);
        });
    }
    w.leaf("architecture", ARCHITECTURE);
    w.leaf("rootDeviceType", "ebs");
    w.leaf("rootDeviceName", ROOT_DEVICE);
    w.element("blockDeviceMapping", |_| {});
    w.leaf("virtualizationType", "hvm");
    w.leaf("clientToken", instance.client_token.as_deref().unwrap_or_default());
    tags(w, &instance.tags);
    w.leaf("hypervisor", "xen");
    w.list("networkInterfaceSet", "item", &place, |w, place| interface(w, region, instance, place));
    w.boolean("ebsOptimized", false);
    w.optional("ipv6Address", instance.ipv6_address.filter(|_| !is_gone).map(|address| address.to_string()).as_deref());
    w.element("metadataOptions", |w| metadata_options(w, instance.metadata_options, "applied"));
}

/// `tagSet`.
pub(super) fn tags(w: &mut Writer, tags: &BTreeMap<String, String>) {
    w.list("tagSet", "item", tags, |w, (key, value)| {
        w.leaf("key", key);
        w.leaf("value", value);
    });
}

/// The one security group, where there is one.
pub(super) fn groups(w: &mut Writer, place: Option<&Place>) {
    w.list("groupSet", "item", place, |w, place| {
        w.leaf("groupId", &place.security_group_id);
        w.leaf("groupName", SECURITY_GROUP);
    });
}

/// The network interface, as metadata tells it too.
fn interface(w: &mut Writer, region: &RegionIdentity, instance: &Instance, place: &Place) {
    let name = region.private_dns_name(instance.private_address);
    let address = instance.private_address.to_string();
    w.leaf("networkInterfaceId", &network::interface_id(instance.id));
    w.leaf("subnetId", &place.subnet_id);
    w.leaf("vpcId", &place.vpc_id);
    w.leaf("description", "");
    w.leaf("ownerId", &instance.account.to_string());
    w.leaf("status", "in-use");
    w.leaf("macAddress", &network::mac_address(instance).to_string());
    w.leaf("privateIpAddress", &address);
    w.leaf("privateDnsName", &name);
    w.boolean("sourceDestCheck", true);
    groups(w, Some(place));
    w.element("attachment", |w| {
        w.leaf("attachmentId", &network::attachment_id(instance.id));
        w.integer("deviceIndex", 0);
        w.integer("networkCardIndex", 0);
        w.leaf("status", "attached");
        w.leaf("attachTime", &milliseconds(instance.launch_time));
        w.boolean("deleteOnTermination", true);
    });
    w.list("privateIpAddressesSet", "item", [&address], |w, address| {
        w.leaf("privateIpAddress", address);
        w.leaf("privateDnsName", &name);
        w.boolean("primary", true);
    });
    w.list("ipv6AddressesSet", "item", instance.ipv6_address, |w, address| {
        w.leaf("ipv6Address", &address.to_string());
        w.boolean("isPrimaryIpv6", false);
    });
    w.leaf("interfaceType", "interface");
}

/// EC2 writes milliseconds, here always zero.
pub(super) fn milliseconds(time: UnixTime) -> String {
    time.rfc3339().replace('Z', ".000Z")
}

/// The members of `InstanceMetadataOptionsResponse`; `state` is `pending` or `applied`.
pub(super) fn metadata_options(w: &mut Writer, options: MetadataOptions, state: &str) {
    let word = |is_on| if is_on { "enabled" } else { "disabled" };
    w.leaf("state", state);
    w.leaf("httpTokens", &options.http_tokens.to_string());
    w.integer("httpPutResponseHopLimit", i64::from(options.hop_limit));
    w.leaf("httpEndpoint", &options.http_endpoint.to_string());
    w.leaf("httpProtocolIpv6", word(options.ipv6));
    w.leaf("instanceMetadataTags", word(options.tags));
}
