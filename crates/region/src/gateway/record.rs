//! The audit record of one exchange.

use std::net::IpAddr;

use http::header::{HOST, USER_AGENT};
use inborn_credential::Caller;
use inborn_identity::{AccountId, InstanceId, Region, UnixTime};
use inborn_ssh::{HostKeySet, PublicKey};
use inborn_store::{Host, Session};
use inborn_wire::query::Parameters;
use serde_json::{Map, Value, json};

use super::Exchange;
use super::request::{cut, header};
use super::response::new_uuid;
use crate::audit::{AuditCaller, Record};
use crate::detection::Away;
use crate::operation::Input;
use crate::sessions::{Joiner, Side};
use crate::{Effect, RegionServer};

/// Longest `User-Agent`, `Host` or parameter that the audit keeps.
const TEXT_BYTES_MAX: usize = 1024;
/// Longest name or id that a stranger can make the audit keep.
const NAME_BYTES_MAX: usize = 128;
/// Longest error message that the audit keeps: some repeat what the client sent.
const MESSAGE_BYTES_MAX: usize = 512;
/// What stands for a value that the audit does not keep.
const REMOVED: &str = "<sensitiveDataRemoved>";
/// Most parameters that the audit keeps of one call, and most items of a list or an object among them.
const PARAMETERS_MAX: usize = 100;
/// Parts of names of parameters whose values never reach the audit, as in `UserData` and `LaunchTemplateData.UserData`, in
/// whatever letters: what is misspelled or out of its place is refused, but recorded. Of commands neither what they are given
/// nor what they wrote is kept, as in CloudTrail; `Comments` is what people say of findings,
/// which botocore's model calls sensitive. The last three are how requests of other kinds authenticate.
const SECRET_PARAMETERS: [&str; 8] =
    ["Comments", "UserData", "Parameters", "Payload", "Password", "SecurityToken", "Signature", "X-Amz-Security-Token"];
/// Operations whose members CloudTrail gives other names. Source: user guide of EC2, "Log Amazon EC2 Instance Connect API calls".
const SEND_KEY_OPERATIONS: [&str; 2] = ["SendSSHPublicKey", "SendSerialConsoleSSHPublicKey"];
/// The value of whatever attribute `Attribute` names, which may be user data.
const SECRET_VALUE: &str = "Value";
const SYSTEMS_MANAGER: &str = "ssm.amazonaws.com";

/// A set of host keys that was not waiting before.
pub(crate) struct PendingHostKeys<'a> {
    pub(crate) caller: &'a Caller,
    pub(crate) source: IpAddr,
    pub(crate) instance: InstanceId,
    pub(crate) keys: &'a HostKeySet,
    pub(crate) outcome: &'a str,
    /// The name of the set that goes on serving, if there is one.
    pub(crate) served: Option<String>,
}

/// What happened in a service, under a name of ours: more than a call says, or without one.
struct ServiceEvent<'a> {
    name: &'a str,
    service: &'a str,
    account: AccountId,
    source: &'a str,
    caller: Option<&'a Caller>,
    error: Option<(&'a str, &'a str)>,
    request_parameters: Value,
    response_elements: Value,
}

impl RegionServer {
    /// Appends the line of an exchange, if it has one.
    pub(super) async fn record(&self, exchange: &Exchange<'_>, error: Option<(&str, &str)>, response_elements: Value) {
        if !self.is_recorded(exchange, error.is_some()) {
            return;
        }
        let event_id = new_uuid().to_string();
        let event_source = format!("{}.amazonaws.com", cut(exchange.service_name, NAME_BYTES_MAX));
        let event_name = match exchange.operation {
            Some(operation) => operation.name,
            None => exchange.operation_name().map_or("Unknown", |name| cut(name, NAME_BYTES_MAX)),
        };
        let address = exchange.origin.peer.address.ip().to_string();
        // What a stranger did was done to the region.
        let account = exchange.caller.as_ref().map_or(self.identity().account, |caller| caller.principal.account());
        let account = account.to_string();
        let host = header(&exchange.parts.headers, HOST.as_str());
        let record = Record {
            time: exchange.received,
            caller: exchange.caller.as_ref().map(audit_caller),
            claimed_access_key_id: exchange.claimed_access_key_id.map(|id| cut(id, NAME_BYTES_MAX)),
            event_source: &event_source,
            event_name,
            region: self.asked_region(exchange),
            account: &account,
            source: &address,
            user_agent: cut(header(&exchange.parts.headers, USER_AGENT.as_str()), TEXT_BYTES_MAX),
            error: error.map(|(code, message)| (code, cut(message, MESSAGE_BYTES_MAX))),
            // Of an operation that is not here nobody knows which parameters are secret, and what a stranger sends is not
            // worth the disk.
            request_parameters: match (exchange.operation, exchange.input.as_deref()) {
                (Some(_), Some(Input::Query(parameters))) => audit_parameters(parameters),
                (Some(operation), Some(Input::Json(object))) => audit_members(operation.name, object.members()),
                _ => Value::Null,
            },
            response_elements,
            request_id: &exchange.request_id,
            event_id: &event_id,
            read_only: exchange.operation.is_none_or(|operation| operation.effect == Effect::ReadOnly),
            tls: exchange.origin.peer.tls.as_ref().map(|facts| (facts, cut(host, TEXT_BYTES_MAX))),
        };
        if let Err(error) = self.audit.append_together(&record).await {
            self.metrics.audit_lost.inc();
            tracing::error!(%error, request_id = %exchange.request_id, "a call could not be recorded");
        }
    }

    /// The region whose endpoint was asked, as CloudTrail has it: of STS it may be another one than the machine's.
    fn asked_region<'a>(&'a self, exchange: &'a Exchange<'_>) -> &'a str {
        let asked = exchange.host_region.as_ref().map(Region::as_str).or(exchange.scope_region);
        asked.filter(|asked| self.knows_region(asked)).unwrap_or(self.identity().region.as_str())
    }

    /// Tells detection of a call that was made with a machine's credentials somewhere else.
    pub(super) fn watch(&self, exchange: &Exchange<'_>, error_code: Option<&str>) {
        let Some(caller) = exchange.caller.as_ref().filter(|_| exchange.place.is_away()) else { return };
        let Some(claims) = caller.claims.as_deref() else { return };
        self.found_away(&Away {
            caller,
            claims,
            place: exchange.place,
            source: exchange.origin.peer.address.ip(),
            service: cut(exchange.service_name, NAME_BYTES_MAX),
            api: match exchange.operation {
                Some(operation) => operation.name,
                None => exchange.operation_name().map_or("Unknown", |name| cut(name, NAME_BYTES_MAX)),
            },
            user_agent: cut(header(&exchange.parts.headers, USER_AGENT.as_str()), TEXT_BYTES_MAX),
            error_code,
            at: exchange.received,
        });
    }

    /// Appends the line about the end of a session. It may end without a call, and is written down all the same.
    pub(crate) fn record_end_of_session(&self, session: &Session, status: &str, details: &str, now: UnixTime) {
        let started = session.started_at.rfc3339();
        let event = ServiceEvent {
            name: "Inborn.SessionEnded",
            service: SYSTEMS_MANAGER,
            account: session.account,
            source: SYSTEMS_MANAGER,
            caller: None,
            error: None,
            request_parameters: session_parameters(session, None),
            response_elements: json!({"status": status, "details": details, "startDate": started}),
        };
        self.record_event(event, now);
    }

    /// Appends the line about who came in at one side of a session, or was refused for a token that is none: of those only so
    /// many are kept from each source, as of other callers who proved nothing.
    pub(crate) fn record_joining(
        &self,
        session: &Session,
        side: Side,
        joiner: &Joiner,
        is_let_in: bool,
        now: UnixTime,
    ) {
        if !is_let_in && !self.bounds.unproven.admits(joiner.source, now) {
            return;
        }
        let event = ServiceEvent {
            name: "Inborn.SessionJoined",
            service: SYSTEMS_MANAGER,
            account: session.account,
            source: &joiner.address.to_string(),
            caller: joiner.caller.as_ref(),
            error: (!is_let_in).then_some(("AccessDenied", "The channel was not opened with its token.")),
            request_parameters: session_parameters(session, Some(side)),
            response_elements: Value::Null,
        };
        self.record_event(event, now);
    }

    /// Appends the line about a set of host keys that waits for an operator: whoever watches the audit need not know how each
    /// call of a machine may end.
    pub(crate) fn record_pending_host_keys(&self, offered: &PendingHostKeys<'_>, now: UnixTime) {
        let event = ServiceEvent {
            name: "Inborn.HostKeysPending",
            service: "ec2-instance-connect.amazonaws.com",
            account: offered.caller.principal.account(),
            source: &offered.source.to_string(),
            caller: Some(offered.caller),
            error: None,
            request_parameters: json!({
                "instanceId": offered.instance.to_string(),
                "digest": offered.keys.digest(),
                "fingerprints": offered.keys.iter().map(PublicKey::fingerprint).collect::<Vec<_>>(),
            }),
            response_elements: json!({ "outcome": offered.outcome, "servedDigest": offered.served }),
        };
        self.record_event(event, now);
    }

    /// Appends the line about a host that has joined: nobody signs for that, the token came from an operator.
    pub(crate) fn record_joined_host(&self, host: &Host, source: IpAddr, now: UnixTime) {
        let event = ServiceEvent {
            name: "Inborn.HostJoined",
            service: "ec2.amazonaws.com",
            account: self.identity().account,
            source: &source.to_string(),
            caller: None,
            error: None,
            request_parameters: json!({
                "hostId": host.id.to_string(),
                "name": host.name,
                "accounts": host.accounts.iter().map(AccountId::to_string).collect::<Vec<_>>(),
            }),
            response_elements: Value::Null,
        };
        self.record_event(event, now);
    }

    /// Appends the line of an event.
    fn record_event(&self, event: ServiceEvent<'_>, now: UnixTime) {
        let (account, request_id, event_id) = (event.account.to_string(), new_uuid(), new_uuid());
        let record = Record {
            time: now,
            caller: event.caller.map(audit_caller),
            claimed_access_key_id: None,
            event_source: event.service,
            event_name: event.name,
            region: self.identity().region.as_str(),
            account: &account,
            source: event.source,
            user_agent: event.service,
            error: event.error,
            request_parameters: event.request_parameters,
            response_elements: event.response_elements,
            request_id: &request_id.to_string(),
            event_id: &event_id.to_string(),
            read_only: false,
            tls: None,
        };
        if let Err(error) = self.audit.append(&record) {
            self.metrics.audit_lost.inc();
            tracing::error!(%error, event = event.name, %event_id, "an event could not be recorded");
        }
    }

    /// Requests that show no readable credential are nobody's calls. Of those that show one which proves nothing, and of
    /// callers who were told to call less often, only so many are kept from each source: nobody must be able to fill the
    /// disk. Of what brings data, only refusals are kept, unless the settings ask for all. All are counted.
    fn is_recorded(&self, exchange: &Exchange<'_>, is_refused: bool) -> bool {
        if exchange.caller.is_some() && !exchange.is_throttled {
            return is_refused || !self.is_only_counted(exchange.operation);
        }
        exchange.claimed_access_key_id.is_some()
            && self.bounds.unproven.admits(exchange.origin.into(), exchange.received)
    }
}

/// What a session is about, and which side of it.
fn session_parameters(session: &Session, side: Option<Side>) -> Value {
    let mut parameters = json!({
        "sessionId": session.id,
        "target": session.instance.to_string(),
        "owner": session.owner,
        "documentName": session.document_name,
    });
    if let (Some(side), Some(members)) = (side, parameters.as_object_mut()) {
        members.insert("side".to_owned(), side.name().into());
    }
    parameters
}

fn audit_caller(caller: &Caller) -> AuditCaller<'_> {
    AuditCaller {
        principal: &caller.principal,
        access_key_id: caller.access_key_id.as_str(),
        claims: caller.claims.as_deref(),
    }
}

/// Whether a name is one of those whose values the audit does not keep.
fn is_secret(name: &str) -> bool {
    SECRET_PARAMETERS.iter().any(|secret| name.eq_ignore_ascii_case(secret))
}

/// The parameters of a query call, for its record: without secrets, and not more than a line holds.
fn audit_parameters(parameters: &Parameters) -> Value {
    let kept = parameters
        .pairs()
        .filter(|(name, _)| !matches!(*name, "Action" | "Version") && !name.starts_with("X-Amz-"))
        .take(PARAMETERS_MAX)
        .map(|(name, value)| {
            let is_secret = name.eq_ignore_ascii_case(SECRET_VALUE) || name.split('.').any(is_secret);
            let shown = if is_secret { REMOVED } else { cut(value, TEXT_BYTES_MAX) };
            (name.to_owned(), Value::from(shown))
        });
    let object: Map<String, Value> = kept.collect();
    if object.is_empty() { Value::Null } else { Value::Object(object) }
}

/// The members of a JSON call, for its record, their names with a small first letter as CloudTrail writes them.
fn audit_members(operation: &str, members: &Map<String, Value>) -> Value {
    if members.is_empty() {
        return Value::Null;
    }
    let mut shown = shown_object(members);
    if let (true, Value::Object(shown)) = (SEND_KEY_OPERATIONS.contains(&operation), &mut shown) {
        if let Some(user) = shown.remove("instanceOSUser") {
            shown.insert("osUser".to_owned(), user);
        }
        if let Some(key) = shown.remove("sSHPublicKey") {
            shown.insert("SSHKey".to_owned(), json!({ "publicKey": key }));
        }
    }
    shown
}

fn shown_object(members: &Map<String, Value>) -> Value {
    let kept = members.iter().take(PARAMETERS_MAX).map(|(name, value)| {
        let shown = if is_secret(name) { Value::from(REMOVED) } else { shown(value) };
        let mut name = cut(name, NAME_BYTES_MAX).to_owned();
        if let Some(first) = name.get_mut(..1) {
            first.make_ascii_lowercase();
        }
        (name, shown)
    });
    Value::Object(kept.collect())
}

/// A value as the audit keeps it. How deep it can be, the decoder has bounded.
fn shown(value: &Value) -> Value {
    match value {
        Value::String(text) => Value::from(cut(text, TEXT_BYTES_MAX)),
        Value::Array(items) => items.iter().take(PARAMETERS_MAX).map(shown).collect(),
        Value::Object(members) => shown_object(members),
        value => value.clone(),
    }
}
