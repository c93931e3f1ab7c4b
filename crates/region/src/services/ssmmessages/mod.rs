//! The message gateway of Systems Manager: the channels that agents keep open.

mod create_control_channel;
mod open_control_channel;
mod request;

use inborn_identity::CallerKind;

use crate::operation::{Handler, JsonCall, Outcome, Route};
use crate::{Effect, Operation, Protocol, Service};

const AGENTS: &[CallerKind] = &[CallerKind::ManagementRole];

const fn operation(
    name: &'static str,
    effect: Effect,
    callers: &'static [CallerKind],
    run: for<'a> fn(JsonCall<'a>) -> Outcome<'a>,
) -> Operation {
    Operation { name, effect, callers, run: Handler::Json(run) }
}

const CONTROL_CHANNEL: &str = "/v1/control-channel/{ControlChannelId}";

pub(super) static SERVICE: Service = Service {
    name: "ssmmessages",
    protocol: Protocol::Rest {
        routes: &[
            Route { method: "POST", path: CONTROL_CHANNEL, query: &[], operation: "CreateControlChannel" },
            Route { method: "GET", path: CONTROL_CHANNEL, query: &["role", "stream"], operation: "OpenControlChannel" },
        ],
    },
    is_global: false,
    query_auth: false,
    version: None,
    body_bytes_max: 16 * 1024,
    // Nothing of what these do is stored, and a full disk must not keep agents away.
    operations: &[
        operation("CreateControlChannel", Effect::ReadOnly, AGENTS, create_control_channel::run),
        operation("OpenControlChannel", Effect::ReadOnly, AGENTS, open_control_channel::run),
    ],
};
