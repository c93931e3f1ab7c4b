//! The gateway: one request in, one answer out, for all services on all listeners.
//!
//! The order is AWS's: what needs no key is looked at first, then who signed, then whether they may, then the action,
//! then the audit, then the answer. What can be refused by its head is refused before its body is read.

mod body;
mod bounds;
mod exchange;
mod passing;
mod record;
mod request;
mod response;
mod standing;
mod trace;
mod websocket;

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::Full;
use hyper::body::{Body, Incoming};
use inborn_credential::{AuthFault, Caller, SecondSignature};
use inborn_detect::away::Place;
use inborn_identity::{CallerKind, InstanceId, Region, UnixTime};
use inborn_listener::Peer;
use inborn_sigv4::{Endpoint, Expires, Fault, FaultClass, Header, Limit, PathMode, Presented};
use inborn_wire::error::{self, Dialect, Problem};
use inborn_wire::json;
use serde_json::Value;
use tracing::Instrument as _;

use crate::deployment::{Asked, Route, Sibling};
use crate::doubt::Doubt;
use crate::metrics::{CallLabels, StaleLabels};
use crate::operation::{Call, Handler, Input, Reply};
use crate::sessions::Joiner;
use crate::throttle::Limited;
use crate::{Effect, Operation, Protocol, RegionServer, Service, services};
use body::body_problem;
use exchange::Exchange;
use passing::{Arrival, Done};
use request::{Meant, Target, cut};
use response::response;

pub use body::BODY_TIMEOUT;
pub(crate) use bounds::Bounds;
pub(crate) use record::PendingHostKeys;
pub(crate) use response::new_uuid;
pub(crate) use websocket::{Handshake, Socket};

/// How far a client's clock may be off. Source: STS, which says so in its answers; the compatible choice elsewhere.
const SKEW_SECONDS: u64 = 15 * 60;

/// Where a request comes from.
#[derive(Clone, Debug)]
pub struct RequestOrigin {
    /// The other end of the connection.
    pub peer: Arc<Peer>,
    /// The machine that the listener is for, if it is for one alone: in a network of its own, every machine has the same
    /// addresses.
    pub machine: Option<InstanceId>,
}

/// A request, and what it says of its signature: read once, before the body is there.
#[derive(Clone, Copy)]
struct Signed<'a> {
    request: &'a inborn_sigv4::Request<'a>,
    presented: Result<&'a Presented<'a>, &'a Fault>,
}

impl Signed<'_> {
    /// Steps 5 to 13.
    fn accept(&self, endpoint: &Endpoint<'_>, now: UnixTime) -> Result<(), Fault> {
        match self.presented {
            Ok(presented) => presented.check(endpoint, now),
            // Read again for AWS's exact order: a request that is too old *and* malformed later on is too old.
            Err(_) => Presented::accept(self.request, endpoint, now).map(drop),
        }
    }
}

/// What an action needs to know of its exchange, which it may outlive.
struct Context {
    dialect: Dialect,
    request_id: String,
    now: UnixTime,
    source: IpAddr,
    second_signature: Option<SecondSignature>,
    handshake: Option<Handshake>,
    /// Where the client finds this endpoint, for WebSockets: as in `wss://ssm.us-east-1.amazonaws.com`.
    socket_origin: String,
}

impl Context {
    fn call<'a, I>(&'a self, region: &'a Arc<RegionServer>, caller: &'a Caller, parameters: &'a I) -> Call<'a, I> {
        let (dialect, request_id, now) = (self.dialect, self.request_id.as_str(), self.now);
        let (source, second_signature) = (self.source, self.second_signature.as_ref());
        let (handshake, socket_origin) = (self.handshake.as_ref(), self.socket_origin.as_str());
        Call {
            region,
            caller,
            parameters,
            dialect,
            request_id,
            now,
            source,
            second_signature,
            handshake,
            socket_origin,
        }
    }
}

impl RegionServer {
    /// Answers one request, in the name of the region that it is for.
    pub async fn handle(self: Arc<Self>, request: Request<Incoming>, origin: RequestOrigin) -> Response<Full<Bytes>> {
        let (mut parts, body) = request.into_parts();
        let (origin, passed_on_by) = match self.arrival(&mut parts, origin) {
            Arrival::From(origin, passed_on_by) => (origin, passed_on_by),
            Arrival::Own(answer) => return answer,
        };
        let headers: Vec<Header<'_>> = request::fields(&parts.headers);
        let target = Target::of(&parts);
        let signed = inborn_sigv4::Request {
            method: parts.method.as_str(),
            path: target.path.as_bytes(),
            query: target.query.as_bytes(),
            headers: &headers,
        };
        let presented = Presented::read(&signed);
        let host = request::name_of_host(&parts.headers, &self.identity().domain);
        let named_by_host = host.and_then(request::service_of_name);
        let named_by_scope = presented.as_ref().ok().map(|presented| presented.scope().service);
        let signing_name = |service: &'static Service| self.signing_name(service);
        let Meant { service, service_name, endpoint_service } =
            Meant::of(&parts, &target, named_by_scope, named_by_host, &signing_name);
        let route = service.and_then(|service| service.route(parts.method.as_str(), target.path));
        let asked = Asked {
            service: service.map(|service| service.name),
            host,
            scope_region: presented.as_ref().ok().map(|presented| presented.scope().region),
            session: presented.as_ref().ok().and_then(|it| Some((it.access_key_id(), it.token()?))),
            data_channel: route.filter(|route| route.is_open).and_then(|_| target.path.rsplit('/').next()),
        };
        // Before it is looked for who has issued a token.
        let is_admitted = self.bounds.sources.admits((&origin).into(), self.now());
        let signed = Signed { request: &signed, presented: presented.as_ref() };
        let is_fit = |route: &Route| {
            let siblings = self.siblings();
            let regions = self.scopes(service, route.host_region.as_ref(), &siblings);
            let is_socket = service.is_some_and(|service| service.socket(target.path).is_some());
            let endpoint = endpoint_of(service, endpoint_service, &regions, is_socket);
            signed.accept(&endpoint, self.now()).is_ok()
        };
        let found = if is_admitted { self.route_when_heard(&asked, is_fit).await } else { None };
        let is_told = found.is_some();
        let Route { region, host_region, has_waited, .. } = found.unwrap_or_else(|| Route::to(&self));
        // Whoever has the key of one region says nothing in the name of another.
        if passed_on_by.as_ref().is_some_and(|by| is_told && !Arc::ptr_eq(by, &region)) {
            return self.not_believed(&origin);
        }
        let is_forwarded = passed_on_by.is_some();
        let origin = region.seen_from(&self, origin);
        let request_id = new_uuid().to_string();
        let mut exchange = Exchange {
            received: region.now(),
            span: trace::begin(&request_id),
            request_id,
            service_name,
            service,
            route,
            host_region,
            has_waited,
            is_forwarded,
            scope_region: asked.scope_region,
            operation: None,
            caller: None,
            is_throttled: false,
            place: Place::Untold,
            claimed_access_key_id: presented.as_ref().ok().map(Presented::access_key_id),
            input: None,
            dialect: Dialect::RestJson,
            is_body_unread: !body.is_end_stream(),
            parts: &parts,
            target,
            origin: &origin,
        };
        exchange.dialect = exchange.find_dialect();
        let span = exchange.span.clone();
        let outcome = match (is_admitted, is_told) {
            (true, true) => region.call(&mut exchange, signed, body, endpoint_service).instrument(span).await,
            // It may be good: who cannot tell says no such thing.
            (true, false) => Err(Problem::Unavailable),
            (false, _) => Err(Problem::Throttled),
        };
        match outcome {
            Ok(Done::Elsewhere(response)) => {
                region.passed_on(&exchange, &response);
                response
            }
            Ok(Done::Here(reply)) => region.answer(&exchange, Ok(reply)).await,
            Err(problem) => region.answer(&exchange, Err(problem)).await,
        }
    }

    /// Where a request comes from that arrived at `arrival`, as this region has to see it: a machine of another region is none
    /// of this one's, though it be called the same.
    fn seen_from(&self, arrival: &Self, origin: RequestOrigin) -> RequestOrigin {
        let is_confused =
            |id: &InstanceId| arrival.identity().region != self.identity().region && self.machines().contains(*id);
        RequestOrigin { machine: origin.machine.filter(|id| !is_confused(id)), ..origin }
    }

    /// The regions that a signature may be for. Of a service that is the deployment's: the host's, or any where the host names
    /// none, and the one that clients take for the global endpoint. Whether the caller is good here is another question.
    fn scopes<'a>(
        &'a self,
        service: Option<&Service>,
        host_region: Option<&'a Region>,
        siblings: &'a [Sibling],
    ) -> Vec<&'a str> {
        let own = self.identity().region.as_str();
        if service.is_none_or(|service| !service.is_global) {
            return vec![own];
        }
        let global = self.identity().partition.global_region();
        match host_region {
            Some(region) => vec![region.as_str(), global],
            None if siblings.len() > 1 => siblings.iter().map(Sibling::name).chain([global]).collect(),
            None => vec![own, global],
        }
    }

    /// Everything between the head of a request and the answer to it.
    async fn call(
        self: &Arc<Self>,
        exchange: &mut Exchange<'_>,
        signed: Signed<'_>,
        body: Incoming,
        endpoint_service: &str,
    ) -> Result<Done, Problem> {
        let (siblings, host_region) = (self.siblings(), exchange.host_region.clone());
        let regions = self.scopes(exchange.service, host_region.as_ref(), &siblings);
        let socket = exchange.service.and_then(|service| service.socket(exchange.target.path));
        let endpoint = endpoint_of(exchange.service, endpoint_service, &regions, socket.is_some());
        let Some(service) = exchange.service else {
            return Err(self.stranger(exchange, signed, body, &endpoint).await);
        };
        if let Err(fault @ (Fault::Path | Fault::TooLarge(Limit::Path))) = signed.presented {
            return Err(Problem::Signature(fault.clone()));
        }
        request::check_head(service, exchange.parts, &exchange.target)?;
        if exchange.route.is_some_and(|route| route.is_open)
            && signed.presented.err() == Some(&Fault::MissingAuthentication)
        {
            return match self.pass_unsigned(exchange).await? {
                Some(response) => Ok(Done::Elsewhere(response)),
                None => self.open_without_signature(exchange).map(Done::Here),
            };
        }
        // Steps 5 to 13 need no body. One that waits for `100 Continue` is never asked for if they fail.
        signed.accept(&endpoint, exchange.received).map_err(Problem::Signature)?;
        let (body, _room) = self.read(exchange, body).await.map_err(body_problem)?;
        if service.protocol == Protocol::Query || socket.is_some() {
            let parameters = request::parameters(exchange.parts, &exchange.target, &body)?;
            exchange.input = Some(Arc::new(Input::Query(parameters)));
        }
        // Asked before: what is heard while somebody is judged says nothing of what they were judged by.
        let was_stale = WasStale { own: self.is_stale(), home: self.home().is_stale() };
        let caller = self.verify(exchange, signed, &body, &endpoint).await?;
        let operation = exchange.permitted(self, service, &caller)?;
        exchange.operation = Some(operation);
        self.check_sent_on(exchange, &caller, operation)?;
        self.check_heard(service, operation, &caller, was_stale)?;
        let as_it_came = body.clone();
        let input = match exchange.input.as_ref() {
            Some(input) => Arc::clone(input),
            None => {
                let input = match (operation.run, exchange.route) {
                    (Handler::Upload { .. }, Some(route)) => {
                        request::upload(route, exchange.parts, &exchange.target, body)?
                    }
                    (_, Some(route)) => Input::Json(request::members(route, &exchange.target, &body)?),
                    (_, None) => Input::Json(json::decode(&body)?),
                };
                Arc::clone(exchange.input.insert(Arc::new(input)))
            }
        };
        if let Some(response) = self.pass_if_elsewhere(exchange, operation, &caller, &input, as_it_came).await? {
            return Ok(Done::Elsewhere(response));
        }
        self.perform(exchange, operation, caller, input).await.map(Done::Here)
    }

    /// A WebSocket for whoever says the right token over it. Who asks is known by that, and by nothing before.
    fn open_without_signature(self: &Arc<Self>, exchange: &Exchange<'_>) -> Result<Reply, Problem> {
        let (path, handshake) = (exchange.target.path, Handshake::of(exchange.parts));
        let origin = exchange.origin;
        let joiner = Joiner { address: origin.peer.address.ip(), source: origin.into(), caller: None };
        let opened = services::open_without_signature(self, path, handshake, joiner, &exchange.request_id);
        opened.map(Reply::from).ok_or(Problem::Signature(Fault::MissingAuthentication))
    }

    /// What a request to a service that is not here is answered: it knows nobody. Who asked is found out for the record.
    async fn stranger(
        &self,
        exchange: &mut Exchange<'_>,
        signed: Signed<'_>,
        body: Incoming,
        endpoint: &Endpoint<'_>,
    ) -> Problem {
        if let Err(fault) = signed.accept(endpoint, exchange.received)
            && matches!(fault.class(), FaultClass::Target | FaultClass::Missing | FaultClass::Incomplete)
        {
            return Problem::Signature(fault);
        }
        if let Ok((body, _room)) = self.read(exchange, body).await {
            if let Err(Problem::Throttled) = self.verify(exchange, signed, &body, endpoint).await {
                return Problem::Throttled;
            }
            if exchange.caller.is_some() {
                // For the name of the operation in the record.
                let parameters = request::parameters(exchange.parts, &exchange.target, &body).ok();
                exchange.input = parameters.map(|parameters| Arc::new(Input::Query(parameters)));
            }
            // The management role is an account's role like any other. It has no policy for this.
            if let Some(caller) = exchange.caller.as_ref()
                && caller.principal.kind() == CallerKind::ManagementRole
            {
                return denied(caller, exchange.service_name, exchange.operation_name().unwrap_or("*"));
            }
        }
        Problem::InvalidToken
    }

    /// Who sent the request: from here on the exchange has a caller, even one who calls too often.
    async fn verify(
        &self,
        exchange: &mut Exchange<'_>,
        signed: Signed<'_>,
        body: &Bytes,
        endpoint: &Endpoint<'_>,
    ) -> Result<Caller, Problem> {
        let body_sha256 = inborn_sigv4::sha256(body);
        let presented = signed.presented.map_err(|fault| Problem::Signature(fault.clone()))?;
        let authenticate = || {
            let now = exchange.received;
            self.authenticator.authenticate_presented(presented, signed.request, &body_sha256, endpoint, now)
        };
        let token = presented.token();
        self.check_epochs_are_known(exchange.service, token)?;
        let caller = match (authenticate(), self.fleet()) {
            // Another server may have made the epoch a moment ago.
            (Err(AuthFault::TokenInvalid), Some(fleet))
                if !exchange.has_waited && token.is_some_and(|token| self.authenticator.keyring().is_ahead(token)) =>
            {
                let _place = self.bounds.place_to_wait().ok_or(Problem::Unavailable)?;
                let caught_up = fleet.catch_up().await;
                match authenticate() {
                    Err(AuthFault::TokenInvalid) if !caught_up => return Err(Problem::Unavailable),
                    caller => caller,
                }
            }
            (caller, _) => caller,
        };
        let caller = caller.map_err(auth_problem)?;
        if let Some(claims) = caller.claims.as_deref() {
            self.check_stands(claims).await?;
        }
        exchange.caller = Some(caller.clone());
        exchange.is_throttled = !self.bounds.principals.admits(Limited::from(&caller), exchange.received);
        if exchange.is_throttled {
            return Err(Problem::Throttled);
        }
        if let Some(claims) = caller.claims.as_deref() {
            // Which operation it is comes later: what may not be sent on is looked at again.
            exchange.place = self.place_of_use(claims, exchange.origin, true);
            // As one who has no credentials at all: a thief learns nothing of why.
            if self.refuses_away(exchange.place) {
                return Err(Problem::InvalidToken);
            }
        }
        Ok(caller)
    }

    /// Who may send calls on for machines may send on who they are, and nothing else they could do.
    fn check_sent_on(
        &self,
        exchange: &mut Exchange<'_>,
        caller: &Caller,
        operation: &Operation,
    ) -> Result<(), Problem> {
        let may_be_sent_on = exchange.service_name == "sts" && operation.name == "GetCallerIdentity";
        if let Some(claims) = caller.claims.as_deref()
            && exchange.place == Place::Replayer
            && !may_be_sent_on
        {
            exchange.place = self.place_of_use(claims, exchange.origin, false);
            if self.refuses_away(exchange.place) {
                return Err(Problem::InvalidToken);
            }
        }
        Ok(())
    }

    /// Who has not heard for long knows neither which epochs seal now nor which have ended: it lets no session in, whatever the
    /// policies say.
    fn check_epochs_are_known(&self, service: Option<&'static Service>, token: Option<&[u8]>) -> Result<(), Problem> {
        if token.is_none() || !self.has_lapsed() {
            return Ok(());
        }
        let service = service.map_or("other", |service| service.name);
        self.metrics.stale.get_or_create(&StaleLabels { service, outcome: "refused" }).inc();
        Err(Problem::Unavailable)
    }

    /// The region whose store was not heard for too long, now or before the caller was judged, if it has to do with such a caller: this
    /// one, or the home, which knows of keys that were switched off and of roles that are gone.
    fn unheard(&self, kind: CallerKind, was_stale: WasStale) -> Option<&Self> {
        let asks_home = matches!(kind, CallerKind::Operator | CallerKind::ManagementRole);
        let asked = [Some((self, was_stale.own)), asks_home.then(|| (self.home(), was_stale.home))];
        asked.into_iter().flatten().find(|(region, was)| *was || region.is_stale()).map(|(region, _)| region)
    }

    /// Whether an operation is done although this server may not know what others have changed.
    fn check_heard(
        &self,
        service: &'static Service,
        operation: &Operation,
        caller: &Caller,
        was_stale: WasStale,
    ) -> Result<(), Problem> {
        let Some(unheard) = self.unheard(caller.principal.kind(), was_stale) else { return Ok(()) };
        // A store that was put back is looked at, and nothing else.
        let is_refused = match unheard.fleet().filter(|_| !unheard.high_water.went_back()) {
            Some(fleet) => fleet.refuses(service.name, operation.effect, caller.principal.kind()),
            None => operation.effect != Effect::ReadOnly || caller.principal.kind() != CallerKind::Operator,
        };
        let outcome = if is_refused { "refused" } else { "served" };
        self.metrics.stale.get_or_create(&StaleLabels { service: service.name, outcome }).inc();
        if is_refused { Err(Problem::Unavailable) } else { Ok(()) }
    }

    /// Does what a caller asked for that may have it.
    async fn perform(
        self: &Arc<Self>,
        exchange: &Exchange<'_>,
        operation: &'static Operation,
        caller: Caller,
        input: Arc<Input>,
    ) -> Result<Reply, Problem> {
        let context = Context {
            dialect: exchange.dialect,
            request_id: exchange.request_id.clone(),
            now: exchange.received,
            source: exchange.origin.peer.address.ip(),
            second_signature: request::second_signature(&exchange.parts.headers),
            handshake: Handshake::of(exchange.parts),
            socket_origin: request::socket_origin(&exchange.parts.headers, exchange.origin.peer.tls.is_some()),
        };
        if operation.effect == Effect::ReadOnly {
            return self.run(operation, &caller, &input, &context).await;
        }
        if operation.effect == Effect::Mutating && !self.audit.accepts_mutations() {
            self.metrics.audit_refused.inc();
            let message = "The region cannot record this in its audit file: the disk is full. Free some space in its data \
                           directory and try again.";
            return Err(Problem::Service { status: 503, code: "Unavailable", message: message.to_owned() });
        }
        // Runs to its end even if the client goes away: what was begun in the store is finished in memory.
        let region = Arc::clone(self);
        let span = exchange.span.clone();
        let running = async move {
            let outcome = region.run(operation, &caller, &input, &context).await;
            // Of a change that failed for no reason that is told, nobody knows whether it was made.
            let is_unexplained = matches!(outcome, Err(Problem::Internal | Problem::Service { status: 500, .. }));
            if operation.effect == Effect::Mutating && is_unexplained {
                region.doubt();
                region.home().doubt();
            }
            outcome
        };
        tokio::spawn(running.instrument(span)).await.unwrap_or_else(|error| {
            tracing::error!(operation = operation.name, %error, "an action failed");
            // It may have ended anywhere.
            self.doubt_of(Doubt::All);
            self.home().doubt_of(Doubt::All);
            Err(Problem::Internal)
        })
    }

    /// Hands a call to its action.
    async fn run(
        self: &Arc<Self>,
        operation: &Operation,
        caller: &Caller,
        input: &Input,
        context: &Context,
    ) -> Result<Reply, Problem> {
        match (operation.run, input) {
            (Handler::Query(run), Input::Query(parameters)) => run(context.call(self, caller, parameters)).await,
            (Handler::Json(run), Input::Json(members)) => run(context.call(self, caller, members)).await,
            (Handler::Upload { run, .. }, Input::Upload(upload)) => run(context.call(self, caller, upload)).await,
            _ => {
                tracing::error!(operation = operation.name, "the table has an action of another protocol");
                Err(Problem::Internal)
            }
        }
    }

    /// Records the call and makes the response.
    async fn answer(&self, exchange: &Exchange<'_>, outcome: Result<Reply, Problem>) -> Response<Full<Bytes>> {
        let (mut answer, elements, refusal) = match outcome {
            Ok(Reply { answer, response_elements }) => (answer, response_elements, None),
            Err(problem) => {
                let refusal = error::refusal(&problem, exchange.dialect);
                let answer = match (exchange.operation.map(|operation| operation.run), exchange.input.as_deref()) {
                    (Some(Handler::Upload { refuse, .. }), Some(Input::Upload(upload))) => {
                        refuse(upload, &refusal, &exchange.request_id)
                    }
                    _ => error::answer(&problem, exchange.dialect, &exchange.request_id),
                };
                (answer, Value::Null, Some(refusal))
            }
        };
        services::advise(exchange.service, &mut answer);
        let error = refusal.as_ref().map(|refusal| (refusal.code, refusal.message.as_str()));
        self.record(exchange, error, elements).await;
        self.watch(exchange, refusal.as_ref().map(|refusal| refusal.code));
        let labels = CallLabels {
            service: exchange.service.map_or("other", |service| service.name),
            action: exchange.operation.map_or("other", |operation| operation.name),
            result: if refusal.is_some() { "refused" } else { "done" },
            reason: refusal.as_ref().map_or("", |refusal| refusal.code),
        };
        self.metrics.calls.get_or_create(&labels).inc();
        trace::end(&exchange.span, &labels, answer.status, exchange.caller.as_ref());
        tracing::debug!(
            request_id = %exchange.request_id, service = exchange.service_name, action = labels.action,
            status = answer.status, reason = labels.reason, "call"
        );
        response(answer, self.now(), exchange.is_body_unread)
    }
}

/// Which regions had not heard for too long before a caller was judged.
#[derive(Clone, Copy)]
struct WasStale {
    own: bool,
    home: bool,
}

/// What a signature has to be for.
fn endpoint_of<'a>(
    service: Option<&Service>,
    signing_name: &'a str,
    regions: &'a [&'a str],
    is_socket: bool,
) -> Endpoint<'a> {
    Endpoint {
        service: signing_name,
        regions,
        path_mode: if signing_name == "s3" { PathMode::AsIs } else { PathMode::Normalized },
        skew_seconds: SKEW_SECONDS,
        // Who asks at a service that is not here may do it in any form: the answer is the same.
        query_auth: is_socket || service.is_none_or(|service| service.query_auth),
        expires: if is_socket { Expires::Honoured } else { Expires::Ignored },
    }
}

/// What AWS answers a role whose policies do not name an operation.
fn denied(caller: &Caller, service: &str, operation: &str) -> Problem {
    let action = format!("{}:{}", cut(service, 64), cut(operation, 128));
    Problem::AccessDenied { principal: caller.principal.arn(), action, resource: None }
}

fn auth_problem(fault: AuthFault) -> Problem {
    match fault {
        AuthFault::Sig(fault) => Problem::Signature(fault),
        AuthFault::TokenInvalid => Problem::InvalidToken,
        AuthFault::TokenExpired => Problem::ExpiredToken,
        AuthFault::UnknownKey => Problem::UnknownKey,
    }
}
