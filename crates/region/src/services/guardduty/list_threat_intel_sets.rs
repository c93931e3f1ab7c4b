//! `ListThreatIntelSets`.

use super::address_set;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move { address_set::list(&call, address_set::THREAT_INTEL_SET) })
}
