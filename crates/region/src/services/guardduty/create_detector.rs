//! `CreateDetector`: an account has one.

use serde_json::json;

use super::request::{self, Input};
use super::{detector, refusal};
use crate::guardduty::Creation;
use crate::guardduty::settings::Settings;
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let known = ["enable", "clientToken", detector::FREQUENCY, "dataSources", "tags", "features"];
        let input = Input::of(&call, &known)?;
        input.boolean("enable")?.ok_or_else(|| refusal::missing("enable"))?;
        let mut settings = Settings::new(call.now.as_secs());
        detector::set(&mut settings, &input, call.now.as_secs())?;
        settings.tags = input.tags()?.unwrap_or_default();
        settings.client_token = input.client_token()?;
        let created = call.region.guardduty().create(request::account(&call), settings, call.now).await;
        match created.map_err(refusal::of_store)? {
            Creation::Done(id) => Ok(request::answer(&call, &json!({"detectorId": id}))),
            Creation::Exists => Err(refusal::exists()),
        }
    })
}
