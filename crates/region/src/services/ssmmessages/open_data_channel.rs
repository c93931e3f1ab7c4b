//! `OpenDataChannel`: the connection becomes one side of a session, once it has said its token. Agents sign the request, the
//! clients of operators may: AWS's plugin does from version 1.3 on.

use std::sync::Arc;

use inborn_wire::Answer;
use inborn_wire::constraint;

use super::{DATA_CHANNEL, SERVICE, request};
use crate::RegionServer;
use crate::gateway::Handshake;
use crate::operation::{JsonCall, Outcome};
use crate::sessions::{self, Joiner, Side};
use crate::throttle::Source;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        constraint::one_of("role", call.parameters.require_text("role")?, &["publish_subscribe"])?;
        let session = request::own_session(&call)?;
        let (side, source) = match call.caller.principal.instance() {
            Some(own) => (Side::Agent, Source::Machine(own)),
            None => (Side::Client, call.source.into()),
        };
        let joiner = Joiner { address: call.source, source, caller: Some(call.caller.clone()) };
        let handshake = call.handshake.cloned().ok_or_else(Handshake::missing)?;
        let answer = handshake.answer(call.request_id);
        tokio::spawn(sessions::relay(Arc::clone(call.region), handshake, session, side, joiner));
        Ok(answer.into())
    })
}

/// The client's side; `None` if there is no such session, which nobody can tell from a signature that is missing.
pub(crate) fn open_without_signature(
    region: &Arc<RegionServer>,
    path: &str,
    handshake: Option<Handshake>,
    joiner: Joiner,
    request_id: &str,
) -> Option<Answer> {
    let route = SERVICE.route("GET", path).filter(|route| route.path == DATA_CHANNEL)?;
    let (_, id) = *route.members(path)?.first()?;
    let session = region.sessions().joinable(id)?;
    let handshake = handshake?;
    let answer = handshake.answer(request_id);
    tokio::spawn(sessions::relay(Arc::clone(region), handshake, session, Side::Client, joiner));
    Some(answer)
}
