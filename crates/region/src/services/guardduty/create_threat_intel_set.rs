//! `CreateThreatIntelSet`.

use super::address_set;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(address_set::create(call, address_set::THREAT_INTEL_SET))
}
