//! Every cell of the table, and every envelope byte for byte.

use super::*;
use crate::json::JsonError;
use crate::query::{ParameterError, QueryError};

const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";
const ARN: &str = "arn:aws:sts::123456789012:assumed-role/R/i-0123456789abcdef0";
const STS: Dialect = Dialect::QueryXml { namespace: STS_NAMESPACE };
const SQS: Dialect = Dialect::AwsJson10 { denied: 403 };

type Said = (u16, &'static str, &'static str);

fn said(problem: &Problem, dialect: Dialect) -> (u16, &'static str, String) {
    let Refusal { status, code, message } = refusal(problem, dialect);
    (status, code, message)
}

/// Checks one problem in all families: STS, awsJson 1.1, the status in restJson, EC2, S3.
fn check(problem: &Problem, sts: Said, json: Said, rest_status: u16, ec2: Said, s3: Said) {
    let own = |(status, code, message): Said| (status, code, message.to_owned());
    assert_eq!(said(problem, STS), own(sts));
    assert_eq!(said(problem, Dialect::QueryJson), own(sts));
    assert_eq!(said(problem, Dialect::AwsJson11), own(json));
    assert_eq!(said(problem, Dialect::CoralJson), own(json));
    assert_eq!(said(problem, Dialect::AwsJson10 { denied: 400 }), own(json));
    assert_eq!(said(problem, Dialect::RestJson), own((rest_status, json.1, json.2)));
    assert_eq!(said(problem, Dialect::Ec2), own(ec2));
    assert_eq!(said(problem, Dialect::RestXml), own(s3));
}

const NOT_VALIDATED: Said = (401, "AuthFailure", "AWS was not able to validate the provided access credentials");
const EXPIRED: Said = (400, "RequestExpired", "Request has expired.");

#[test]
fn refused_credentials() {
    let text = "The security token included in the request is invalid";
    check(
        &Problem::InvalidToken,
        (403, "InvalidClientTokenId", text),
        (400, "UnrecognizedClientException", text),
        403,
        NOT_VALIDATED,
        (400, "InvalidToken", "The provided token is malformed or otherwise invalid."),
    );
    let text = "The security token included in the request is invalid.";
    check(
        &Problem::UnknownKey,
        (403, "InvalidClientTokenId", text),
        (400, "UnrecognizedClientException", text),
        403,
        NOT_VALIDATED,
        (403, "InvalidAccessKeyId", "The AWS Access Key Id you provided does not exist in our records."),
    );
    let text = "The security token included in the request is expired";
    check(
        &Problem::ExpiredToken,
        (403, "ExpiredToken", text),
        (400, "ExpiredTokenException", text),
        403,
        EXPIRED,
        (400, "ExpiredToken", "The provided token has expired."),
    );
    check(
        &Problem::RequestExpired,
        (400, "RequestExpired", "Request has expired."),
        (400, "RequestExpired", "Request has expired."),
        403,
        EXPIRED,
        (403, "AccessDenied", "Request has expired"),
    );
}

#[test]
fn sqs_refuses_credentials_with_403_and_calls_with_400() {
    for problem in [Problem::InvalidToken, Problem::UnknownKey, Problem::ExpiredToken] {
        assert_eq!(refusal(&problem, SQS).status, 403);
    }
    assert_eq!(refusal(&Problem::Throttled, SQS).status, 400);
    assert_eq!(refusal(&Problem::Internal, SQS).status, 500);
}

#[test]
fn refused_callers() {
    let resource = Some("arn:aws:ec2:r:a:instance/*".to_owned());
    let denied = |resource| Problem::AccessDenied {
        principal: ARN.to_owned(),
        action: "ec2:StopInstances".to_owned(),
        resource,
    };
    let text = "User: arn:aws:sts::123456789012:assumed-role/R/i-0123456789abcdef0 is not authorized to perform: \
                ec2:StopInstances on resource: arn:aws:ec2:r:a:instance/*";
    let ec2 = "You are not authorized to perform this operation. User: \
               arn:aws:sts::123456789012:assumed-role/R/i-0123456789abcdef0 is not authorized to perform: \
               ec2:StopInstances on resource: arn:aws:ec2:r:a:instance/*";
    let json = "User: arn:aws:sts::123456789012:assumed-role/R/i-0123456789abcdef0 is not authorized to perform: \
                ec2:StopInstances on resource: arn:aws:ec2:r:a:instance/* because no identity-based policy allows the \
                ec2:StopInstances action";
    check(
        &denied(resource),
        (403, "AccessDenied", text),
        (400, "AccessDeniedException", json),
        403,
        (403, "UnauthorizedOperation", ec2),
        (403, "AccessDenied", "Access Denied"),
    );
    let short = "User: arn:aws:sts::123456789012:assumed-role/R/i-0123456789abcdef0 is not authorized to perform: \
                 ec2:StopInstances";
    assert_eq!(refusal(&denied(None), STS).message, short);
    let text = "The AWS Access Key Id needs a subscription for the service";
    check(
        &Problem::OptInRequired,
        (403, "OptInRequired", text),
        (400, "OptInRequired", text),
        403,
        (401, "OptInRequired", text),
        (403, "NotSignedUp", text),
    );
}

#[test]
fn unknown_operations() {
    let problem = Problem::InvalidAction { action: "Frobnicate".to_owned(), version: Some("2011-06-15".to_owned()) };
    let method = (405, "MethodNotAllowed", "The specified method is not allowed against this resource.");
    check(
        &problem,
        (400, "InvalidAction", "Could not find operation Frobnicate for version 2011-06-15"),
        (400, "UnknownOperationException", ""),
        404,
        (400, "InvalidAction", "The action Frobnicate is not valid for this web service."),
        method,
    );
    let problem = Problem::InvalidAction { action: "Frobnicate".to_owned(), version: None };
    assert_eq!(refusal(&problem, STS).message, "Could not find operation Frobnicate for version NO_VERSION_SPECIFIED");
    check(
        &Problem::MissingAction,
        (400, "MissingAction", "Missing Action"),
        (403, "AccessDeniedException", "Unable to determine service/operation name to be authorized"),
        403,
        (400, "MissingAction", "The request must contain the parameter Action"),
        method,
    );
}

#[test]
fn unreadable_parameters() {
    let text = "Illegal hex character in escape % pattern: %xy";
    check(
        &Problem::Query(QueryError::IllegalEscape("xy".to_owned())),
        (400, "MalformedQueryString", text),
        (400, "SerializationException", text),
        400,
        (400, "MalformedQueryString", text),
        (400, "InvalidURI", text),
    );
}

#[test]
fn missing_and_unknown_parameters() {
    let text = "1 validation error detected: Value null at 'filter.1.name' failed to satisfy constraint: Member must not be null";
    check(
        &Problem::Parameter(ParameterError::Missing { name: "Filter.1.Name".to_owned() }),
        (400, "ValidationError", text),
        (400, "ValidationException", text),
        400,
        (400, "MissingParameter", "The request must contain the parameter Filter.1.Name"),
        (400, "InvalidArgument", text),
    );
    let text = "The parameter Item is not recognized";
    check(
        &Problem::UnknownParameter { name: "Item".to_owned() },
        (400, "ValidationError", text),
        (400, "ValidationException", text),
        400,
        (400, "UnknownParameter", text),
        (400, "InvalidArgument", text),
    );
}

#[test]
fn parameters_of_the_wrong_kind() {
    let name = || "DurationSeconds".to_owned();
    let text = "Value '9e2' at 'durationSeconds' is not an integer";
    check(
        &Problem::Parameter(ParameterError::NotInteger { name: name(), value: "9e2".to_owned() }),
        (400, "MalformedInput", text),
        (400, "SerializationException", text),
        400,
        (400, "InvalidParameterValue", "Invalid value '9e2' for DurationSeconds."),
        (400, "InvalidArgument", text),
    );
    let text = "Value 'maybe' at 'durationSeconds' is not a boolean";
    check(
        &Problem::Parameter(ParameterError::NotBoolean { name: name(), value: "maybe".to_owned() }),
        (400, "MalformedInput", text),
        (400, "SerializationException", text),
        400,
        (400, "InvalidParameterValue", "Invalid value 'maybe' for DurationSeconds."),
        (400, "InvalidArgument", text),
    );
}

#[test]
fn parameters_out_of_bounds() {
    let name = || "DurationSeconds".to_owned();
    let text = "1 validation error detected: Value '0' at 'durationSeconds' failed to satisfy constraint: \
                Member must have value greater than or equal to 900";
    let ec2 = "Value ( 0 ) for parameter DurationSeconds is invalid. Expecting a value greater than 899.";
    check(
        &Problem::Parameter(ParameterError::TooSmall { name: name(), value: 0, least: 900 }),
        (400, "ValidationError", text),
        (400, "ValidationException", text),
        400,
        (400, "InvalidParameterValue", ec2),
        (400, "InvalidArgument", text),
    );
    let text = "1 validation error detected: Value '7' at 'durationSeconds' failed to satisfy constraint: \
                Member must have value less than or equal to 6";
    let ec2 = "Value ( 7 ) for parameter DurationSeconds is invalid. Expecting a value less than 7.";
    check(
        &Problem::Parameter(ParameterError::TooLarge { name: name(), value: 7, most: 6 }),
        (400, "ValidationError", text),
        (400, "ValidationException", text),
        400,
        (400, "InvalidParameterValue", ec2),
        (400, "InvalidArgument", text),
    );
    let text = "1 validation error detected: Value 'x' at 'durationSeconds' failed to satisfy constraint: \
                Member must satisfy enum value set: [a, b]";
    check(
        &Problem::Parameter(ParameterError::NotOneOf { name: name(), value: "x".to_owned(), possible: &["a", "b"] }),
        (400, "ValidationError", text),
        (400, "ValidationException", text),
        400,
        (400, "InvalidParameterValue", "Invalid value 'x' for DurationSeconds."),
        (400, "InvalidArgument", text),
    );
}

#[test]
fn bodies_and_values() {
    check(
        &Problem::Json(JsonError::Syntax),
        (400, "MalformedInput", ""),
        (400, "SerializationException", ""),
        400,
        (400, "InvalidParameterValue", ""),
        (400, "InvalidArgument", ""),
    );
    let text =
        "1 validation error detected: Value null at 'instanceId' failed to satisfy constraint: Member must not be null";
    check(
        &Problem::Json(JsonError::Missing { key: "InstanceId".to_owned() }),
        (400, "ValidationError", text),
        (400, "ValidationException", text),
        400,
        (400, "MissingParameter", text),
        (400, "InvalidArgument", text),
    );
    check(
        &Problem::Validation { message: "m".to_owned() },
        (400, "ValidationError", "m"),
        (400, "ValidationException", "m"),
        400,
        (400, "InvalidParameterValue", "m"),
        (400, "InvalidArgument", "m"),
    );
}

#[test]
fn our_own_troubles() {
    check(
        &Problem::Throttled,
        (400, "Throttling", "Rate exceeded"),
        (400, "ThrottlingException", "Rate exceeded"),
        429,
        (503, "RequestLimitExceeded", "Request limit exceeded."),
        (503, "SlowDown", "Please reduce your request rate."),
    );
    let text = "An internal error has occurred";
    check(
        &Problem::Internal,
        (500, "InternalFailure", text),
        (500, "InternalFailure", text),
        500,
        (500, "InternalError", text),
        (500, "InternalError", text),
    );
    let text = "The service is unavailable for the moment";
    check(
        &Problem::Unavailable,
        (503, "ServiceUnavailable", text),
        (503, "ServiceUnavailable", text),
        503,
        (503, "Unavailable", text),
        (503, "ServiceUnavailable", text),
    );
}

#[test]
fn what_a_service_says_is_the_same_everywhere() {
    let message = "The instance ID 'i-0' does not exist".to_owned();
    let problem = Problem::Service { status: 418, code: "InvalidInstanceID.NotFound", message };
    let same = (418, "InvalidInstanceID.NotFound", "The instance ID 'i-0' does not exist");
    check(&problem, same, same, 418, same, same);
    assert_eq!(refusal(&problem, SQS).status, 418);
}

#[test]
fn what_a_service_says_itself_is_in_its_models_member() {
    let said = |code| {
        let problem = Problem::Service { status: 400, code, message: "No.".to_owned() };
        body(&answer(&problem, Dialect::AwsJson11, ID)).to_owned()
    };
    assert_eq!(said("InvalidArgsException"), r#"{"Message":"No.","__type":"InvalidArgsException"}"#);
    assert_eq!(said("AccessDeniedException"), r#"{"__type":"AccessDeniedException","message":"No."}"#);
}

fn body(answer: &crate::Answer) -> &str {
    core::str::from_utf8(&answer.body).unwrap()
}

/// Checks the whole answer to an unknown key.
fn check_envelope(dialect: Dialect, status: u16, content_type: &str, expected: &str) {
    let answer = answer(&Problem::UnknownKey, dialect, ID);
    assert_eq!((answer.status, answer.content_type, body(&answer)), (status, content_type, expected));
}

#[test]
fn query_envelopes() {
    check_envelope(
        STS,
        403,
        "text/xml",
        "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n    \
         <Code>InvalidClientTokenId</Code>\n    \
         <Message>The security token included in the request is invalid.</Message>\n  </Error>\n  \
         <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>\n</ErrorResponse>\n",
    );
    check_envelope(
        Dialect::QueryJson,
        403,
        "application/json",
        "{\"Error\":{\"Code\":\"InvalidClientTokenId\",\"Message\":\"The security token included in the request is \
         invalid.\",\"Type\":\"Sender\"},\"RequestId\":\"01234567-89ab-cdef-0123-456789abcdef\"}",
    );
    for dialect in [STS, Dialect::QueryJson] {
        for (problem, side) in [(Problem::Internal, "Receiver"), (Problem::Unavailable, "Receiver")] {
            assert!(body(&answer(&problem, dialect, ID)).contains(side));
        }
    }
}

#[test]
fn xml_envelopes_without_types() {
    check_envelope(
        Dialect::Ec2,
        401,
        "text/xml;charset=UTF-8",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Response><Errors><Error><Code>AuthFailure</Code><Message>AWS was \
         not able to validate the provided access credentials</Message></Error></Errors>\
         <RequestID>01234567-89ab-cdef-0123-456789abcdef</RequestID></Response>",
    );
    check_envelope(
        Dialect::RestXml,
        403,
        "application/xml",
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>InvalidAccessKeyId</Code><Message>The AWS Access Key \
         Id you provided does not exist in our records.</Message>\
         <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId></Error>",
    );
}

#[test]
fn the_message_gateway_names_the_error_by_an_element() {
    let problem = Problem::AccessDenied {
        principal: "arn:aws:sts::123456789012:assumed-role/R/i-1".to_owned(),
        action: "ssmmessages:CreateControlChannel".to_owned(),
        resource: None,
    };
    let refused = answer(&problem, Dialect::NamedXml, ID);
    let expected = "<AccessDeniedException>\n  <Message>User: arn:aws:sts::123456789012:assumed-role/R/i-1 is not \
                    authorized to perform: ssmmessages:CreateControlChannel because no identity-based policy allows the \
                    ssmmessages:CreateControlChannel action</Message>\n</AccessDeniedException>\n";
    assert_eq!((refused.status, refused.content_type, body(&refused)), (403, "text/xml", expected));
    // That one name sends agents to another service. Nothing else may have it.
    for problem in [
        Problem::InvalidToken,
        Problem::UnknownKey,
        Problem::ExpiredToken,
        Problem::Throttled,
        Problem::Internal,
        Problem::Unavailable,
        Problem::Method,
        Problem::Signature(inborn_sigv4::Fault::MissingAuthentication),
        Problem::Signature(inborn_sigv4::Fault::SignatureMismatch),
        Problem::Json(crate::json::JsonError::Syntax),
    ] {
        let answer = answer(&problem, Dialect::NamedXml, ID);
        assert!(!body(&answer).contains("AccessDenied"), "{problem:?}: {}", body(&answer));
    }
}

#[test]
fn json_envelopes() {
    let text = "The security token included in the request is invalid.";
    let bare = format!("{{\"__type\":\"UnrecognizedClientException\",\"message\":\"{text}\"}}");
    check_envelope(Dialect::AwsJson11, 400, "application/x-amz-json-1.1", &bare);
    let long =
        format!("{{\"__type\":\"com.amazon.coral.service#UnrecognizedClientException\",\"message\":\"{text}\"}}");
    check_envelope(SQS, 403, "application/x-amz-json-1.0", &long);
    let wrapped = format!("{{\"Output\":{long},\"Version\":\"1.0\"}}");
    check_envelope(Dialect::CoralJson, 400, "application/json", &wrapped);
    check_envelope(Dialect::RestJson, 403, "application/json", &format!("{{\"message\":\"{text}\"}}"));
}

#[test]
fn headers() {
    let headers = |dialect| answer(&Problem::UnknownKey, dialect, ID).headers;
    let id = ("x-amzn-RequestId", ID.to_owned());
    for dialect in [STS, Dialect::QueryJson, Dialect::Ec2, Dialect::AwsJson11, SQS, Dialect::CoralJson] {
        assert_eq!(headers(dialect), std::slice::from_ref(&id));
    }
    let error_type = ("x-amzn-ErrorType", "UnrecognizedClientException".to_owned());
    assert_eq!(headers(Dialect::RestJson), [id, error_type]);
    assert_eq!(headers(Dialect::RestXml), [("x-amz-request-id", ID.to_owned())]);
}

#[test]
fn texts_are_escaped() {
    let problem = Problem::Validation { message: "a<b>&\"c\"\n\u{1}".to_owned() };
    assert!(body(&answer(&problem, STS, ID)).contains("<Message>a&lt;b&gt;&amp;\"c\"\n\u{fffd}</Message>"));
    assert_eq!(body(&answer(&problem, Dialect::RestJson, ID)), r#"{"message":"a<b>&\"c\"\n\u0001"}"#);
}

#[test]
fn a_broken_target_gets_a_bare_400() {
    for dialect in [STS, Dialect::QueryJson, Dialect::Ec2, Dialect::AwsJson11, Dialect::RestJson, Dialect::RestXml] {
        let answer = answer(&Problem::Target, dialect, ID);
        assert_eq!((answer.status, answer.content_type, body(&answer)), (400, "", ""));
    }
}

#[test]
fn a_wrong_method_leads_to_the_documentation_or_nowhere() {
    for (dialect, page) in [
        (STS, "https://aws.amazon.com/iam"),
        (Dialect::QueryJson, "https://aws.amazon.com/iam"),
        (Dialect::Ec2, "https://aws.amazon.com/ec2"),
    ] {
        let answer = answer(&Problem::Method, dialect, ID);
        assert_eq!((answer.status, body(&answer)), (302, ""));
        assert!(answer.headers.contains(&("Location", page.to_owned())));
    }
    for dialect in [Dialect::AwsJson11, SQS, Dialect::CoralJson, Dialect::RestJson, Dialect::NamedXml] {
        let answer = answer(&Problem::Method, dialect, ID);
        assert_eq!((answer.status, body(&answer)), (404, "<UnknownOperationException/>\n"));
    }
    assert_eq!(answer(&Problem::Method, Dialect::RestXml, ID).status, 405);
}

#[test]
fn a_wrong_content_type() {
    for dialect in [STS, Dialect::QueryJson, Dialect::Ec2] {
        let answer = answer(&Problem::ContentType, dialect, ID);
        assert_eq!((answer.status, answer.content_type), (403, "text/html"));
        assert!(body(&answer).starts_with("<html>"));
    }
    let answer = answer(&Problem::ContentType, Dialect::AwsJson11, ID);
    assert_eq!((answer.status, body(&answer)), (400, r#"{"__type":"SerializationException","message":""}"#));
}

#[test]
fn a_json_service_asked_for_nothing() {
    for dialect in [Dialect::AwsJson11, SQS, Dialect::CoralJson] {
        let answer = answer(&Problem::MissingAction, dialect, ID);
        let expected = "<AccessDeniedException>\n  <Message>Unable to determine service/operation name to be \
                        authorized</Message>\n</AccessDeniedException>\n";
        assert_eq!((answer.status, body(&answer)), (403, expected));
    }
}
