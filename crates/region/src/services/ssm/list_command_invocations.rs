//! `ListCommandInvocations`: the commands on each machine, those of the latest command first.

use std::collections::HashMap;

use inborn_identity::UnixTime;
use inborn_store::{Command, CommandPlace, CommandQuery, Invocation};
use inborn_wire::error::Problem;
use inborn_wire::success;
use serde_json::json;

use super::{command, command_filter, refusal};
use crate::operation::{JsonCall, Outcome};

/// Invocations that are read at a time: each may have a quarter of a mebibyte of output.
const READ_AT_ONCE: u32 = command::PAGE_MAX;

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = call.parameters;
        let filters = command_filter::read(input, false)?;
        let limit = command::page(input)?;
        let with_details = input.boolean("Details")?.unwrap_or(false);
        let mut query = CommandQuery {
            account: Some(call.account()),
            command: command::id(input)?,
            instance: command::instance(input)?,
            after: input.text("NextToken")?.map(read_token).transpose()?,
            limit: READ_AT_ONCE,
        };
        let mut commands: HashMap<String, Command> = HashMap::new();
        let mut page: Vec<(Command, Invocation)> = Vec::new();
        loop {
            let found = call.region.store().invocations(query.clone()).await.map_err(refusal::of_store)?;
            let is_last = found.len() < READ_AT_ONCE as usize;
            for invocation in found {
                let Some(of) = command_of(&call, &mut commands, &invocation.command).await? else { continue };
                let state = invocation.state;
                let status = command::status_of_invocation(state);
                query.after = Some(place(of.requested_at, &invocation));
                if page.len() <= limit && filters.iter().all(|filter| filter.matches(&of, status, state.as_str())) {
                    page.push((of, invocation));
                }
            }
            if is_last || page.len() > limit {
                break;
            }
        }
        let has_more = page.len() > limit;
        page.truncate(limit);
        let show = |(command, invocation): &(Command, Invocation)| {
            command::shown_invocation(command, invocation, with_details)
        };
        let list: Vec<_> = page.iter().map(show).collect();
        let mut output = json!({"CommandInvocations": list});
        if let (true, Some((command, last)), Some(output)) = (has_more, page.last(), output.as_object_mut()) {
            let token = format!("invocations-1-{}-{}-{}", command.requested_at.as_secs(), last.instance, command.id);
            output.insert("NextToken".to_owned(), token.into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

/// The command of this id; `None` if it was forgotten meanwhile.
async fn command_of(
    call: &JsonCall<'_>,
    known: &mut HashMap<String, Command>,
    id: &str,
) -> Result<Option<Command>, Problem> {
    if let Some(command) = known.get(id) {
        return Ok(Some(command.clone()));
    }
    let query = CommandQuery {
        account: Some(call.account()),
        command: Some(id.to_owned()),
        limit: 1,
        ..CommandQuery::default()
    };
    let found = call.region.store().commands(query).await.map_err(refusal::of_store)?.pop();
    if let Some(command) = &found {
        known.insert(id.to_owned(), command.clone());
    }
    Ok(found)
}

fn place(requested_at: UnixTime, invocation: &Invocation) -> CommandPlace {
    CommandPlace { requested_at, command: invocation.command.clone(), instance: Some(invocation.instance) }
}

fn read_token(token: &str) -> Result<CommandPlace, Problem> {
    let rest = token.strip_prefix("invocations-1-").and_then(|rest| rest.split_once("-i-"));
    let (seconds, rest) = rest.ok_or_else(refusal::next_token)?;
    let (instance, command) = rest.split_once('-').ok_or_else(refusal::next_token)?;
    let seconds: u64 = seconds.parse().map_err(|_| refusal::next_token())?;
    let instance = format!("i-{instance}").parse().map_err(|_| refusal::next_token())?;
    let requested_at = UnixTime::from_secs(seconds).min(UnixTime::MAX);
    Ok(CommandPlace { requested_at, command: command.to_owned(), instance: Some(instance) })
}
