//! What went wrong, without a word about how it is said.

use inborn_sigv4::Fault;

use crate::json::JsonError;
use crate::query::{ParameterError, QueryError};

/// A reason for which a call is not answered as it asks. The dialect makes code, status and text of it.
#[derive(Clone, PartialEq, Debug)]
pub enum Problem {
    /// The signature is missing, cannot be read, or does not hold. Steps 1, 4 to 13 and 16.
    Signature(Fault),
    /// The session token is not one of ours, or the caller is an identity session that asks for what it may not:
    /// AWS answers both alike, *without* a full stop. Step 14b.
    InvalidToken,
    /// The credential's life is over, or was cut off. Clients fetch a new one. Step 14c.
    ExpiredToken,
    /// No such access key, or its machine is gone; *with* a full stop. Step 15.
    UnknownKey,
    /// The request says itself until when it may be used, and that is past.
    RequestExpired,
    /// A known caller may not do this.
    AccessDenied {
        /// The caller's ARN.
        principal: String,
        /// As in `sts:AssumeRole`.
        action: String,
        /// The ARN of what it would be done to, where there is one.
        resource: Option<String>,
    },
    /// The account is not subscribed to this service or region.
    OptInRequired,
    /// A query call for an operation that does not exist in that version, or a target that does not.
    InvalidAction {
        /// The operation as the client wrote it.
        action: String,
        /// The version as the client wrote it.
        version: Option<String>,
    },
    /// No operation named at all, by a request that otherwise looks like a call.
    MissingAction,
    /// The parameters cannot be read. Step 4.
    Query(QueryError),
    /// A parameter is missing or has a value it cannot have.
    Parameter(ParameterError),
    /// EC2: a parameter that the operation does not know.
    UnknownParameter {
        /// Its name.
        name: String,
    },
    /// The JSON body cannot be read.
    Json(JsonError),
    /// A value breaks a rule of the operation; the text says which.
    Validation {
        /// The text of the answer.
        message: String,
    },
    /// Too many calls.
    Throttled,
    /// Our fault. The cause is for the log, never for the client.
    Internal,
    /// We cannot, for the moment.
    Unavailable,
    /// The request target is not absolute, leads above the root, or has broken escapes. Step 1.
    Target,
    /// Neither GET nor POST, or a bare visit to the endpoint. Step 2.
    Method,
    /// A body of a type that the service does not take. Step 3.
    ContentType,
    /// What an operation itself answers, with the code that its service's model gives.
    Service {
        /// The HTTP status.
        status: u16,
        /// The code, the same in all dialects.
        code: &'static str,
        /// The text of the answer.
        message: String,
    },
}

impl From<Fault> for Problem {
    fn from(fault: Fault) -> Self {
        Self::Signature(fault)
    }
}

impl From<QueryError> for Problem {
    fn from(error: QueryError) -> Self {
        Self::Query(error)
    }
}

impl From<ParameterError> for Problem {
    fn from(error: ParameterError) -> Self {
        Self::Parameter(error)
    }
}

impl From<JsonError> for Problem {
    fn from(error: JsonError) -> Self {
        Self::Json(error)
    }
}
