//! What the service knows about one instance.

use core::fmt;
use std::net::Ipv4Addr;

use bytes::Bytes;
use inborn_identity::{AccountId, InstanceId, MetadataOptions, Partition, Region, UnixTime, Zone};

use crate::{DocumentSignatures, Interface, LiveKeys, PreparedCredentials};

/// The facts of one instance that stay the same from one start to the next. User data often holds secrets: it is not in
/// `Debug`.
#[derive(Clone, PartialEq, Eq)]
pub struct Facts {
    /// The account it was launched in.
    pub account: AccountId,
    /// `services/partition`.
    pub partition: Partition,
    /// `placement/region`.
    pub region: Region,
    /// `placement/availability-zone`.
    pub zone: Zone,
    /// `placement/availability-zone-id`, as in `use1-az1`.
    pub zone_id: String,
    /// `services/domain`, as in `amazonaws.com`.
    pub domain: String,
    /// `ami-id`, as in `ami-0123456789abcdef0`.
    pub image_id: String,
    /// `instance-type`, as in `t3.micro`.
    pub instance_type: String,
    /// `architecture` of the identity document: `x86_64` or `arm64`.
    pub architecture: String,
    /// `ami-launch-index`: its place among the instances of one launch, from 0.
    pub launch_index: u32,
    /// `reservation-id`, as in `r-0123456789abcdef0`.
    pub reservation_id: String,
    /// `hostname` and `local-hostname`, as in `ip-10-0-0-5.ec2.internal`.
    pub local_hostname: String,
    /// `local-ipv4`. A machine attached by a loopback port has none.
    pub private_ip: Option<Ipv4Addr>,
    /// `mac` and `network/`.
    pub interface: Option<Interface>,
    /// `security-groups`: names, one per line.
    pub security_groups: Vec<String>,
    /// The key pair named at launch: `public-keys/`.
    pub key_pair: Option<KeyPair>,
    /// `user-data`, decoded. Empty is the same as none, as at launch.
    pub user_data: Option<Bytes>,
    /// `block-device-mapping/ami` and `root`, as in `/dev/xvda`.
    pub root_device: String,
    /// `placement/group-name`: the placement group named at launch.
    pub placement_group: Option<String>,
    /// `placement/partition-number`: its partition of that group.
    pub placement_partition: Option<u32>,
    /// When it was last started: `pendingTime` of the identity document, `Last-Modified` of the tree.
    pub launch_time: UnixTime,
}

impl Facts {
    /// An instance of which nothing more is known: no names, no addresses, nothing handed to it.
    #[must_use]
    pub const fn bare(
        account: AccountId,
        partition: Partition,
        region: Region,
        zone: Zone,
        launch_time: UnixTime,
    ) -> Self {
        Self {
            account,
            partition,
            region,
            zone,
            zone_id: String::new(),
            domain: String::new(),
            image_id: String::new(),
            instance_type: String::new(),
            architecture: String::new(),
            launch_index: 0,
            reservation_id: String::new(),
            local_hostname: String::new(),
            private_ip: None,
            interface: None,
            security_groups: Vec::new(),
            key_pair: None,
            user_data: None,
            root_device: String::new(),
            placement_group: None,
            placement_partition: None,
            launch_time,
        }
    }
}

impl fmt::Debug for Facts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Facts")
            .field("account", &self.account)
            .field("region", &self.region)
            .field("image_id", &self.image_id)
            .field("local_hostname", &self.local_hostname)
            .field("user_data_bytes", &self.user_data.as_ref().map(Bytes::len))
            .field("launch_time", &self.launch_time)
            .finish_non_exhaustive()
    }
}

/// An SSH key pair, of which only the public half is known here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPair {
    /// Its name.
    pub name: String,
    /// One line in the form of `authorized_keys`. A final newline may be there or not; it is served with one.
    pub openssh_key: String,
}

/// Everything an answer may be made of: one instance as it is now. Built for the connection that asks, by whoever
/// accepted it.
#[derive(Clone, Copy, Debug)]
pub struct View<'a> {
    /// Which instance this is. Tokens are bound to it.
    pub instance: InstanceId,
    /// What `ModifyInstanceMetadataOptions` set.
    pub options: MetadataOptions,
    /// Its tags, key and value, in any order. Served only when `options.tags` is on.
    pub tags: &'a [(String, String)],
    /// What does not change while it runs.
    pub facts: &'a Facts,
    /// The identity document, made by [`crate::identity_document`] when it started.
    pub document: &'a Bytes,
    /// Its signatures. `None` until they are made, shortly after the start: their paths then answer 503 and are not
    /// listed.
    pub signatures: Option<&'a DocumentSignatures>,
    /// The credentials of the present generation. `None` until the first is there: the paths below
    /// `identity-credentials` then answer 503, which clients try again, and are not listed.
    pub credentials: Option<&'a PreparedCredentials>,
    /// Whether it is given no credentials, for as long as somebody says so: those paths are not there then, as on an instance
    /// without a role, so that clients go on without instead of trying again.
    pub is_withheld: bool,
    /// The SSH keys that were sent to it and have not ended: `managed-ssh-keys/`, of the version `latest` only.
    pub managed_keys: Option<LiveKeys<'a>>,
}

/// Whether a tag key may be served as `tags/instance/KEY`. One that may not is neither listed nor answered; an
/// instance whose metadata shows tags should not be given one.
///
/// Source: EC2 user guide, "View tags for your EC2 instances using instance metadata".
#[must_use]
pub fn tag_key_fits_a_path(key: &str) -> bool {
    !matches!(key, "" | "." | ".." | "_index")
        && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-=.,_:@".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn user_data_is_not_shown() {
        let bare = Facts::bare(
            "123456789012".parse().unwrap(),
            Partition::Aws,
            "us-east-1".parse().unwrap(),
            "us-east-1a".parse().unwrap(),
            UnixTime::from_secs(1_795_000_000),
        );
        let facts = Facts { user_data: Some(Bytes::from_static(b"password=hunter2")), ..bare };
        let shown = format!("{facts:?}");
        assert!(!shown.contains("hunter2") && shown.contains("user_data_bytes: Some(16)"), "{shown}");
    }

    #[test]
    fn tag_keys_that_fit_a_path() {
        for key in ["Name", "a", "aws:autoscaling:groupName", "+-=.,_:@", "...", "_Index"] {
            assert!(tag_key_fits_a_path(key), "{key}");
        }
        for key in ["", ".", "..", "_index", "a b", "a/b", "a\n", "ключ", "a%", "a?"] {
            assert!(!tag_key_fits_a_path(key), "{key}");
        }
    }
}
