//! What metadata tells of a machine, from the record that its region gave.

use bytes::Bytes;
use inborn_fleet::MachineRecord;
use inborn_identity::{MetadataOptions, UnixTime};
use inborn_imds::{Facts, Interface, KeyPair, identity_document};

/// The facts of a machine.
#[must_use]
pub fn facts_of(record: &MachineRecord) -> Facts {
    Facts {
        account: record.account,
        partition: record.partition,
        region: record.region.clone(),
        zone: record.zone.clone(),
        zone_id: record.zone_id.clone(),
        domain: record.domain.clone(),
        image_id: record.image_id.clone(),
        instance_type: record.instance_type.clone(),
        architecture: record.architecture.clone(),
        launch_index: record.launch_index,
        reservation_id: record.reservation_id.clone(),
        local_hostname: record.local_hostname.clone(),
        private_ip: record.private_ip,
        interface: record.interface.as_ref().map(|interface| Interface {
            id: interface.id.clone(),
            mac: interface.mac.clone(),
            subnet_id: interface.subnet_id.clone(),
            subnet_cidr: interface.subnet_cidr.clone(),
            vpc_id: interface.vpc_id.clone(),
            vpc_cidrs: interface.vpc_cidrs.clone(),
            security_group_ids: interface.security_group_ids.clone(),
            ipv6: interface.ipv6,
            ipv6_cidr: interface.ipv6_cidr.clone(),
        }),
        security_groups: record.security_groups.clone(),
        key_pair: record
            .key_pair
            .as_ref()
            .map(|pair| KeyPair { name: pair.name.clone(), openssh_key: pair.openssh_key.clone() }),
        user_data: record.user_data.as_ref().map(|data| Bytes::copy_from_slice(data)),
        root_device: record.root_device.clone(),
        placement_group: record.placement_group.clone(),
        placement_partition: record.placement_partition,
        launch_time: UnixTime::from_secs(record.launch_time),
    }
}

/// How its metadata service behaves.
#[must_use]
pub const fn options_of(record: &MachineRecord) -> MetadataOptions {
    let options = record.options;
    MetadataOptions {
        http_tokens: options.http_tokens,
        http_endpoint: options.http_endpoint,
        hop_limit: options.hop_limit,
        ipv6: options.ipv6,
        tags: options.tags,
    }
}

/// The text of its identity document.
#[must_use]
pub fn document_of(record: &MachineRecord) -> Bytes {
    identity_document(record.instance, &facts_of(record))
}
