//! `Inborn.DescribeQuarantines`: who is in quarantine, since when and why.

use super::{quarantine, request, shape};
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        request::finish(call.parameters)?;
        let all = quarantine::of_caller(&call, call.region);
        let answer = shape::response("Inborn.DescribeQuarantines", call.request_id, |w| {
            w.list("quarantineSet", "item", &all, |w, found| {
                w.leaf("subject", &found.scope.to_string());
                w.leaf("since", &shape::milliseconds(found.since));
                w.leaf("by", &found.by);
                w.leaf("reason", &found.reason);
            });
        });
        Ok(answer.into())
    })
}
