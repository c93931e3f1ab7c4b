//! `Inborn.QueryEvents`: what machines told. AWS has no word for it: there nobody can ask GuardDuty what its agents sent.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use inborn_identity::InstanceId;
use inborn_lake::{Cursor, Event, Order, QUERY_EVENTS_MAX, QUERY_FILTERS_MAX, Query, QueryError};
use inborn_telemetry::ClassUid;
use inborn_wire::error::Problem;
use serde_json::{Value, json};

use super::refusal;
use super::request::{self, Input};
use crate::operation::{JsonCall, Outcome};

/// Most classes and machines that a question names.
const NAMES_MAX: usize = 100;
/// Longest text that is looked for, in characters.
const TEXT_MAX: usize = 1024;
const ORDER: &str = "order";
const TOKEN: &str = "nextToken";
const CLASSES: &str = "classes";

pub(super) fn run(call: JsonCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let known = ["since", "until", CLASSES, "instances", "filters", "text", ORDER, "maxResults", TOKEN];
        let input = Input::of(&call, &known)?;
        let mut query = read(&input)?;
        // Whatever is asked: an operator sees what is of its own account.
        query.accounts = vec![request::account(&call)];
        let answered = call.region.guardduty().events().query(query).await;
        let found = answered.ok_or_else(|| refusal::rejected("because this region keeps no telemetry"))?;
        let found = found.map_err(|error| match error {
            QueryError::TooManyFilters => refusal::invalid("filters"),
            QueryError::Io(error) => {
                tracing::error!(%error, "telemetry cannot be read");
                Problem::Internal
            }
        })?;
        let next = found.next.as_ref().map(token);
        let events: Vec<Value> = found.events.iter().map(shown).collect();
        let answer = json!({
            "events": events,
            TOKEN: next,
            "unreadable": found.unreadable,
            "unreadableFiles": found.unreadable_files,
        });
        Ok(request::answer(&call, &answer))
    })
}

fn read(input: &Input) -> Result<Query, Problem> {
    let range = 0..=i64::MAX;
    let number = |value: &Value| value.as_u64().and_then(|class| u32::try_from(class).ok()).map(ClassUid);
    let text = input.text("text")?;
    if text.is_some_and(|text| text.chars().count() > TEXT_MAX) {
        return Err(refusal::invalid("text"));
    }
    let most = input.number("maxResults", 1..=i64::try_from(QUERY_EVENTS_MAX).unwrap_or(i64::MAX))?;
    Ok(Query {
        since_ms: input.number("since", range.clone())?,
        until_ms: input.number("until", range)?,
        classes: input.list(CLASSES, NAMES_MAX, number)?,
        instances: input.list("instances", NAMES_MAX, |value| value.as_str()?.parse().ok())?,
        filters: input.list("filters", QUERY_FILTERS_MAX, |value| value.as_str()?.parse().ok())?,
        text: text.map(Box::from),
        order: match input.one_of(ORDER, &["ASC", "DESC"])? {
            Some("ASC") => Order::OldestFirst,
            _ => Order::NewestFirst,
        },
        limit: most.and_then(|most| usize::try_from(most).ok()).unwrap_or_default(),
        after: match input.text(TOKEN)?.filter(|token| !token.is_empty()) {
            Some(token) => Some(cursor(token).ok_or_else(|| refusal::invalid(TOKEN))?),
            None => None,
        },
        ..Query::default()
    })
}

/// An event, as it was stored. One that is no JSON any more is told as such.
fn shown(event: &Event) -> Value {
    let stored = serde_json::from_str(&event.record.json).unwrap_or(Value::Null);
    json!({"instanceId": event.source.instance.to_string(), "event": stored})
}

/// Where the next page begins. It says nothing that the caller has not seen, and gives nothing that it may not.
fn token(cursor: &Cursor) -> String {
    let text = json!([cursor.time_ms, cursor.instance.to_string(), cursor.uid]).to_string();
    URL_SAFE_NO_PAD.encode(text)
}

fn cursor(token: &str) -> Option<Cursor> {
    let bytes = URL_SAFE_NO_PAD.decode(token).ok()?;
    let (time_ms, instance, uid): (i64, String, String) = serde_json::from_slice(&bytes).ok()?;
    let instance: InstanceId = instance.parse().ok()?;
    Some(Cursor { time_ms, instance, uid: uid.into() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_question_is_read_whole() {
        let input = Input::parse(
            r#"{"since":1,"until":2,"classes":[1007],"instances":["i-0123456789abcdef0"],"filters":["a.b=c"],"text":"x",
                "order":"ASC","maxResults":1000}"#,
        );
        let query = read(&input).unwrap();
        assert_eq!((query.since_ms, query.until_ms, query.limit), (Some(1), Some(2), 1000));
        assert_eq!((query.classes, query.order), (vec![ClassUid(1007)], Order::OldestFirst));
        assert_eq!((query.filters[0].to_string(), query.text), ("a.b=c".to_owned(), Some("x".into())));
        for bad in [
            r#"{"since":-1}"#,
            r#"{"classes":["1007"]}"#,
            r#"{"classes":[4294967296]}"#,
            r#"{"instances":["web"]}"#,
            r#"{"filters":["nothing"]}"#,
            r#"{"order":"UP"}"#,
            r#"{"maxResults":0}"#,
            r#"{"maxResults":1001}"#,
            r#"{"nextToken":"x"}"#,
        ] {
            assert!(read(&Input::parse(bad)).is_err(), "{bad}");
        }
    }

    #[test]
    fn names_and_texts_below_at_and_above_the_limit() {
        for (count, is_good) in [(NAMES_MAX - 1, true), (NAMES_MAX, true), (NAMES_MAX + 1, false)] {
            assert_eq!(
                read(&Input::parse(&json!({"classes": vec![1; count]}).to_string())).is_ok(),
                is_good,
                "{count}"
            );
        }
        for (count, is_good) in [(TEXT_MAX, true), (TEXT_MAX + 1, false)] {
            assert_eq!(
                read(&Input::parse(&json!({"text": "é".repeat(count)}).to_string())).is_ok(),
                is_good,
                "{count}"
            );
        }
    }

    #[test]
    fn tokens_come_back() {
        let place = Cursor { time_ms: -5, instance: "i-0123456789abcdef0".parse().unwrap(), uid: "é\"".into() };
        assert_eq!(cursor(&token(&place)), Some(place));
    }
}
