//! The network interface: what is below `network/interfaces/macs/MAC`.

use std::borrow::Cow;
use std::net::Ipv6Addr;

use bytes::Bytes;

use crate::View;
use crate::path::{spells, split_first};

/// The network interface of an instance. It is the primary one, and the only one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Interface {
    /// As in `eni-0123456789abcdef0`.
    pub id: String,
    /// As in `02:29:96:8f:6a:2d`: also `mac` at the top of the tree.
    pub mac: String,
    /// As in `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// The block of the subnet, as in `10.0.0.0/20`.
    pub subnet_cidr: String,
    /// As in `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// The blocks of the VPC, the first one it was made with first.
    pub vpc_cidrs: Vec<String>,
    /// Ids of its security groups, in the order of [`crate::Facts::security_groups`].
    pub security_group_ids: Vec<String>,
    /// Its IPv6 address, if it has one: also `ipv6` at the top of the tree.
    pub ipv6: Option<Ipv6Addr>,
    /// The IPv6 block of subnet and VPC, if it has an address.
    pub ipv6_cidr: Option<String>,
}

type Value = for<'a> fn(&'a Interface, &View<'a>) -> Option<Cow<'a, str>>;

/// The leaves, in the order of their bytes. There is no public address to show: nobody out there reaches a machine by one.
///
/// Source: EC2 user guide, "Instance metadata categories", and captures in the tests of cloud-init.
static LEAVES: [(&str, Value); 18] = [
    ("device-number", |_, _| some("0")),
    ("interface-id", |i, _| some(&i.id)),
    ("ipv6s", |i, _| i.ipv6.map(|address| Cow::Owned(address.to_string()))),
    ("local-hostname", |_, v| some(&v.facts.local_hostname)),
    ("local-ipv4s", |_, v| v.facts.private_ip.map(|address| Cow::Owned(address.to_string()))),
    ("mac", |i, _| some(&i.mac)),
    // Two editions of the guide have two names for it; cloud-init asks for this one.
    ("network-card", |_, _| some("0")),
    ("network-card-index", |_, _| some("0")),
    ("owner-id", |_, v| Some(Cow::Owned(v.facts.account.to_string()))),
    ("security-group-ids", |i, _| lines(&i.security_group_ids)),
    ("security-groups", |_, v| lines(&v.facts.security_groups)),
    ("subnet-id", |i, _| some(&i.subnet_id)),
    ("subnet-ipv4-cidr-block", |i, _| some(&i.subnet_cidr)),
    ("subnet-ipv6-cidr-blocks", |i, _| i.ipv6_cidr.as_deref().map(Cow::Borrowed)),
    ("vpc-id", |i, _| some(&i.vpc_id)),
    ("vpc-ipv4-cidr-block", |i, _| i.vpc_cidrs.first().map(|block| Cow::Borrowed(block.as_str()))),
    ("vpc-ipv4-cidr-blocks", |i, _| lines(&i.vpc_cidrs)),
    ("vpc-ipv6-cidr-blocks", |i, _| i.ipv6_cidr.as_deref().map(Cow::Borrowed)),
];

/// What is at a path below a directory with entries of its own.
pub(crate) enum Below {
    Listing(String),
    Leaf(Bytes),
    Absent,
}

impl Interface {
    /// What is at `path`, which begins with a MAC.
    pub(crate) fn find(&self, path: &[u8], view: &View<'_>) -> Below {
        let (mac, leaf) = split_first(path);
        if !spells(mac, &self.mac) {
            return Below::Absent;
        }
        if leaf.is_empty() {
            let present = LEAVES.iter().filter(|(_, value)| value(self, view).is_some());
            return Below::Listing(present.map(|(name, _)| *name).collect::<Vec<_>>().join("\n"));
        }
        match LEAVES.binary_search_by(|(name, _)| name.as_bytes().cmp(leaf)).ok().and_then(|at| LEAVES.get(at)) {
            Some((_, value)) => value(self, view).map_or(Below::Absent, |text| Below::Leaf(crate::tree::bytes(text))),
            None => Below::Absent,
        }
    }
}

fn some(value: &str) -> Option<Cow<'_, str>> {
    Some(Cow::Borrowed(value))
}

/// Several values, one to a line; `None` for none.
pub(crate) fn lines(values: &[String]) -> Option<Cow<'_, str>> {
    match values {
        [] => None,
        [one] => some(one),
        several => Some(Cow::Owned(several.join("\n"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The binary search and the listing want it.
    #[test]
    fn leaves_are_in_order() {
        assert!(LEAVES.is_sorted_by(|a, b| a.0.as_bytes() < b.0.as_bytes()));
    }
}
