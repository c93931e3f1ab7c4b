//! What the operations on sessions have in common.

use std::sync::Arc;

use inborn_store::Session as Record;
use inborn_wire::constraint;
use inborn_wire::error::Problem;
use serde_json::{Value, json};

use super::refusal;
use crate::operation::{JsonCall, Reply};
use crate::sessions::{Session, Side};

/// Longest `Target`. Source: botocore's model, `SessionTarget`.
const TARGET_LENGTH_MAX: usize = 400;

/// `Target`, which names a machine if it is one at all.
pub(super) fn target<'a>(call: &'a JsonCall<'_>) -> Result<&'a str, Problem> {
    let target = call.parameters.require_text("Target")?;
    constraint::length("Target", target, 1..=TARGET_LENGTH_MAX)?;
    Ok(target)
}

/// `SessionId`.
pub(super) fn session_id<'a>(call: &'a JsonCall<'_>) -> Result<&'a str, Problem> {
    let id = call.parameters.require_text("SessionId")?;
    constraint::length("SessionId", id, 1..=Record::ID_MAX)?;
    Ok(id)
}

/// The session that `SessionId` names, if it is open and of a machine of the caller's account.
pub(super) fn open_session(call: &JsonCall<'_>) -> Result<Arc<Session>, Problem> {
    let id = session_id(call)?;
    let account = call.caller.principal.account();
    let found = call.region.sessions().get(id).filter(|session| session.record.account == account);
    found.ok_or_else(|| refusal::no_session(id))
}

/// The answer that lets a client into a session: with a token for its data channel, which the audit does not keep.
pub(super) fn let_in(call: &JsonCall<'_>, session: &Session) -> Result<Reply, Problem> {
    let id = &session.record.id;
    let grants = call.region.sessions().grants(Side::Client);
    let token = grants.grant(id.clone(), call.now).map_err(|_| Problem::Throttled)?;
    let url = stream_url(call.socket_origin, id);
    let output = json!({"SessionId": id, "TokenValue": token.as_str(), "StreamUrl": url});
    let shown = json!({"sessionId": id, "streamUrl": url, "tokenValue": "Value hidden due to security reasons."});
    Ok(Reply { answer: inborn_wire::success::aws_json(call.request_id, &output), response_elements: shown })
}

/// Where the client finds its data channel: beside where it found Systems Manager, as far as that has a name.
fn stream_url(origin: &str, id: &str) -> String {
    let origin = match origin.split_once("://") {
        Some((scheme, host)) => match host.split_at_checked(4) {
            Some((label, rest)) if label.eq_ignore_ascii_case("ssm.") => format!("{scheme}://ssmmessages.{rest}"),
            _ => origin.to_owned(),
        },
        None => origin.to_owned(),
    };
    format!("{origin}/v1/data-channel/{id}?role=publish_subscribe")
}

/// A session as `DescribeSessions` shows it.
pub(super) fn shown(record: &Record, status: &str) -> Value {
    let mut shown = json!({
        "SessionId": record.id,
        "Target": record.instance.to_string(),
        "Status": status,
        "StartDate": record.started_at.as_secs(),
        "DocumentName": record.document_name,
        "Owner": record.owner,
        "AccessType": "Standard",
    });
    let mut put = |name: &str, value: Value| {
        if let Some(members) = shown.as_object_mut() {
            members.insert(name.to_owned(), value);
        }
    };
    if !record.reason.is_empty() {
        put("Reason", record.reason.as_str().into());
    }
    if let Some(end) = &record.end {
        put("EndDate", end.at.as_secs().into());
        put("Details", end.details.as_str().into());
    }
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_data_channel_is_beside_systems_manager() {
        for (origin, expected) in [
            ("wss://ssm.us-east-1.amazonaws.com", "wss://ssmmessages.us-east-1.amazonaws.com"),
            ("wss://SSM.lab.internal:4581", "wss://ssmmessages.lab.internal:4581"),
            ("ws://127.0.0.1:4580", "ws://127.0.0.1:4580"),
            ("ws://[::1]:4580", "ws://[::1]:4580"),
            ("ws://", "ws://"),
        ] {
            let url = stream_url(origin, "operator-1");
            assert_eq!(url, format!("{expected}/v1/data-channel/operator-1?role=publish_subscribe"));
        }
    }
}
