//! The services, one module each, one file per action.

mod ec2;
mod ec2_instance_connect;
mod ec2messages;
mod guardduty;
mod guardduty_data;
mod iam;
mod ssm;
mod ssmmessages;
mod sts;

use crate::Service;

pub(crate) use ec2::metadata_defaults::take_over as take_over_metadata_defaults;
pub(crate) use guardduty_data::{NAME as TELEMETRY, advise};
pub(crate) use ssmmessages::open_without_signature;

/// The processor that machines are said to have: this computer's.
pub const ARCHITECTURE: &str = if cfg!(target_arch = "aarch64") { "arm64" } else { "x86_64" };

/// The root device that machines are said to have: the name that Amazon Linux has for it.
pub const ROOT_DEVICE: &str = "/dev/xvda";

/// All services that are served. Any other answers as AWS answers an identity it does not know.
pub static SERVICES: &[&Service] = &[
    &sts::SERVICE,
    &ec2::SERVICE,
    &ec2_instance_connect::SERVICE,
    &ec2messages::SERVICE,
    &guardduty::SERVICE,
    &guardduty_data::SERVICE,
    &iam::SERVICE,
    &ssm::SERVICE,
    &ssmmessages::SERVICE,
];
