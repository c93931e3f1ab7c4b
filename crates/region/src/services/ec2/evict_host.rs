//! `Inborn.EvictHost`: a host is cut off for good, with all that was given to it.

use super::host;
use crate::operation::{Call, Outcome};

pub(super) fn run(call: Call<'_>) -> Outcome<'_> {
    Box::pin(async move { host::change(&call, "Inborn.EvictHost", |id| call.region.evict_host(id)).await })
}
