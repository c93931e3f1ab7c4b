//! OTLP logs as JSON. Source: OTLP specification, "JSON Protobuf encoding": names in lower camel case, 64-bit integers as
//! texts or numbers, enumerations as numbers, bytes of values in base64, and names that are not known are ignored. `null` is
//! as if it were not there.

use std::borrow::Cow;
use std::fmt::Write;

use crate::collect::{Collector, Malformed, Resource};
use crate::limits::{ATTRIBUTES_MAX, DEPTH_MAX, DOCUMENT_DEPTH_MAX, RECORD_BYTES_MAX};
use crate::ocsf::{Beside, Rejection};
use crate::scan::{Member, Name, ScanError, Scanner, elements, members, string, unescape};

const WHAT: &str = "OTLP logs in JSON";

impl From<ScanError> for Malformed {
    fn from(_: ScanError) -> Self {
        Self::Syntax(WHAT)
    }
}

/// Reads an `ExportLogsServiceRequest`: from its beginning to its end, once.
pub(crate) fn decode(body: &[u8], collector: &mut Collector<'_>) -> Result<(), Malformed> {
    let text = std::str::from_utf8(body).map_err(|_| Malformed::Syntax(WHAT))?;
    let mut scanner = Scanner::new(text, DOCUMENT_DEPTH_MAX);
    let mut scratch = Vec::new();
    list(&mut scanner, "resourceLogs", &mut |scanner| resource_logs(scanner, collector, &mut scratch))?;
    scanner.end()?;
    Ok(())
}

/// The members of an object; of `null` there are none.
fn object<'a>(
    scanner: &mut Scanner<'a>,
    each: &mut dyn FnMut(&mut Scanner<'a>, Name<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if scanner.skip_null()? { Ok(()) } else { scanner.object(each) }
}

/// The elements of an array; of `null` there are none.
fn array<'a>(
    scanner: &mut Scanner<'a>,
    each: &mut dyn FnMut(&mut Scanner<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    if scanner.skip_null()? { Ok(()) } else { scanner.array(each) }
}

/// The elements of the list that an object has under a name.
fn list<'a>(
    scanner: &mut Scanner<'a>,
    name: &str,
    each: &mut dyn FnMut(&mut Scanner<'a>) -> Result<(), Malformed>,
) -> Result<(), Malformed> {
    object(scanner, &mut |scanner, found| {
        if found.text == name { array(scanner, each) } else { Ok(scanner.skip()?) }
    })
}

fn resource_logs(
    scanner: &mut Scanner<'_>,
    collector: &mut Collector<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let mut is_entered = false;
    // Records that come before their resource wait for it.
    let mut waiting = Vec::new();
    object(scanner, &mut |scanner, name| match &*name.text {
        "resource" if scanner.skip_null()? => Ok(()),
        // What records are judged by is said once.
        "resource" if is_entered => Err(Malformed::Syntax(WHAT)),
        "resource" => {
            let mut resource = Resource::default();
            attributes(scanner, &mut resource)?;
            collector.enter(resource);
            is_entered = true;
            Ok(())
        }
        "scopeLogs" if is_entered => scope_logs(scanner, collector, scratch),
        "scopeLogs" => {
            waiting.push(scanner.value()?);
            Ok(())
        }
        _ => Ok(scanner.skip()?),
    })?;
    if !is_entered {
        collector.enter(Resource::default());
    }
    for scopes in waiting {
        scope_logs(&mut Scanner::new(scopes, DOCUMENT_DEPTH_MAX), collector, scratch)?;
    }
    Ok(())
}

fn scope_logs(
    scanner: &mut Scanner<'_>,
    collector: &mut Collector<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(), Malformed> {
    array(scanner, &mut |scanner| list(scanner, "logRecords", &mut |scanner| log_record(scanner, collector, scratch)))
}

fn attributes(scanner: &mut Scanner<'_>, into: &mut Resource) -> Result<(), Malformed> {
    let mut count = 0;
    list(scanner, "attributes", &mut |scanner| {
        count += 1;
        if let (Some(key), Some(text)) = text_attribute(scanner)?
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
fn text_attribute<'a>(scanner: &mut Scanner<'a>) -> Result<(Text<'a>, Text<'a>), Malformed> {
    let (mut key, mut text) = (None, None);
    object(scanner, &mut |scanner, name| match &*name.text {
        "key" => {
            key = short(scanner.value()?);
            Ok(())
        }
        "value" => object(scanner, &mut |scanner, name| {
            let value = scanner.value()?;
            if name.text == "stringValue" {
                text = short(value);
            }
            Ok(())
        }),
        _ => Ok(scanner.skip()?),
    })?;
    Ok((key, text))
}

fn log_record(
    scanner: &mut Scanner<'_>,
    collector: &mut Collector<'_>,
    scratch: &mut Vec<u8>,
) -> Result<(), Malformed> {
    let (mut beside, mut uid, mut body, mut count) = (Beside::default(), None, Err(Rejection::NoBody), 0);
    object(scanner, &mut |scanner, name| {
        match &*name.text {
            "timeUnixNano" => beside.time = integer(scanner.value()?)?,
            "observedTimeUnixNano" => beside.observed = integer(scanner.value()?)?,
            "severityNumber" => beside.severity = integer(scanner.value()?).unwrap_or(0),
            "body" if scanner.skip_null()? => {}
            "body" => body = Body::read(scanner)?,
            "attributes" => array(scanner, &mut |scanner| {
                count += 1;
                if let (Some(key), text @ Some(_)) = text_attribute(scanner)?
                    && key == "log.record.uid"
                {
                    uid = text;
                }
                Ok(())
            })?,
            _ => scanner.skip()?,
        }
        Ok(())
    })?;
    let beside = Beside { uid: uid.as_deref(), ..beside };
    if count > ATTRIBUTES_MAX {
        return collector.add(Err(Rejection::TooManyAttributes), beside);
    }
    let mut built = String::new();
    let event = match &body {
        Ok(body) => body.event(scratch, &mut built),
        Err(rejection) => Err(rejection.clone()),
    };
    collector.add(event, beside)
}

/// A whole number: a number, or a text that is one.
fn integer<T: std::str::FromStr + Default>(value: &str) -> Result<T, Malformed> {
    if value == "null" {
        return Ok(T::default());
    }
    let digits = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).unwrap_or(value);
    digits.parse().map_err(|_| Malformed::Syntax(WHAT))
}

/// What the body of a record holds, as it stands.
#[derive(Default)]
struct Body<'a> {
    text: Option<&'a str>,
    list: Option<&'a str>,
}

impl<'a> Body<'a> {
    /// What is wrong with a body is its record's fault alone, if it is JSON.
    fn read(scanner: &mut Scanner<'a>) -> Result<Result<Self, Rejection>, Malformed> {
        if scanner.peek() != Some(b'{') {
            scanner.skip()?;
            return Ok(Err(ScanError::NotAnObject.into()));
        }
        let mut body = Self::default();
        scanner.object(|scanner, name| {
            let value = scanner.value()?;
            match &*name.text {
                "stringValue" => body.text = Some(value),
                "kvlistValue" => body.list = Some(value),
                _ => {}
            }
            Ok::<(), Malformed>(())
        })?;
        Ok(Ok(body))
    }

    /// The event that it is: a text as it stands, keys and values as the object that they are.
    fn event<'t>(&'t self, scratch: &'t mut Vec<u8>, built: &'t mut String) -> Result<&'t str, Rejection>
    where
        'a: 't,
    {
        match (self.text, self.list) {
            (Some(text), _) if text.len() > ESCAPED_BYTES_MAX => Err(Rejection::TooLong),
            (Some(text), None) => unescape(text, scratch).ok_or(Rejection::OddBody),
            (None, Some(list)) => {
                key_values(built, list, DEPTH_MAX)?;
                Ok(built)
            }
            _ => Err(Rejection::OddBody),
        }
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
            match &*member.name.text {
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
        if member.name.text == "values" && member.value != "null" {
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
            if member.name.text.ends_with("Value") && member.value != "null" {
                last = Some(member);
            }
            Ok::<(), Rejection>(())
        })?;
    }
    let Some(Member { name: Name { text: name, .. }, value }) = last else {
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
