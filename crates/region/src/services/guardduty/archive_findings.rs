//! `ArchiveFindings`: findings are put aside.

use serde_json::Value;

use super::request::{self, DETECTOR, Input};
use super::{finding, refusal};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, finding::IDS])?;
        let watched = request::detector(&call, &input)?;
        let change = |row: &mut inborn_store::Finding, document: &mut Value| {
            row.is_archived = true;
            if let Some(archived) = document.pointer_mut("/service/archived") {
                *archived = Value::from(true);
            }
        };
        let changed = call.region.guardduty().change_findings(&watched.id, finding::ids(&input)?, change).await;
        if changed.map_err(refusal::of_store)? { Ok(request::done(&call)) } else { Err(refusal::not_found()) }
    })
}
