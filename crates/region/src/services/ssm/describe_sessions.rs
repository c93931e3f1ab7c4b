//! `DescribeSessions`: the sessions that are open, or those that have ended.

use std::sync::Arc;

use inborn_identity::UnixTime;
use inborn_store::{Session as Record, SessionPlace, SessionQuery};
use inborn_wire::error::Problem;
use inborn_wire::{constraint, success};
use serde_json::json;

use super::{refusal, session};
use crate::operation::{JsonCall, Outcome};

/// Most sessions on a page, and as many as there are if the caller does not say.
const PAGE_MAX: usize = SessionQuery::LIMIT_MAX as usize;
/// Most filters of a call. Source: botocore's model, `SessionFilterList`.
const FILTERS_MAX: usize = 6;
/// Longest value of a filter. Source: the same, `SessionFilterValue`.
const VALUE_LENGTH_MAX: usize = 400;
/// Most pages of the store that one call looks through for sessions that pass its filters.
const LOOKS_MAX: usize = 20;
const KEYS: [&str; 7] = ["InvokedAfter", "InvokedBefore", "Target", "Owner", "Status", "SessionId", "AccessType"];
const STATUSES: [&str; 6] = ["Connected", "Connecting", "Disconnected", "Terminated", "Terminating", "Failed"];

enum Filter {
    After(UnixTime),
    Before(UnixTime),
    Text(&'static str, String),
}

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let state = call.parameters.require_text("State")?;
        constraint::one_of("State", state, &["Active", "History"])?;
        let filters = filters(&call)?;
        let limit = match call.parameters.integer("MaxResults")? {
            Some(most) => {
                constraint::range("MaxResults", most, 1..=i64::from(SessionQuery::LIMIT_MAX))?;
                usize::try_from(most).unwrap_or(PAGE_MAX)
            }
            None => PAGE_MAX,
        };
        let after = call.parameters.text("NextToken")?.map(read_token).transpose()?;
        let (page, next) = match state {
            "Active" if call.region.fleet().is_none() => active(&call, &filters, after, limit),
            state => stored(&call, &filters, after, limit, state == "History").await?,
        };
        let list: Vec<_> = page.iter().map(|(record, status)| session::shown(record, status)).collect();
        let mut output = json!({"Sessions": list});
        if let (Some(next), Some(output)) = (next, output.as_object_mut()) {
            output.insert("NextToken".to_owned(), write_token(&next).into());
        }
        Ok(success::aws_json(call.request_id, &output).into())
    })
}

type Page = (Vec<(Record, String)>, Option<SessionPlace>);

fn place(record: &Record) -> SessionPlace {
    SessionPlace { started_at: record.started_at, id: record.id.clone() }
}

fn active(call: &JsonCall<'_>, filters: &[Filter], after: Option<SessionPlace>, limit: usize) -> Page {
    let account = call.caller.principal.account();
    let is_behind = |record: &Record| {
        after.as_ref().is_none_or(|after| {
            record.started_at < after.started_at || (record.started_at == after.started_at && record.id > after.id)
        })
    };
    let all = call.region.sessions().all().into_iter();
    let own = all.filter(|session| session.record.account == account && is_behind(&session.record));
    let mut shown = own
        .map(|session| (session.record.clone(), session.status().to_owned()))
        .filter(|(record, status)| filters.iter().all(|filter| filter.admits(record, status)));
    let page: Vec<_> = shown.by_ref().take(limit).collect();
    let next = shown.next().and_then(|_| page.last()).map(|(record, _)| place(record));
    (page, next)
}

async fn stored(
    call: &JsonCall<'_>,
    filters: &[Filter],
    mut after: Option<SessionPlace>,
    limit: usize,
    has_ended: bool,
) -> Result<Page, Problem> {
    let account = call.caller.principal.account();
    let elsewhere = if has_ended { Arc::default() } else { call.region.sessions_elsewhere(account).await? };
    let account = Some(account);
    let status = |record: &Record| match (&record.end, call.region.sessions().get(&record.id)) {
        (Some(end), _) => end.status.clone(),
        (None, Some(session)) => session.status().to_owned(),
        // Of one that nobody carries neither side is connected.
        (None, None) => elsewhere.get(&record.id).cloned().unwrap_or_else(|| "Disconnected".to_owned()),
    };
    let mut page = Vec::new();
    for _ in 0..LOOKS_MAX {
        let query = SessionQuery { account, has_ended, after, limit: SessionQuery::LIMIT_MAX };
        let found = call.region.store().sessions(query).await.map_err(refusal::of_store)?;
        let is_last = found.len() < PAGE_MAX;
        after = found.last().map(place);
        for record in found {
            let status = status(&record);
            if !filters.iter().all(|filter| filter.admits(&record, &status)) {
                continue;
            }
            if page.len() == limit {
                let next = page.last().map(|(record, _)| place(record));
                return Ok((page, next));
            }
            page.push((record, status));
        }
        if is_last {
            return Ok((page, None));
        }
    }
    // There may be more behind what was looked through: the caller goes on from there.
    Ok((page, after))
}

fn filters(call: &JsonCall<'_>) -> Result<Vec<Filter>, Problem> {
    let given = call.parameters.objects("Filters")?.unwrap_or_default();
    if given.len() > FILTERS_MAX {
        let message = format!("A request has at most {FILTERS_MAX} filters.");
        return Err(Problem::Validation { message });
    }
    given.iter().map(|filter| Filter::read(filter.require_text("key")?, filter.require_text("value")?)).collect()
}

impl Filter {
    fn read(key: &str, value: &str) -> Result<Self, Problem> {
        constraint::one_of("key", key, &KEYS)?;
        constraint::length("value", value, 1..=VALUE_LENGTH_MAX)?;
        let moment = || {
            UnixTime::parse_rfc3339(value.as_bytes())
                .map_err(|_| constraint::pattern("value", value, "YYYY-MM-DDTHH:MM:SSZ"))
        };
        if key == "Status" {
            constraint::one_of("value", value, &STATUSES)?;
        }
        match key {
            "InvokedAfter" => Ok(Self::After(moment()?)),
            "InvokedBefore" => Ok(Self::Before(moment()?)),
            key => {
                let known = KEYS.into_iter().find(|known| *known == key).unwrap_or_default();
                Ok(Self::Text(known, value.to_owned()))
            }
        }
    }

    fn admits(&self, record: &Record, status: &str) -> bool {
        match self {
            Self::After(at) => record.started_at > *at,
            Self::Before(at) => record.started_at < *at,
            Self::Text("Target", value) => record.instance.to_string() == *value,
            Self::Text("Owner", value) => record.owner == *value,
            Self::Text("Status", value) => status == value,
            Self::Text("SessionId", value) => record.id == *value,
            Self::Text(_, value) => value == "Standard",
        }
    }
}

/// A page's token is the place that it continues after: nothing to keep, nothing to leak that the caller has not seen.
fn write_token(place: &SessionPlace) -> String {
    format!("sessions-1-{}-{}", place.started_at.as_secs(), place.id)
}

fn read_token(token: &str) -> Result<SessionPlace, Problem> {
    let read = || {
        let (seconds, id) = token.strip_prefix("sessions-1-")?.split_once('-')?;
        let is_id = (1..=Record::ID_MAX).contains(&id.len());
        is_id.then_some(SessionPlace { started_at: UnixTime::from_secs(seconds.parse().ok()?), id: id.to_owned() })
    };
    read().ok_or_else(refusal::next_token)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_come_back_and_others_are_refused() {
        let place = SessionPlace { started_at: UnixTime::from_secs(1_800_000_000), id: "a-b-0123".to_owned() };
        assert_eq!(read_token(&write_token(&place)), Ok(place));
        for token in ["", "x", "sessions-1-", "sessions-1-1", "sessions-1-x-y", "sessions-1-1-", "nodes-1-i"] {
            assert!(read_token(token).is_err(), "{token}");
        }
    }

    #[test]
    fn filters_that_are_none_are_refused() {
        for (key, value, is_good) in [
            ("Target", "i-1", true),
            ("InvokedAfter", "2027-01-15T08:00:00Z", true),
            ("InvokedAfter", "yesterday", false),
            ("Status", "Connected", true),
            ("Status", "Sleeping", false),
            ("Owner", "", false),
            ("owner", "x", false),
        ] {
            assert_eq!(Filter::read(key, value).is_ok(), is_good, "{key} {value}");
        }
    }
}
