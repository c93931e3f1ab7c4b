//! `Inborn.DescribeHosts`: all hosts that ever joined.

use super::{host, request, shape};
use crate::operation::{Call, Outcome};

const NAME: &str = "Inborn.DescribeHosts";

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move {
        host::check_caller(&call, NAME)?;
        request::finish(call.parameters)?;
        let hosts = call.region.hosts().all();
        let answer = shape::response(NAME, call.request_id, |w| {
            w.list("hostSet", "item", &hosts, |w, host| host::write(w, &call, host));
        });
        Ok(answer.into())
    })
}
