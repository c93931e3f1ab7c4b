//! One call as one line: the record of CloudTrail's event version 1.11, its keys in CloudTrail's order.
//!
//! Source: CloudTrail user guide, "CloudTrail record contents" and "CloudTrail userIdentity element"; records of real
//! identity sessions.

use inborn_credential::{Claims, Delivery};
use inborn_identity::{IDENTITY_ROLE_NAME, Principal, UnixTime};
use serde::Serialize;
use serde_json::Value;

/// Longest line, its line feed included: what a change of a thousand machines answers has room. A longer one is cut in
/// what the client chose before it is written.
pub const LINE_BYTES_MAX: usize = 64 << 10;
/// What a line usually has room in, so that it need not grow while it is written.
const LINE_BYTES_USUAL: usize = 2 << 10;
/// Longest service name that is taken over from a signature's scope.
const SOURCE_BYTES_MAX: usize = 256;
/// What stands for a text that was left out.
const OMITTED: &str = "omitted";

/// One call, as far as it is known when it is answered.
#[derive(Clone, Debug)]
pub struct Record<'a> {
    /// When it was received.
    pub time: UnixTime,
    /// Who called, if that was verified.
    pub caller: Option<AuditCaller<'a>>,
    /// The key id that the request shows, if nobody was verified: a claim, not a fact.
    pub claimed_access_key_id: Option<&'a str>,
    /// As in `sts.amazonaws.com`.
    pub event_source: &'a str,
    /// The operation's name, as far as it could be read.
    pub event_name: &'a str,
    /// The region.
    pub region: &'a str,
    /// The account the region serves.
    pub account: &'a str,
    /// The client's address.
    pub source: &'a str,
    /// The client's `User-Agent`.
    pub user_agent: &'a str,
    /// The error's code and message, if it was refused.
    pub error: Option<(&'a str, &'a str)>,
    /// The request's parameters, without what is secret.
    pub request_parameters: Value,
    /// What a mutating call answered, in short.
    pub response_elements: Value,
    /// The request id, which the client sees as `x-amzn-RequestId`.
    pub request_id: &'a str,
    /// An id of this record alone.
    pub event_id: &'a str,
    /// Whether the operation changes nothing.
    pub read_only: bool,
    /// What was negotiated, and the `Host` the client sent.
    pub tls: Option<(&'a inborn_listener::TlsFacts, &'a str)>,
}

/// A verified caller.
#[derive(Clone, Copy, Debug)]
pub struct AuditCaller<'a> {
    /// Who.
    pub principal: &'a Principal,
    /// The key it signed with.
    pub access_key_id: &'a str,
    /// What its session token holds, if it has one.
    pub claims: Option<&'a Claims>,
}

/// A record's line, with its line feed: at most [`LINE_BYTES_MAX`] bytes.
pub(super) fn line(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(LINE_BYTES_USUAL);
    for cut in [Cut::Nothing, Cut::Request, Cut::All] {
        bytes.clear();
        if serde_json::to_writer(&mut bytes, &Event::of(record, cut)).is_err() {
            bytes.clear();
        }
        if bytes.len() < LINE_BYTES_MAX {
            break;
        }
    }
    bytes.push(b'\n');
    bytes
}

/// What is left out of a line that would be too long. What was done goes last: nobody hides it by saying much.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Cut {
    Nothing,
    /// The texts and parameters that the client sent.
    Request,
    /// What was answered, too.
    All,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    event_version: &'static str,
    user_identity: UserIdentity<'a>,
    event_time: String,
    event_source: &'a str,
    event_name: &'a str,
    aws_region: &'a str,
    #[serde(rename = "sourceIPAddress")]
    source_ip_address: &'a str,
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
    request_parameters: Elements<'a>,
    response_elements: Elements<'a>,
    #[serde(rename = "requestID")]
    request_id: &'a str,
    #[serde(rename = "eventID")]
    event_id: &'a str,
    read_only: bool,
    event_type: &'static str,
    management_event: bool,
    recipient_account_id: &'a str,
    event_category: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    tls_details: Option<TlsDetails<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct UserIdentity<'a> {
    r#type: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    principal_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    arn: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    account_id: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    access_key_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session_context: Option<SessionContext<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    in_scope_of: Option<InScopeOf>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionContext<'a> {
    session_issuer: SessionIssuer<'a>,
    attributes: Attributes,
    #[serde(rename = "ec2RoleDelivery")]
    ec2_role_delivery: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionIssuer<'a> {
    r#type: &'static str,
    principal_id: String,
    arn: String,
    account_id: String,
    user_name: &'a str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Attributes {
    creation_date: String,
    mfa_authenticated: &'static str,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct InScopeOf {
    issuer_type: &'static str,
    credentials_issued_to: String,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TlsDetails<'a> {
    tls_version: &'a str,
    cipher_suite: &'a str,
    client_provided_host_header: &'a str,
}

/// What a call was given or gave, or that it was too large for a line.
#[derive(Serialize)]
#[serde(untagged)]
enum Elements<'a> {
    Whole(&'a Value),
    Omitted { omitted: &'static str },
}

impl<'a> Event<'a> {
    fn of(record: &'a Record<'a>, cut: Cut) -> Self {
        let text = |text: &'a str| if cut >= Cut::Request { OMITTED } else { text };
        let elements = |value: &'a Value, from: Cut| match value {
            Value::Null => Elements::Whole(value),
            _ if cut >= from => Elements::Omitted { omitted: "the record was too large" },
            _ => Elements::Whole(value),
        };
        let is_named = record.event_source.len() <= SOURCE_BYTES_MAX;
        Self {
            event_version: "1.11",
            user_identity: UserIdentity::of(record),
            event_time: record.time.rfc3339(),
            event_source: if is_named { record.event_source } else { OMITTED },
            event_name: record.event_name,
            aws_region: record.region,
            source_ip_address: record.source,
            user_agent: text(record.user_agent),
            error_code: record.error.map(|(code, _)| error_code(record.event_source, code)),
            error_message: record.error.map(|(_, message)| text(message)),
            request_parameters: elements(&record.request_parameters, Cut::Request),
            response_elements: elements(&record.response_elements, Cut::All),
            request_id: record.request_id,
            event_id: record.event_id,
            read_only: record.read_only,
            event_type: "AwsApiCall",
            management_event: true,
            recipient_account_id: record.account,
            event_category: "Management",
            tls_details: record.tls.map(|(facts, host)| TlsDetails {
                tls_version: facts.version,
                cipher_suite: &facts.cipher_suite,
                client_provided_host_header: text(host),
            }),
        }
    }
}

/// EC2's records say whose fault an error is. Source: EC2 API reference, "Error codes", which lists the server's.
fn error_code(event_source: &str, code: &str) -> String {
    match (event_source, code) {
        ("ec2.amazonaws.com", "InternalError" | "InternalFailure" | "ServiceUnavailable" | "Unavailable") => {
            format!("Server.{code}")
        }
        ("ec2.amazonaws.com", _) => format!("Client.{code}"),
        _ => code.to_owned(),
    }
}

impl<'a> UserIdentity<'a> {
    fn of(record: &Record<'a>) -> Self {
        let Some(AuditCaller { principal, access_key_id, claims }) = record.caller else {
            return Self {
                r#type: "Unknown",
                principal_id: None,
                arn: None,
                account_id: None,
                access_key_id: record.claimed_access_key_id,
                user_name: None,
                session_context: None,
                in_scope_of: None,
            };
        };
        Self {
            r#type: if claims.is_some() { "AssumedRole" } else { "IAMUser" },
            principal_id: Some(principal.user_id()),
            arn: Some(principal.arn()),
            account_id: Some(principal.account().to_string()),
            access_key_id: Some(access_key_id),
            user_name: match principal {
                Principal::Operator { name, .. } => Some(name),
                _ => None,
            },
            session_context: claims.map(|claims| SessionContext::of(principal, claims)),
            in_scope_of: claims.map(|claims| InScopeOf::of(principal, claims)),
        }
    }
}

impl<'a> SessionContext<'a> {
    fn of(principal: &'a Principal, claims: &Claims) -> Self {
        let (account, partition) = (principal.account(), principal.partition());
        let (principal_id, role) = match principal {
            Principal::ManagementRole { role, role_id, .. } => (role_id.to_string(), role.as_str()),
            _ => (format!("{account}:{IDENTITY_ROLE_NAME}"), IDENTITY_ROLE_NAME),
        };
        Self {
            session_issuer: SessionIssuer {
                r#type: "Role",
                principal_id,
                arn: format!("arn:{partition}:iam::{account}:role/{role}"),
                account_id: account.to_string(),
                user_name: role,
            },
            attributes: Attributes { creation_date: claims.issued_at.rfc3339(), mfa_authenticated: "false" },
            ec2_role_delivery: match claims.delivery {
                Delivery::V1 => "1.0",
                Delivery::V2 => "2.0",
            },
        }
    }
}

impl InScopeOf {
    fn of(principal: &Principal, claims: &Claims) -> Self {
        let (partition, region) = (principal.partition(), &claims.region);
        Self {
            issuer_type: "AWS::EC2::Instance",
            credentials_issued_to: format!(
                "arn:{partition}:ec2:{region}:{}:instance/{}",
                claims.account, claims.instance
            ),
        }
    }
}

#[cfg(test)]
#[path = "record_tests.rs"]
mod tests;
