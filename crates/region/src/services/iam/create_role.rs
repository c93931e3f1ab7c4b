//! `CreateRole`: a role that can be passed to machines.

use super::{refusal, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let parameters = call.parameters;
        let name = request::role_name(parameters)?;
        let (path, description) = (request::path(parameters)?, request::description(parameters)?);
        request::check_trust(parameters)?;
        // Sessions last an hour, which is also what IAM gives a role that does not say.
        let longest = parameters.root().integer("MaxSessionDuration", 3600..=43_200);
        longest.map_err(inborn_wire::error::Problem::Parameter)?;
        request::finish(parameters)?;
        let shown = name.to_string();
        let created = call.region.roles().create(call.account(), name, path, description, call.now).await;
        let role = created.map_err(|error| refusal::of_role(error, &shown))?;
        let answer = shape::answer("CreateRole", call.request_id, |w| {
            w.element("Role", |w| shape::role(w, call.region.identity(), &role));
        });
        Ok(answer.into())
    })
}
