//! From bytes to [`Parameters`].

use core::sync::atomic::AtomicBool;

use super::{DEPTH_MAX, LIST_INDEX_MAX, NAME_LENGTH_MAX, PAIRS_MAX, Pair, Parameters, QueryError, VALUE_LENGTH_MAX};
use crate::percent::{self, EscapeError};

pub(super) fn parse(query: &[u8], body: &[u8]) -> Result<Parameters, QueryError> {
    let segments = query.split(|byte| *byte == b'&').chain(body.split(|byte| *byte == b'&'));
    let mut pairs = pairs(segments)?;
    pairs.sort_by(|a, b| a.name.cmp(&b.name));
    if let Some(name) = conflict(&pairs) {
        return Err(QueryError::Conflict { name });
    }
    pairs.dedup_by(|a, b| a.name == b.name);
    Ok(Parameters { pairs })
}

/// The names and values of a query string, in its order.
pub(super) fn in_order(query: &[u8]) -> Result<Vec<(String, String)>, QueryError> {
    let pairs = pairs(query.split(|byte| *byte == b'&'))?;
    Ok(pairs.into_iter().map(|pair| (pair.name, pair.value)).collect())
}

/// A segment of a path as it is meant.
pub(super) fn segment(raw: &str) -> Result<String, QueryError> {
    text(percent::decode_segment(raw.as_bytes()))
}

fn pairs<'a>(segments: impl Iterator<Item = &'a [u8]>) -> Result<Vec<Pair>, QueryError> {
    let mut pairs = Vec::new();
    for segment in segments.filter(|segment| !segment.is_empty()) {
        if pairs.len() == PAIRS_MAX {
            return Err(QueryError::TooMany);
        }
        pairs.push(pair(segment)?);
    }
    Ok(pairs)
}

fn pair(segment: &[u8]) -> Result<Pair, QueryError> {
    let mut halves = segment.splitn(2, |byte| *byte == b'=');
    let name = decode(halves.next().unwrap_or_default())?;
    let value = decode(halves.next().unwrap_or_default())?;
    if name.len() > NAME_LENGTH_MAX {
        return Err(QueryError::NameTooLong);
    }
    if value.len() > VALUE_LENGTH_MAX {
        return Err(QueryError::ValueTooLong { name });
    }
    if name.split('.').count() > DEPTH_MAX {
        return Err(QueryError::TooDeep { name });
    }
    if name.split('.').any(is_above_the_highest_index) {
        return Err(QueryError::IndexTooLarge { name });
    }
    Ok(Pair { name, value, read: AtomicBool::new(false) })
}

fn decode(raw: &[u8]) -> Result<String, QueryError> {
    text(percent::decode(raw))
}

fn text(decoded: Result<Vec<u8>, EscapeError>) -> Result<String, QueryError> {
    let bytes = decoded.map_err(|error| match error {
        EscapeError::Incomplete => QueryError::IncompleteEscape,
        EscapeError::Illegal(digits) => QueryError::IllegalEscape(String::from_utf8_lossy(&digits).into_owned()),
    })?;
    String::from_utf8(bytes).map_err(|_| QueryError::NotUtf8)
}

/// A part that is a number too high for any list. Other parts, numbers or not, are the caller's to understand.
fn is_above_the_highest_index(part: &str) -> bool {
    let is_number = !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_digit());
    // A number that overflows is above every limit.
    is_number && part.parse().map_or(true, |index: u32| index > LIST_INDEX_MAX)
}

fn conflict(sorted: &[Pair]) -> Option<String> {
    let mut previous: Option<&Pair> = None;
    for pair in sorted {
        if previous.is_some_and(|p| p.name == pair.name && p.value != pair.value) {
            return Some(pair.name.clone());
        }
        previous = Some(pair);
    }
    None
}
