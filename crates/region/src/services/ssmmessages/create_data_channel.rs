//! `CreateDataChannel`: an agent asks for the token with which it may open its side of a session.

use super::request;
use crate::operation::{JsonCall, Outcome};
use crate::sessions::Side;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        request::check_body(&call)?;
        let session = request::own_session(&call)?;
        let grants = call.region.sessions().grants(Side::Agent);
        let token = grants.grant(session.record.id.clone(), call.now).map_err(request::full)?;
        session.agent_knows();
        Ok(request::granted("CreateDataChannelOutput", &token, call.request_id).into())
    })
}
