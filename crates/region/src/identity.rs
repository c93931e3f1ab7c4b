//! Which region this is, and the names that follow from it.

use inborn_identity::{AccountId, InstanceId, Partition, Region, Zone};
use std::net::Ipv4Addr;

/// Which region this is. Fixed when its store is first opened, but for the domain.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegionIdentity {
    /// The partition.
    pub partition: Partition,
    /// The region's name.
    pub region: Region,
    /// The account whose machines it runs.
    pub account: AccountId,
    /// What follows `SERVICE.REGION.` in endpoint names.
    pub domain: String,
}

impl RegionIdentity {
    /// The one zone of a region on one host.
    #[must_use]
    pub fn zone(&self) -> Zone {
        // `a` is a lower-case letter, so this cannot fail; a region is never without a zone.
        Zone::new(&self.region, 'a').unwrap_or_else(|_| unreachable!())
    }

    /// `use1-az1` for `us-east-1`: the region's words abbreviated as AWS does. Source: EC2 user guide, "Availability Zone IDs".
    #[must_use]
    pub fn zone_id(&self) -> String {
        let words: Vec<&str> = self.region.as_str().split('-').collect();
        let short: String = match words.as_slice() {
            [first, middle @ .., number] if number.bytes().all(|b| b.is_ascii_digit()) => {
                let middle: String = middle.iter().map(|word| abbreviate(word)).collect();
                format!("{first}{middle}{number}")
            }
            _ => self.region.as_str().to_owned(),
        };
        format!("{short}-az1")
    }

    /// `ip-10-1-2-3.ec2.internal` in us-east-1, `ip-10-1-2-3.REGION.compute.internal` elsewhere.
    /// Source: VPC user guide, "DNS attributes for your VPC".
    #[must_use]
    pub fn private_dns_name(&self, address: Ipv4Addr) -> String {
        let [a, b, c, d] = address.octets();
        match self.region.as_str() {
            "us-east-1" => format!("ip-{a}-{b}-{c}-{d}.ec2.internal"),
            region => format!("ip-{a}-{b}-{c}-{d}.{region}.compute.internal"),
        }
    }
}

fn abbreviate(word: &str) -> &str {
    match word {
        "northeast" => "ne",
        "northwest" => "nw",
        "southeast" => "se",
        "southwest" => "sw",
        other => other.get(..1).unwrap_or_default(),
    }
}

/// The private address of an instance: in 10.0.0.0/8, from its id, so that nobody has to keep a list. Two of a thousand
/// machines share one with a chance of 3 %; nothing but display and an optional binding depends on it.
#[must_use]
pub fn private_address(id: InstanceId) -> Ipv4Addr {
    let [.., b, c, d] = id.to_bytes();
    // .0 and .255 look like a network's own addresses.
    Ipv4Addr::new(10, b, c, d % 254 + 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn region(name: &str) -> RegionIdentity {
        RegionIdentity {
            partition: Partition::Aws,
            region: name.parse().unwrap(),
            account: AccountId::new(1).unwrap(),
            domain: "amazonaws.com".into(),
        }
    }

    #[test]
    fn zone_ids_are_abbreviated_as_aws_does() {
        for (name, id) in [
            ("us-east-1", "use1-az1"),
            ("ap-southeast-2", "apse2-az1"),
            ("us-gov-west-1", "usgw1-az1"),
            ("eu-central-1", "euc1-az1"),
            ("lab", "lab-az1"),
        ] {
            assert_eq!(region(name).zone_id(), id);
        }
    }

    #[test]
    fn private_names() {
        let address = Ipv4Addr::new(10, 1, 2, 3);
        assert_eq!(region("us-east-1").private_dns_name(address), "ip-10-1-2-3.ec2.internal");
        assert_eq!(region("lab").private_dns_name(address), "ip-10-1-2-3.lab.compute.internal");
    }

    #[test]
    fn private_addresses_are_inside_the_block() {
        for last in [0, 1, 253, 254, 255] {
            let [a, .., d] = private_address(InstanceId::from_bytes([9, 9, 9, 9, 9, 9, 1, 2, last])).octets();
            assert!(a == 10 && (1..=254).contains(&d), "{last}");
        }
    }
}
