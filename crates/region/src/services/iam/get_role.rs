//! `GetRole`.

use super::{refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let name = request::role_name(call.parameters)?;
        request::finish(call.parameters)?;
        let role =
            call.region.roles().get(call.account(), &name).ok_or_else(|| refusal::no_such_role(name.as_str()))?;
        let answer = shape::answer("GetRole", call.request_id, |w| {
            w.element("Role", |w| shape::role(w, call.region.identity(), &role));
        });
        Ok(answer.into())
    })
}
