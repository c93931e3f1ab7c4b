//! The audit file: one CloudTrail-shaped JSON line for each call, written before the call is answered.
//!
//! Space for lines to come is reserved ahead of the end of the file, so that a mutating call is refused *before* it is
//! done when its line could no longer be written, and reading calls are still recorded for a while on a full disk.

use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use inborn_credential::{Claims, Delivery};
use inborn_identity::{IDENTITY_ROLE_NAME, Principal, UnixTime};
use serde::Serialize;
use serde_json::{Value, json};

/// Bytes that are reserved ahead.
const RESERVE_BYTES: u64 = 1 << 20;
/// The reserve is filled up when less than this is left of it.
const RESERVE_LOW_BYTES: u64 = RESERVE_BYTES / 4;
/// A mutating call is refused when less than this is left: room for the lines of the calls that are under way.
const RESERVE_MUTATION_BYTES: u64 = 64 << 10;
/// Longest line. A longer one is cut in what the client chose (user agent, parameters) before it is written.
pub const LINE_BYTES_MAX: usize = 32 << 10;

/// One call, as far as it is known when it is answered.
#[derive(Debug)]
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

/// Where lines go.
#[derive(Debug)]
pub struct Audit {
    path: PathBuf,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    file: File,
    length: u64,
    reserved_to: u64,
    /// Some file systems cannot reserve; there the attempt to write is the only test.
    can_reserve: bool,
}

impl Audit {
    /// Opens the file at `path` (mode 0600) to append to it.
    ///
    /// # Errors
    /// The operating system's.
    pub fn open(path: &Path) -> io::Result<Self> {
        let file = OpenOptions::new().append(true).create(true).mode(0o600).open(path)?;
        let length = file.metadata()?.len();
        let mut state = State { file, length, reserved_to: length, can_reserve: true };
        state.reserve();
        Ok(Self { path: path.into(), state: Mutex::new(state) })
    }

    /// The file.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Whether there is room for the lines of mutating calls. Ask before doing anything that cannot be undone.
    #[must_use]
    pub fn accepts_mutations(&self) -> bool {
        let mut state = self.lock();
        state.reserve();
        !state.can_reserve || state.left() >= RESERVE_MUTATION_BYTES
    }

    /// Appends a line, whole or not at all.
    ///
    /// # Errors
    /// The operating system's, the disk being full above all.
    pub fn append(&self, record: &Record<'_>) -> io::Result<()> {
        let line = line(record);
        let mut state = self.lock();
        state.reserve();
        if let Err(error) = state.file.write_all(&line) {
            // Half a line would make the next one unreadable.
            let length = state.length;
            let _ = state.file.set_len(length);
            return Err(error);
        }
        state.length += line.len() as u64;
        Ok(())
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, State> {
        // The state is consistent between any two statements that can panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    const fn left(&self) -> u64 {
        self.reserved_to.saturating_sub(self.length)
    }

    fn reserve(&mut self) {
        if !self.can_reserve || self.left() >= RESERVE_LOW_BYTES {
            return;
        }
        use rustix::fs::{FallocateFlags, fallocate};
        match fallocate(&self.file, FallocateFlags::KEEP_SIZE, self.length, RESERVE_BYTES) {
            Ok(()) => self.reserved_to = self.length + RESERVE_BYTES,
            Err(rustix::io::Errno::NOTSUP | rustix::io::Errno::NOSYS) => self.can_reserve = false,
            Err(_) => {}
        }
    }
}

/// A record's line, with its line feed.
fn line(record: &Record<'_>) -> Vec<u8> {
    let mut bytes = serde_json::to_vec(&Event::of(record, false)).unwrap_or_default();
    if bytes.len() >= LINE_BYTES_MAX {
        bytes = serde_json::to_vec(&Event::of(record, true)).unwrap_or_default();
    }
    bytes.push(b'\n');
    bytes
}

/// The fields in CloudTrail's order. Source: CloudTrail user guide, "CloudTrail record contents", event version 1.11.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Event<'a> {
    event_version: &'static str,
    user_identity: Value,
    event_time: String,
    event_source: &'a str,
    event_name: &'a str,
    aws_region: &'a str,
    #[serde(rename = "sourceIPAddress")]
    source_ip_address: &'a str,
    user_agent: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_code: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error_message: Option<&'a str>,
    request_parameters: Value,
    response_elements: Value,
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
    tls_details: Option<Value>,
}

impl<'a> Event<'a> {
    fn of(record: &Record<'a>, cut: bool) -> Self {
        let omitted = || json!({ "omitted": "the record was too large" });
        Self {
            event_version: "1.11",
            user_identity: user_identity(record),
            event_time: record.time.rfc3339(),
            event_source: record.event_source,
            event_name: record.event_name,
            aws_region: record.region,
            source_ip_address: record.source,
            user_agent: if cut { "omitted" } else { record.user_agent },
            error_code: record.error.map(|(code, _)| code),
            error_message: record.error.map(|(_, message)| if cut { "omitted" } else { message }),
            request_parameters: if cut { omitted() } else { record.request_parameters.clone() },
            response_elements: if cut { omitted() } else { record.response_elements.clone() },
            request_id: record.request_id,
            event_id: record.event_id,
            read_only: record.read_only,
            event_type: "AwsApiCall",
            management_event: true,
            recipient_account_id: record.account,
            event_category: "Management",
            tls_details: record.tls.map(|(facts, host)| {
                let host = if cut { "omitted" } else { host };
                json!({ "tlsVersion": facts.version, "cipherSuite": facts.cipher_suite, "clientProvidedHostHeader": host })
            }),
        }
    }
}

fn user_identity(record: &Record<'_>) -> Value {
    let Some(AuditCaller { principal, access_key_id, claims }) = record.caller else {
        return json!({ "type": "Unknown", "accessKeyId": record.claimed_access_key_id });
    };
    let mut identity = json!({
        "type": "IAMUser",
        "principalId": principal.user_id(),
        "arn": principal.arn(),
        "accountId": principal.account().to_string(),
        "accessKeyId": access_key_id,
    });
    let (Some(claims), Some(object)) = (claims, identity.as_object_mut()) else { return identity };
    object.insert("type".to_owned(), json!("AssumedRole"));
    object.insert("sessionContext".to_owned(), session_context(principal, claims));
    let partition = principal.partition();
    let (account, region, instance) = (claims.account, &claims.region, claims.instance);
    object.insert(
        "inScopeOf".to_owned(),
        json!({
            "issuerType": "AWS::EC2::Instance",
            "credentialsIssuedTo": format!("arn:{partition}:ec2:{region}:{account}:instance/{instance}"),
        }),
    );
    identity
}

/// Source of the values: CloudTrail records of real identity sessions.
fn session_context(principal: &Principal, claims: &Claims) -> Value {
    let (account, partition) = (principal.account(), principal.partition());
    let (issuer_id, role) = match principal {
        Principal::ManagementRole { role, role_id, .. } => (role_id.to_string(), role.as_str()),
        _ => (format!("{account}:{IDENTITY_ROLE_NAME}"), IDENTITY_ROLE_NAME),
    };
    json!({
        "sessionIssuer": {
            "type": "Role",
            "principalId": issuer_id,
            "arn": format!("arn:{partition}:iam::{account}:role/{role}"),
            "accountId": account.to_string(),
            "userName": role,
        },
        "attributes": { "creationDate": claims.issued_at.rfc3339(), "mfaAuthenticated": "false" },
        "ec2RoleDelivery": match claims.delivery { Delivery::V1 => "1.0", Delivery::V2 => "2.0" },
    })
}
