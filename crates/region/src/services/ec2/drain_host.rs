//! `Inborn.DrainHost`: a host keeps the machines it has and is given no more.

use super::host;
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move { host::change(&call, "Inborn.DrainHost", |id| call.region.drain_host(id)).await })
}
