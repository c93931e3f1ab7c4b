//! What a call says, read with the refusals of GuardDuty, and how it is answered.

use std::sync::Arc;

use inborn_identity::AccountId;
use inborn_wire::error::Problem;
use inborn_wire::json::{JsonError, Object};
use inborn_wire::{Answer, success};
use serde_json::{Value, json};

use super::refusal;
use crate::guardduty::Watched;
use crate::guardduty::criteria::Criteria;
use crate::guardduty::settings::Tags;
use crate::operation::{JsonCall, Reply};

/// Most tags of a thing, longest key and longest value, in characters. Source: botocore's model.
const TAGS_MAX: usize = 200;
/// See [`TAGS_MAX`].
const TAG_KEY_MAX: usize = 128;
/// See [`TAGS_MAX`].
const TAG_VALUE_MAX: usize = 256;
/// Longest client token. Source: the same.
const CLIENT_TOKEN_MAX: usize = 64;

/// Criteria as they were given, and as they are meant.
pub(super) type Given = (serde_json::Map<String, Value>, Criteria);

/// The members of a call, or of an object within it.
pub(super) struct Input(Object);

/// The member that names a detector.
pub(super) const DETECTOR: &str = "detectorId";

impl Input {
    /// The members of a call, which may be these and no others: what nobody understands is refused.
    pub(super) fn of(call: &JsonCall<'_>, known: &[&str]) -> Result<Self, Problem> {
        Self(call.parameters.clone()).with_only(known)
    }

    fn with_only(self, known: &[&str]) -> Result<Self, Problem> {
        match self.0.members().keys().find(|name| !known.contains(&name.as_str())) {
            // A name may be long.
            Some(name) if name.len() > 64 => Err(refusal::out_of_range()),
            Some(name) => Err(refusal::invalid(name)),
            None => Ok(self),
        }
    }

    pub(super) fn text(&self, name: &str) -> Result<Option<&str>, Problem> {
        self.0.text(name).map_err(of_json)
    }

    /// A text that must be there, of so many characters.
    pub(super) fn name(&self, name: &str, length: core::ops::RangeInclusive<usize>) -> Result<&str, Problem> {
        let text = self.text(name)?.ok_or_else(|| refusal::missing(name))?;
        if length.contains(&text.chars().count()) { Ok(text) } else { Err(refusal::invalid(name)) }
    }

    /// A text that is one of a list.
    pub(super) fn one_of<'a>(&'a self, name: &str, list: &[&str]) -> Result<Option<&'a str>, Problem> {
        match self.text(name)? {
            Some(text) if !list.contains(&text) => Err(refusal::invalid(name)),
            text => Ok(text),
        }
    }

    pub(super) fn boolean(&self, name: &str) -> Result<Option<bool>, Problem> {
        self.0.boolean(name).map_err(of_json)
    }

    /// A whole number within a range. In a query string it is a text.
    pub(super) fn number(&self, name: &str, range: core::ops::RangeInclusive<i64>) -> Result<Option<i64>, Problem> {
        let number = match self.0.members().get(name) {
            None | Some(Value::Null) => return Ok(None),
            Some(Value::String(text)) => text.parse().ok(),
            Some(value) => value.as_i64(),
        };
        number.filter(|number| range.contains(number)).map(Some).ok_or_else(|| refusal::invalid(name))
    }

    /// An object within, of these members.
    pub(super) fn object(&self, name: &str, known: &[&str]) -> Result<Option<Self>, Problem> {
        self.0.object(name).map_err(of_json)?.map(|object| Self(object).with_only(known)).transpose()
    }

    /// The objects of a list, each of these members.
    pub(super) fn objects(&self, name: &str, most: usize, known: &[&str]) -> Result<Vec<Self>, Problem> {
        let list = self.0.objects(name).map_err(of_json)?.unwrap_or_default();
        if list.len() > most {
            return Err(refusal::invalid(name));
        }
        list.into_iter().map(|object| Self(object).with_only(known)).collect()
    }

    /// The texts of a list.
    pub(super) fn texts(&self, name: &str, most: usize) -> Result<Option<Vec<&str>>, Problem> {
        let list = self.0.texts(name).map_err(of_json)?;
        if list.as_ref().is_some_and(|list| list.len() > most) { Err(refusal::invalid(name)) } else { Ok(list) }
    }

    /// The items of a list, each read by `read`; none if it is not there.
    pub(super) fn list<T>(
        &self,
        name: &str,
        most: usize,
        read: impl Fn(&Value) -> Option<T>,
    ) -> Result<Vec<T>, Problem> {
        let items = match self.0.members().get(name) {
            None | Some(Value::Null) => return Ok(Vec::new()),
            Some(value) => value.as_array().filter(|items| items.len() <= most),
        };
        let items = items.map(|items| items.iter().map(read).collect::<Option<_>>());
        items.flatten().ok_or_else(|| refusal::invalid(name))
    }

    pub(super) fn client_token(&self) -> Result<Option<String>, Problem> {
        let token = self.text("clientToken")?.filter(|token| !token.is_empty());
        let is_long = token.is_some_and(|token| token.chars().count() > CLIENT_TOKEN_MAX);
        if is_long { Err(refusal::invalid("clientToken")) } else { Ok(token.map(str::to_owned)) }
    }

    pub(super) fn tags(&self) -> Result<Option<Tags>, Problem> {
        let Some(tags) = self.0.object("tags").map_err(of_json)? else { return Ok(None) };
        let tag = |(key, value): (&String, &Value)| Some((key.clone(), value.as_str()?.to_owned()));
        let tags: Option<Tags> = tags.members().iter().map(tag).collect();
        tags.filter(are_tags).map(Some).ok_or_else(|| refusal::invalid("tags"))
    }

    /// `findingCriteria`, as it was given and as it is meant.
    pub(super) fn criteria(&self) -> Result<Option<Given>, Problem> {
        const NAME: &str = "findingCriteria";
        let Some(object) = self.object(NAME, &["criterion"])? else { return Ok(None) };
        let criterion = object.0.object("criterion").map_err(of_json)?;
        let given = criterion.map(|criterion| criterion.members().clone()).unwrap_or_default();
        let criteria = Criteria::parse(&given).map_err(|_| refusal::invalid(NAME))?;
        Ok(Some((given, criteria)))
    }

    #[cfg(test)]
    pub(super) fn parse(text: &str) -> Self {
        Self(inborn_wire::json::decode(text.as_bytes()).unwrap())
    }

    /// Whether a member is there.
    pub(super) fn has(&self, name: &str) -> bool {
        self.0.members().get(name).is_some_and(|value| !value.is_null())
    }
}

/// Whether these can be the tags of something.
pub(super) fn are_tags(tags: &Tags) -> bool {
    let is_key = |key: &str| (1..=TAG_KEY_MAX).contains(&key.chars().count()) && !key.starts_with("aws:");
    tags.len() <= TAGS_MAX && tags.iter().all(|(key, value)| is_key(key) && value.chars().count() <= TAG_VALUE_MAX)
}

fn of_json(error: JsonError) -> Problem {
    match error {
        JsonError::Missing { key } => refusal::missing(&key),
        JsonError::Kind { key, .. } => refusal::invalid(&key),
        error => Problem::Json(error),
    }
}

/// Whose detectors a caller means: those of its own account.
pub(super) fn account(call: &JsonCall<'_>) -> AccountId {
    call.caller.principal.account()
}

/// The detector that a call names.
pub(super) fn detector(call: &JsonCall<'_>, input: &Input) -> Result<Arc<Watched>, Problem> {
    let id = input.name(DETECTOR, 1..=300)?;
    call.region.guardduty().get(account(call), id).ok_or_else(refusal::not_owned)
}

pub(super) fn answer(call: &JsonCall<'_>, output: &Value) -> Reply {
    success::rest_json(200, call.request_id, output).into()
}

/// The answer that has nothing to say.
pub(super) fn done(call: &JsonCall<'_>) -> Reply {
    answer(call, &json!({}))
}

/// The answer of operations about tags.
pub(super) fn no_content(call: &JsonCall<'_>) -> Reply {
    Answer::new(204, "", call.request_id, "").into()
}

/// The status as a word.
pub(super) const fn status(is_enabled: bool) -> &'static str {
    if is_enabled { "ENABLED" } else { "DISABLED" }
}

/// A moment as texts have it.
pub(super) fn moment(seconds: u64) -> String {
    let mut text = inborn_identity::UnixTime::from_secs(seconds).rfc3339();
    text.pop();
    text.push_str(".000Z");
    text
}
