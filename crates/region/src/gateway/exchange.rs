//! One call, as far as it has come.

use std::sync::Arc;

use http::header::{ACCEPT, CONTENT_TYPE};
use http::request::Parts;
use inborn_credential::Caller;
use inborn_detect::away::Place;
use inborn_identity::{CallerKind, Region, UnixTime};
use inborn_wire::error::{Dialect, Problem, RequestShape, dialect_for};
use tracing::Span;

use super::request::{self, Named, Target, cut};
use super::{RequestOrigin, denied};
use crate::operation::Input;
use crate::{Operation, Protocol, RegionServer, Service};

/// What the gateway learns of a request as it goes, for answer, audit and metrics alike.
pub(super) struct Exchange<'a> {
    pub(super) parts: &'a Parts,
    pub(super) target: Target<'a>,
    pub(super) origin: &'a RequestOrigin,
    pub(super) received: UnixTime,
    pub(super) request_id: String,
    /// The signing name of the service that was meant, as far as it can be known.
    pub(super) service_name: &'a str,
    pub(super) service: Option<&'static Service>,
    /// The method and path by which the operation is named, if it is named so.
    pub(super) route: Option<&'static crate::Route>,
    /// The region of the deployment that the host name names.
    pub(super) host_region: Option<Region>,
    /// Whether it was waited for what other servers have made by the time it came.
    pub(super) has_waited: bool,
    /// Whether another server has passed it on.
    pub(super) is_forwarded: bool,
    /// The region that was signed for, as it was said.
    pub(super) scope_region: Option<&'a str>,
    pub(super) operation: Option<&'static Operation>,
    pub(super) caller: Option<Caller>,
    /// Whether that caller calls more often than it may.
    pub(super) is_throttled: bool,
    /// Where a machine's credentials were used, as far as the source tells.
    pub(super) place: Place,
    pub(super) claimed_access_key_id: Option<&'a str>,
    pub(super) input: Option<Arc<Input>>,
    pub(super) dialect: Dialect,
    /// Whether the body was left unread, so that the connection cannot go on.
    pub(super) is_body_unread: bool,
    /// What a trace tells of it.
    pub(super) span: Span,
}

impl Exchange<'_> {
    /// The name of the operation that is asked for, as far as it can be told: by what a query call says, or by the target.
    pub(super) fn operation_name(&self) -> Option<&str> {
        let by_query = match self.input.as_deref() {
            Some(Input::Query(parameters)) => parameters.action(),
            _ => self.route.map(|route| route.operation),
        };
        by_query.or_else(|| request::target_operation(&self.parts.headers))
    }

    pub(super) fn find_dialect(&self) -> Dialect {
        let headers = &self.parts.headers;
        let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        dialect_for(&RequestShape {
            service: self.service.map_or(self.service_name, |service| service.name),
            content_type: get(CONTENT_TYPE.as_str()),
            accept: get(ACCEPT.as_str()),
            target: get("x-amz-target"),
            is_socket: self.service.is_some_and(|service| service.socket(self.target.path).is_some()),
            has_action: self.target.query.contains("Action="),
        })
    }

    /// The operation that was asked for, if this kind of caller may do it.
    pub(super) fn permitted(
        &self,
        region: &RegionServer,
        service: &Service,
        caller: &Caller,
    ) -> Result<&'static Operation, Problem> {
        let Named { action, version } = match (service.protocol, self.input.as_deref()) {
            (Protocol::Json { sockets, .. }, Some(Input::Query(_))) => {
                let socket = sockets.iter().find(|socket| socket.path == self.target.path);
                Named { action: socket.map(|socket| socket.operation), version: None }
            }
            (Protocol::Json { target_prefix, named_by_path, .. }, _) => {
                let action = request::json_operation(self.parts, &self.target, target_prefix, named_by_path, caller);
                Named { action, version: None }
            }
            (Protocol::Query, Some(Input::Query(parameters))) => Named::of(parameters),
            (Protocol::Query, _) => Named { action: None, version: None },
            (Protocol::Rest { .. }, _) => Named { action: self.route.map(|route| route.operation), version: None },
        };
        let kind = caller.principal.kind();
        let is_version = service.version.is_none_or(|own| version == Some(own));
        let operation = action.filter(|_| is_version).and_then(|name| service.operation(name));
        match (operation, kind) {
            (Some(operation), kind) if region.lets(operation, kind) => Ok(operation),
            // To the identity role, what it may not do does not exist, and neither does it.
            (_, CallerKind::IdentityRole) => Err(Problem::InvalidToken),
            (Some(operation), _) => Err(denied(caller, service.signing_name, operation.name)),
            // What its policy does not name is denied, whether it is here or not.
            (None, CallerKind::ManagementRole) => Err(denied(caller, service.signing_name, action.unwrap_or("*"))),
            (None, _) => match action {
                None => Err(Problem::MissingAction),
                Some(action) => Err(Problem::InvalidAction {
                    action: cut(action, 128).to_owned(),
                    version: version.map(|version| cut(version, 32).to_owned()),
                }),
            },
        }
    }
}
