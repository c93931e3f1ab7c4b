//! The operation table: what each service can do, and for which kinds of caller. There is nothing else that allows.

use core::future::Future;
use core::pin::Pin;

use inborn_credential::Caller;
use inborn_identity::{CallerKind, UnixTime};
use inborn_wire::Answer;
use inborn_wire::error::{Dialect, Problem};
use inborn_wire::query::Parameters;
use serde_json::Value;

use crate::RegionServer;

/// Whether an operation changes anything.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Effect {
    /// It only looks.
    ReadOnly,
    /// It changes something: refused when it could not be recorded.
    Mutating,
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

/// One service.
#[derive(Clone, Copy, Debug)]
pub struct Service {
    /// Its signing name, which is also the first label of its endpoint.
    pub name: &'static str,
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
}

/// What an action is given.
pub(crate) struct Call<'a> {
    pub(crate) region: &'a RegionServer,
    pub(crate) caller: &'a Caller,
    pub(crate) parameters: &'a Parameters,
    pub(crate) dialect: Dialect,
    pub(crate) request_id: &'a str,
    pub(crate) now: UnixTime,
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
pub(crate) type Handler = for<'a> fn(Call<'a>) -> Outcome<'a>;
