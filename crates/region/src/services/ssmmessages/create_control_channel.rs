//! `CreateControlChannel`: an agent asks for the token with which it may open its channel.

use inborn_wire::error::Problem;

use super::request;
use crate::operation::{JsonCall, Outcome};
use crate::services::ssm::own_target;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        own_target(&call, "ssmmessages", "CreateControlChannel", "ControlChannelId")?;
        request::check_body(&call)?;
        let claims = call.caller.claims.as_deref().ok_or(Problem::Internal)?;
        let token = call.region.grant_control_channel(claims, call.now).map_err(request::full)?;
        Ok(request::granted("CreateControlChannelOutput", &token, call.request_id).into())
    })
}
