//! OTLP logs as protobuf. Source: opentelemetry-proto 1.x, `logs.proto`, `common.proto`, `resource.proto`; field numbers are
//! theirs.

use std::fmt::Write;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::collect::{Collector, Malformed, Resource};
use crate::limits::{ATTRIBUTES_MAX, DEPTH_MAX, RECORD_BYTES_MAX};
use crate::ocsf::{Beside, Rejection};
use crate::protobuf::{Fields, NotProtobuf, Value};
use crate::scan::{ScanError, quote};

impl From<NotProtobuf> for Malformed {
    fn from(_: NotProtobuf) -> Self {
        Self::Syntax("OTLP logs in protobuf")
    }
}

/// Reads an `ExportLogsServiceRequest`.
pub(crate) fn decode(body: &[u8], collector: &mut Collector<'_>) -> Result<(), Malformed> {
    let mut text = String::new();
    let mut request = Fields::of(body);
    while let Some((number, value)) = request.next()? {
        if number == 1 {
            resource_logs(value.bytes()?, collector, &mut text)?;
        }
    }
    Ok(())
}

fn resource_logs(message: &[u8], collector: &mut Collector<'_>, text: &mut String) -> Result<(), Malformed> {
    // The resource may come after the records.
    let mut resource = Resource::default();
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            attributes(value.bytes()?, &mut resource)?;
        }
    }
    collector.enter(resource);
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next()? {
        if number == 2 {
            let mut scope = Fields::of(value.bytes()?);
            while let Some((number, value)) = scope.next()? {
                if number == 2 {
                    log_record(value.bytes()?, collector, text)?;
                }
            }
        }
    }
    Ok(())
}

fn attributes(message: &[u8], resource: &mut Resource) -> Result<(), Malformed> {
    let (mut fields, mut count) = (Fields::of(message), 0);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            count += 1;
            if let (Some(key), Some(text)) = text_attribute(value.bytes()?)?
                && count <= ATTRIBUTES_MAX
            {
                resource.attribute(key, text);
            }
        }
    }
    Ok(())
}

/// A `KeyValue`: its key, and its value if that is a text.
fn text_attribute(message: &[u8]) -> Result<(Option<&str>, Option<&str>), NotProtobuf> {
    let (key, value) = key_value(message)?;
    let mut text = None;
    let mut fields = Fields::of(value.unwrap_or_default());
    while let Some((number, value)) = fields.next()? {
        text = if number == 1 { Some(value.bytes()?) } else { None };
    }
    let utf8 = |bytes| std::str::from_utf8(bytes).ok();
    Ok((utf8(key), text.and_then(utf8)))
}

fn key_value(message: &[u8]) -> Result<(&[u8], Option<&[u8]>), NotProtobuf> {
    let (mut key, mut held) = (&[][..], None);
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => key = value.bytes()?,
            2 => held = Some(value.bytes()?),
            _ => {}
        }
    }
    Ok((key, held))
}

fn log_record(message: &[u8], collector: &mut Collector<'_>, text: &mut String) -> Result<(), Malformed> {
    let (mut beside, mut body, mut attributes) = (Beside::default(), None, 0);
    let mut fields = Fields::of(message);
    while let Some((number, value)) = fields.next()? {
        match number {
            1 => beside.time = value.fixed64()?,
            11 => beside.observed = value.fixed64()?,
            2 => beside.severity = i64::try_from(value.varint()?).unwrap_or(0),
            5 => body = Some(value.bytes()?),
            6 => {
                attributes += 1;
                if let (Some("log.record.uid"), uid @ Some(_)) = text_attribute(value.bytes()?)? {
                    beside.uid = uid;
                }
            }
            _ => {}
        }
    }
    let event = match body {
        _ if attributes > ATTRIBUTES_MAX => Err(Rejection::TooManyAttributes),
        None => Err(Rejection::NoBody),
        Some(body) => event(body, text)?,
    };
    collector.add(event, beside)
}

/// The event that a body is: a text as it stands, keys and values as the object that they are.
fn event<'a>(body: &'a [u8], text: &'a mut String) -> Result<Result<&'a str, Rejection>, NotProtobuf> {
    let (mut fields, mut last) = (Fields::of(body), None);
    while let Some(field) = fields.next()? {
        last = Some(field);
    }
    Ok(match last {
        None => Err(Rejection::NoBody),
        Some((1, value)) => std::str::from_utf8(value.bytes()?).map_err(|_| Rejection::NotUtf8),
        Some((6, value)) => {
            text.clear();
            match object(text, value.bytes()?, DEPTH_MAX) {
                Ok(()) => Ok(text.as_str()),
                Err(Odd::Protobuf(fault)) => return Err(fault),
                Err(Odd::Rejected(rejection)) => Err(rejection),
            }
        }
        Some(_) => Err(Rejection::OddBody),
    })
}

/// Why a value does not become JSON.
enum Odd {
    Protobuf(NotProtobuf),
    Rejected(Rejection),
}

impl From<NotProtobuf> for Odd {
    fn from(fault: NotProtobuf) -> Self {
        Self::Protobuf(fault)
    }
}

impl From<Rejection> for Odd {
    fn from(rejection: Rejection) -> Self {
        Self::Rejected(rejection)
    }
}

/// Writes a `KeyValueList` as a JSON object.
fn object(out: &mut String, message: &[u8], left: usize) -> Result<(), Odd> {
    let left = left.checked_sub(1).ok_or(Rejection::Scan(ScanError::TooDeep))?;
    out.push('{');
    let (mut fields, mut is_first) = (Fields::of(message), true);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            let (key, value) = key_value(value.bytes()?)?;
            separate(out, &mut is_first)?;
            quote(out, std::str::from_utf8(short(key)?).map_err(|_| Rejection::NotUtf8)?);
            out.push(':');
            any_value(out, value.unwrap_or_default(), left)?;
        }
    }
    out.push('}');
    Ok(())
}

fn separate(out: &mut String, is_first: &mut bool) -> Result<(), Odd> {
    if out.len() > RECORD_BYTES_MAX {
        return Err(Rejection::TooLong.into());
    }
    if !std::mem::take(is_first) {
        out.push(',');
    }
    Ok(())
}

/// Bytes that may be in a record. Before they are written: escaped they are six times as many.
fn short(bytes: &[u8]) -> Result<&[u8], Odd> {
    if bytes.len() > RECORD_BYTES_MAX { Err(Rejection::TooLong.into()) } else { Ok(bytes) }
}

/// Writes an `AnyValue` as JSON.
fn any_value(out: &mut String, message: &[u8], left: usize) -> Result<(), Odd> {
    let (mut fields, mut last) = (Fields::of(message), None);
    while let Some(field) = fields.next()? {
        last = Some(field);
    }
    match last {
        Some((1, value)) => quote(out, std::str::from_utf8(short(value.bytes()?)?).map_err(|_| Rejection::NotUtf8)?),
        Some((2, value)) => out.push_str(if value.varint()? == 0 { "false" } else { "true" }),
        Some((3, value)) => {
            let _ = write!(out, "{}", value.varint()?.cast_signed());
        }
        Some((4, value)) => out.push_str(&serde_json::Value::from(f64::from_bits(value.fixed64()?)).to_string()),
        Some((5, value)) => array(out, value, left)?,
        Some((6, value)) => object(out, value.bytes()?, left)?,
        Some((7, value)) => quote(out, &STANDARD.encode(short(value.bytes()?)?)),
        // Nothing, or what a later version has.
        None | Some(_) => out.push_str("null"),
    }
    Ok(())
}

fn array(out: &mut String, value: Value<'_>, left: usize) -> Result<(), Odd> {
    let left = left.checked_sub(1).ok_or(Rejection::Scan(ScanError::TooDeep))?;
    out.push('[');
    let (mut fields, mut is_first) = (Fields::of(value.bytes()?), true);
    while let Some((number, value)) = fields.next()? {
        if number == 1 {
            separate(out, &mut is_first)?;
            any_value(out, value.bytes()?, left)?;
        }
    }
    out.push(']');
    Ok(())
}
