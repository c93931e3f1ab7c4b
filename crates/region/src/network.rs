//! The network of a region: one VPC, one default security group, one interface for each instance.
//!
//! There is no network that Inborn runs; what is told about it is made from ids and addresses, so that it is the same in
//! every answer, in metadata, and after a restart.

use std::collections::BTreeSet;
use std::net::{Ipv4Addr, Ipv6Addr};

use inborn_identity::{AccountId, InstanceId, MacAddress};
use inborn_store::{Instance, OwnMac};

use crate::RegionIdentity;

/// The name of the one security group.
pub const SECURITY_GROUP: &str = "default";

/// The block that addresses are given from ([`crate::private_address`]).
const VPC_BLOCK: (Ipv4Addr, u32) = (Ipv4Addr::new(10, 0, 0, 0), 8);
/// Bits in the block of a subnet that a launcher's own address lies in: the largest that EC2 has.
pub(crate) const FOREIGN_SUBNET_BITS: u32 = 16;
/// Bits in the IPv6 block of a subnet, on EC2 always.
const IPV6_SUBNET_BITS: u32 = 64;

/// Where an instance is in the network.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Place {
    /// As in `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// Its IPv4 blocks: the first one it was made with, and that of the subnet if it lies outside.
    pub vpc_blocks: Vec<String>,
    /// As in `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// Its IPv4 block.
    pub subnet_block: String,
    /// As in `sg-0123456789abcdef0`: the id of [`SECURITY_GROUP`].
    pub security_group_id: String,
}

/// What leads tunnels to the instances of a subnet.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ConnectEndpoint {
    /// As in `eice-0123456789abcdef0`.
    pub id: String,
    /// The same with partition, region and account.
    pub arn: String,
    /// The name that clients ask at, as in `eice-0….0a1b2c3d.ec2-instance-connect-endpoint.us-east-1.amazonaws.com`.
    pub dns_name: String,
    /// The name for those who demand FIPS 140; here it is the same service.
    pub fips_dns_name: String,
    /// As in `eni-0123456789abcdef0`.
    pub interface_id: String,
}

/// The label of the names of Instance Connect endpoints.
pub(crate) const ENDPOINT_LABEL: &str = "ec2-instance-connect-endpoint";

impl RegionIdentity {
    /// Where an instance of this account with this address is. An address outside of the region's block lies in a subnet of its own.
    #[must_use]
    pub fn place(&self, account: AccountId, address: Ipv4Addr) -> Place {
        let seed = format!("{} {account}", self.region);
        let (vpc_start, vpc_bits) = VPC_BLOCK;
        let vpc_block = format!("{vpc_start}/{vpc_bits}");
        let subnet_bits = if start(address, vpc_bits) == vpc_start { vpc_bits } else { FOREIGN_SUBNET_BITS };
        let subnet_block = format!("{}/{subnet_bits}", start(address, subnet_bits));
        let mut vpc_blocks = vec![vpc_block];
        if !vpc_blocks.contains(&subnet_block) {
            vpc_blocks.push(subnet_block.clone());
        }
        Place {
            vpc_id: made_id("vpc", &seed),
            vpc_blocks,
            subnet_id: made_id("subnet", &format!("{seed} {subnet_block}")),
            subnet_block,
            security_group_id: made_id("sg", &seed),
        }
    }

    /// The Instance Connect endpoints of the subnets that these addresses are in and of the region's own, by their ids: there
    /// is one in each of an account, of itself.
    #[must_use]
    pub fn connect_endpoints(
        &self,
        account: AccountId,
        addresses: impl Iterator<Item = Ipv4Addr>,
    ) -> Vec<(Place, ConnectEndpoint)> {
        let (own, own_bits) = VPC_BLOCK;
        let foreign = addresses.filter(|address| start(*address, own_bits) != own);
        let subnets = foreign.map(|address| start(address, FOREIGN_SUBNET_BITS)).collect::<BTreeSet<_>>();
        let places = subnets.into_iter().chain([own]).map(|subnet| self.place(account, subnet));
        let mut all: Vec<_> = places.map(|place| (place.clone(), self.connect_endpoint(account, &place))).collect();
        all.sort_by(|(_, a), (_, b)| a.id.cmp(&b.id));
        all
    }

    /// What follows the ids of Instance Connect endpoints in their names, whosever they are: as a rule, and for those who demand FIPS 140.
    #[must_use]
    pub fn connect_endpoint_domains(&self) -> [String; 2] {
        let Self { region, account, domain, .. } = self;
        let [a, b, c, d, ..] = digest("eice", &format!("{region} {account}"));
        let label = u32::from_be_bytes([a, b, c, d]);
        ["", "fips."].map(|infix| format!("{label:08x}.{infix}{ENDPOINT_LABEL}.{region}.{domain}"))
    }

    fn connect_endpoint(&self, account: AccountId, place: &Place) -> ConnectEndpoint {
        let id = made_id("eice", &place.subnet_id);
        let Self { partition, region, .. } = self;
        let [name, fips_name] = self.connect_endpoint_domains();
        ConnectEndpoint {
            arn: format!("arn:{partition}:ec2:{region}:{account}:instance-connect-endpoint/{id}"),
            dns_name: format!("{id}.{name}"),
            fips_dns_name: format!("{id}.{fips_name}"),
            interface_id: made_id("eni", &id),
            id,
        }
    }

    /// The IPv6 address of an instance that was launched to have one: in a block of unique local addresses (RFC 4193) that
    /// is the account's own, its last half from the instance's id.
    #[must_use]
    pub fn ipv6_address(&self, account: AccountId, id: InstanceId) -> Ipv6Addr {
        let [a, b, c, d, e, ..] = digest("ipv6", &format!("{} {account}", self.region));
        let [_, host @ ..] = id.to_bytes();
        let block = u64::from_be_bytes([0xfd, a, b, c, d, e, 0, 0]);
        Ipv6Addr::from(u128::from(block) << 64 | u128::from(u64::from_be_bytes(host)))
    }
}

/// The IPv6 block of the subnet that an address lies in.
#[must_use]
pub fn ipv6_block(address: Ipv6Addr) -> String {
    let start = u128::from(address) >> (128 - IPV6_SUBNET_BITS) << (128 - IPV6_SUBNET_BITS);
    format!("{}/{IPV6_SUBNET_BITS}", Ipv6Addr::from(start))
}

/// The id of an instance's network interface.
#[must_use]
pub fn interface_id(id: InstanceId) -> String {
    made_id("eni", &id.to_string())
}

/// The id of what attaches the interface to its instance.
#[must_use]
pub fn attachment_id(id: InstanceId) -> String {
    made_id("eni-attach", &id.to_string())
}

/// The MAC of an instance's network interface: that of its own, as its attachment tells it, for what configures the
/// interface looks for it; else a made one.
#[must_use]
pub fn mac_address(instance: &Instance) -> MacAddress {
    instance.mac.map_or_else(|| made_mac(instance.id), OwnMac::address)
}

/// A MAC for an instance, locally administered, as EC2's are. Not made from the address: two machines on networks of
/// their own may well have the same.
fn made_mac(id: InstanceId) -> MacAddress {
    let [a, b, c, d, e, ..] = digest("mac", &id.to_string());
    MacAddress::local([a, b, c, d, e])
}

fn start(address: Ipv4Addr, bits: u32) -> Ipv4Addr {
    Ipv4Addr::from(u32::from(address) & (u32::MAX << (32 - bits)))
}

/// An id in the form of EC2's long ones: `PREFIX-0` and 16 hexadecimal digits.
fn made_id(prefix: &str, seed: &str) -> String {
    format!("{prefix}-0{:016x}", u64::from_be_bytes(digest(prefix, seed)))
}

fn digest(kind: &str, seed: &str) -> [u8; 8] {
    let [a, b, c, d, e, f, g, h, ..] = inborn_sigv4::sha256(format!("{kind} {seed}").as_bytes());
    [a, b, c, d, e, f, g, h]
}

#[cfg(test)]
mod tests {
    use super::*;
    use inborn_identity::Partition;

    fn account(number: u64) -> AccountId {
        AccountId::new(number).unwrap()
    }

    fn region(account: u64) -> RegionIdentity {
        RegionIdentity {
            partition: Partition::Aws,
            region: "us-east-1".parse().unwrap(),
            account: AccountId::new(account).unwrap(),
            domain: "amazonaws.com".into(),
        }
    }

    fn id(last: u8) -> InstanceId {
        InstanceId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, last])
    }

    /// Guests remember what they were told: a new version must not move them to another network.
    #[test]
    fn what_is_made_up_never_changes() {
        let place = region(1).place(account(1), Ipv4Addr::new(10, 1, 2, 3));
        let ids = [place.vpc_id, place.subnet_id, place.security_group_id, interface_id(id(1)), attachment_id(id(1))];
        assert_eq!(
            ids,
            [
                "vpc-047158997bba77bf8",
                "subnet-0f86d874edbce57f0",
                "sg-003fec133b4eac280",
                "eni-089974fe7b6b09634",
                "eni-attach-06bc6aa4f14e009e2"
            ]
        );
        assert_eq!(made_mac(id(1)).to_string(), "02:97:b2:76:cf:0b");
        assert_eq!(region(1).ipv6_address(account(1), id(1)).to_string(), "fdcf:8b19:aa63:0:102:304:506:701");
    }

    #[test]
    fn every_address_is_in_the_blocks_that_are_told() {
        let inside = region(1).place(account(1), Ipv4Addr::new(10, 255, 2, 3));
        assert_eq!(
            (inside.subnet_block.as_str(), inside.vpc_blocks.as_slice()),
            ("10.0.0.0/8", &["10.0.0.0/8".to_owned()][..])
        );
        let outside = region(1).place(account(1), Ipv4Addr::new(192, 168, 2, 3));
        assert_eq!(
            (outside.subnet_block.as_str(), outside.vpc_blocks.join(" ")),
            ("192.168.0.0/16", "10.0.0.0/8 192.168.0.0/16".into())
        );
        assert_eq!(outside.vpc_id, inside.vpc_id);
        assert_ne!(outside.subnet_id, inside.subnet_id);
        let block = ipv6_block(region(1).ipv6_address(account(1), id(1)));
        assert_eq!(block, ipv6_block(region(1).ipv6_address(account(1), id(2))));
        assert!(block.starts_with("fd") && block.ends_with("::/64"), "{block}");
    }

    #[test]
    fn each_subnet_has_an_endpoint_of_its_own() {
        let addresses = [[10, 1, 2, 3], [192, 168, 2, 3], [192, 168, 77, 1], [172, 16, 0, 1]].map(Ipv4Addr::from);
        let all = region(1).connect_endpoints(account(1), addresses.into_iter());
        assert_eq!(all.len(), 3);
        let (place, endpoint) = all.iter().find(|(place, _)| place.subnet_block == "10.0.0.0/8").unwrap();
        assert_eq!(*place, region(1).place(account(1), Ipv4Addr::new(10, 1, 2, 3)));
        assert_eq!(
            (endpoint.id.as_str(), endpoint.dns_name.as_str()),
            (
                "eice-04617c44ca07f3722",
                "eice-04617c44ca07f3722.bf37b68c.ec2-instance-connect-endpoint.us-east-1.amazonaws.com"
            )
        );
        assert!(endpoint.arn.ends_with(&format!(":instance-connect-endpoint/{}", endpoint.id)), "{}", endpoint.arn);
        assert_eq!(region(1).connect_endpoints(account(1), std::iter::empty()).len(), 1);
    }

    #[test]
    fn what_differs_has_another_name() {
        let address = Ipv4Addr::new(10, 1, 2, 3);
        assert_ne!(region(1).place(account(1), address).vpc_id, region(1).place(account(2), address).vpc_id);
        assert_ne!(made_mac(id(1)), made_mac(id(2)));
        assert_ne!(interface_id(id(1)), interface_id(id(2)));
        assert_ne!(region(1).ipv6_address(account(1), id(1)), region(1).ipv6_address(account(1), id(2)));
    }
}
