//! `UpdateFindingsFeedback`: what operators think of findings is kept with them. Comments, which nothing gives back, are not.

use serde_json::Value;

use super::request::{self, DETECTOR, Input};
use super::{finding, refusal};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, finding::IDS, "feedback", "comments"])?;
        let watched = request::detector(&call, &input)?;
        input.text("comments")?;
        let feedback =
            input.one_of("feedback", &["USEFUL", "NOT_USEFUL"])?.ok_or_else(|| refusal::missing("feedback"))?;
        let change = |_: &mut inborn_store::Finding, document: &mut Value| {
            if let Some(Value::Object(service)) = document.get_mut("service") {
                service.insert("userFeedback".to_owned(), Value::from(feedback));
            }
        };
        let changed = call.region.guardduty().change_findings(&watched.id, finding::ids(&input)?, change).await;
        if changed.map_err(refusal::of_store)? { Ok(request::done(&call)) } else { Err(refusal::not_found()) }
    })
}
