//! What a call that sends an SSH key says, and whether it may be so: the constraints of the public model (2018-04-02).

use std::sync::Arc;

use inborn_identity::InstanceId;
use inborn_ssh::{KeyKind, PublicKey};
use inborn_store::{Instance, InstanceState};
use inborn_wire::constraint;
use inborn_wire::error::{self, Dialect, Problem};
use inborn_wire::json::JsonError;

use super::refusal;
use crate::operation::JsonCall;

const INSTANCE_ID: &str = "InstanceId";
const INSTANCE_ID_PATTERN: &str = "^i-[a-f0-9]+$";
const USER: &str = "InstanceOSUser";
const USER_PATTERN: &str = r"(^[A-Za-z_][A-Za-z0-9\@\._-]{0,30}[A-Za-z0-9\$_-]?$)|(^(?=.{2,32}$)[0-9]{1,32}[A-Za-z\@\._-][A-Za-z0-9\@\._-]*[A-Za-z0-9\$_-]?$)";
const USER_LENGTH_MAX: usize = 32;
const KEY: &str = "SSHPublicKey";
const ZONE: &str = "AvailabilityZone";
const ZONE_PATTERN: &str = r"^(\w+-){2,3}\d+\w+$";

/// The id of the instance that a call is about, as it is written.
pub(super) fn instance<'a>(call: &'a JsonCall<'_>) -> Result<&'a str, Problem> {
    let id = text(call, INSTANCE_ID)?;
    constraint::length(INSTANCE_ID, id, 10..=32).map_err(broken)?;
    let digits = id.strip_prefix("i-").unwrap_or_default();
    if digits.is_empty() || !digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(broken(constraint::pattern(INSTANCE_ID, id, INSTANCE_ID_PATTERN)));
    }
    Ok(id)
}

/// The user that a key is for.
pub(super) fn user<'a>(call: &'a JsonCall<'_>) -> Result<&'a str, Problem> {
    let user = text(call, USER)?;
    constraint::length(USER, user, 1..=USER_LENGTH_MAX).map_err(broken)?;
    if !is_user(user.as_bytes()) {
        return Err(broken(constraint::pattern(USER, user, USER_PATTERN)));
    }
    Ok(user)
}

/// The key: RSA or Ed25519, in the form of `authorized_keys`.
pub(super) fn key(call: &JsonCall<'_>) -> Result<PublicKey, Problem> {
    let line = text(call, KEY)?;
    constraint::length(KEY, line, 80..=4096).map_err(broken)?;
    let key = PublicKey::parse(line).map_err(|error| refusal::bad_key(&error.to_string()))?;
    match key.kind() {
        KeyKind::Ed25519 | KeyKind::Rsa => Ok(key),
        other => Err(refusal::bad_key(&format!("keys of type {} are not taken", other.name()))),
    }
}

/// The zone, if the caller says it.
pub(super) fn zone<'a>(call: &'a JsonCall<'_>) -> Result<Option<&'a str>, Problem> {
    let Some(zone) = call.parameters.text(ZONE)? else { return Ok(None) };
    constraint::length(ZONE, zone, 6..=32).map_err(broken)?;
    if !is_zone(zone) {
        return Err(broken(constraint::pattern(ZONE, zone, ZONE_PATTERN)));
    }
    Ok(Some(zone))
}

/// The machine of that id in the caller's account, if it runs and is in the zone.
pub(super) async fn running(call: &JsonCall<'_>, id: &str, zone: Option<&str>) -> Result<Arc<Instance>, Problem> {
    let account = call.caller.principal.account();
    let not_found = || refusal::no_such_instance(id);
    let Ok(parsed) = id.parse::<InstanceId>() else { return Err(not_found()) };
    let machine = match call.region.machines().get(parsed) {
        Some(machine) => machine,
        // One that has ended is known for a while.
        None => Arc::new(call.region.store().instance(parsed).await.map_err(refusal::of_store)?.ok_or_else(not_found)?),
    };
    if machine.account != account || zone.is_some_and(|zone| machine.zone.as_str() != zone) {
        return Err(not_found());
    }
    if machine.state == InstanceState::Running { Ok(machine) } else { Err(refusal::not_running()) }
}

fn text<'a>(call: &'a JsonCall<'_>, name: &str) -> Result<&'a str, Problem> {
    call.parameters.require_text(name).map_err(|error| broken(error.into()))
}

/// What breaks a constraint is an invalid argument here: the text is the same as elsewhere, the code is not. Source: an answer
/// of AWS in mludvig/aws-ssm-tools#44.
fn broken(problem: Problem) -> Problem {
    match problem {
        Problem::Validation { .. } | Problem::Json(JsonError::Missing { .. }) => {
            refusal::invalid(error::refusal(&problem, Dialect::AwsJson11).message)
        }
        other => other,
    }
}

/// [`USER_PATTERN`], of a text of at most [`USER_LENGTH_MAX`] characters.
fn is_user(user: &[u8]) -> bool {
    let fits = |byte: &u8| byte.is_ascii_alphanumeric() || b"@._-".contains(byte);
    let digits = user.iter().take_while(|byte| byte.is_ascii_digit()).count();
    let (Some(first), Some((last, body))) = (user.get(digits), user.split_last()) else { return false };
    let begins = if digits == 0 {
        first.is_ascii_alphabetic() || *first == b'_'
    } else {
        first.is_ascii_alphabetic() || b"@._-".contains(first)
    };
    // Behind one character and thirty more, the last may not be any of them.
    let is_full = digits == 0 && user.len() == USER_LENGTH_MAX;
    let may_be_the_end = last.is_ascii_alphanumeric() || b"$_-".contains(last);
    let ends = if is_full { may_be_the_end } else { may_be_the_end || fits(last) };
    begins && ends && body.iter().all(fits)
}

/// [`ZONE_PATTERN`].
fn is_zone(zone: &str) -> bool {
    let mut parts: Vec<&str> = zone.split('-').collect();
    let is_word = |part: &str| part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_');
    let Some(last) = parts.pop() else { return false };
    (2..=3).contains(&parts.len())
        && parts.iter().all(|part| !part.is_empty() && is_word(part))
        && last.len() > 1
        && last.starts_with(|c: char| c.is_ascii_digit())
        && is_word(last)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn users() {
        let long = |last: &str| format!("{}{last}", "u".repeat(USER_LENGTH_MAX - 1));
        for user in [
            "r",
            "_",
            "root",
            "ec2-user",
            "a.b@c",
            "svc$",
            "a.",
            "a-",
            "A1",
            "0a",
            "0_",
            "12.x",
            "1@",
            &long("u"),
            &long("$"),
            &long("-"),
            "1234567890123456789012345678901x",
        ] {
            assert!(is_user(user.as_bytes()), "{user}");
        }
        for user in [
            "",
            "0",
            "123",
            "$",
            ".a",
            "-a",
            "@a",
            "a b",
            "a/b",
            "a$b",
            "$$",
            "ü",
            "a\n",
            "a\0",
            "..",
            "0$",
            &long("."),
            &long("@"),
        ] {
            assert!(!is_user(user.as_bytes()), "{user:?}");
        }
    }

    #[test]
    fn zones() {
        for zone in ["us-east-1a", "us-gov-east-1a", "my-lab-1a", "a_b-c-1x"] {
            assert!(is_zone(zone), "{zone}");
        }
        for zone in [
            "lab-1a",
            "us-west-2-lax-1a",
            "us-east-1",
            "us-east-a",
            "us--1a",
            "a-b-c-d-1a",
            "us-east-1a ",
            "us-ea.st-1a",
            "",
            "us-east-",
        ] {
            assert!(!is_zone(zone), "{zone:?}");
        }
    }
}
