//! What the requests of agents and the answers to them have in common.

use inborn_wire::Answer;
use inborn_wire::constraint;
use inborn_wire::error::Problem;
use inborn_wire::xml::{Layout, document};

use crate::channels::GrantsFull;
use crate::operation::JsonCall;

/// The only schema of these messages.
const MESSAGE_SCHEMA: &str = "1.0";
/// Longest id of a request: a UUID, and a little for who has other ideas.
const REQUEST_ID_MAX: usize = 128;

/// Checks what a request for a channel says of itself.
pub(super) fn check_body(call: &JsonCall<'_>) -> Result<(), Problem> {
    let schema = call.parameters.require_text("MessageSchemaVersion")?;
    constraint::one_of("MessageSchemaVersion", schema, &[MESSAGE_SCHEMA])?;
    constraint::length("RequestId", call.parameters.require_text("RequestId")?, 1..=REQUEST_ID_MAX)
}

/// The answer that grants a channel: 201, and XML although the request is JSON. Agents take nothing else.
pub(super) fn granted(name: &'static str, token: &str, request_id: &str) -> Answer {
    let layout = Layout { declaration: false, ..Layout::QUERY };
    let body = document(layout, name, None, |w| {
        w.leaf("MessageSchemaVersion", MESSAGE_SCHEMA);
        w.leaf("TokenValue", token);
    });
    Answer::new(201, "text/xml", request_id, body)
}

pub(super) fn full(_: GrantsFull) -> Problem {
    Problem::Throttled
}
