//! The message gateway of Systems Manager: the channels that agents keep open, and those of sessions.

mod create_control_channel;
mod create_data_channel;
mod open_control_channel;
mod open_data_channel;
mod request;

use inborn_identity::CallerKind;

use crate::operation::{Handler, JsonCall, Outcome, Route};
use crate::{Effect, Operation, Protocol, Service};

pub(crate) use open_data_channel::open_without_signature;

const AGENTS: &[CallerKind] = &[CallerKind::ManagementRole];
const BOTH_SIDES: &[CallerKind] = &[CallerKind::ManagementRole, CallerKind::Operator];

const fn operation(
    name: &'static str,
    effect: Effect,
    callers: &'static [CallerKind],
    run: for<'a> fn(JsonCall<'a>) -> Outcome<'a>,
) -> Operation {
    Operation { name, effect, callers, run: Handler::Json(run) }
}

const fn create(path: &'static str, operation: &'static str) -> Route {
    Route { method: "POST", path, query: &[], operation, is_open: false }
}

const CONTROL_CHANNEL: &str = "/v1/control-channel/{ControlChannelId}";
const DATA_CHANNEL: &str = "/v1/data-channel/{SessionId}";

pub(super) static SERVICE: Service = Service {
    name: "ssmmessages",
    signing_name: "ssmmessages",
    protocol: Protocol::Rest {
        routes: &[
            create(CONTROL_CHANNEL, "CreateControlChannel"),
            create(DATA_CHANNEL, "CreateDataChannel"),
            Route {
                method: "GET",
                path: CONTROL_CHANNEL,
                query: &["role", "stream"],
                operation: "OpenControlChannel",
                is_open: false,
            },
            Route {
                method: "GET",
                path: DATA_CHANNEL,
                query: &["role", "stream"],
                operation: "OpenDataChannel",
                // An operator's client has a token, and not always keys.
                is_open: true,
            },
        ],
    },
    is_global: false,
    query_auth: false,
    version: None,
    body_bytes_max: 16 * 1024,
    // Nothing of what these do is stored, and a full disk must not keep agents away.
    operations: &[
        operation("CreateControlChannel", Effect::ReadOnly, AGENTS, create_control_channel::run),
        operation("CreateDataChannel", Effect::ReadOnly, AGENTS, create_data_channel::run),
        operation("OpenControlChannel", Effect::ReadOnly, AGENTS, open_control_channel::run),
        operation("OpenDataChannel", Effect::ReadOnly, BOTH_SIDES, open_data_channel::run),
    ],
};
