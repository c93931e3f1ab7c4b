//! `GetServiceSetting`: which role Default Host Management passes.

use inborn_wire::success;

use super::service_setting;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        service_setting::check_id(&call)?;
        Ok(success::aws_json(call.request_id, &service_setting::shown(&call)).into())
    })
}
