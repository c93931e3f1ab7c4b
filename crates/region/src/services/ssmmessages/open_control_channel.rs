//! `OpenControlChannel`: the connection becomes the agent's control channel, once it has said its token.

use std::sync::Arc;

use inborn_wire::constraint;
use inborn_wire::error::Problem;

use crate::channels;
use crate::gateway::Handshake;
use crate::operation::{JsonCall, Outcome};
use crate::services::ssm::own_target;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        own_target(&call, "ssmmessages", "OpenControlChannel", "ControlChannelId")?;
        constraint::one_of("role", call.parameters.require_text("role")?, &["subscribe"])?;
        constraint::one_of("stream", call.parameters.require_text("stream")?, &["input"])?;
        // The table lets only sessions in.
        let claims = Arc::clone(call.caller.claims.as_ref().ok_or(Problem::Internal)?);
        let handshake = call.handshake.cloned().ok_or_else(Handshake::missing)?;
        let answer = handshake.answer(call.request_id);
        tokio::spawn(channels::converse(Arc::clone(call.region), handshake, claims));
        Ok(answer.into())
    })
}
