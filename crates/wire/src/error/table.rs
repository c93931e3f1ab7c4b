//! The table: for each kind of refusal, its code and status in each family of dialects.

use inborn_sigv4::FaultClass;

use super::{Dialect, Problem, signature};
use crate::query::ParameterError;

/// A code and an HTTP status.
pub(super) type Cell = (&'static str, u16);

/// One kind of refusal in all families.
pub(super) struct Row {
    /// awsQuery, XML and JSON.
    pub(super) query: Cell,
    /// awsJson 1.0 and 1.1; the code also in restJson and in the XML of the message gateway.
    pub(super) json: Cell,
    /// The status in restJson, and in the XML of the message gateway.
    pub(super) rest_status: u16,
    pub(super) ec2: Cell,
    pub(super) s3: Cell,
}

/// The code and status of a problem. Those of [`Problem::Target`] and [`Problem::ContentType`] are never written
/// to a client, only to the log.
pub(super) fn cell(problem: &Problem, dialect: Dialect) -> Cell {
    if let Problem::Service { status, code, .. } = problem {
        return (code, *status);
    }
    let row = row(problem);
    match dialect {
        Dialect::QueryXml { .. } | Dialect::QueryJson => row.query,
        Dialect::AwsJson10 { denied } if is_about_the_credential(problem) => (row.json.0, denied),
        Dialect::AwsJson11 | Dialect::AwsJson10 { .. } | Dialect::CoralJson => row.json,
        Dialect::Socket if row.json.0 == "ValidationException" => ("InvalidParameter", row.rest_status),
        Dialect::Socket | Dialect::RestJson | Dialect::NamedXml => (row.json.0, row.rest_status),
        Dialect::Ec2 => row.ec2,
        Dialect::RestXml => row.s3,
    }
}

fn is_about_the_credential(problem: &Problem) -> bool {
    match problem {
        Problem::InvalidToken | Problem::ExpiredToken | Problem::UnknownKey | Problem::AccessDenied { .. } => true,
        Problem::Signature(fault) => {
            matches!(fault.class(), FaultClass::Missing | FaultClass::Incomplete | FaultClass::Mismatch)
        }
        _ => false,
    }
}

/// EC2 has one answer to every credential it cannot verify: 401 `AuthFailure` (smarty-archives/go-aws-auth#37).
pub(super) const EC2_AUTH_FAILURE: Cell = ("AuthFailure", 401);
pub(super) const EC2_EXPIRED: Cell = ("RequestExpired", 400);
const EC2_INVALID_VALUE: Cell = ("InvalidParameterValue", 400);
const S3_INVALID_ARGUMENT: Cell = ("InvalidArgument", 400);

fn row(problem: &Problem) -> Row {
    match problem {
        Problem::Signature(fault) => signature::row(fault),
        // In EC2 an unknown session token, an unknown key and a refused role look the same.
        Problem::InvalidToken => Row {
            query: ("InvalidClientTokenId", 403),
            json: ("UnrecognizedClientException", 400),
            rest_status: 403,
            ec2: EC2_AUTH_FAILURE,
            s3: ("InvalidToken", 400),
        },
        Problem::UnknownKey => Row {
            query: ("InvalidClientTokenId", 403),
            json: ("UnrecognizedClientException", 400),
            rest_status: 403,
            ec2: EC2_AUTH_FAILURE,
            s3: ("InvalidAccessKeyId", 403),
        },
        Problem::ExpiredToken => Row {
            query: ("ExpiredToken", 403),
            json: ("ExpiredTokenException", 400),
            rest_status: 403,
            ec2: EC2_EXPIRED,
            s3: ("ExpiredToken", 400),
        },
        Problem::RequestExpired => Row {
            query: ("RequestExpired", 400),
            json: ("RequestExpired", 400),
            rest_status: 403,
            ec2: EC2_EXPIRED,
            s3: ("AccessDenied", 403),
        },
        Problem::AccessDenied { .. } => Row {
            query: ("AccessDenied", 403),
            json: ("AccessDeniedException", 400),
            rest_status: 403,
            ec2: ("UnauthorizedOperation", 403),
            s3: ("AccessDenied", 403),
        },
        Problem::OptInRequired => Row {
            query: ("OptInRequired", 403),
            json: ("OptInRequired", 400),
            rest_status: 403,
            ec2: ("OptInRequired", 401),
            s3: ("NotSignedUp", 403),
        },
        Problem::Throttled => Row {
            query: ("Throttling", 400),
            json: ("ThrottlingException", 400),
            rest_status: 429,
            ec2: ("RequestLimitExceeded", 503),
            s3: ("SlowDown", 503),
        },
        Problem::Internal => Row {
            query: ("InternalFailure", 500),
            json: ("InternalFailure", 500),
            rest_status: 500,
            ec2: ("InternalError", 500),
            s3: ("InternalError", 500),
        },
        Problem::Unavailable => Row {
            query: ("ServiceUnavailable", 503),
            json: ("ServiceUnavailable", 503),
            rest_status: 503,
            ec2: ("Unavailable", 503),
            s3: ("ServiceUnavailable", 503),
        },
        _ => row_of_the_call(problem),
    }
}

/// The rows that are about what is called, not about who calls.
fn row_of_the_call(problem: &Problem) -> Row {
    match problem {
        Problem::InvalidAction { .. } | Problem::Method => Row {
            query: ("InvalidAction", 400),
            json: ("UnknownOperationException", 400),
            rest_status: 404,
            ec2: ("InvalidAction", 400),
            s3: ("MethodNotAllowed", 405),
        },
        Problem::MissingAction => Row {
            query: ("MissingAction", 400),
            json: ("AccessDeniedException", 403),
            rest_status: 403,
            ec2: ("MissingAction", 400),
            s3: ("MethodNotAllowed", 405),
        },
        Problem::Query(_) | Problem::Target => malformed_query(),
        Problem::Parameter(ParameterError::NotInteger { .. } | ParameterError::NotBoolean { .. }) => Row {
            query: ("MalformedInput", 400),
            json: ("SerializationException", 400),
            rest_status: 400,
            ec2: EC2_INVALID_VALUE,
            s3: S3_INVALID_ARGUMENT,
        },
        Problem::Json(crate::json::JsonError::Missing { .. }) => validation(("MissingParameter", 400)),
        Problem::Json(_) | Problem::ContentType => Row {
            query: ("MalformedInput", 400),
            json: ("SerializationException", 400),
            rest_status: 400,
            ec2: EC2_INVALID_VALUE,
            s3: S3_INVALID_ARGUMENT,
        },
        Problem::Parameter(ParameterError::Missing { .. }) => validation(("MissingParameter", 400)),
        Problem::UnknownParameter { .. } => validation(("UnknownParameter", 400)),
        _ => validation(EC2_INVALID_VALUE),
    }
}

/// Step 4. AWS's page of common errors says 404, the chart of the order of checks says nothing: 400 is `[I]`.
pub(super) fn malformed_query() -> Row {
    Row {
        query: ("MalformedQueryString", 400),
        json: ("SerializationException", 400),
        rest_status: 400,
        ec2: ("MalformedQueryString", 400),
        s3: ("InvalidURI", 400),
    }
}

fn validation(ec2: Cell) -> Row {
    Row {
        query: ("ValidationError", 400),
        json: ("ValidationException", 400),
        rest_status: 400,
        ec2,
        s3: S3_INVALID_ARGUMENT,
    }
}
