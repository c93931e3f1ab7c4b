//! Refused signatures: cells and texts of `sigv4`'s faults.

use inborn_identity::UnixTime;
use inborn_sigv4::{Fault, FaultClass, Limit, Missing, ScopeFault};

use super::table::{EC2_AUTH_FAILURE, EC2_EXPIRED, Row, malformed_query};
use super::{Dialect, text};

/// Where no service can be told to answer, only a status: what is over a limit is refused ahead of AWS's own checks.
pub(super) fn bare_status(fault: &Fault) -> Option<u16> {
    match fault {
        Fault::Path => Some(400),
        Fault::TooLarge(Limit::Path | Limit::Query | Limit::QueryPairs) => Some(414),
        Fault::TooLarge(_) => Some(431),
        _ => None,
    }
}

/// Steps 5 to 13 and 16. The statuses of EC2's malformed and missing authentication are captures
/// (StreisandEffect/discussions#181); that it answers skew as `RequestExpired` only when the request is old is `[I]`.
pub(super) fn row(fault: &Fault) -> Row {
    let ec2 = if matches!(fault, Fault::Expired { .. }) { EC2_EXPIRED } else { EC2_AUTH_FAILURE };
    match fault.class() {
        FaultClass::Target | FaultClass::TooLarge | FaultClass::MalformedQuery => malformed_query(),
        FaultClass::Missing => Row {
            query: ("MissingAuthenticationToken", 403),
            json: ("MissingAuthenticationTokenException", 400),
            rest_status: 403,
            ec2: ("MissingParameter", 400),
            s3: ("AccessDenied", 403),
        },
        FaultClass::Incomplete => Row {
            query: ("IncompleteSignature", 400),
            json: ("IncompleteSignatureException", 400),
            rest_status: 403,
            ec2,
            s3: ("AuthorizationHeaderMalformed", 400),
        },
        FaultClass::Mismatch => Row {
            query: ("SignatureDoesNotMatch", 403),
            json: ("InvalidSignatureException", 400),
            rest_status: 403,
            ec2,
            s3: match fault {
                Fault::Expired { .. } | Fault::NotYetCurrent { .. } => ("RequestTimeTooSkewed", 403),
                Fault::Scope(_) => ("AuthorizationHeaderMalformed", 400),
                _ => ("SignatureDoesNotMatch", 403),
            },
        },
    }
}

/// The text of a fault in a dialect; empty where AWS gives none.
pub(super) fn message(fault: &Fault, dialect: Dialect) -> String {
    let is_query = matches!(dialect, Dialect::QueryXml { .. } | Dialect::QueryJson);
    match (dialect, fault.class()) {
        (Dialect::Ec2, FaultClass::Missing) => "The request must contain the parameter AWSAccessKeyId".to_owned(),
        (Dialect::Ec2, FaultClass::Incomplete) => {
            "Authorization header or parameters are not formatted correctly.".to_owned()
        }
        (Dialect::Ec2, FaultClass::Mismatch) if matches!(fault, Fault::Expired { .. }) => {
            text::EC2_REQUEST_EXPIRED.to_owned()
        }
        (Dialect::Ec2, FaultClass::Mismatch) => text::EC2_NOT_VALIDATED.to_owned(),
        (Dialect::RestXml, _) => s3(fault),
        // STS says nothing here; DynamoDB and Kinesis do.
        (_, FaultClass::Mismatch) if is_query && *fault == Fault::BothForms => String::new(),
        // As DynamoDB puts it, and as Kinesis does.
        (Dialect::AwsJson10 { .. }, FaultClass::Missing) => common(fault),
        (_, FaultClass::Missing) if !is_query => "Missing Authentication Token".to_owned(),
        _ => common(fault),
    }
}

/// Texts of STS. Those of faults that AWS does not have are ours.
fn common(fault: &Fault) -> String {
    match fault {
        Fault::QueryEscapeIncomplete => "Incomplete trailing escape % sequence".to_owned(),
        Fault::QueryEscapeIllegal { pattern } => format!("Illegal hex character in escape % pattern: %{pattern}"),
        Fault::MissingAuthentication => "Request is missing Authentication Token".to_owned(),
        Fault::BothForms => "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP \
                             header."
            .to_owned(),
        Fault::UnsupportedAlgorithm { algorithm } => format!("Unsupported AWS 'algorithm': '{algorithm}'."),
        Fault::NotKeyValue { part, authorization } => format!(
            "'{part}' not a valid key=value pair (missing equal-sign) in Authorization header: '{authorization}'."
        ),
        Fault::Missing(missing) => missing_parts(*missing),
        Fault::MissingInQuery(missing) => missing_parameters(*missing),
        Fault::HostNotSigned => "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
        Fault::DateForm { got } => {
            format!("Date must be in ISO-8601 'basic format'. Got '{got}'. See http://en.wikipedia.org/wiki/ISO_8601")
        }
        Fault::Expired { signed_at, now, skew_seconds } => expired(*signed_at, *now, *skew_seconds),
        Fault::NotYetCurrent { signed_at, now, skew_seconds } => not_yet_current(*signed_at, *now, *skew_seconds),
        Fault::CredentialForm { got } => format!(
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{got}'"
        ),
        Fault::Scope(scope) => out_of_scope(scope),
        Fault::SignatureMismatch | Fault::SignatureForm => {
            "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
             Access Key and signing method. Consult the service documentation for details."
                .to_owned()
        }
        _ => stricter(fault),
    }
}

/// Faults that AWS lets pass or answers with the text of step 16. These texts are for the person who has to find out.
fn stricter(fault: &Fault) -> String {
    match fault {
        Fault::DuplicateHeader { name } => format!("The header '{name}' may be given only once."),
        Fault::DuplicateParameter { name } => {
            format!("Authorization header may have the '{name}' parameter only once.")
        }
        Fault::DuplicateInQuery { name } => {
            format!("AWS query-string parameters may include '{name}' only once. {REEXAMINE}")
        }
        Fault::MisspelledInQuery { name } => {
            format!("AWS query-string parameters must spell '{name}' in these letters. {REEXAMINE}")
        }
        Fault::ExpiresForm { got } => {
            let most = inborn_sigv4::EXPIRES_MAX;
            format!("'X-Amz-Expires' must be an integer from 1 to {most}, got '{got}'. {REEXAMINE}")
        }
        Fault::TokenInHeader => {
            "'X-Amz-Security-Token' must be a query-string parameter like 'X-Amz-Signature'.".to_owned()
        }
        Fault::NotText => "Authorization header may have visible ASCII characters only.".to_owned(),
        Fault::SignedHeadersForm => {
            "'SignedHeaders' must be a sorted list of lower-case names without duplicates.".to_owned()
        }
        Fault::TokenNotSigned => "'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization.".to_owned(),
        Fault::PayloadNotSigned => "The signature must cover the whole body of the request.".to_owned(),
        Fault::PayloadMismatch => {
            "The provided 'x-amz-content-sha256' header does not match what was computed.".to_owned()
        }
        Fault::SignedHeaderAbsent { name } => format!("The signed header '{name}' is not part of the request."),
        _ => String::new(),
    }
}

/// The end of what AWS says about parameters of a query.
const REEXAMINE: &str = "Re-examine the query-string parameters.";

fn missing_parts(missing: Missing) -> String {
    let Missing { credential, signature, signed_headers, date } = missing;
    let mut out = String::new();
    for (is_missing, sentence) in [
        (credential, "Authorization header requires 'Credential' parameter. "),
        (signature, "Authorization header requires 'Signature' parameter. "),
        (signed_headers, "Authorization header requires 'SignedHeaders' parameter. "),
        (date, "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. "),
    ] {
        if is_missing {
            out.push_str(sentence);
        }
    }
    out.push_str("Authorization=");
    out.push_str(inborn_sigv4::ALGORITHM);
    out
}

fn missing_parameters(missing: Missing) -> String {
    let Missing { credential, signature, signed_headers, date } = missing;
    let mut out = String::new();
    for (is_missing, name) in [
        (credential, "X-Amz-Credential"),
        (signature, "X-Amz-Signature"),
        (signed_headers, "X-Amz-SignedHeaders"),
        (date, "X-Amz-Date"),
    ] {
        if is_missing {
            out.push_str(&format!("AWS query-string parameters must include '{name}'. "));
        }
    }
    out.push_str(REEXAMINE);
    out
}

fn expired(signed_at: UnixTime, now: UnixTime, skew_seconds: u64) -> String {
    let (signed, edge, window) = (signed_at.basic(), now.minus(skew_seconds).basic(), window(skew_seconds));
    format!("Signature expired: {signed} is now earlier than {edge} ({} - {window})", now.basic())
}

fn not_yet_current(signed_at: UnixTime, now: UnixTime, skew_seconds: u64) -> String {
    let (signed, edge, window) = (signed_at.basic(), now.plus(skew_seconds).basic(), window(skew_seconds));
    format!("Signature not yet current: {signed} is still later than {edge} ({} + {window})", now.basic())
}

/// AWS's windows are of whole minutes; what `X-Amz-Expires` asks for need not be.
fn window(seconds: u64) -> String {
    if seconds.is_multiple_of(60) { format!("{} min.", seconds / 60) } else { format!("{seconds} sec.") }
}

/// AWS names all that is wrong with a scope in one go; a space stays at the end of all sentences but the last one.
fn out_of_scope(scope: &ScopeFault) -> String {
    let mut out = String::new();
    if let Some(region) = &scope.region {
        out.push_str(&format!("Credential should be scoped to a valid region, not '{region}'. "));
    }
    if let Some(service) = &scope.service {
        out.push_str(&format!("Credential should be scoped to correct service: '{service}'. "));
    }
    if let Some(terminator) = &scope.terminator {
        let right = inborn_sigv4::TERMINATOR;
        out.push_str(&format!("Credential should be scoped with a valid terminator: '{right}', not '{terminator}'. "));
    }
    if let Some(date) = &scope.date {
        let signed = date.signed_at.basic();
        let day = signed.get(..8).unwrap_or_default();
        out.push_str(&format!(
            "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: \
             '{}' != '{day}', from '{signed}'.",
            date.scope
        ));
    }
    out
}

fn s3(fault: &Fault) -> String {
    match fault.class() {
        FaultClass::Missing => "Access Denied".to_owned(),
        FaultClass::Incomplete => format!("The authorization header is malformed; {}", common(fault)),
        FaultClass::Mismatch => match fault {
            Fault::Expired { .. } | Fault::NotYetCurrent { .. } => {
                "The difference between the request time and the current time is too large.".to_owned()
            }
            Fault::Scope(_) => format!("The authorization header is malformed; {}", common(fault)),
            Fault::SignatureMismatch | Fault::SignatureForm => {
                "The request signature we calculated does not match the signature you provided. Check your key and \
                 signing method."
                    .to_owned()
            }
            _ => common(fault),
        },
        FaultClass::Target | FaultClass::MalformedQuery | FaultClass::TooLarge => common(fault),
    }
}
