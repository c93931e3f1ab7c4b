//! `DeleteIPSet`.

use inborn_store::PartKind;

use super::refusal;
use super::request::{self, DETECTOR, Input};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, "ipSetId"])?;
        let watched = request::detector(&call, &input)?;
        let id = input.name("ipSetId", 1..=300)?;
        let deleted = call.region.guardduty().delete_part(&watched, PartKind::IpSet, id).await;
        if deleted.map_err(refusal::of_store)? { Ok(request::done(&call)) } else { Err(refusal::not_found()) }
    })
}
