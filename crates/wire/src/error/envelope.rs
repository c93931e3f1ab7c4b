//! The envelopes: how each dialect carries code, text and request id.

use serde_json::{Value, json};

use super::{Dialect, Problem, signature, table, text};
use crate::answer::{Answer, ERROR_TYPE_HEADER, REQUEST_ID_HEADER_S3};
use crate::xml::{self, Layout};

/// Codes that services say in the words of those that stand before them.
const COMMON_CODES: [&str; 2] = ["AccessDeniedException", "InvalidSignatureException"];

/// GuardDuty's one code for whatever is the caller's fault. The body has another word for it
/// (ministryofjustice/modernisation-platform#854).
const GUARDDUTY_REFUSAL: &str = "BadRequestException";

/// A refusal in the words of a dialect, for the answer and for the audit record.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Refusal {
    /// The HTTP status.
    pub status: u16,
    /// The code, without prefix.
    pub code: &'static str,
    /// The text, possibly empty.
    pub message: String,
}

/// Says a problem in a dialect.
#[must_use]
pub fn refusal(problem: &Problem, dialect: Dialect) -> Refusal {
    let (code, status) = table::cell(problem, dialect);
    Refusal { status, code, message: text::message(problem, dialect) }
}

/// Answers a problem. `request_id` goes into the header and, where the dialect has a place for it, into the body.
#[must_use]
pub fn answer(problem: &Problem, dialect: Dialect, request_id: &str) -> Answer {
    match problem {
        // Step 1 comes before any service is known: nothing but the status.
        Problem::Target => return Answer::new(400, "", request_id, ""),
        Problem::Signature(fault) => {
            if let Some(status) = signature::bare_status(fault) {
                return Answer::new(status, "", request_id, "");
            }
        }
        Problem::ContentType if is_query(dialect) => {
            let page = "<html><head><title>403 Forbidden</title></head><body><h1>403 Forbidden</h1></body></html>\n";
            return Answer::new(403, "text/html", request_id, page);
        }
        Problem::Method if dialect != Dialect::RestXml => return wrong_method(dialect, request_id),
        Problem::MissingAction if is_aws_json(dialect) => {
            let body = named_xml("AccessDeniedException", &text::message(problem, dialect));
            return Answer::new(403, "text/xml", request_id, body);
        }
        _ => {}
    }
    wrap(problem, dialect, request_id)
}

/// awsQuery and EC2 send visitors to the documentation; JSON services know no operation by that method.
fn wrong_method(dialect: Dialect, request_id: &str) -> Answer {
    if !is_query(dialect) {
        return Answer::new(404, "text/xml", request_id, "<UnknownOperationException/>\n");
    }
    let page = match dialect {
        Dialect::Ec2 => "https://aws.amazon.com/ec2",
        _ => "https://aws.amazon.com/iam",
    };
    let mut answer = Answer::new(302, "", request_id, "");
    answer.headers.push(("Location", page.to_owned()));
    answer
}

fn is_query(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::QueryXml { .. } | Dialect::QueryJson | Dialect::Ec2)
}

fn is_aws_json(dialect: Dialect) -> bool {
    matches!(dialect, Dialect::AwsJson11 | Dialect::AwsJson10 { .. } | Dialect::CoralJson)
}

fn wrap(problem: &Problem, dialect: Dialect, request_id: &str) -> Answer {
    let refusal = &refusal(problem, dialect);
    let Refusal { status, code, message } = refusal;
    let new = |content_type, body: String| Answer::new(*status, content_type, request_id, body);
    match dialect {
        // No charset: Vault, OpenBao and Consul compare the type for equality.
        Dialect::QueryXml { namespace } => new("text/xml", query_xml(refusal, namespace, request_id)),
        Dialect::QueryJson => {
            let error = json!({"Code": code, "Message": message, "Type": fault_side(*status)});
            new("application/json", json!({"Error": error, "RequestId": request_id}).to_string())
        }
        Dialect::Ec2 => new("text/xml;charset=UTF-8", ec2_xml(refusal, request_id)),
        Dialect::AwsJson11 if is_of_the_model(problem) => {
            new("application/x-amz-json-1.1", json!({"__type": code, "Message": message}).to_string())
        }
        Dialect::AwsJson11 => new("application/x-amz-json-1.1", typed(code, message).to_string()),
        Dialect::AwsJson10 { .. } => new("application/x-amz-json-1.0", typed(&coral_type(code), message).to_string()),
        Dialect::CoralJson => {
            let output = typed(&coral_type(code), message);
            new("application/json", json!({"Output": output, "Version": "1.0"}).to_string())
        }
        Dialect::Socket => new("application/json", json!({"ErrorCode": code, "Message": message}).to_string()),
        Dialect::RestJson => {
            let body = match *code {
                GUARDDUTY_REFUSAL => json!({"__type": "InvalidInputException", "message": message}),
                _ => json!({"message": message}),
            };
            let mut answer = new("application/json", body.to_string());
            answer.headers.push((ERROR_TYPE_HEADER, (*code).to_owned()));
            answer
        }
        Dialect::NamedXml => new("text/xml", named_xml(code, message)),
        Dialect::RestXml => {
            let mut answer = new("application/xml", s3_xml(refusal, request_id));
            answer.headers = vec![(REQUEST_ID_HEADER_S3, request_id.to_owned())];
            answer
        }
    }
}

/// As agents' logs show it of the message gateway, and of JSON services that were asked for nothing.
fn named_xml(code: &'static str, message: &str) -> String {
    let layout = Layout { declaration: false, ..Layout::QUERY };
    xml::document(layout, code, None, |w| w.leaf("Message", message))
}

/// Whether the refusal is an error of its service's own model: those have their text in `Message`, in the models of Systems
/// Manager (2014-11-06) and Instance Connect (2018-04-02) alike. What is the same in all services has it in `message`.
fn is_of_the_model(problem: &Problem) -> bool {
    matches!(problem, Problem::Service { code, .. } if !COMMON_CODES.contains(code))
}

fn typed(code: &str, message: &str) -> Value {
    json!({"__type": code, "message": message})
}

fn coral_type(code: &str) -> String {
    format!("com.amazon.coral.service#{code}")
}

/// Whose fault it is, in awsQuery's words.
fn fault_side(status: u16) -> &'static str {
    if status < 500 { "Sender" } else { "Receiver" }
}

fn query_xml(refusal: &Refusal, namespace: &'static str, request_id: &str) -> String {
    xml::document(Layout::QUERY, "ErrorResponse", Some(namespace), |w| {
        w.element("Error", |w| {
            w.leaf("Type", fault_side(refusal.status));
            w.leaf("Code", refusal.code);
            w.leaf("Message", &refusal.message);
        });
        w.leaf("RequestId", request_id);
    })
}

fn ec2_xml(refusal: &Refusal, request_id: &str) -> String {
    xml::document(Layout::ONE_LINE, "Response", None, |w| {
        w.element("Errors", |w| {
            w.element("Error", |w| {
                w.leaf("Code", refusal.code);
                w.leaf("Message", &refusal.message);
            });
        });
        w.leaf("RequestID", request_id);
    })
}

fn s3_xml(refusal: &Refusal, request_id: &str) -> String {
    xml::document(Layout::ONE_LINE, "Error", None, |w| {
        w.leaf("Code", refusal.code);
        w.leaf("Message", &refusal.message);
        w.leaf("RequestId", request_id);
    })
}
