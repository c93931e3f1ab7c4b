//! `CreateControlChannel`: an agent asks for the token with which it may open its channel.

use super::request;
use crate::operation::{JsonCall, Outcome};
use crate::services::ssm::own_target;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let own = own_target(&call, "ssmmessages", "CreateControlChannel", "ControlChannelId")?;
        request::check_body(&call)?;
        let token = call.region.channels().grants.grant(own, call.now).map_err(request::full)?;
        Ok(request::granted("CreateControlChannelOutput", &token, call.request_id).into())
    })
}
