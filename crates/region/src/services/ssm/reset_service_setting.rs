//! `ResetServiceSetting`: no role is passed any more, and the sessions of the one that was have ended.

use inborn_wire::success;

use super::{refusal, service_setting};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        service_setting::check_id(&call)?;
        let by = call.caller.principal.arn();
        call.region.pass_role(call.account(), None, by, call.now).await.map_err(refusal::of_setting)?;
        Ok(success::aws_json(call.request_id, &service_setting::shown(&call)).into())
    })
}
