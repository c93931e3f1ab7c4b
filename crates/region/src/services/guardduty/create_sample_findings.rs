//! `CreateSampleFindings`: findings that say of themselves that they are none, to try what reads findings.

use inborn_detect::finding::Resource;
use inborn_detect::{Finding, FindingType, Severity};
use inborn_wire::error::Problem;

use super::refusal;
use super::request::{self, DETECTOR, Input};
use crate::guardduty::findings::mark_sample;
use crate::operation::{JsonCall, Outcome};

/// Most types that a request names. Source: botocore's model, `FindingTypes`.
const TYPES_MAX: usize = 50;
const TYPES: &str = "findingTypes";

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = Input::of(&call, &[DETECTOR, TYPES])?;
        let watched = request::detector(&call, &input)?;
        let named = input.texts(TYPES, TYPES_MAX)?.filter(|named| !named.is_empty());
        let kinds = match named {
            None => FindingType::all().collect(),
            Some(named) => named.into_iter().map(kind).collect::<Result<Vec<_>, _>>()?,
        };
        let samples: Vec<Finding> = kinds.into_iter().map(|kind| sample(&call, kind)).collect();
        let stored = call.region.guardduty().store_some(&watched, &samples, call.now, mark_sample).await;
        stored.map_err(refusal::of_store)?;
        Ok(request::done(&call))
    })
}

fn kind(name: &str) -> Result<FindingType, Problem> {
    FindingType::all().find(|kind| kind.as_str() == name).ok_or_else(|| refusal::invalid(TYPES))
}

fn sample(call: &JsonCall<'_>, kind: FindingType) -> Finding {
    let identity = call.region.identity();
    Finding {
        kind,
        severity: Severity::Medium,
        title: format!("A finding of type {kind}."),
        description: "This is a sample: nothing has happened.".to_owned(),
        partition: identity.partition,
        account: request::account(call),
        region: identity.region.clone(),
        resource: Resource::default(),
        action: None,
        runtime: None,
        threat_lists: Vec::new(),
        rule: None,
        subject: String::new(),
        count: 1,
        first_seen: call.now,
        last_seen: call.now,
    }
}
