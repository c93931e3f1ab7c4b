//! OTLP logs as JSON. Source: OTLP specification, "JSON Protobuf encoding": names in lower camel case, 64-bit integers as
//! texts or numbers, enumerations as numbers, bytes of values in base64, and names that are not known are ignored. `null` is
//! as if it were not there.

use std::borrow::Cow;
use std::fmt::Write;

use crate::collect::{Collector, Malformed, Resource};
use crate::limits::{ATTRIBUTES_MAX, DEPTH_MAX, DOCUMENT_DEPTH_MAX, RECORD_BYTES_MAX};
use crate::ocsf::{Beside, Rejection};
use crate::scan::{Member, ScanError, elements, members, string};

const WHAT: &str = "OTLP logs in JSON";

impl From<ScanError> for Malformed {
    fn from(_: ScanError) -> Self {
        Self::Syntax(WHAT)
    }
}

/// Reads an `ExportLogsServiceRequest`.
pub(crate) fn decode(body: &[u8], collector: &mut Collector<'_>) -> Result<(), Malformed> {
    let text = std::str::from_utf8(body).map_err(|_| Malformed::Syntax(WHAT))?;
    list(text, "resourceLogs", &mut |logs| {
        let mut resource = Resource::default();
        object(logs, &mut |member| {
            if member.name == "resource" { attributes(member.value, &mut resource) } else { Ok(()) }
        })?;
        collector.enter(resource);
        list(logs, "scopeLogs", &mut |scope| list(scope, "logRecords", &mut |record| log_record(record, collector)))
    })
}

/// The members of an object; of `null` there are none.
fn object<'a>(text: &'a str, each: &mut dyn FnMut(Member<'a>) -> Result<(), Malformed>) -> Result<(), Malformed> {
    if text == "null" { Ok(()) } else { members(text, DOCUMENT_DEPTH_MAX, each) }
}

/// The elements of the list that an object has under a name.
fn list<'a>(
    text: &'a str,
    name: &str,
    each: &mut dyn FnMut(&'a str) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    object(text, &mut |member| match member.value {
        "null" => Ok(()),
        value if member.name == name => elements(value, DOCUMENT_DEPTH_MAX, &mut *each),
        _ => Ok(()),
    })
}

fn attributes(resource: &str, into: &mut Resource) -> Result<(), Malformed> {
    let mut count = 0;
    list(resource, "attributes", &mut |attribute| {
        count += 1;
        if let (Some(key), Some(text)) = text_attribute(attribute)?
            && count <= ATTRIBUTES_MAX
        {
            into.attribute(&key, &text);
        }
        Ok(())
    })
}

type Text<'a> = Option<Cow<'a, str>>;

/// How long a text may be as it stands: escaped, a character takes six.
const ESCAPED_BYTES_MAX: usize = 6 * RECORD_BYTES_MAX + 2;

/// A text that may be in a record. Others are not read: that would take as much memory again.
fn short(value: &str) -> Text<'_> {
    if value.len() > ESCAPED_BYTES_MAX { None } else { string(value) }
}

/// A `KeyValue`: its key, and its value if that is a text.
fn text_attribute(attribute: &str) -> Result<(Text<'_>, Text<'_>), Malformed> {
    let (mut key, mut text) = (None, None);
    object(attribute, &mut |member| {
        match &*member.name {
            "key" => key = short(member.value),
            "value" => {
                object(member.value, &mut |member| {
                    if member.name == "stringValue" {
                        text = short(member.value);
                    }
                    Ok(())
                })?;
            }
            _ => {}
        }
        Ok(())
    })?;
    Ok((key, text))
}

fn log_record(record: &str, collector: &mut Collector<'_>) -> Result<(), Malformed> {
    let (mut beside, mut uid, mut body, mut count) = (Beside::default(), None, None, 0);
    object(record, &mut |member| {
        match &*member.name {
            "timeUnixNano" => beside.time = integer(member.value)?,
            "observedTimeUnixNano" => beside.observed = integer(member.value)?,
            "severityNumber" => beside.severity = integer(member.value).unwrap_or(0),
            "body" if member.value != "null" => body = Some(member.value),
            "attributes" if member.value != "null" => elements(member.value, DOCUMENT_DEPTH_MAX, |attribute| {
                count += 1;
                if let (Some(key), text @ Some(_)) = text_attribute(attribute)?
                    && key == "log.record.uid"
                {
                    uid = text;
                }
                Ok::<(), Malformed>(())
            })?,
            _ => {}
        }
        Ok(())
    })?;
    let beside = Beside { uid: uid.as_deref(), ..beside };
    if count > ATTRIBUTES_MAX {
        return collector.add(Err(Rejection::TooManyAttributes), beside);
    }
    let event = body.map_or(Err(Rejection::NoBody), event);
    collector.add(event.as_deref().map_err(Clone::clone), beside)
}

/// A whole number: a number, or a text that is one.
fn integer<T: std::str::FromStr + Default>(value: &str) -> Result<T, Malformed> {
    if value == "null" {
        return Ok(T::default());
    }
    let digits = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    digits.parse().map_err(|_| Malformed::Syntax(WHAT))
}

/// The event that a body is: a text as it stands, keys and values as the object that they are.
fn event(body: &str) -> Result<Cow<'_, str>, Rejection> {
    let (mut text, mut list) = (None, None);
    members(body, DOCUMENT_DEPTH_MAX, |member| {
        match &*member.name {
            "stringValue" if member.value.len() > ESCAPED_BYTES_MAX => return Err(Rejection::TooLong),
            "stringValue" => text = Some(string(member.value).ok_or(Rejection::OddBody)?),
            "kvlistValue" => list = Some(member.value),
            _ => {}
        }
        Ok::<(), Rejection>(())
    })?;
    match (text, list) {
        (Some(text), None) => Ok(text),
        (None, Some(list)) => {
            let mut out = String::new();
            key_values(&mut out, list, DEPTH_MAX)?;
            Ok(Cow::Owned(out))
        }
        _ => Err(Rejection::OddBody),
    }
}

/// Writes a `KeyValueList` as a JSON object.
fn key_values(out: &mut String, list: &str, left: usize) -> Result<(), Rejection> {
    let left = left.checked_sub(1).ok_or(Rejection::Scan(ScanError::TooDeep))?;
    out.push('{');
    let mut is_first = true;
    values(list, &mut |pair| {
        let (mut key, mut value) = (None, None);
        members(pair, DOCUMENT_DEPTH_MAX, |member| {
            match &*member.name {
                "key" => key = Some(member.value).filter(|value| value.starts_with('"')),
                "value" => value = Some(member.value),
                _ => {}
            }
            Ok::<(), Rejection>(())
        })?;
        separate(out, &mut is_first)?;
        out.push_str(key.unwrap_or("\"\""));
        out.push(':');
        any_value(out, value.unwrap_or("null"), left)
    })?;
    out.push('}');
    Ok(())
}

/// The elements of `values`.
fn values<'a>(list: &'a str, each: &mut dyn FnMut(&'a str) -> Result<(), Rejection>) -> Result<(), Rejection> {
    members(list, DOCUMENT_DEPTH_MAX, |member| {
        if member.name == "values" && member.value != "null" {
            elements(member.value, DOCUMENT_DEPTH_MAX, &mut *each)?;
        }
        Ok(())
    })
}

fn separate(out: &mut String, is_first: &mut bool) -> Result<(), Rejection> {
    if out.len() > RECORD_BYTES_MAX {
        return Err(Rejection::TooLong);
    }
    if !std::mem::take(is_first) {
        out.push(',');
    }
    Ok(())
}

/// Writes an `AnyValue` as JSON.
fn any_value(out: &mut String, value: &str, left: usize) -> Result<(), Rejection> {
    let mut last = None;
    if value != "null" {
        members(value, DOCUMENT_DEPTH_MAX, |member| {
            if member.name.ends_with("Value") && member.value != "null" {
                last = Some(member);
            }
            Ok::<(), Rejection>(())
        })?;
    }
    let Some(Member { name, value, .. }) = last else {
        out.push_str("null");
        return Ok(());
    };
    let text = if name == "intValue" || name == "doubleValue" { short(value) } else { None };
    match (&*name, text) {
        ("stringValue" | "bytesValue", _) if value.starts_with('"') => out.push_str(value),
        ("boolValue", _) if value == "true" || value == "false" => out.push_str(value),
        ("intValue", text) => {
            let number: i64 = text.as_deref().unwrap_or(value).parse().map_err(|_| Rejection::OddBody)?;
            let _ = write!(out, "{number}");
        }
        ("doubleValue", Some(text)) if matches!(&*text, "NaN" | "Infinity" | "-Infinity") => out.push_str("null"),
        ("doubleValue", text) => {
            let number: f64 = text.as_deref().unwrap_or(value).parse().map_err(|_| Rejection::OddBody)?;
            out.push_str(&serde_json::Value::from(number).to_string());
        }
        ("arrayValue", _) => {
            let left = left.checked_sub(1).ok_or(Rejection::Scan(ScanError::TooDeep))?;
            out.push('[');
            let mut is_first = true;
            values(value, &mut |element| {
                separate(out, &mut is_first)?;
                any_value(out, element, left)
            })?;
            out.push(']');
        }
        ("kvlistValue", _) => key_values(out, value, left)?,
        _ => return Err(Rejection::OddBody),
    }
    Ok(())
}
