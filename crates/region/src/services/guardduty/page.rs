//! Pages of lists.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use inborn_wire::error::Problem;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::refusal;
use super::request::Input;

/// Most entries of a page, and as many as there are if the caller does not say. Source: botocore's model, `MaxResults`.
pub(super) const ENTRIES_MAX: usize = 50;
/// Longest token that is looked at, in bytes.
const TOKEN_BYTES_MAX: usize = 8192;
/// How much of the digest of a list a token has, in bytes.
const DIGEST_BYTES: usize = 8;

/// Which part of a list: what comes behind an entry, so many at most. Its token says which list it is of, and behind which
/// entry the next one begins: nothing to keep, nothing that the caller has not seen, and no gap when the list grows meanwhile.
pub(super) struct Page {
    list: String,
    after: Option<Place>,
    limit: usize,
}

/// The place of an entry: by what it is sorted, and its name.
#[derive(Clone, PartialEq, Debug, Serialize, Deserialize)]
pub(super) struct Place {
    by: SortKey,
    name: String,
}

/// By what lists are sorted. What is absent comes last.
#[derive(Clone, PartialEq, PartialOrd, Debug, Serialize, Deserialize)]
pub(super) enum SortKey {
    Number(f64),
    Text(String),
    Absent,
}

#[derive(Serialize, Deserialize)]
struct Token {
    list: String,
    after: Place,
}

impl SortKey {
    /// By the first thing that was found.
    pub(super) fn of(found: &[&Value]) -> Self {
        match found.first() {
            None | Some(Value::Null | Value::Array(_) | Value::Object(_)) => Self::Absent,
            Some(Value::String(text)) => Self::Text(text.chars().take(256).collect()),
            Some(Value::Bool(value)) => Self::Text(value.to_string()),
            Some(Value::Number(number)) => number.as_f64().map_or(Self::Absent, Self::Number),
        }
    }
}

impl Place {
    pub(super) fn new(by: SortKey, name: &str) -> Self {
        Self { by, name: name.to_owned() }
    }

    fn compare(&self, other: &Self, descends: bool) -> core::cmp::Ordering {
        let is_absent = |key: &SortKey| matches!(key, SortKey::Absent);
        let by = self.by.partial_cmp(&other.by).unwrap_or(core::cmp::Ordering::Equal);
        let reverses = descends && !is_absent(&self.by) && !is_absent(&other.by);
        let by = if reverses { by.reverse() } else { by };
        by.then_with(|| self.name.cmp(&other.name))
    }
}

impl Page {
    /// `maxResults` and `nextToken`, for the list that all of `list` describes.
    pub(super) fn read(input: &Input, list: &[&str]) -> Result<Self, Problem> {
        let limit = input.number("maxResults", 1..=50)?.and_then(|most| usize::try_from(most).ok());
        let digest = inborn_sigv4::sha256(list.join("\n").as_bytes());
        let list: String = digest.iter().take(DIGEST_BYTES).map(|byte| format!("{byte:02x}")).collect();
        let after = match input.text("nextToken")?.filter(|token| !token.is_empty()) {
            Some(token) => Some(open(token, &list).ok_or_else(|| refusal::invalid("nextToken"))?),
            None => None,
        };
        Ok(Self { list, after, limit: limit.unwrap_or(ENTRIES_MAX) })
    }

    /// The part of a list, in its order, and the token of the next one, if there is more.
    pub(super) fn of(&self, mut all: Vec<Place>, descends: bool) -> (Vec<String>, Option<String>) {
        if let Some(after) = &self.after {
            all.retain(|place| place.compare(after, descends).is_gt());
        }
        all.sort_by(|one, other| one.compare(other, descends));
        let has_more = all.len() > self.limit;
        all.truncate(self.limit);
        let next = all.last().filter(|_| has_more).map(|last| {
            let token = Token { list: self.list.clone(), after: last.clone() };
            URL_SAFE_NO_PAD.encode(serde_json::to_vec(&token).unwrap_or_default())
        });
        (all.into_iter().map(|place| place.name).collect(), next)
    }

    /// As [`Page::of`], of names that have no other order.
    pub(super) fn of_names<'a>(&self, names: impl Iterator<Item = &'a String>) -> (Vec<String>, Option<String>) {
        self.of(names.map(|name| Place::new(SortKey::Absent, name)).collect(), false)
    }
}

fn open(token: &str, list: &str) -> Option<Place> {
    let bytes = URL_SAFE_NO_PAD.decode(token.get(..token.len().min(TOKEN_BYTES_MAX))?).ok()?;
    let token: Token = serde_json::from_slice(&bytes).ok()?;
    (token.list == list).then_some(token.after)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn page(text: &str, list: &str) -> Result<Page, Problem> {
        Page::read(&Input::parse(text), &[list])
    }

    fn places() -> Vec<Place> {
        let key = |number: u8| match number % 4 {
            0 => SortKey::Absent,
            1 => SortKey::Number(f64::from(number)),
            _ => SortKey::Text(format!("t{}", number % 3)),
        };
        (0..23).map(|number| Place::new(key(number), &format!("{number:02}"))).collect()
    }

    #[test]
    fn pages_have_no_gaps_in_either_order() {
        for descends in [false, true] {
            let whole = page("{}", "list").unwrap().of(places(), descends).0;
            let (mut found, mut token) = (Vec::new(), String::new());
            loop {
                let (part, next) =
                    page(&format!(r#"{{"maxResults":3{token}}}"#), "list").unwrap().of(places(), descends);
                found.extend(part);
                match next {
                    Some(next) => token = format!(r#","nextToken":"{next}""#),
                    None => break,
                }
            }
            assert_eq!(found, whole);
            assert_eq!(whole.len(), 23);
        }
    }

    #[test]
    fn what_is_no_page() {
        let token = page(r#"{"maxResults":1}"#, "list").unwrap().of(places(), false).1.unwrap();
        let again = |list: &str| page(&format!(r#"{{"nextToken":"{token}"}}"#), list);
        assert!(again("list").is_ok());
        assert!(again("another").is_err(), "a token is good for its own list");
        for bad in ["x", "e30", &token[1..], &format!("{token}{}", "A".repeat(9000))] {
            assert!(page(&format!(r#"{{"nextToken":"{bad}"}}"#), "list").is_err(), "{bad}");
        }
        for (most, is_good) in
            [("0", false), ("1", true), ("50", true), ("51", false), (r#""50""#, true), (r#""x""#, false)]
        {
            assert_eq!(page(&format!(r#"{{"maxResults":{most}}}"#), "list").is_ok(), is_good, "{most}");
        }
    }
}
