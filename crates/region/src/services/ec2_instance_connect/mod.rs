//! EC2 Instance Connect: keys for logins that operators send to machines, the host keys that machines publish, and who may
//! read those and decide about them.
//!
//! `PutEC2HostKeys` and `GetEC2HostKeys` are in no public model; their form is that of the scripts in AWS's package
//! `aws-ec2-instance-connect-config`, versions 1.1.12 to 1.1.17, which sent them until 2022. The operations whose names
//! begin with `Inborn.` are ours: AWS has no word for what they do. `OpenTunnel` is in no model either: its form is that of the
//! AWS CLI, version 2.

mod certificates;
mod decide_host_keys;
mod describe_host_keys;
mod get_ec2_host_keys;
mod get_host_key_policy;
mod host_keys;
mod open_tunnel;
mod policy;
mod put_ec2_host_keys;
mod put_host_key_policy;
mod refusal;
mod request;
mod send_serial_console_ssh_public_key;
mod send_ssh_public_key;
mod setting;
mod user_key;

use inborn_identity::CallerKind;

use crate::operation::{Handler, JsonCall, Outcome};
use crate::{Effect, NamedByPath, Operation, Protocol, Service, SocketPath};

const MACHINES: &[CallerKind] = &[CallerKind::IdentityRole];
const OPERATORS: &[CallerKind] = &[CallerKind::Operator];
const BOTH: &[CallerKind] = &[CallerKind::IdentityRole, CallerKind::Operator];

const fn operation(
    name: &'static str,
    effect: Effect,
    callers: &'static [CallerKind],
    run: for<'a> fn(JsonCall<'a>) -> Outcome<'a>,
) -> Operation {
    Operation { name, effect, callers, run: Handler::Json(run) }
}

pub(super) static SERVICE: Service = Service {
    name: "ec2-instance-connect",
    signing_name: "ec2-instance-connect",
    protocol: Protocol::Json {
        target_prefix: "AWSEC2InstanceConnectService",
        named_by_path: &[
            NamedByPath {
                path: "/PutEC2HostKeys/",
                operation: "PutEC2HostKeys",
                target: "com.amazon.aws.sshaccessproxyservice.AWSEC2InstanceConnectService.PutEC2HostKeys",
            },
            NamedByPath {
                path: "/GetEC2HostKeys/",
                operation: "GetEC2HostKeys",
                target: "com.amazon.aws.sshaccessproxyservice.AWSEC2InstanceConnectService.GetEC2HostKeys",
            },
        ],
        sockets: &[SocketPath { path: "/openTunnel", operation: "OpenTunnel" }],
    },
    is_global: false,
    query_auth: false,
    version: None,
    // Sixteen RSA keys of 8192 bits, and a proof by each, take 80 KiB.
    body_bytes_max: 128 * 1024,
    operations: &[
        operation("GetEC2HostKeys", Effect::ReadOnly, BOTH, get_ec2_host_keys::run),
        operation("Inborn.DecideHostKeys", Effect::Mutating, OPERATORS, decide_host_keys::run),
        operation("Inborn.DescribeHostKeys", Effect::ReadOnly, OPERATORS, describe_host_keys::run),
        operation("Inborn.GetHostKeyPolicy", Effect::ReadOnly, OPERATORS, get_host_key_policy::run),
        operation("Inborn.PutHostKeyPolicy", Effect::Mutating, OPERATORS, put_host_key_policy::run),
        Operation {
            name: "OpenTunnel",
            effect: Effect::Mutating,
            callers: OPERATORS,
            run: Handler::Query(open_tunnel::run),
        },
        operation("PutEC2HostKeys", Effect::Mutating, MACHINES, put_ec2_host_keys::run),
        operation("SendSSHPublicKey", Effect::Mutating, OPERATORS, send_ssh_public_key::run),
        operation(
            "SendSerialConsoleSSHPublicKey",
            Effect::Mutating,
            OPERATORS,
            send_serial_console_ssh_public_key::run,
        ),
    ],
};
