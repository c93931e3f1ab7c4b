//! What the requests of agents and the answers to them have in common.

use std::sync::Arc;

use inborn_wire::Answer;
use inborn_wire::constraint;
use inborn_wire::error::Problem;
use inborn_wire::xml::{Layout, document};

use crate::channels::GrantsFull;
use crate::operation::JsonCall;
use crate::sessions::Session;

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

/// The session in the path, if it is one of the machine that called, or of the operator's account. Another's is as unknown as
/// one that never was.
pub(super) fn own_session(call: &JsonCall<'_>) -> Result<Arc<Session>, Problem> {
    let id = call.parameters.require_text("SessionId")?;
    let principal = &call.caller.principal;
    let found = call.region.sessions().joinable(id).filter(|session| match principal.instance() {
        Some(own) => session.record.instance == own,
        None => session.record.account == principal.account(),
    });
    // Not AWS's words. Agents try again for a while after any refusal but `AccessDeniedException`.
    found.ok_or_else(|| Problem::Service {
        status: 400,
        code: "BadRequest",
        message: "The session is not yours, or has ended.".to_owned(),
    })
}

pub(super) fn full(_: GrantsFull) -> Problem {
    Problem::Throttled
}
