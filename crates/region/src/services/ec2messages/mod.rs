//! The message delivery of older agents, which newer ones fall back to: they ask for messages and wait.
//!
//! Source: the agent's own model of the service, `EC2WindowsMessageDeliveryService`, and what it was seen to send.

mod acknowledge_message;
mod delete_message;
mod fail_message;
mod get_endpoint;
mod get_messages;
mod message;
mod send_reply;

use inborn_identity::CallerKind;

use crate::operation::{Handler, JsonCall, Outcome};
use crate::{Effect, Operation, Protocol, Service};

const fn operation(name: &'static str, effect: Effect, run: for<'a> fn(JsonCall<'a>) -> Outcome<'a>) -> Operation {
    Operation { name, effect, callers: &[CallerKind::ManagementRole], run: Handler::Json(run) }
}

pub(super) static SERVICE: Service = Service {
    name: "ec2messages",
    signing_name: "ec2messages",
    protocol: Protocol::Json { target_prefix: "EC2WindowsMessageDeliveryService", named_by_path: &[], sockets: &[] },
    is_global: false,
    query_auth: false,
    version: None,
    // A reply of an agent has up to 120,000 bytes, which as a text within a text may be twice as many.
    body_bytes_max: 320 * 1024,
    operations: &[
        operation("AcknowledgeMessage", Effect::Mutating, acknowledge_message::run),
        operation("DeleteMessage", Effect::Mutating, delete_message::run),
        operation("FailMessage", Effect::Mutating, fail_message::run),
        operation("GetEndpoint", Effect::ReadOnly, get_endpoint::run),
        operation("GetMessages", Effect::ReadOnly, get_messages::run),
        operation("SendReply", Effect::Mutating, send_reply::run),
    ],
};
