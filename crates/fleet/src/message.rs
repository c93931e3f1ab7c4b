//! Messages. What a host sends is refused if there is more in it than is known; what a region sends may come to have more.

use core::fmt;
use std::collections::BTreeMap;
use std::net::{Ipv4Addr, Ipv6Addr};

use inborn_identity::{AccessKeyId, AccountId, HostId, HttpEndpoint, HttpTokens, InstanceId, Partition, Region, Zone};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::text;

/// A host joins: its token's secret, its public key, and what people shall call it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Join {
    /// The secret of the token.
    #[serde(with = "text::bytes")]
    pub secret: Vec<u8>,
    /// Its name.
    pub name: String,
    /// Its public key, a point of P-256.
    #[serde(with = "text::bytes")]
    pub public_key: Vec<u8>,
}

impl fmt::Debug for Join {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Join").field("name", &self.name).finish_non_exhaustive()
    }
}

/// A host has joined.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Joined {
    /// What it is from now on.
    #[serde(with = "text")]
    pub host: HostId,
    /// Its certificate, PEM.
    pub certificate: String,
    /// The region's name.
    #[serde(with = "text")]
    pub region: Region,
    /// What follows `SERVICE.REGION.` in the names of endpoints.
    pub domain: String,
}

/// The next certificate of a host.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Renewed {
    /// PEM.
    pub certificate: String,
}

/// What a host knows of its machines.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machines {
    /// The version of each record, as [`GivenMachine::version`] said.
    #[serde(with = "text::keys")]
    pub known: BTreeMap<InstanceId, String>,
}

/// What has changed since.
#[derive(Clone, PartialEq, Eq, Default, Debug, Serialize, Deserialize)]
pub struct MachinesChanged {
    /// Records that are new or another.
    pub changed: Vec<GivenMachine>,
    /// Machines that are the host's no more.
    #[serde(with = "text::list")]
    pub gone: Vec<InstanceId>,
    /// Whether there is more to tell at once.
    pub more: bool,
    /// Over how many seconds the region's hosts shall spread when they come back all at once.
    #[serde(default)]
    pub spread_seconds: u64,
}

impl MachinesChanged {
    /// Whether nothing has changed.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.changed.is_empty() && self.gone.is_empty()
    }
}

/// A record and its version.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct GivenMachine {
    /// Another one for every other record.
    pub version: String,
    /// The record.
    pub machine: MachineRecord,
}

/// A machine, as far as its host has to know it. User data often holds secrets: it is not in `Debug`.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineRecord {
    /// Its id.
    #[serde(with = "text")]
    pub instance: InstanceId,
    /// Whose it is.
    #[serde(with = "text")]
    pub account: AccountId,
    /// Whether it runs.
    pub is_running: bool,
    /// Which boot of it.
    pub boot_generation: u32,
    /// How its metadata service behaves.
    pub options: MetadataOptions,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// The partition.
    #[serde(with = "text")]
    pub partition: Partition,
    /// The region.
    #[serde(with = "text")]
    pub region: Region,
    /// Its zone.
    #[serde(with = "text")]
    pub zone: Zone,
    /// As in `use1-az1`.
    pub zone_id: String,
    /// As in `amazonaws.com`.
    pub domain: String,
    /// As in `ami-0123456789abcdef0`.
    pub image_id: String,
    /// As in `t3.micro`.
    pub instance_type: String,
    /// `x86_64` or `arm64`.
    pub architecture: String,
    /// Its place among those launched together.
    pub launch_index: u32,
    /// As in `r-0123456789abcdef0`.
    pub reservation_id: String,
    /// As in `ip-10-0-0-5.ec2.internal`.
    pub local_hostname: String,
    /// Its address.
    pub private_ip: Option<Ipv4Addr>,
    /// Its network interface.
    pub interface: Option<Interface>,
    /// Names of its security groups.
    pub security_groups: Vec<String>,
    /// The key pair it was launched with.
    pub key_pair: Option<KeyPair>,
    /// What its launcher hands to it.
    #[serde(with = "text::bytes::optional")]
    pub user_data: Option<Vec<u8>>,
    /// As in `/dev/xvda`.
    pub root_device: String,
    /// The placement group it was launched into.
    pub placement_group: Option<String>,
    /// Its partition of that group.
    pub placement_partition: Option<u32>,
    /// When it was last started, in seconds since 1970.
    pub launch_time: u64,
    /// Whether it is given no credentials, for as long as the region says so.
    #[serde(default)]
    pub is_withheld: bool,
    /// What it was given that begins before this moment has ended, in seconds since 1970.
    #[serde(default)]
    pub credentials_since: u64,
}

impl fmt::Debug for MachineRecord {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("MachineRecord").field("instance", &self.instance).finish_non_exhaustive()
    }
}

/// How the metadata service of a machine behaves.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct MetadataOptions {
    /// `required` or `optional`.
    #[serde(with = "text")]
    pub http_tokens: HttpTokens,
    /// `enabled` or `disabled`.
    #[serde(with = "text")]
    pub http_endpoint: HttpEndpoint,
    /// Hops that an answer with a token may make.
    pub hop_limit: u8,
    /// Whether the IPv6 endpoint is on.
    pub ipv6: bool,
    /// Whether tags are served.
    pub tags: bool,
}

/// The network interface of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Interface {
    /// As in `eni-0123456789abcdef0`.
    pub id: String,
    /// As in `02:29:96:8f:6a:2d`.
    pub mac: String,
    /// As in `subnet-0123456789abcdef0`.
    pub subnet_id: String,
    /// As in `10.0.0.0/20`.
    pub subnet_cidr: String,
    /// As in `vpc-0123456789abcdef0`.
    pub vpc_id: String,
    /// The blocks of the VPC.
    pub vpc_cidrs: Vec<String>,
    /// Ids of its security groups.
    pub security_group_ids: Vec<String>,
    /// Its IPv6 address.
    pub ipv6: Option<Ipv6Addr>,
    /// The IPv6 block of its subnet.
    pub ipv6_cidr: Option<String>,
}

/// The public half of a key pair.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct KeyPair {
    /// Its name.
    pub name: String,
    /// A line in the form of `authorized_keys`.
    pub openssh_key: String,
}

/// Machines whose credentials a host wants.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Credentials {
    /// 1 to [`crate::CREDENTIALS_MAX`] of them, all placed on the host.
    #[serde(with = "text::list")]
    pub instances: Vec<InstanceId>,
}

/// Finished credentials: those of the present hour, and those of the next one where it is near.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct CredentialsGiven {
    /// Of machines that do not run there are none.
    pub generations: Vec<Generation>,
}

/// One generation of the credentials of a machine.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Generation {
    /// Whose.
    #[serde(with = "text")]
    pub instance: InstanceId,
    /// Of which boot.
    pub boot_generation: u32,
    /// When they begin, in seconds since 1970.
    pub issued_at: u64,
    /// When they end.
    pub expires_at: u64,
    /// When the next ones take their place.
    pub next_at: u64,
    /// For who asks without a session token of the metadata service.
    pub v1: GivenCredential,
    /// For who asks with one.
    pub v2: GivenCredential,
}

/// A credential. Secret: not in `Debug`, and wiped.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct GivenCredential {
    /// `AccessKeyId`.
    #[serde(with = "text")]
    pub access_key_id: AccessKeyId,
    /// `SecretAccessKey`.
    #[serde(with = "wiped")]
    pub secret_access_key: Zeroizing<String>,
    /// `Token`.
    #[serde(with = "wiped")]
    pub session_token: Zeroizing<String>,
}

mod wiped {
    use serde::{Deserialize, Deserializer, Serializer};
    use zeroize::Zeroizing;

    pub(super) fn serialize<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(text)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(source: D) -> Result<Zeroizing<String>, D::Error> {
        String::deserialize(source).map(Zeroizing::new)
    }
}

impl fmt::Debug for GivenCredential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("GivenCredential").field("access_key_id", &self.access_key_id).finish_non_exhaustive()
    }
}

/// The machine whose identity document a host wants signed. What it says is the region's to know.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Document {
    /// Placed on the host.
    #[serde(with = "text")]
    pub instance: InstanceId,
}

/// An identity document and its signatures.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct DocumentSigned {
    /// The document.
    pub document: String,
    /// `signature`.
    pub signature: String,
    /// `pkcs7` and `rsa2048`.
    pub pkcs7: String,
}

/// Why a host does not get what it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RefusalCode {
    /// The token is none, was used or has ended.
    JoinTokenRefused,
    /// There was no certificate, or it is not that of a host of this region.
    NotJoined,
    /// The host is cut off for good.
    Evicted,
    /// The machine is not the host's.
    NotPlaced,
    /// The request is none.
    Malformed,
    /// Too much at once: again a little later.
    Busy,
    /// The region cannot do it now: again a little later.
    Unavailable,
}

impl RefusalCode {
    /// All there are.
    pub const ALL: [Self; 7] = [
        Self::JoinTokenRefused,
        Self::NotJoined,
        Self::Evicted,
        Self::NotPlaced,
        Self::Malformed,
        Self::Busy,
        Self::Unavailable,
    ];

    /// The code as it travels.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::JoinTokenRefused => "join-token-refused",
            Self::NotJoined => "not-joined",
            Self::Evicted => "evicted",
            Self::NotPlaced => "not-placed",
            Self::Malformed => "malformed",
            Self::Busy => "busy",
            Self::Unavailable => "unavailable",
        }
    }

    /// The status of the answer.
    #[must_use]
    pub const fn status(self) -> u16 {
        match self {
            Self::Malformed => 400,
            Self::NotJoined => 401,
            Self::JoinTokenRefused | Self::Evicted | Self::NotPlaced => 403,
            Self::Busy | Self::Unavailable => 503,
        }
    }
}

/// A refusal.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
pub struct Refused {
    /// For programs.
    pub code: RefusalCode,
    /// For people.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn the_bytes_of_messages() {
        let instance: InstanceId = "i-0123456789abcdef0".parse().unwrap();
        let known = BTreeMap::from([(instance, "v".to_owned())]);
        let text = r#"{"known":{"i-0123456789abcdef0":"v"}}"#;
        assert_eq!(serde_json::to_string(&Machines { known }).unwrap(), text);
        let join = Join { secret: vec![0; 3], name: "a".into(), public_key: vec![255] };
        assert_eq!(serde_json::to_string(&join).unwrap(), r#"{"secret":"AAAA","name":"a","public_key":"/w=="}"#);
        let refused = Refused { code: RefusalCode::NotPlaced, message: "m".into() };
        assert_eq!(serde_json::to_string(&refused).unwrap(), r#"{"code":"not-placed","message":"m"}"#);
    }

    #[test]
    fn what_a_host_sends_is_known_to_the_last_member() {
        assert!(serde_json::from_str::<Credentials>(r#"{"instances":["i-0123456789abcdef0"]}"#).is_ok());
        for text in [
            "",
            "[]",
            "{}",
            r#"{"instances":["i-1"]}"#,
            r#"{"instances":["i-0123456789abcdef0"],"window":1}"#,
            r#"{"instances":"i-0123456789abcdef0"}"#,
        ] {
            assert!(serde_json::from_str::<Credentials>(text).is_err(), "{text}");
        }
        assert!(serde_json::from_str::<Document>(r#"{"instance":"i-0123456789abcdef0","document":"{}"}"#).is_err());
        assert!(serde_json::from_str::<Machines>(r#"{"known":{"i-1":"v"}}"#).is_err());
        assert!(serde_json::from_str::<Join>(r#"{"secret":"*","name":"a","public_key":""}"#).is_err());
    }

    #[test]
    fn debug_shows_no_secret() {
        let join = Join { secret: b"hunter2".to_vec(), name: "a".into(), public_key: Vec::new() };
        let credential = GivenCredential {
            access_key_id: "ASIARZPUZDIKL7X6FZCX".parse().unwrap(),
            secret_access_key: Zeroizing::new("hunter2".to_owned()),
            session_token: Zeroizing::new("hunter2".to_owned()),
        };
        let shown = format!("{join:?} {credential:?}");
        assert!(!shown.contains("hunter2") && !shown.contains("104"), "{shown}");
    }

    proptest! {
        #[test]
        fn no_bytes_panic(bytes: Vec<u8>, text in r#"\{"(known|instances|instance|secret)":.{0,40}\}"#) {
            for bytes in [&bytes[..], text.as_bytes()] {
                let _ = serde_json::from_slice::<Join>(bytes);
                let _ = serde_json::from_slice::<Machines>(bytes);
                let _ = serde_json::from_slice::<Credentials>(bytes);
                let _ = serde_json::from_slice::<Document>(bytes);
                let _ = serde_json::from_slice::<CredentialsGiven>(bytes);
                let _ = serde_json::from_slice::<MachinesChanged>(bytes);
            }
        }
    }
}
