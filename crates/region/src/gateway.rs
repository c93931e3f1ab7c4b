//! The gateway: one request in, one answer out, for all services on all listeners.
//!
//! The order is AWS's: what needs no key is looked at first, then who signed, then whether they may, then the action,
//! then the audit, then the answer.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONNECTION, CONTENT_TYPE, DATE, HOST, USER_AGENT};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use inborn_credential::{AuthFault, Caller};
use inborn_identity::{CallerKind, InstanceId, Partition, UnixTime};
use inborn_listener::{BodyError, Peer, read_body};
use inborn_sigv4::{Endpoint, Header, PathMode, Presented};
use inborn_store::InstanceState;
use inborn_wire::Answer;
use inborn_wire::error::{self, Dialect, Problem, RequestShape, dialect_for};
use inborn_wire::query::Parameters;
use serde_json::Value;
use tokio::sync::{Semaphore, SemaphorePermit};

use crate::audit::{AuditCaller, Record};
use crate::metrics::CallLabels;
use crate::operation::{Call, Reply};
use crate::{Effect, Operation, RegionServer, SERVICES, Service};

/// How long a client may take to send a body.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(20);
/// The longest body of a request to a service that is not served: enough to tell who asked.
const FOREIGN_BODY_BYTES_MAX: usize = 64 * 1024;
const KIBIBYTE: usize = 1024;
/// Bodies up to this size are read at once.
const SMALL_BODY_BYTES_MAX: usize = 16 * KIBIBYTE;
/// Memory for the larger bodies of all requests that are under way: whoever sends them has not proved anything yet.
const LARGE_BODIES_BYTES_MAX: usize = 64 * KIBIBYTE * KIBIBYTE;
static LARGE_BODIES: Semaphore = Semaphore::const_new(LARGE_BODIES_BYTES_MAX / KIBIBYTE);
/// How far a client's clock may be off. Source: STS, which says so in its answers; the compatible choice elsewhere.
const SKEW_SECONDS: u64 = 15 * 60;
/// Longest `User-Agent` and `Host` that the audit keeps.
const AUDIT_TEXT_BYTES_MAX: usize = 1024;
/// Most parameters that the audit keeps of one call.
const AUDIT_PARAMETERS_MAX: usize = 100;
/// Parts of names of parameters whose values never reach the audit, as in `UserData` and `LaunchTemplateData.UserData`.
const AUDIT_SECRET_PARAMETERS: [&str; 1] = ["UserData"];

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct RequestOrigin {
    /// The other end of the connection.
    pub peer: Arc<Peer>,
}

/// What the gateway learns of a request as it goes, for answer, audit and metrics alike.
struct Exchange<'a> {
    parts: &'a Parts,
    origin: &'a RequestOrigin,
    received: UnixTime,
    request_id: String,
    /// The signing name of the service that was meant, as far as it can be known.
    service_name: &'a str,
    service: Option<&'static Service>,
    operation: Option<&'static Operation>,
    caller: Option<Caller>,
    claimed_access_key_id: Option<&'a str>,
    parameters: Option<Arc<Parameters>>,
    dialect: Dialect,
}

impl RegionServer {
    /// Answers one request.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>, origin: RequestOrigin) -> Response<Full<Bytes>> {
        let (parts, body) = request.into_parts();
        let headers: Vec<Header<'_>> = fields(&parts.headers);
        let target = Target::of(&parts);
        let signed = inborn_sigv4::Request {
            method: parts.method.as_str(),
            path: target.path.as_bytes(),
            query: target.query.as_bytes(),
            headers: &headers,
        };
        let presented = Presented::read(&signed);
        let named_by_host = service_of_host(&parts.headers, &self.identity().domain);
        let named_by_scope = presented.as_ref().ok().map(|presented| presented.scope().service);
        let service_name = named_by_scope.or(named_by_host).unwrap_or("sts");
        let service = SERVICES.iter().copied().find(|service| service.name == service_name);
        let mut exchange = Exchange {
            received: self.now(),
            request_id: new_uuid(),
            service_name,
            service,
            operation: None,
            caller: None,
            claimed_access_key_id: presented.as_ref().ok().map(Presented::access_key_id),
            parameters: None,
            dialect: Dialect::RestJson,
            parts: &parts,
            origin: &origin,
        };
        exchange.dialect = exchange.dialect(target.query.contains("Action="));
        let body_bytes_max = service.map_or(FOREIGN_BODY_BYTES_MAX, |service| service.body_bytes_max);
        let room = room_for(&body, body_bytes_max).await;
        let body = match room {
            Ok(_) => read_body(body, body_bytes_max, BODY_TIMEOUT).await,
            Err(error) => Err(error),
        };
        let outcome = match body {
            Ok(body) => {
                // A host name of ours must agree with what was signed for: a signature for one service never works at another.
                let endpoint_service = named_by_host.filter(|_| service.is_some()).unwrap_or(service_name);
                self.call(&mut exchange, &signed, &target, &body, endpoint_service).await
            }
            Err(error) => Err(body_problem(error)),
        };
        self.answer(&exchange, outcome)
    }

    /// Everything between a request that has arrived and the answer to it.
    async fn call(
        self: &Arc<Self>,
        exchange: &mut Exchange<'_>,
        signed: &inborn_sigv4::Request<'_>,
        target: &Target<'_>,
        body: &Bytes,
        endpoint_service: &str,
    ) -> Result<Reply, Problem> {
        if let Some(service) = exchange.service {
            exchange.parameters = Some(Arc::new(query_parameters(service, exchange.parts, target, body)?));
        }
        let global = self.identity().partition.global_region();
        let own = self.identity().region.as_str();
        let is_global = exchange.service.is_some_and(|service| service.is_global);
        let regions: &[&str] = if is_global { &[own, global] } else { &[own] };
        let endpoint = Endpoint {
            service: endpoint_service,
            regions,
            path_mode: if endpoint_service == "s3" { PathMode::AsIs } else { PathMode::Normalized },
            skew_seconds: SKEW_SECONDS,
        };
        let body_sha256 = inborn_sigv4::sha256(body);
        let caller = self
            .authenticator
            .authenticate(signed, &body_sha256, &endpoint, exchange.received)
            .map_err(auth_problem)?;
        if let Some(claims) = caller.claims.as_deref() {
            self.check_alive(claims.instance)?;
        }
        exchange.caller = Some(caller.clone());
        let (Some(service), Some(parameters)) = (exchange.service, exchange.parameters.clone()) else {
            // A service that is not here knows nobody who is.
            return Err(Problem::InvalidToken);
        };
        let operation = permitted(service, &caller, &parameters)?;
        exchange.operation = Some(operation);
        if operation.effect == Effect::ReadOnly {
            let call = Call {
                region: self,
                caller: &caller,
                parameters: &parameters,
                dialect: exchange.dialect,
                request_id: &exchange.request_id,
                now: exchange.received,
            };
            return (operation.run)(call).await;
        }
        if !self.audit.accepts_mutations() {
            self.metrics.audit_refused.inc();
            return Err(Problem::Service {
                status: 503,
                code: "Unavailable",
                message:
                    "The region cannot record this in its audit file: the disk is full. Free some space in its data \
                          directory and try again."
                        .to_owned(),
            });
        }
        self.mutate(exchange, operation, caller, parameters).await
    }

    /// Cut-offs are forgotten by the clock, which may have been wrong. A machine that is gone is unknown and one that is
    /// off has no credentials, whatever the clock says or said.
    fn check_alive(&self, instance: InstanceId) -> Result<(), Problem> {
        match self.machines.get(instance).map(|machine| machine.state) {
            Some(InstanceState::Running) => Ok(()),
            Some(InstanceState::Stopped) => Err(Problem::ExpiredToken),
            Some(InstanceState::Terminated) | None => Err(Problem::UnknownKey),
        }
    }

    /// Runs a mutating action to its end even if the client goes away: what was begun in the store is finished in memory.
    async fn mutate(
        self: &Arc<Self>,
        exchange: &Exchange<'_>,
        operation: &'static Operation,
        caller: Caller,
        parameters: Arc<Parameters>,
    ) -> Result<Reply, Problem> {
        let (region, dialect) = (Arc::clone(self), exchange.dialect);
        let (request_id, now) = (exchange.request_id.clone(), exchange.received);
        let running = tokio::spawn(async move {
            let (caller, parameters) = (&caller, &*parameters);
            let call = Call { region: &region, caller, parameters, dialect, request_id: &request_id, now };
            (operation.run)(call).await
        });
        running.await.unwrap_or_else(|error| {
            tracing::error!(operation = operation.name, %error, "an action failed");
            Err(Problem::Internal)
        })
    }

    /// Records the call and makes the response.
    fn answer(&self, exchange: &Exchange<'_>, outcome: Result<Reply, Problem>) -> Response<Full<Bytes>> {
        let (answer, elements, refusal) = match outcome {
            Ok(Reply { answer, response_elements }) => (answer, response_elements, None),
            Err(problem) => {
                let refusal = error::refusal(&problem, exchange.dialect);
                let answer = error::answer(&problem, exchange.dialect, &exchange.request_id);
                (answer, Value::Null, Some(refusal))
            }
        };
        let error = refusal.as_ref().map(|refusal| (refusal.code, refusal.message.as_str()));
        // Requests that show no readable credential are nobody's calls; counting them is enough, and keeps a stranger
        // from filling the disk.
        if exchange.claimed_access_key_id.is_some() {
            self.record(exchange, error, elements);
        }
        let labels = CallLabels {
            service: exchange.service.map_or("other", |service| service.name),
            action: exchange.operation.map_or("other", |operation| operation.name),
            result: if refusal.is_some() { "refused" } else { "done" },
            reason: refusal.as_ref().map_or("", |refusal| refusal.code),
        };
        self.metrics.calls.get_or_create(&labels).inc();
        tracing::debug!(
            request_id = %exchange.request_id, service = exchange.service_name, action = labels.action,
            status = answer.status, reason = labels.reason, "call"
        );
        response(answer, self.now())
    }

    fn record(&self, exchange: &Exchange<'_>, error: Option<(&str, &str)>, response_elements: Value) {
        let event_id = new_uuid();
        let event_source = format!("{}.amazonaws.com", cut(exchange.service_name, 128));
        let event_name = match (exchange.operation, exchange.parameters.as_deref().and_then(Parameters::action)) {
            (Some(operation), _) => operation.name,
            (None, Some(action)) => cut(action, 128),
            (None, None) => target_operation(&exchange.parts.headers).unwrap_or("Unknown"),
        };
        let address = exchange.origin.peer.address.ip().to_string();
        let account = self.identity().account.to_string();
        let host = header(&exchange.parts.headers, HOST.as_str());
        let record = Record {
            time: exchange.received,
            caller: exchange.caller.as_ref().map(|caller| AuditCaller {
                principal: &caller.principal,
                access_key_id: caller.access_key_id.as_str(),
                claims: caller.claims.as_deref(),
            }),
            claimed_access_key_id: exchange.claimed_access_key_id.map(|id| cut(id, 128)),
            event_source: &event_source,
            event_name,
            region: self.identity().region.as_str(),
            account: &account,
            source: &address,
            user_agent: cut(header(&exchange.parts.headers, USER_AGENT.as_str()), AUDIT_TEXT_BYTES_MAX),
            error,
            // Of an operation that is not here nobody knows which parameters are secret, and what a stranger sends is not
            // worth the disk.
            request_parameters: match (exchange.operation, exchange.parameters.as_deref()) {
                (Some(_), Some(parameters)) => audit_parameters(parameters),
                _ => Value::Null,
            },
            response_elements,
            request_id: &exchange.request_id,
            event_id: &event_id,
            read_only: exchange.operation.is_none_or(|operation| operation.effect == Effect::ReadOnly),
            tls: exchange.origin.peer.tls.as_ref().map(|facts| (facts, cut(host, AUDIT_TEXT_BYTES_MAX))),
        };
        if let Err(error) = self.audit.append(&record) {
            self.metrics.audit_lost.inc();
            tracing::error!(%error, request_id = %exchange.request_id, "a call could not be recorded");
        }
    }
}

impl Exchange<'_> {
    fn dialect(&self, has_action: bool) -> Dialect {
        let headers = &self.parts.headers;
        let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        dialect_for(&RequestShape {
            service: self.service_name,
            content_type: get(CONTENT_TYPE.as_str()),
            accept: get(ACCEPT.as_str()),
            target: get("x-amz-target"),
            has_action,
        })
    }
}

/// The request target as on the wire.
struct Target<'a> {
    path: &'a str,
    query: &'a str,
}

impl<'a> Target<'a> {
    fn of(parts: &'a Parts) -> Self {
        Self { path: parts.uri.path(), query: parts.uri.query().unwrap_or_default() }
    }
}

/// The header fields as the client sent them, names in lower case.
fn fields(headers: &HeaderMap) -> Vec<Header<'_>> {
    headers.iter().map(|(name, value)| Header { name: name.as_str().as_bytes(), value: value.as_bytes() }).collect()
}

/// The service that `Host` names, if it is one of our names: `SERVICE.REGION.DOMAIN` or `SERVICE.DOMAIN`. Also with the
/// partitions' own domains, since forwarded calls keep the name they were signed for.
fn service_of_host<'a>(headers: &'a HeaderMap, domain: &str) -> Option<&'a str> {
    let host = headers.get(HOST)?.to_str().ok()?;
    let name = host.rsplit_once(':').map_or(host, |(name, _port)| name);
    let name = name.strip_suffix('.').unwrap_or(name);
    let below = |suffix: &str| name.strip_suffix(suffix)?.strip_suffix('.');
    let public = Partition::ALL.into_iter().filter_map(|partition| below(partition.dns_suffix()));
    let rest = below(domain).into_iter().chain(public).min_by_key(|rest| rest.len())?;
    rest.split('.').find(|label| SERVICES.iter().any(|service| service.name == *label)).or(rest.split('.').next())
}

/// Steps 1 to 4: what is wrong with a query call before anybody asks who sent it.
fn query_parameters(service: &Service, parts: &Parts, target: &Target<'_>, body: &[u8]) -> Result<Parameters, Problem> {
    if !target.path.starts_with('/') {
        return Err(Problem::Target);
    }
    let is_form = header(&parts.headers, CONTENT_TYPE.as_str())
        .split(';')
        .next()
        .is_some_and(|kind| kind.trim().eq_ignore_ascii_case("application/x-www-form-urlencoded"));
    let form = match parts.method {
        http::Method::GET if body.is_empty() => body,
        http::Method::POST if is_form || body.is_empty() => body,
        http::Method::POST => return Err(Problem::ContentType),
        _ => return Err(Problem::Method),
    };
    let parameters = Parameters::parse(target.query.as_bytes(), form).map_err(Problem::Query)?;
    let is_bare_visit = parts.method == http::Method::GET && parameters.action().is_none();
    if is_bare_visit && service.is_global { Err(Problem::Method) } else { Ok(parameters) }
}

/// The operation that was asked for, if this kind of caller may do it.
fn permitted(service: &Service, caller: &Caller, parameters: &Parameters) -> Result<&'static Operation, Problem> {
    let kind = caller.principal.kind();
    let action = parameters.action();
    let is_version = service.version.is_none_or(|version| parameters.version() == Some(version));
    let operation = action.filter(|_| is_version).and_then(|name| service.operation(name));
    match (operation, kind) {
        (Some(operation), kind) if operation.callers.contains(&kind) => Ok(operation),
        // To the identity role, what it may not do does not exist, and neither does it.
        (_, CallerKind::IdentityRole) => Err(Problem::InvalidToken),
        (Some(operation), _) => Err(Problem::AccessDenied {
            principal: caller.principal.arn(),
            action: format!("{}:{}", service.name, operation.name),
            resource: None,
        }),
        (None, _) => match action {
            None => Err(Problem::MissingAction),
            Some(action) => Err(Problem::InvalidAction {
                action: cut(action, 128).to_owned(),
                version: parameters.version().map(|version| cut(version, 32).to_owned()),
            }),
        },
    }
}

fn auth_problem(fault: AuthFault) -> Problem {
    match fault {
        AuthFault::Sig(fault) => Problem::Signature(fault),
        AuthFault::TokenInvalid => Problem::InvalidToken,
        AuthFault::TokenExpired => Problem::ExpiredToken,
        AuthFault::UnknownKey => Problem::UnknownKey,
    }
}

/// Waits until there is memory for a body; it is free again when the permit is dropped, after the answer.
async fn room_for(body: &Incoming, bytes_max: usize) -> Result<Option<SemaphorePermit<'static>>, BodyError> {
    let declared = body.size_hint().upper().and_then(|bytes| usize::try_from(bytes).ok());
    let bytes = declared.unwrap_or(bytes_max).min(bytes_max);
    if bytes <= SMALL_BODY_BYTES_MAX {
        return Ok(None);
    }
    let kibibytes = u32::try_from(bytes.div_ceil(KIBIBYTE)).unwrap_or(u32::MAX);
    match tokio::time::timeout(BODY_TIMEOUT, LARGE_BODIES.acquire_many(kibibytes)).await {
        Ok(Ok(permit)) => Ok(Some(permit)),
        _ => Err(BodyError::TooSlow),
    }
}

fn body_problem(error: BodyError) -> Problem {
    let (status, code, message) = match error {
        BodyError::TooLarge => (413, "RequestEntityTooLarge", "Request body is larger than this service takes."),
        BodyError::TooSlow => (408, "RequestTimeout", "The request body did not arrive in time."),
        BodyError::Broken => (400, "IncompleteBody", "The request body could not be read to its end."),
    };
    Problem::Service { status, code, message: message.to_owned() }
}

/// The parameters of a call, for its record: without secrets, and not more than a line holds.
fn audit_parameters(parameters: &Parameters) -> Value {
    let kept = parameters
        .pairs()
        .filter(|(name, _)| !matches!(*name, "Action" | "Version") && !name.starts_with("X-Amz-"))
        .take(AUDIT_PARAMETERS_MAX)
        .map(|(name, value)| {
            let is_secret = name.split('.').any(|part| AUDIT_SECRET_PARAMETERS.contains(&part));
            let shown = if is_secret { "<sensitiveDataRemoved>" } else { cut(value, AUDIT_TEXT_BYTES_MAX) };
            (name.to_owned(), Value::from(shown))
        });
    let object: serde_json::Map<String, Value> = kept.collect();
    if object.is_empty() { Value::Null } else { Value::Object(object) }
}

/// The operation that `X-Amz-Target` names, for the record of a call to a service that is not here.
fn target_operation(headers: &HeaderMap) -> Option<&str> {
    let target = headers.get("x-amz-target")?.to_str().ok()?;
    Some(cut(target.rsplit('.').next()?, 128))
}

fn header<'a>(headers: &'a HeaderMap, name: &str) -> &'a str {
    headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
}

/// At most `bytes_max` bytes of `text`, whole characters only.
fn cut(text: &str, bytes_max: usize) -> &str {
    let mut end = text.len().min(bytes_max);
    while !text.is_char_boundary(end) {
        end -= 1;
    }
    text.get(..end).unwrap_or_default()
}

fn response(answer: Answer, now: UnixTime) -> Response<Full<Bytes>> {
    let Answer { status, content_type, headers, body } = answer;
    let mut response = Response::new(Full::new(Bytes::from(body)));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let map = response.headers_mut();
    let mut put = |name: HeaderName, value: &str| {
        if let Ok(value) = HeaderValue::from_str(value) {
            map.insert(name, value);
        }
    };
    for (name, value) in headers {
        if let Ok(name) = HeaderName::from_bytes(name.as_bytes()) {
            put(name, &value);
        }
    }
    if !content_type.is_empty() {
        put(CONTENT_TYPE, content_type);
    }
    // Accurate, on errors too: SDKs correct their clocks from it.
    put(DATE, &now.http_date());
    if matches!(status, 408 | 413) {
        // What is left of the body is not worth reading.
        put(CONNECTION, "close");
    }
    response
}

/// A random UUID (version 4), as AWS's request ids are.
fn new_uuid() -> String {
    let mut bytes = [0u8; 16];
    if aws_lc_rs::rand::fill(&mut bytes).is_err() {
        tracing::error!("this machine has no source of random bytes");
    }
    let value = u128::from_be_bytes(bytes) & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
    let text = format!("{value:032x}");
    let part = |range: core::ops::Range<usize>| text.get(range).unwrap_or_default();
    format!("{}-{}-{}-{}-{}", part(0..8), part(8..12), part(12..16), part(16..20), part(20..32))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn request_ids_are_version_4_uuids() {
        let id = new_uuid();
        assert_eq!(id.len(), 36);
        assert_eq!(id.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&id.as_bytes()[19]), "{id}");
        assert_ne!(id, new_uuid());
    }

    #[test]
    fn hosts_name_services() {
        let name = |host: &str| {
            let headers = HeaderMap::from_iter([(HOST, HeaderValue::from_str(host).unwrap())]);
            service_of_host(&headers, "lab.internal").map(str::to_owned)
        };
        for (host, service) in [
            ("sts.us-east-1.lab.internal", Some("sts")),
            ("sts.lab.internal:4580", Some("sts")),
            ("sts.us-east-1.amazonaws.com", Some("sts")),
            ("sts.cn-north-1.amazonaws.com.cn.", Some("sts")),
            ("ec2.us-east-1.amazonaws.com", Some("ec2")),
            ("b.s3.us-east-1.amazonaws.com", Some("b")),
            ("127.0.0.1:4580", None),
            ("localhost", None),
            ("amazonaws.com", None),
            ("evilamazonaws.com", None),
        ] {
            assert_eq!(name(host).as_deref(), service, "{host}");
        }
    }

    #[test]
    fn texts_are_cut_between_characters() {
        assert_eq!(cut("héllo", 2), "h");
        assert_eq!(cut("héllo", 3), "hé");
        assert_eq!(cut("hé", 10), "hé");
    }
}
