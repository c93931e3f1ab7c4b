//! The texts of the order of checks, and the cells of refused signatures.

use inborn_identity::UnixTime;
use inborn_sigv4::{DateMismatch, Fault, Limit, Missing, ScopeFault};

use super::*;

const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const STS: Dialect = Dialect::QueryXml { namespace: STS_NAMESPACE };
const SQS: Dialect = Dialect::AwsJson10 { denied: 403 };
const DYNAMODB: Dialect = Dialect::AwsJson10 { denied: 400 };

type Said<'a> = (u16, &'static str, &'a str);

fn said(fault: &Fault, dialect: Dialect) -> (u16, &'static str, String) {
    let Refusal { status, code, message } = refusal(&Problem::Signature(fault.clone()), dialect);
    (status, code, message)
}

/// Checks one fault in all families. The texts of awsJson 1.0 and 1.1 are the same.
fn check(fault: &Fault, sts: Said<'_>, json: Said<'_>, ec2: Said<'_>, s3: Said<'_>) {
    let own = |(status, code, message): Said<'_>| (status, code, message.to_owned());
    for (dialect, expected) in [
        (STS, sts),
        (Dialect::QueryJson, sts),
        (Dialect::AwsJson11, json),
        (Dialect::CoralJson, json),
        (DYNAMODB, json),
        (SQS, (403, json.1, json.2)),
        (Dialect::RestJson, (403, json.1, json.2)),
        (Dialect::Ec2, ec2),
        (Dialect::RestXml, s3),
    ] {
        assert_eq!(said(fault, dialect), own(expected), "{dialect:?}");
    }
}

const EC2_NOT_VALIDATED: Said<'_> =
    (401, "AuthFailure", "AWS was not able to validate the provided access credentials");
const EC2_MALFORMED: Said<'_> = (401, "AuthFailure", "Authorization header or parameters are not formatted correctly.");

/// A request whose authentication cannot be read.
fn check_incomplete(fault: &Fault, text: &str) {
    check(
        fault,
        (400, "IncompleteSignature", text),
        (400, "IncompleteSignatureException", text),
        EC2_MALFORMED,
        (400, "AuthorizationHeaderMalformed", &format!("The authorization header is malformed; {text}")),
    );
}

/// A request whose signature does not hold, where S3 has no words of its own.
fn check_mismatch(fault: &Fault, text: &str) {
    let s3 = (403, "SignatureDoesNotMatch", text);
    check(fault, s3, (400, "InvalidSignatureException", text), EC2_NOT_VALIDATED, s3);
}

#[test]
fn step_1_and_limits_are_bare() {
    for (fault, status) in [
        (Fault::Path, 400),
        (Fault::TooLarge(Limit::Path), 414),
        (Fault::TooLarge(Limit::Query), 414),
        (Fault::TooLarge(Limit::QueryPairs), 414),
        (Fault::TooLarge(Limit::Headers), 431),
        (Fault::TooLarge(Limit::HeaderBytes), 431),
        (Fault::TooLarge(Limit::Authorization), 431),
        (Fault::TooLarge(Limit::SignedHeaders), 431),
        (Fault::TooLarge(Limit::Token), 431),
    ] {
        for dialect in [STS, Dialect::QueryJson, Dialect::Ec2, Dialect::AwsJson11, Dialect::RestJson, Dialect::RestXml]
        {
            let answer = answer(&Problem::Signature(fault.clone()), dialect, ID);
            assert_eq!((answer.status, answer.content_type, &answer.body[..]), (status, "", &b""[..]), "{fault:?}");
        }
    }
}

#[test]
fn step_4_broken_escapes() {
    let text = "Incomplete trailing escape % sequence";
    assert_eq!(said(&Fault::QueryEscapeIncomplete, STS), (400, "MalformedQueryString", text.to_owned()));
    assert_eq!(said(&Fault::QueryEscapeIncomplete, SQS), (400, "SerializationException", text.to_owned()));
    let text = "Illegal hex character in escape % pattern: %xy";
    let fault = Fault::QueryEscapeIllegal { pattern: "xy".into() };
    assert_eq!(said(&fault, STS), (400, "MalformedQueryString", text.to_owned()));
    assert_eq!(said(&fault, Dialect::Ec2), (400, "MalformedQueryString", text.to_owned()));
    assert_eq!(said(&fault, Dialect::RestXml), (400, "InvalidURI", text.to_owned()));
}

#[test]
fn step_5_no_authentication() {
    let fault = Fault::MissingAuthentication;
    let own = |status, code, text: &str| (status, code, text.to_owned());
    let sts = own(403, "MissingAuthenticationToken", "Request is missing Authentication Token");
    assert_eq!(said(&fault, STS), sts);
    assert_eq!(said(&fault, Dialect::QueryJson), sts);
    let code = "MissingAuthenticationTokenException";
    assert_eq!(said(&fault, Dialect::AwsJson11), own(400, code, "Missing Authentication Token"));
    assert_eq!(said(&fault, Dialect::CoralJson), own(400, code, "Missing Authentication Token"));
    assert_eq!(said(&fault, Dialect::RestJson), own(403, code, "Missing Authentication Token"));
    assert_eq!(said(&fault, DYNAMODB), own(400, code, "Request is missing Authentication Token"));
    assert_eq!(said(&fault, SQS), own(403, code, "Request is missing Authentication Token"));
    let text = "The request must contain the parameter AWSAccessKeyId";
    assert_eq!(said(&fault, Dialect::Ec2), own(400, "MissingParameter", text));
    assert_eq!(said(&fault, Dialect::RestXml), own(403, "AccessDenied", "Access Denied"));
}

#[test]
fn step_5_both_forms() {
    let text = "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.";
    check(
        &Fault::BothForms,
        (403, "SignatureDoesNotMatch", ""),
        (400, "InvalidSignatureException", text),
        EC2_NOT_VALIDATED,
        (403, "SignatureDoesNotMatch", text),
    );
}

#[test]
fn step_6_the_authorization_header() {
    let algorithm = Fault::UnsupportedAlgorithm { algorithm: "AWS4-ECDSA-P256-SHA256".into() };
    check_incomplete(&algorithm, "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256'.");
    let pair = Fault::NotKeyValue { part: "X".into(), authorization: "AWS4-HMAC-SHA256 X, Signature=1".into() };
    check_incomplete(
        &pair,
        "'X' not a valid key=value pair (missing equal-sign) in Authorization header: 'AWS4-HMAC-SHA256 X, Signature=1'.",
    );
    let all = Missing { credential: true, signature: true, signed_headers: true, date: true };
    check_incomplete(
        &Fault::Missing(all),
        "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. \
         Authorization header requires 'SignedHeaders' parameter. Authorization header requires existence of either a \
         'X-Amz-Date' or a 'Date' header. Authorization=AWS4-HMAC-SHA256",
    );
    check_incomplete(
        &Fault::Missing(Missing { signature: true, ..Missing::default() }),
        "Authorization header requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256",
    );
}

#[test]
fn step_7_the_query() {
    let all = Missing { credential: true, signature: true, signed_headers: true, date: true };
    check_incomplete(
        &Fault::MissingInQuery(all),
        "AWS query-string parameters must include 'X-Amz-Credential'. AWS query-string parameters must include \
         'X-Amz-Signature'. AWS query-string parameters must include 'X-Amz-SignedHeaders'. AWS query-string parameters \
         must include 'X-Amz-Date'. Re-examine the query-string parameters.",
    );
    check_incomplete(
        &Fault::MissingInQuery(Missing { date: true, ..Missing::default() }),
        "AWS query-string parameters must include 'X-Amz-Date'. Re-examine the query-string parameters.",
    );
}

#[test]
fn a_window_that_is_not_of_minutes() {
    let now = UnixTime::parse_basic(b"20261123T120000Z").unwrap();
    let fault = Fault::Expired { signed_at: now.minus(62), now, skew_seconds: 61 };
    let text = "Signature expired: 20261123T115858Z is now earlier than 20261123T115859Z (20261123T120000Z - 61 sec.)";
    assert_eq!(said(&fault, STS).2, text);
}

#[test]
fn what_is_stricter_about_the_query() {
    check_incomplete(
        &Fault::DuplicateInQuery { name: "X-Amz-Date" },
        "AWS query-string parameters may include 'X-Amz-Date' only once. Re-examine the query-string parameters.",
    );
    check_incomplete(
        &Fault::MisspelledInQuery { name: "X-Amz-Date" },
        "AWS query-string parameters must spell 'X-Amz-Date' in these letters. Re-examine the query-string parameters.",
    );
    check_incomplete(
        &Fault::ExpiresForm { got: "1h".into() },
        "'X-Amz-Expires' must be an integer from 1 to 604800, got '1h'. Re-examine the query-string parameters.",
    );
    let text = "'X-Amz-Security-Token' must be a query-string parameter like 'X-Amz-Signature'.";
    check_mismatch(&Fault::TokenInHeader, text);
}

#[test]
fn step_8_host() {
    let text = "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization.";
    check_mismatch(&Fault::HostNotSigned, text);
}

#[test]
fn step_9_the_form_of_the_date() {
    let text = "Date must be in ISO-8601 'basic format'. Got 'now'. See http://en.wikipedia.org/wiki/ISO_8601";
    check_incomplete(&Fault::DateForm { got: "now".into() }, text);
}

#[test]
fn steps_10_and_11_skew() {
    let now = UnixTime::parse_basic(b"20261123T120000Z").unwrap();
    let s3 = "The difference between the request time and the current time is too large.";
    let text = "Signature expired: 20261123T114459Z is now earlier than 20261123T114500Z (20261123T120000Z - 15 min.)";
    check(
        &Fault::Expired { signed_at: now.minus(901), now, skew_seconds: 900 },
        (403, "SignatureDoesNotMatch", text),
        (400, "InvalidSignatureException", text),
        (400, "RequestExpired", "Request has expired."),
        (403, "RequestTimeTooSkewed", s3),
    );
    let text =
        "Signature not yet current: 20261123T120501Z is still later than 20261123T120500Z (20261123T120000Z + 5 min.)";
    check(
        &Fault::NotYetCurrent { signed_at: now.plus(301), now, skew_seconds: 300 },
        (403, "SignatureDoesNotMatch", text),
        (400, "InvalidSignatureException", text),
        EC2_NOT_VALIDATED,
        (403, "RequestTimeTooSkewed", s3),
    );
}

#[test]
fn step_12_the_form_of_the_credential() {
    let text =
        "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got 'a/b'";
    check_incomplete(&Fault::CredentialForm { got: "a/b".into() }, text);
}

#[test]
fn step_13_scope() {
    let signed_at = UnixTime::parse_basic(b"20261123T120000Z").unwrap();
    let check = |scope: ScopeFault, text: &str| {
        check(
            &Fault::Scope(scope),
            (403, "SignatureDoesNotMatch", text),
            (400, "InvalidSignatureException", text),
            EC2_NOT_VALIDATED,
            (400, "AuthorizationHeaderMalformed", &format!("The authorization header is malformed; {text}")),
        );
    };
    check(
        ScopeFault { region: Some("eu-west-9".into()), ..ScopeFault::default() },
        "Credential should be scoped to a valid region, not 'eu-west-9'. ",
    );
    check(
        ScopeFault {
            region: Some("eu-west-9".into()),
            service: Some("sts".into()),
            terminator: Some("aws5_request".into()),
            date: Some(DateMismatch { scope: "20261122".into(), signed_at }),
        },
        "Credential should be scoped to a valid region, not 'eu-west-9'. Credential should be scoped to correct service: \
         'sts'. Credential should be scoped with a valid terminator: 'aws4_request', not 'aws5_request'. Date in \
         Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '20261122' != '20261123', \
         from '20261123T120000Z'.",
    );
}

#[test]
fn step_16_the_signature() {
    let text = "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                Access Key and signing method. Consult the service documentation for details.";
    let s3 = "The request signature we calculated does not match the signature you provided. Check your key and signing \
              method.";
    for fault in [Fault::SignatureMismatch, Fault::SignatureForm] {
        check(
            &fault,
            (403, "SignatureDoesNotMatch", text),
            (400, "InvalidSignatureException", text),
            EC2_NOT_VALIDATED,
            (403, "SignatureDoesNotMatch", s3),
        );
    }
}

#[test]
fn what_is_stricter_than_aws_says_what_to_change() {
    check_incomplete(
        &Fault::DuplicateHeader { name: "authorization" },
        "The header 'authorization' may be given only once.",
    );
    let text = "Authorization header may have the 'Credential' parameter only once.";
    check_incomplete(&Fault::DuplicateParameter { name: "Credential" }, text);
    check_incomplete(&Fault::NotText, "Authorization header may have visible ASCII characters only.");
    let text = "'SignedHeaders' must be a sorted list of lower-case names without duplicates.";
    check_mismatch(&Fault::SignedHeadersForm, text);
    let text = "'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization.";
    check_mismatch(&Fault::TokenNotSigned, text);
    check_mismatch(&Fault::PayloadNotSigned, "The signature must cover the whole body of the request.");
    let text = "The provided 'x-amz-content-sha256' header does not match what was computed.";
    check_mismatch(&Fault::PayloadMismatch, text);
    let text = "The signed header 'x-a' is not part of the request.";
    check_mismatch(&Fault::SignedHeaderAbsent { name: "x-a".into() }, text);
}

#[test]
fn a_refused_signature_in_whole() {
    let answer = answer(&Problem::from(Fault::MissingAuthentication), STS, ID);
    assert_eq!((answer.status, answer.content_type), (403, "text/xml"));
    assert_eq!(
        core::str::from_utf8(&answer.body).unwrap(),
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
         <Code>MissingAuthenticationToken</Code>\n    <Message>Request is missing Authentication Token</Message>\n  \
         </Error>\n  <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>\n</ErrorResponse>\n"
    );
}
