//! `GetCommandInvocation`: what became of a step of a command on one machine, with all its output.

use inborn_store::{CommandQuery, CommandStep};
use inborn_wire::error::Problem;
use inborn_wire::{constraint, success};

use super::{command, refusal};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = call.parameters;
        input.require_text("CommandId")?;
        input.require_text("InstanceId")?;
        let (id, instance) = (command::id(input)?, command::instance(input)?);
        let query = CommandQuery { account: Some(call.account()), command: id, instance, after: None, limit: 1 };
        let store = call.region.store();
        let command = store.commands(query.clone()).await.map_err(refusal::of_store)?.pop();
        let invocation = store.invocations(query).await.map_err(refusal::of_store)?.pop();
        let (Some(command), Some(invocation)) = (command, invocation) else { return Err(refusal::no_invocation()) };
        let step = match input.text("PluginName")? {
            Some(name) => {
                constraint::length("PluginName", name, 4..=256)?;
                invocation.steps.iter().find(|step| step.name == name).ok_or_else(refusal::plugin_name)?.clone()
            }
            None => match invocation.steps.as_slice() {
                [] => CommandStep { code: -1, ..CommandStep::default() },
                [only] => only.clone(),
                _ => return Err(several_steps()),
            },
        };
        Ok(success::aws_json(call.request_id, &command::result(&command, &invocation, &step)).into())
    })
}

/// Not AWS's words, which are not known; the reference says that the name must be given then.
fn several_steps() -> Problem {
    let message = "The document of the command has several steps: name one with PluginName.".to_owned();
    Problem::Validation { message }
}
