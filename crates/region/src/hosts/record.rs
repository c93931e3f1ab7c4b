//! What a host is told of a machine.

use bytes::Bytes;
use inborn_fleet::{MachineRecord, MetadataOptions};
use inborn_imds::{Facts, Interface, KeyPair};
use inborn_store::{Instance, InstanceState};

use super::Version;
use crate::{RegionServer, network};

impl RegionServer {
    /// What metadata tells of a machine.
    #[must_use]
    pub fn facts(&self, instance: &Instance) -> Facts {
        let identity = self.identity();
        Facts {
            account: instance.account,
            partition: identity.partition,
            region: identity.region.clone(),
            zone: instance.zone.clone(),
            zone_id: identity.zone_id(),
            domain: identity.domain.clone(),
            image_id: instance.image_id.clone(),
            instance_type: instance.instance_type.clone(),
            architecture: crate::ARCHITECTURE.to_owned(),
            launch_index: instance.ami_launch_index,
            reservation_id: instance.reservation_id.clone(),
            local_hostname: identity.private_dns_name(instance.private_address),
            private_ip: Some(instance.private_address),
            interface: Some(self.interface(instance)),
            security_groups: vec![network::SECURITY_GROUP.to_owned()],
            // One that was launched before key pairs were kept has a name only.
            key_pair: instance
                .key_name
                .as_ref()
                .zip(instance.public_key.as_ref())
                .map(|(name, key)| KeyPair { name: name.clone(), openssh_key: key.clone() }),
            user_data: instance.user_data.as_ref().map(|data| Bytes::copy_from_slice(data.as_bytes())),
            root_device: crate::ROOT_DEVICE.to_owned(),
            placement_group: instance.placement_group.clone(),
            placement_partition: instance.placement_partition,
            launch_time: instance.launch_time,
        }
    }

    /// Its network interface, as `DescribeInstances` shows it too.
    fn interface(&self, instance: &Instance) -> Interface {
        let place = self.identity().place(instance.account, instance.private_address);
        Interface {
            id: network::interface_id(instance.id),
            mac: network::mac_address(instance).to_string(),
            subnet_id: place.subnet_id,
            subnet_cidr: place.subnet_block,
            vpc_id: place.vpc_id,
            vpc_cidrs: place.vpc_blocks,
            security_group_ids: vec![place.security_group_id],
            ipv6: instance.ipv6_address,
            ipv6_cidr: instance.ipv6_address.map(network::ipv6_block),
        }
    }

    /// The record that a host has of a machine.
    pub(super) fn machine_record(&self, instance: &Instance) -> MachineRecord {
        let facts = self.facts(instance);
        let options = instance.metadata_options;
        MachineRecord {
            instance: instance.id,
            account: facts.account,
            is_running: instance.state == InstanceState::Running,
            boot_generation: instance.boot_generation,
            options: MetadataOptions {
                http_tokens: options.http_tokens,
                http_endpoint: options.http_endpoint,
                hop_limit: options.hop_limit,
                ipv6: options.ipv6,
                tags: options.tags,
            },
            tags: instance.tags.clone(),
            partition: facts.partition,
            region: facts.region,
            zone: facts.zone,
            zone_id: facts.zone_id,
            domain: facts.domain,
            image_id: facts.image_id,
            instance_type: facts.instance_type,
            architecture: facts.architecture,
            launch_index: facts.launch_index,
            reservation_id: facts.reservation_id,
            local_hostname: facts.local_hostname,
            private_ip: facts.private_ip,
            interface: facts.interface.map(|interface| inborn_fleet::Interface {
                id: interface.id,
                mac: interface.mac,
                subnet_id: interface.subnet_id,
                subnet_cidr: interface.subnet_cidr,
                vpc_id: interface.vpc_id,
                vpc_cidrs: interface.vpc_cidrs,
                security_group_ids: interface.security_group_ids,
                ipv6: interface.ipv6,
                ipv6_cidr: interface.ipv6_cidr,
            }),
            security_groups: facts.security_groups,
            key_pair: facts
                .key_pair
                .map(|pair| inborn_fleet::KeyPair { name: pair.name, openssh_key: pair.openssh_key }),
            user_data: facts.user_data.map(|data| data.to_vec()),
            root_device: facts.root_device,
            placement_group: facts.placement_group,
            placement_partition: facts.placement_partition,
            launch_time: facts.launch_time.as_secs(),
            is_withheld: self.quarantine_of(instance).is_some(),
            credentials_since: self.authenticator.issue_not_before(instance.account, instance.id).as_secs(),
        }
    }
}

impl Version {
    /// Of the record of a machine.
    pub(super) fn of(record: &MachineRecord) -> Self {
        let text = serde_json::to_vec(record).unwrap_or_default();
        let mut digest = [0; 16];
        digest.iter_mut().zip(inborn_sigv4::sha256(&text)).for_each(|(to, from)| *to = from);
        Self { digest, bytes: u32::try_from(text.len()).unwrap_or(u32::MAX) }
    }

    /// As hosts are told it.
    pub(super) fn text(&self) -> String {
        format!("{:032x}", u128::from_be_bytes(self.digest))
    }
}
