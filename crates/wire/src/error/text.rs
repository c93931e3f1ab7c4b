//! What a refusal says. Spelling, full stops and double spaces are AWS's where a source has them.

use super::{Dialect, Problem, signature};
use crate::query::ParameterError;

/// EC2's one text for credentials it cannot verify.
pub(super) const EC2_NOT_VALIDATED: &str = "AWS was not able to validate the provided access credentials";
/// EC2's one text for what is past its time.
pub(super) const EC2_REQUEST_EXPIRED: &str = "Request has expired.";
const TOKEN_INVALID: &str = "The security token included in the request is invalid";

/// The text of a problem in a dialect; empty where AWS gives none.
pub(super) fn message(problem: &Problem, dialect: Dialect) -> String {
    if let Problem::Signature(fault) = problem {
        return signature::message(fault, dialect);
    }
    let own = match dialect {
        Dialect::Ec2 => ec2(problem),
        Dialect::RestXml => s3(problem).map(str::to_owned),
        Dialect::AwsJson11
        | Dialect::AwsJson10 { .. }
        | Dialect::CoralJson
        | Dialect::Socket
        | Dialect::RestJson
        | Dialect::NamedXml => json(problem),
        Dialect::QueryXml { .. } | Dialect::QueryJson => None,
    };
    own.unwrap_or_else(|| common(problem))
}

/// The texts that the services share: those of STS, where it has one.
fn common(problem: &Problem) -> String {
    match problem {
        // Captured with identity credentials at STS and at SQS: no full stop.
        Problem::InvalidToken => TOKEN_INVALID.to_owned(),
        // With one, in STS and in JSON services alike (maxbanton/cwh#119: awsJson 1.1, 400).
        Problem::UnknownKey => format!("{TOKEN_INVALID}."),
        Problem::ExpiredToken => "The security token included in the request is expired".to_owned(),
        Problem::RequestExpired => EC2_REQUEST_EXPIRED.to_owned(),
        Problem::AccessDenied { principal, action, resource } => match resource {
            Some(resource) => {
                format!("User: {principal} is not authorized to perform: {action} on resource: {resource}")
            }
            None => format!("User: {principal} is not authorized to perform: {action}"),
        },
        Problem::OptInRequired => "The AWS Access Key Id needs a subscription for the service".to_owned(),
        Problem::InvalidAction { action, version } => {
            let version = version.as_deref().unwrap_or("NO_VERSION_SPECIFIED");
            format!("Could not find operation {action} for version {version}")
        }
        Problem::MissingAction => "Missing Action".to_owned(),
        Problem::Query(error) => error.to_string(),
        Problem::Parameter(error) => parameter(error),
        Problem::UnknownParameter { name } => format!("The parameter {name} is not recognized"),
        Problem::Json(crate::json::JsonError::Missing { key }) => null(key),
        Problem::Json(error) => error.to_string(),
        Problem::Validation { message } | Problem::Service { message, .. } => message.clone(),
        Problem::Throttled => "Rate exceeded".to_owned(),
        Problem::Internal => "An internal error has occurred".to_owned(),
        Problem::Unavailable => "The service is unavailable for the moment".to_owned(),
        Problem::Target | Problem::Method | Problem::ContentType | Problem::Signature(_) => String::new(),
    }
}

/// The form of coral's own validation, as STS has it for `DurationSeconds`.
fn parameter(error: &ParameterError) -> String {
    let broken = |value: &dyn core::fmt::Display, name: &str, rule: String| {
        let place = place(name);
        format!("1 validation error detected: Value '{value}' at '{place}' failed to satisfy constraint: {rule}")
    };
    match error {
        ParameterError::Missing { name } => null(name),
        ParameterError::NotInteger { name, value } => format!("Value '{value}' at '{}' is not an integer", place(name)),
        ParameterError::NotBoolean { name, value } => format!("Value '{value}' at '{}' is not a boolean", place(name)),
        ParameterError::TooSmall { name, value, least } => {
            broken(value, name, format!("Member must have value greater than or equal to {least}"))
        }
        ParameterError::TooLarge { name, value, most } => {
            broken(value, name, format!("Member must have value less than or equal to {most}"))
        }
        ParameterError::NotOneOf { name, value, possible } => {
            broken(value, name, format!("Member must satisfy enum value set: [{}]", possible.join(", ")))
        }
    }
}

fn null(name: &str) -> String {
    let place = place(name);
    format!(
        "1 validation error detected: Value null at '{place}' failed to satisfy constraint: Member must not be null"
    )
}

/// A parameter's name as messages spell it: each part with a small first letter.
fn place(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut starts = true;
    for character in name.chars() {
        out.push(if starts { character.to_ascii_lowercase() } else { character });
        starts = character == '.';
    }
    out
}

fn ec2(problem: &Problem) -> Option<String> {
    let text = match problem {
        Problem::InvalidToken | Problem::UnknownKey => EC2_NOT_VALIDATED.to_owned(),
        Problem::ExpiredToken | Problem::RequestExpired => EC2_REQUEST_EXPIRED.to_owned(),
        Problem::AccessDenied { .. } => {
            format!("You are not authorized to perform this operation. {}", common(problem))
        }
        Problem::InvalidAction { action, .. } => format!("The action {action} is not valid for this web service."),
        Problem::MissingAction => "The request must contain the parameter Action".to_owned(),
        Problem::Throttled => "Request limit exceeded.".to_owned(),
        Problem::Parameter(error) => ec2_parameter(error),
        _ => return None,
    };
    Some(text)
}

fn ec2_parameter(error: &ParameterError) -> String {
    match error {
        ParameterError::Missing { name } => format!("The request must contain the parameter {name}"),
        ParameterError::NotInteger { name, value }
        | ParameterError::NotBoolean { name, value }
        | ParameterError::NotOneOf { name, value, .. } => format!("Invalid value '{value}' for {name}."),
        ParameterError::TooSmall { name, value, least } => {
            let below = i64::from(*least) - 1;
            format!("Value ( {value} ) for parameter {name} is invalid. Expecting a value greater than {below}.")
        }
        ParameterError::TooLarge { name, value, most } => {
            let above = i64::from(*most) + 1;
            format!("Value ( {value} ) for parameter {name} is invalid. Expecting a value less than {above}.")
        }
    }
}

fn json(problem: &Problem) -> Option<String> {
    match problem {
        // As Systems Manager says it, in many agents' logs.
        Problem::AccessDenied { action, .. } => {
            Some(format!("{} because no identity-based policy allows the {action} action", common(problem)))
        }
        Problem::InvalidAction { .. } => Some(String::new()),
        Problem::MissingAction => Some("Unable to determine service/operation name to be authorized".to_owned()),
        _ => None,
    }
}

fn s3(problem: &Problem) -> Option<&'static str> {
    Some(match problem {
        Problem::InvalidToken => "The provided token is malformed or otherwise invalid.",
        Problem::UnknownKey => "The AWS Access Key Id you provided does not exist in our records.",
        Problem::ExpiredToken => "The provided token has expired.",
        Problem::RequestExpired => "Request has expired",
        Problem::AccessDenied { .. } => "Access Denied",
        Problem::InvalidAction { .. } | Problem::MissingAction | Problem::Method => {
            "The specified method is not allowed against this resource."
        }
        Problem::Throttled => "Please reduce your request rate.",
        _ => return None,
    })
}
