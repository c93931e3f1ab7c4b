//! `ListRoles`: in pages, by name.

use inborn_wire::error::Problem;

use super::{request, shape};
use crate::operation::{Call, Outcome};

/// Roles on a page that does not say. Source: IAM API reference, `ListRoles`.
const PAGE_DEFAULT: i32 = 100;

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let parameters = call.parameters;
        let prefix = parameters.get("PathPrefix").unwrap_or("/").to_owned();
        let limit = parameters.root().integer("MaxItems", 1..=1000).map_err(Problem::Parameter)?;
        let after = parameters.get("Marker").unwrap_or_default().to_ascii_lowercase();
        request::finish(parameters)?;
        let limit = usize::try_from(limit.unwrap_or(PAGE_DEFAULT)).unwrap_or_default();
        let all = call.region.roles().all(call.account()).into_iter();
        let mut roles: Vec<_> = all
            .filter(|role| role.path.starts_with(&prefix) && role.name.as_str().to_ascii_lowercase() > after)
            .take(limit + 1)
            .collect();
        let is_cut = roles.len() > limit;
        roles.truncate(limit);
        let answer = shape::answer("ListRoles", call.request_id, |w| {
            w.boolean("IsTruncated", is_cut);
            w.list("Roles", "member", &roles, |w, role| shape::role(w, call.region.identity(), role));
            if let (true, Some(last)) = (is_cut, roles.last()) {
                w.leaf("Marker", last.name.as_str());
            }
        });
        Ok(answer.into())
    })
}
