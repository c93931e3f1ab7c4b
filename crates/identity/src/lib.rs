//! The nouns of Inborn: partitions, ids, ARNs, principals, points in time.
//!
//! Everything here is a value. The crate opens no socket, reads no file and no clock, and knows nothing
//! of the other crates; [`Clock`] is only the *shape* of a clock, so that the ones who need the time can be given it.
#![forbid(unsafe_code)]

mod access_key;
mod arn;
mod ids;
mod mac;
mod metadata_options;
mod partition;
mod principal;
mod time;

pub use access_key::{AccessKeyId, AccessKeyIdError, AccessKeyKind};
pub use arn::{Arn, ArnError, AssumedRoleArn, RoleName};
pub use ids::{AccountId, HostId, IdError, InstanceId, Region, Zone};
pub use mac::{MacAddress, MacError};
pub use metadata_options::{HttpEndpoint, HttpTokens, MetadataOptions, MetadataOptionsError};
pub use partition::Partition;
pub use principal::{CallerKind, Principal};
pub use time::{Clock, TimeError, UnixTime};

/// The name of the role that every instance is born with. It holds a colon, which no role made by a person may.
///
/// Source: EC2 user guide, "Instance identity roles"; CloudTrail records of such sessions.
pub const IDENTITY_ROLE_NAME: &str = "aws:ec2-instance";

/// The role that Default Host Management passes to an instance.
///
/// Source: Systems Manager user guide, "Managing EC2 instances automatically with Default Host Management Configuration".
pub const MANAGEMENT_ROLE_NAME: &str = "AWSSystemsManagerDefaultEC2InstanceManagementRole";
