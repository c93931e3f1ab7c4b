//! The operation table: what each service can do, and for which kinds of caller. There is nothing else that allows.

use core::future::Future;
use core::net::IpAddr;
use core::pin::Pin;
use core::sync::atomic::AtomicU64;
use std::sync::Arc;

use bytes::Bytes;
use inborn_credential::{Caller, SecondSignature};
use inborn_identity::{AccountId, CallerKind, InstanceId, UnixTime};
use inborn_store::{Instance, Node};
use inborn_wire::Answer;
use inborn_wire::error::{Dialect, Problem, Refusal};
use inborn_wire::json::Object;
use inborn_wire::query::Parameters;
use serde_json::Value;

use crate::RegionServer;
use crate::gateway::Handshake;

/// Whether an operation changes anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// It only looks.
    ReadOnly,
    /// It changes something: refused when it could not be recorded.
    Mutating,
    /// It brings data, again and again: only what is refused has an audit line, unless the settings ask for all. It goes on
    /// to its end like a change.
    Data,
}

/// One operation of a service.
#[derive(Clone, Copy)]
pub struct Operation {
    /// As the client names it.
    pub name: &'static str,
    /// Whether it changes anything.
    pub effect: Effect,
    /// The kinds of caller that may do it. The others are refused as AWS refuses them.
    pub callers: &'static [CallerKind],
    pub(crate) run: Handler,
}

impl core::fmt::Debug for Operation {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("Operation").field("name", &self.name).field("callers", &self.callers).finish_non_exhaustive()
    }
}

/// How the clients of a service name an operation and give it what it needs.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Protocol {
    /// awsQuery and ec2Query: `Action` among the parameters of query string and form.
    Query,
    /// awsJson 1.1: `X-Amz-Target: PREFIX.OPERATION`, which the signature must cover, and one JSON object.
    Json {
        /// What stands before the operation, without the dot.
        target_prefix: &'static str,
        /// Operations that are named by their path, because their clients do not sign the target.
        named_by_path: &'static [NamedByPath],
        /// Operations that begin with the handshake of a WebSocket.
        sockets: &'static [SocketPath],
    },
    /// REST: a method and a path.
    Rest {
        /// The operations.
        routes: &'static [Route],
    },
}

/// An operation that is named by method and path. Parts of the path and of the query string are members of the call
/// like those of its body, a JSON object.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Route {
    /// The method.
    pub method: &'static str,
    /// The path. A segment `{NAME}` stands for anything, which becomes the member of that name.
    pub path: &'static str,
    /// The names that the query string may have. One that ends in `[]` is without that a name that may come more than once,
    /// and becomes a list.
    pub query: &'static [&'static str],
    /// The operation.
    pub operation: &'static str,
    /// Whether it may also be asked for without a signature, by who has a token and says it later.
    pub is_open: bool,
}

impl Route {
    /// What the path says for each `{NAME}`; `None` if it is another path.
    pub(crate) fn members<'a>(&self, path: &'a str) -> Option<Vec<(&'static str, &'a str)>> {
        let (mut own, mut given) = (self.path.split('/'), path.split('/'));
        let mut members = Vec::new();
        loop {
            let (pattern, segment) = match (own.next(), given.next()) {
                (None, None) => return Some(members),
                (Some(pattern), Some(segment)) => (pattern, segment),
                _ => return None,
            };
            match pattern.strip_prefix('{').and_then(|name| name.strip_suffix('}')) {
                Some(name) if !segment.is_empty() => members.push((name, segment)),
                None if pattern == segment => {}
                _ => return None,
            }
        }
    }
}

/// An operation of a JSON service that its clients name by the path. The path is always signed, their `X-Amz-Target` is
/// not: it need not be there, and must not say something else.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct NamedByPath {
    /// The path, exactly.
    pub path: &'static str,
    /// The operation.
    pub operation: &'static str,
    /// The whole target that goes with it.
    pub target: &'static str,
}

/// An operation that is a WebSocket: `GET`, its parameters in the query, signed there or in headers.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct SocketPath {
    /// The path, exactly.
    pub path: &'static str,
    /// The operation.
    pub operation: &'static str,
}

/// One service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// The first label of its endpoint.
    pub name: &'static str,
    /// The service that its clients sign for. Several services may be signed for by one name: which one is meant, the name of
    /// the host says, or else the path.
    pub signing_name: &'static str,
    /// How it is called.
    pub protocol: Protocol,
    /// Whether `NAME.DOMAIN` without a region is an endpoint too, whose clients sign for the global region.
    pub is_global: bool,
    /// Whether requests may be signed in their query (presigned URLs).
    pub query_auth: bool,
    /// The only version of its interface, if the caller must name it.
    pub version: Option<&'static str>,
    /// The longest body it takes.
    pub body_bytes_max: usize,
    /// Its operations.
    pub operations: &'static [Operation],
}

impl Service {
    /// The operation of this name.
    #[must_use]
    pub fn operation(&self, name: &str) -> Option<&'static Operation> {
        self.operations.iter().find(|operation| operation.name == name)
    }

    /// The WebSocket at this path.
    pub(crate) fn socket(&self, path: &str) -> Option<&'static SocketPath> {
        match self.protocol {
            Protocol::Json { sockets, .. } => sockets.iter().find(|socket| socket.path == path),
            Protocol::Query | Protocol::Rest { .. } => None,
        }
    }

    /// The route of a request.
    pub(crate) fn route(&self, method: &str, path: &str) -> Option<&'static Route> {
        let Protocol::Rest { routes } = self.protocol else { return None };
        routes.iter().find(|route| route.method == method && route.members(path).is_some())
    }
}

/// What an action is given; `I` is the form in which its protocol has the parameters.
pub(crate) struct Call<'a, I = Parameters> {
    pub(crate) region: &'a Arc<RegionServer>,
    pub(crate) caller: &'a Caller,
    pub(crate) parameters: &'a I,
    pub(crate) dialect: Dialect,
    pub(crate) request_id: &'a str,
    pub(crate) now: UnixTime,
    /// Where the call came from.
    pub(crate) source: IpAddr,
    /// What an agent signed beside the signature that named the caller, if it did: not verified yet.
    pub(crate) second_signature: Option<&'a SecondSignature>,
    /// The handshake of a WebSocket, if the request is one.
    pub(crate) handshake: Option<&'a Handshake>,
    /// Where the client finds this endpoint, for WebSockets: as in `wss://ssm.us-east-1.amazonaws.com`.
    pub(crate) socket_origin: &'a str,
}

impl<I> Call<'_, I> {
    /// The caller's account: nothing of another is seen or changed.
    pub(crate) const fn account(&self) -> AccountId {
        self.caller.principal.account()
    }

    /// The machine of this id, if it is of the caller's account.
    pub(crate) fn machine(&self, id: InstanceId) -> Option<Arc<Instance>> {
        self.region.machines().get(id).filter(|machine| machine.account == self.account())
    }

    /// The nodes of the caller's account behind this one, by machine.
    pub(crate) fn nodes(&self, after: Option<InstanceId>) -> Vec<Arc<Node>> {
        let nodes = self.region.nodes().after(after).into_iter();
        nodes.filter(|node| self.machine(node.instance).is_some()).collect()
    }
}

/// What an action gives back: the answer, and what the audit says of it.
pub(crate) struct Reply {
    pub(crate) answer: Answer,
    pub(crate) response_elements: Value,
}

impl From<Answer> for Reply {
    fn from(answer: Answer) -> Self {
        Self { answer, response_elements: Value::Null }
    }
}

pub(crate) type Outcome<'a> = Pin<Box<dyn Future<Output = Result<Reply, Problem>> + Send + 'a>>;

/// A body as it came, and what the request says of it. The path is always signed; the two headers need not be: they may make
/// a body be refused, not be taken for something else.
#[derive(Debug)]
pub(crate) struct Upload {
    /// The path of the route.
    pub(crate) path: &'static str,
    /// `Content-Type`; empty if there is none.
    pub(crate) content_type: String,
    /// `Content-Encoding`; empty if there is none.
    pub(crate) content_encoding: String,
    /// The bytes that were signed.
    pub(crate) body: Bytes,
    /// After how many seconds the client may come again, where the action knows; else 0.
    pub(crate) retry_after: AtomicU64,
}

/// A call that brings data.
pub(crate) type UploadCall<'a> = Call<'a, Upload>;

/// A call of an operation of a JSON service.
pub(crate) type JsonCall<'a> = Call<'a, Object>;

/// An action, by what it reads.
#[derive(Clone, Copy)]
pub(crate) enum Handler {
    Query(for<'a> fn(Call<'a>) -> Outcome<'a>),
    Json(for<'a> fn(JsonCall<'a>) -> Outcome<'a>),
    Upload {
        run: for<'a> fn(UploadCall<'a>) -> Outcome<'a>,
        /// Says a refusal in the form that was asked in, to a caller who was let in.
        refuse: fn(&Upload, &Refusal, &str) -> Answer,
    },
}

/// What a call gives its operation, in the form of the protocol.
#[derive(Debug)]
pub(crate) enum Input {
    Query(Parameters),
    Json(Object),
    Upload(Upload),
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_matched_as_they_are_signed() {
        let route = Route { method: "GET", path: "/v1/channel/{Id}", query: &[], operation: "Open", is_open: false };
        assert_eq!(route.members("/v1/channel/i-1"), Some(vec![("Id", "i-1")]));
        for path in [
            "/v1/channel/",
            "/v1/channel",
            "/v1/channel/i-1/",
            "/v1/channel/i/1",
            "/v1//channel/i-1",
            "//v1/channel/i",
            "",
        ] {
            assert_eq!(route.members(path), None, "{path}");
        }
    }
}
