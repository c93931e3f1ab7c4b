//! The message delivery of older agents, which newer ones fall back to: they ask for messages and wait.

mod get_messages;

use inborn_identity::CallerKind;

use crate::operation::Handler;
use crate::{Effect, Operation, Protocol, Service};

pub(super) static SERVICE: Service = Service {
    name: "ec2messages",
    protocol: Protocol::Json { target_prefix: "EC2WindowsMessageDeliveryService", named_by_path: &[], sockets: &[] },
    is_global: false,
    query_auth: false,
    version: None,
    body_bytes_max: 16 * 1024,
    operations: &[Operation {
        name: "GetMessages",
        effect: Effect::ReadOnly,
        callers: &[CallerKind::ManagementRole],
        run: Handler::Json(get_messages::run),
    }],
};
