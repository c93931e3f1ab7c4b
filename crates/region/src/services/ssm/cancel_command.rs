//! `CancelCommand`: what was not sent yet is not sent, and agents are told to end what they have begun.

use std::collections::BTreeSet;

use inborn_identity::InstanceId;
use inborn_store::CommandQuery;
use inborn_wire::error::Problem;
use inborn_wire::success;
use serde_json::json;

use super::{command, refusal};
use crate::operation::{JsonCall, Outcome};

/// Most ids of a call. Source: botocore's model.
const INSTANCE_IDS_MAX: usize = 50;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = call.parameters;
        input.require_text("CommandId")?;
        let id = command::id(input)?.ok_or_else(refusal::command_id)?;
        let texts = input.texts("InstanceIds")?.unwrap_or_default();
        if texts.len() > INSTANCE_IDS_MAX {
            let message = format!("A call has at most {INSTANCE_IDS_MAX} InstanceIds.");
            return Err(Problem::Validation { message });
        }
        let mut instances: BTreeSet<InstanceId> = BTreeSet::new();
        for text in texts {
            if !instances.insert(text.parse().map_err(|_| refusal::not_registered(text))?) {
                return Err(refusal::duplicate_instance());
            }
        }
        let account = Some(call.account());
        let query = CommandQuery { account, command: Some(id.clone()), limit: 1, ..CommandQuery::default() };
        if call.region.store().commands(query).await.map_err(refusal::of_store)?.is_empty() {
            return Err(refusal::command_id());
        }
        let mut foreign = Vec::new();
        for instance in &instances {
            let query =
                CommandQuery { account, command: Some(id.clone()), instance: Some(*instance), limit: 1, after: None };
            if call.region.store().invocations(query).await.map_err(refusal::of_store)?.is_empty() {
                foreign.push(instance.to_string());
            }
        }
        // Whoever names a machine must not believe that something is ended there that never was.
        if !foreign.is_empty() {
            let foreign: Vec<&str> = foreign.iter().map(String::as_str).collect();
            return Err(refusal::not_valid(&foreign, call.caller.principal.account()));
        }
        call.region.run_command().cancel(&id, instances.into_iter().collect()).await.map_err(refusal::of_store)?;
        Ok(success::aws_json(call.request_id, &json!({})).into())
    })
}
