//! `ListCommands`: the commands, the latest first.

use inborn_identity::UnixTime;
use inborn_store::{CommandPlace, CommandQuery};
use inborn_wire::error::Problem;
use inborn_wire::success;
use serde_json::json;

use super::{command, command_filter, refusal};
use crate::operation::{JsonCall, Outcome};

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let input = call.parameters;
        let filters = command_filter::read(input, true)?;
        let limit = command::page(input)?;
        let mut query = CommandQuery {
            account: Some(call.account()),
            command: command::id(input)?,
            instance: command::instance(input)?,
            after: input.text("NextToken")?.map(read_token).transpose()?,
            limit: CommandQuery::LIMIT_MAX,
        };
        let mut page = Vec::new();
        loop {
            let found = call.region.store().commands(query.clone()).await.map_err(refusal::of_store)?;
            let is_last = found.len() < CommandQuery::LIMIT_MAX as usize;
            query.after = found.last().map(|last| place(last.requested_at, &last.id)).or(query.after);
            page.extend(found.into_iter().filter(|found| {
                let state = found.progress.state;
                let status = command::status_of_command(state);
                filters.iter().all(|filter| filter.matches(found, status, state.as_str()))
            }));
            if is_last || page.len() > limit {
                break;
            }
        }
        let has_more = page.len() > limit;
        page.truncate(limit);
        let list: Vec<_> = page.iter().map(command::shown).collect();
        let mut output = json!({"Commands": list});
        if let (true, Some(last), Some(output)) = (has_more, page.last(), output.as_object_mut()) {
            let token = format!("commands-1-{}-{}", last.requested_at.as_secs(), last.id);
            output.insert("NextToken".to_owned(), token.into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

fn place(requested_at: UnixTime, command: &str) -> CommandPlace {
    CommandPlace { requested_at, command: command.to_owned(), instance: None }
}

/// A page's token is the place that it continues after: nothing to keep, nothing to leak that the caller has not seen.
fn read_token(token: &str) -> Result<CommandPlace, Problem> {
    let (seconds, id) =
        token.strip_prefix("commands-1-").and_then(|rest| rest.split_once('-')).ok_or_else(refusal::next_token)?;
    let seconds = seconds.parse().map_err(|_| refusal::next_token())?;
    Ok(place(UnixTime::from_secs(seconds).min(UnixTime::MAX), id))
}
