//! One event: what OCSF 1.3 asks of it, and who it is of.
//!
//! The event is not rebuilt. Its members are looked through once, those that are ours to say are written anew, and the rest
//! is copied as it stands. What the client said otherwise is kept under `unmapped.claimed`, and nowhere else.

use std::fmt::Write;

use crate::limits::{AGE_SECONDS_MAX, AHEAD_SECONDS_MAX, DEPTH_MAX, RECORD_BYTES_MAX, UID_BYTES_MAX};
use crate::scan::{Member, ScanError, elements, has_controls, members, quote, string};
use crate::{ClassUid, Foreign, Record, Stamp};

/// The version of the schema. Source: Security Lake takes 1.3 and earlier.
const VERSION: &str = "\"1.3.0\"";
/// Who provides the machines. It is not AWS, and nobody who merges several lakes must take it for that.
const PROVIDER: &str = "\"Inborn\"";
/// The profiles that `cloud` and `device` belong to.
const PROFILES: [&str; 2] = ["cloud", "host"];
const MILLISECONDS: u64 = 1000;

/// Why an event is not taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub(crate) enum Rejection {
    #[error("{0}")]
    Scan(#[from] ScanError),
    #[error("it has more than {RECORD_BYTES_MAX} bytes")]
    TooLong,
    #[error("it is not UTF-8")]
    NotUtf8,
    #[error("it has no body")]
    NoBody,
    #[error("its body is neither a text nor a list of keys and values")]
    OddBody,
    #[error("it has too many attributes")]
    TooManyAttributes,
    #[error("{0} is missing: it is no OCSF event")]
    Missing(&'static str),
    #[error("{0} is given more than once")]
    Twice(&'static str),
    #[error("{0} is not what OCSF 1.3 has there")]
    Kind(&'static str),
    #[error("{0} does not go with class_uid and activity_id")]
    Inconsistent(&'static str),
    #[error("{0} is of another machine than the one that signed")]
    Foreign(&'static str),
}

/// What stands beside an event in what it came in.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Beside<'a> {
    /// `log.record.uid`.
    pub(crate) uid: Option<&'a str>,
    /// Nanoseconds since 1970; 0 if it is not said.
    pub(crate) time: u64,
    /// The same, of when it was observed.
    pub(crate) observed: u64,
    /// OpenTelemetry's severity; 0 if it is not said.
    pub(crate) severity: i64,
    /// `service.name` of the resource.
    pub(crate) service: Option<&'a str>,
    /// What the resource claims otherwise, as members of an object.
    pub(crate) claims: &'a str,
}

/// What is the same for every event of a request, as text.
pub(crate) struct Own<'a> {
    pub(crate) stamp: &'a Stamp<'a>,
    pub(crate) instance: String,
    pub(crate) account: String,
    pub(crate) region: &'a str,
    /// Milliseconds since 1970.
    received_ms: u64,
    /// `metadata` up to the uid.
    metadata: String,
    /// And from there on to `profiles`.
    metadata_after: String,
    /// `device` up to its type.
    device: String,
    /// All of `cloud`.
    cloud: String,
}

impl<'a> Own<'a> {
    pub(crate) fn new(stamp: &'a Stamp<'a>) -> Self {
        let (instance, account) = (stamp.source.instance.to_string(), stamp.source.account.to_string());
        let region = stamp.source.region.as_str();
        let received_ms = stamp.received_at.as_secs().saturating_mul(MILLISECONDS);
        Self {
            metadata: format!(",\"metadata\":{{\"version\":{VERSION},\"uid\":"),
            metadata_after: format!(",\"processed_time\":{received_ms},\"profiles\":[\"cloud\",\"host\""),
            device: format!(
                ",\"device\":{{\"uid\":\"{instance}\",\"instance_uid\":\"{instance}\",\"region\":\"{region}\",\"type_id\":"
            ),
            cloud: format!(
                ",\"cloud\":{{\"provider\":{PROVIDER},\"account\":{{\"uid\":\"{account}\"}},\"region\":\"{region}\"}}"
            ),
            stamp,
            instance,
            account,
            region,
            received_ms,
        }
    }
}

/// An event that was taken.
pub(crate) struct Taken {
    pub(crate) record: Record,
    /// Whether its time was too far off.
    pub(crate) is_time_off: bool,
    /// The digest that is its uid, if nothing else was.
    pub(crate) digest: Option<u128>,
}

/// The members that are looked at, as they stand.
#[derive(Default)]
struct Looked<'a> {
    class: Option<&'a str>,
    category: Option<&'a str>,
    activity: Option<&'a str>,
    type_uid: Option<&'a str>,
    severity: Option<&'a str>,
    time: Option<&'a str>,
    time_dt: Option<&'a str>,
    metadata: Option<&'a str>,
    device: Option<&'a str>,
    cloud: Option<&'a str>,
    unmapped: Option<&'a str>,
}

impl<'a> Looked<'a> {
    fn at(&mut self, name: &str) -> Option<(&'static str, &mut Option<&'a str>)> {
        Some(match name {
            "class_uid" => ("class_uid", &mut self.class),
            "category_uid" => ("category_uid", &mut self.category),
            "activity_id" => ("activity_id", &mut self.activity),
            "type_uid" => ("type_uid", &mut self.type_uid),
            "severity_id" => ("severity_id", &mut self.severity),
            "time" => ("time", &mut self.time),
            "time_dt" => ("time_dt", &mut self.time_dt),
            "metadata" => ("metadata", &mut self.metadata),
            "device" => ("device", &mut self.device),
            "cloud" => ("cloud", &mut self.cloud),
            "unmapped" => ("unmapped", &mut self.unmapped),
            _ => return None,
        })
    }
}

/// Checks an event and stamps it. `scratch` is memory that is used again and again.
pub(crate) fn stamp(text: &str, beside: Beside<'_>, own: &Own<'_>, scratch: &mut Scratch) -> Result<Taken, Rejection> {
    if text.len() > RECORD_BYTES_MAX {
        return Err(Rejection::TooLong);
    }
    let Scratch { rest, out, claimed, part, claims } = scratch;
    rest.clear();
    out.clear();
    claimed.clear();
    let mut looked = Looked::default();
    members(text, DEPTH_MAX, |member| match looked.at(&member.name.text) {
        Some((name, slot)) => put_once(name, slot, member.value),
        None => {
            copy(rest, &member);
            Ok(())
        }
    })?;
    let kind = EventKind::of(&looked, beside)?;
    let time = EventTime::of(&looked, beside, own)?;

    for (name, number) in [
        ("{\"class_uid\":", u64::from(kind.class)),
        (",\"category_uid\":", u64::from(kind.category)),
        (",\"activity_id\":", u64::from(kind.activity)),
        (",\"type_uid\":", kind.type_uid),
        (",\"severity_id\":", u64::from(kind.severity)),
        (if time.ms < 0 { ",\"time\":-" } else { ",\"time\":" }, time.ms.unsigned_abs()),
    ] {
        out.push_str(name);
        decimal(out, number);
    }
    if let (Some(claim), true) = (time.claim, time.is_off) {
        add(claimed, "time", claim);
    }
    if let Some(time_dt) = looked.time_dt {
        if time.is_off {
            add(claimed, "time_dt", time_dt);
        } else {
            add(out, "time_dt", time_dt);
        }
    }
    let mut texts = Texts { out, claimed, rest: part, claims };
    let (uid, digest) = metadata(&mut texts, looked.metadata, text, beside, own)?;
    device(&mut texts, looked.device, own)?;
    cloud(&mut texts, looked.cloud, own)?;
    if !beside.claims.is_empty() {
        comma(claimed);
        claimed.push_str(beside.claims);
    }
    if !rest.is_empty() {
        out.push(',');
        out.push_str(rest);
    }
    unmapped(out, claimed, looked.unmapped)?;
    out.push('}');
    let json = one_line(out, has_controls(text));
    if json.len() > RECORD_BYTES_MAX {
        return Err(Rejection::TooLong);
    }
    let record = Record { uid, time_ms: time.ms, class: ClassUid(kind.class), json };
    Ok(Taken { record, is_time_off: time.is_off, digest })
}

/// Memory that is used for one event after the other.
#[derive(Default)]
pub(crate) struct Scratch {
    rest: String,
    out: String,
    claimed: String,
    part: String,
    claims: String,
}

/// What is being written: the event, what was claimed, and of the object that is looked at what is kept and what is claimed.
struct Texts<'a> {
    out: &'a mut String,
    claimed: &'a mut String,
    rest: &'a mut String,
    claims: &'a mut String,
}

impl Texts<'_> {
    fn begin_object(&mut self) {
        self.rest.clear();
        self.claims.clear();
    }

    /// Ends the object `name` that was written up to here.
    fn end_object(&mut self, name: &str) {
        if !self.rest.is_empty() {
            self.out.push(',');
            self.out.push_str(self.rest);
        }
        self.out.push('}');
        self.claim_object(name);
    }

    fn claim_object(&mut self, name: &str) {
        if !self.claims.is_empty() {
            comma(self.claimed);
            let _ = write!(self.claimed, "\"{name}\":{{{}}}", self.claims);
        }
    }
}

/// What kind of event it is.
struct EventKind {
    class: u32,
    category: u32,
    activity: u32,
    type_uid: u64,
    severity: u32,
}

impl EventKind {
    fn of(looked: &Looked<'_>, beside: Beside<'_>) -> Result<Self, Rejection> {
        let class: u32 = number("class_uid", looked.class)?.ok_or(Rejection::Missing("class_uid"))?;
        // A class of an extension stands above the hundred thousand of its extension.
        let category = class % 100_000 / 1000;
        if category == 0 {
            return Err(Rejection::Kind("class_uid"));
        }
        if number("category_uid", looked.category)?.is_some_and(|said: u32| said != category) {
            return Err(Rejection::Inconsistent("category_uid"));
        }
        let base = u64::from(class) * 100;
        let said: Option<u64> = number("type_uid", looked.type_uid)?;
        let by_type = said.map(|said| said.checked_sub(base).filter(|activity| *activity < 100));
        let by_type = match by_type {
            Some(None) => return Err(Rejection::Inconsistent("type_uid")),
            by_type => by_type.flatten().and_then(|activity| u32::try_from(activity).ok()),
        };
        // 0 is Unknown, as OCSF has it.
        let activity = number("activity_id", looked.activity)?.or(by_type).unwrap_or(0);
        if activity >= 100 {
            return Err(Rejection::Kind("activity_id"));
        }
        if by_type.is_some_and(|by_type| by_type != activity) {
            return Err(Rejection::Inconsistent("type_uid"));
        }
        let severity = match number("severity_id", looked.severity)? {
            Some(severity @ (0..=6 | 99)) => severity,
            Some(_) => return Err(Rejection::Kind("severity_id")),
            None => severity(beside.severity),
        };
        Ok(Self { class, category, activity, type_uid: base + u64::from(activity), severity })
    }
}

/// OCSF's severity for one of OpenTelemetry: informational, medium, high, fatal.
const fn severity(number: i64) -> u32 {
    match number {
        1..=12 => 1,
        13..=16 => 3,
        17..=20 => 4,
        21..=24 => 6,
        _ => 0,
    }
}

/// When it was.
struct EventTime<'a> {
    ms: i64,
    claim: Option<&'a str>,
    is_off: bool,
}

impl<'a> EventTime<'a> {
    /// The event's own time, else that of its log record, else the moment when it came. A time that is too far from that
    /// moment is a clock that is wrong: then it is that moment too.
    fn of(looked: &Looked<'a>, beside: Beside<'_>, own: &Own<'_>) -> Result<Self, Rejection> {
        let received = i64::try_from(own.received_ms).unwrap_or(i64::MAX);
        let claim = looked.time.filter(|time| *time != "null");
        let of_record = [beside.time, beside.observed].into_iter().find(|time| *time != 0);
        let said = match (claim, of_record) {
            (Some(claim), _) => milliseconds(claim).ok_or(Rejection::Kind("time"))?,
            (None, Some(nanoseconds)) => i64::try_from(nanoseconds / 1_000_000).unwrap_or(i64::MAX),
            (None, None) => received,
        };
        let bound = |seconds: u64| i64::try_from(seconds.saturating_mul(MILLISECONDS)).unwrap_or(i64::MAX);
        let is_off = said < received.saturating_sub(bound(AGE_SECONDS_MAX))
            || said > received.saturating_add(bound(AHEAD_SECONDS_MAX));
        Ok(Self { ms: if is_off { received } else { said }, claim, is_off })
    }
}

/// A time as OCSF writes it, whole or with a part; one that no number holds is as far off as can be.
fn milliseconds(claim: &str) -> Option<i64> {
    if let Ok(whole) = claim.parse() {
        return Some(whole);
    }
    let number: f64 = claim.parse().ok().filter(|_| !claim.starts_with('"'))?;
    #[allow(clippy::cast_possible_truncation, reason = "a cast from a float stops at the ends")]
    Some(number as i64)
}

/// Writes `metadata`, and says what the event's uid is.
fn metadata(
    texts: &mut Texts<'_>,
    said: Option<&str>,
    text: &str,
    beside: Beside<'_>,
    own: &Own<'_>,
) -> Result<(Box<str>, Option<u128>), Rejection> {
    let (mut uid, mut version, mut product, mut profiles, mut processed) = (None, None, None, None, None);
    texts.begin_object();
    object("metadata", said, |member| match &*member.name.text {
        "uid" => put_once("metadata.uid", &mut uid, member.value),
        "version" => put_once("metadata.version", &mut version, member.value),
        "product" => put_once("metadata.product", &mut product, member.value),
        "profiles" => put_once("metadata.profiles", &mut profiles, member.value),
        "processed_time" => put_once("metadata.processed_time", &mut processed, member.value),
        _ => {
            copy(texts.rest, &member);
            Ok(())
        }
    })?;
    let said = uid.filter(|uid| *uid != "null");
    let said_uid = said.map(|uid| string(uid).ok_or(Rejection::Kind("metadata.uid"))).transpose()?;
    let named = beside.uid.or(said_uid.as_deref()).filter(|uid| !uid.is_empty());
    let (uid, digest): (Box<str>, _) = match named {
        Some(uid) if uid.len() <= UID_BYTES_MAX => (uid.into(), None),
        Some(uid) => (hex(digest(own.stamp, Beside::default(), uid)), None),
        None => {
            let digest = digest(own.stamp, beside, text);
            (hex(digest), Some(digest))
        }
    };
    if let Some(said) = said
        && said_uid.as_deref() != Some(&uid)
    {
        add(texts.claims, "uid", said);
    }
    if let Some(version) = version.filter(|version| *version != VERSION && *version != "null") {
        add(texts.claims, "version", version);
    }
    if let Some(processed) = processed {
        add(texts.claims, "processed_time", processed);
    }
    texts.out.push_str(&own.metadata);
    quote(texts.out, &uid);
    texts.out.push_str(&own.metadata_after);
    if let Some(profiles) = profiles.filter(|profiles| *profiles != "null") {
        elements(profiles, DEPTH_MAX, |profile| {
            let name = string(profile).ok_or(Rejection::Kind("metadata.profiles"))?;
            if !PROFILES.contains(&&*name) {
                texts.out.push(',');
                texts.out.push_str(profile);
            }
            Ok::<(), Rejection>(())
        })?;
    }
    texts.out.push(']');
    match product.filter(|product| *product != "null") {
        Some(product) if product.starts_with('{') => add(texts.out, "product", product),
        Some(_) => return Err(Rejection::Kind("metadata.product")),
        None => {
            texts.out.push_str(",\"product\":{\"name\":");
            quote(texts.out, beside.service.unwrap_or("unknown"));
            texts.out.push_str(",\"vendor_name\":\"unknown\"}");
        }
    }
    texts.end_object("metadata");
    Ok((uid, digest))
}

/// Writes `device`: which machine it is, we say; what it is like, the client.
fn device(texts: &mut Texts<'_>, said: Option<&str>, own: &Own<'_>) -> Result<(), Rejection> {
    let mut type_id = None;
    texts.begin_object();
    object("device", said, |member| match &*member.name.text {
        "uid" | "instance_uid" => {
            let is_foreign = claim_other(texts.claims, &member, &own.instance);
            match own.stamp.foreign {
                Foreign::Reject if is_foreign => Err(Rejection::Foreign("device.uid")),
                _ => Ok(()),
            }
        }
        "region" => {
            claim_other(texts.claims, &member, own.region);
            Ok(())
        }
        "type_id" => put_once("device.type_id", &mut type_id, member.value),
        _ => {
            copy(texts.rest, &member);
            Ok(())
        }
    })?;
    let type_id: u32 = number("device.type_id", type_id)?.unwrap_or(0);
    texts.out.push_str(&own.device);
    decimal(texts.out, u64::from(type_id));
    texts.end_object("device");
    Ok(())
}

/// Writes `cloud`, all of which is ours to say.
fn cloud(texts: &mut Texts<'_>, said: Option<&str>, own: &Own<'_>) -> Result<(), Rejection> {
    texts.out.push_str(&own.cloud);
    texts.begin_object();
    object("cloud", said, |member| {
        let is_same = match &*member.name.text {
            "provider" => member.value == PROVIDER,
            "region" => string(member.value).is_some_and(|value| value == own.region),
            "account" => is_account(member.value, &own.account),
            _ => false,
        };
        if !is_same {
            copy(texts.claims, &member);
        }
        Ok(())
    })?;
    texts.claim_object("cloud");
    Ok(())
}

/// Whether a value is `{"uid":ACCOUNT}` and nothing else.
fn is_account(value: &str, account: &str) -> bool {
    let (mut is_there, mut is_all) = (false, true);
    let read = members(value, DEPTH_MAX, |member| {
        let is_it = member.name.text == "uid" && string(member.value).is_some_and(|uid| uid == account);
        (is_there, is_all) = (is_there || is_it, is_all && is_it);
        Ok::<(), ScanError>(())
    });
    read.is_ok() && is_there && is_all
}

/// Writes `unmapped`, and in it what was claimed: ours to say as well, so that nobody can make up a claim.
fn unmapped(out: &mut String, claimed: &mut String, own: Option<&str>) -> Result<(), Rejection> {
    let mut rest = String::new();
    object("unmapped", own, |member| {
        if member.name.text == "claimed" {
            add(claimed, "claimed", member.value);
        } else {
            copy(&mut rest, &member);
        }
        Ok(())
    })?;
    if claimed.is_empty() && rest.is_empty() {
        return Ok(());
    }
    out.push_str(",\"unmapped\":{");
    out.push_str(&rest);
    if !claimed.is_empty() {
        comma(out);
        let _ = write!(out, "\"claimed\":{{{claimed}}}");
    }
    out.push('}');
    Ok(())
}

fn put_once<'a>(name: &'static str, slot: &mut Option<&'a str>, value: &'a str) -> Result<(), Rejection> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(Rejection::Twice(name)),
    }
}

/// The members of an object that need not be there.
fn object<'a>(
    name: &'static str,
    value: Option<&'a str>,
    each: impl FnMut(Member<'a>) -> Result<(), Rejection>,
) -> Result<(), Rejection> {
    match value.filter(|value| *value != "null") {
        Some(value) if value.starts_with('{') => members(value, DEPTH_MAX, each),
        Some(_) => Err(Rejection::Kind(name)),
        None => Ok(()),
    }
}

fn number<T: std::str::FromStr>(name: &'static str, value: Option<&str>) -> Result<Option<T>, Rejection> {
    let value = value.filter(|value| *value != "null");
    value.map(|value| value.parse().map_err(|_| Rejection::Kind(name))).transpose()
}

/// A comma where something stands before.
fn comma(out: &mut String) {
    if !out.is_empty() && !out.ends_with('{') {
        out.push(',');
    }
}

/// Writes a number: `write!` takes several times as long, and there are many.
fn decimal(out: &mut String, mut number: u64) {
    let mut digits = [b'0'; 20];
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        start -= 1;
        *digit += u8::try_from(number % 10).unwrap_or_default();
        number /= 10;
        if number == 0 {
            break;
        }
    }
    out.push_str(digits.get(start..).and_then(|digits| std::str::from_utf8(digits).ok()).unwrap_or_default());
}

fn add(out: &mut String, name: &str, value: &str) {
    comma(out);
    out.push('"');
    out.push_str(name);
    out.push_str("\":");
    out.push_str(value);
}

fn copy(out: &mut String, member: &Member<'_>) {
    comma(out);
    out.push_str(member.name.raw);
    out.push(':');
    out.push_str(member.value);
}

/// Keeps what is said otherwise than we say; gives whether it is.
fn claim_other(claims: &mut String, member: &Member<'_>, own: &str) -> bool {
    let is_other = member.value != "null" && string(member.value).is_none_or(|value| value != own);
    if is_other {
        copy(claims, member);
    }
    is_other
}

/// Between the tokens of JSON a line feed is a space; inside of its strings there is none.
fn one_line(json: &str, has_controls: bool) -> Box<str> {
    if has_controls { json.replace(['\n', '\r'], " ").into_boxed_str() } else { json.into() }
}

/// What tells an event without a uid from others: what it says, and when. A request that is sent again has the same.
fn digest(stamp: &Stamp<'_>, beside: Beside<'_>, text: &str) -> u128 {
    let mut bytes = Vec::with_capacity(text.len() + 16);
    bytes.extend_from_slice(&beside.time.to_be_bytes());
    bytes.extend_from_slice(&beside.observed.to_be_bytes());
    bytes.extend_from_slice(text.as_bytes());
    (stamp.sha256)(&bytes).iter().take(16).fold(0, |number, byte| number << 8 | u128::from(*byte))
}

pub(crate) fn hex(digest: u128) -> Box<str> {
    format!("{digest:032x}").into_boxed_str()
}

#[cfg(test)]
#[path = "ocsf_tests.rs"]
mod tests;
