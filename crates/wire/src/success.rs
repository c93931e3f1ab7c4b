//! Envelopes of success, and the one answer that every relying party parses: GetCallerIdentity.

use serde_json::{Value, json};

use crate::answer::Answer;
use crate::error::STS_NAMESPACE;
use crate::xml::{self, Layout, Writer};

/// The namespace of EC2's answers, version 2016-11-15.
pub const EC2_NAMESPACE: &str = "http://ec2.amazonaws.com/doc/2016-11-15/";

/// `OpResponse` around `OpResult` and `ResponseMetadata`, as awsQuery services answer.
#[must_use]
pub fn query(
    operation: &'static str,
    namespace: &'static str,
    request_id: &str,
    result: impl FnOnce(&mut Writer),
) -> Answer {
    let body = xml::document_named(Layout::QUERY, &[operation, "Response"], Some(namespace), |w| {
        w.element_named(&[operation, "Result"], result);
        w.element("ResponseMetadata", |w| w.leaf("RequestId", request_id));
    });
    Answer::new(200, "text/xml", request_id, body)
}

/// As [`query`], of an operation without a result.
#[must_use]
pub fn query_done(operation: &'static str, namespace: &'static str, request_id: &str) -> Answer {
    let body = xml::document_named(Layout::QUERY, &[operation, "Response"], Some(namespace), |w| {
        w.element("ResponseMetadata", |w| w.leaf("RequestId", request_id));
    });
    Answer::new(200, "text/xml", request_id, body)
}

/// As [`query`], for clients that accept JSON.
#[must_use]
pub fn query_json(operation: &'static str, request_id: &str, result: &Value) -> Answer {
    let body = json!({
        format!("{operation}Response"): {
            format!("{operation}Result"): result,
            "ResponseMetadata": {"RequestId": request_id},
        }
    });
    Answer::new(200, "application/json", request_id, body.to_string())
}

/// Who the caller is, in XML: the elements in the order of AWS's captures.
#[must_use]
pub fn caller_identity(arn: &str, user_id: &str, account: &str, request_id: &str) -> Answer {
    query("GetCallerIdentity", STS_NAMESPACE, request_id, |w| {
        w.leaf("Arn", arn);
        w.leaf("UserId", user_id);
        w.leaf("Account", account);
    })
}

/// Who the caller is, in JSON, as Teleport, aws-iam-authenticator and Infisical ask for it.
#[must_use]
pub fn caller_identity_json(arn: &str, user_id: &str, account: &str, request_id: &str) -> Answer {
    query_json("GetCallerIdentity", request_id, &json!({"Account": account, "Arn": arn, "UserId": user_id}))
}

/// `OpResponse` around `requestId` and what `content` writes, as EC2 answers.
#[must_use]
pub fn ec2(operation: &'static str, request_id: &str, content: impl FnOnce(&mut Writer)) -> Answer {
    let body = xml::document_named(Layout::EC2, &[operation, "Response"], Some(EC2_NAMESPACE), |w| {
        w.leaf("requestId", request_id);
        content(w);
    });
    Answer::new(200, "text/xml;charset=UTF-8", request_id, body)
}

/// EC2's answer of operations that have nothing to say but that it is done.
#[must_use]
pub fn ec2_done(operation: &'static str, request_id: &str) -> Answer {
    ec2(operation, request_id, |w| w.boolean("return", true))
}

/// An awsJson 1.1 answer.
#[must_use]
pub fn aws_json(request_id: &str, output: &Value) -> Answer {
    Answer::new(200, "application/x-amz-json-1.1", request_id, output.to_string())
}

/// A restJson answer.
#[must_use]
pub fn rest_json(status: u16, request_id: &str, output: &Value) -> Answer {
    Answer::new(status, "application/json", request_id, output.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ARN: &str = "arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0";
    const USER_ID: &str = "123456789012:aws:ec2-instance:i-0123456789abcdef0";
    const ID: &str = "01234567-89ab-cdef-0123-456789abcdef";

    fn text(answer: &Answer) -> &str {
        core::str::from_utf8(&answer.body).unwrap()
    }

    #[test]
    fn caller_identity_in_xml() {
        let answer = caller_identity(ARN, USER_ID, "123456789012", ID);
        assert_eq!((answer.status, answer.content_type), (200, "text/xml"));
        assert_eq!(answer.headers, [("x-amzn-RequestId", ID.to_owned())]);
        assert_eq!(
            text(&answer),
            "<GetCallerIdentityResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  \
             <GetCallerIdentityResult>\n    \
             <Arn>arn:aws:sts::123456789012:assumed-role/aws:ec2-instance/i-0123456789abcdef0</Arn>\n    \
             <UserId>123456789012:aws:ec2-instance:i-0123456789abcdef0</UserId>\n    \
             <Account>123456789012</Account>\n  \
             </GetCallerIdentityResult>\n  \
             <ResponseMetadata>\n    \
             <RequestId>01234567-89ab-cdef-0123-456789abcdef</RequestId>\n  \
             </ResponseMetadata>\n\
             </GetCallerIdentityResponse>\n"
        );
    }

    #[test]
    fn caller_identity_in_json() {
        let answer = caller_identity_json("a", "u", "1", ID);
        assert_eq!((answer.status, answer.content_type), (200, "application/json"));
        assert_eq!(
            text(&answer),
            "{\"GetCallerIdentityResponse\":{\"GetCallerIdentityResult\":{\"Account\":\"1\",\"Arn\":\"a\",\"UserId\":\"u\"},\
             \"ResponseMetadata\":{\"RequestId\":\"01234567-89ab-cdef-0123-456789abcdef\"}}}"
        );
    }

    #[test]
    fn ec2_answers() {
        let answer = ec2_done("CreateTags", ID);
        assert_eq!((answer.status, answer.content_type), (200, "text/xml;charset=UTF-8"));
        assert_eq!(
            text(&answer),
            "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n\
             <CreateTagsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\">\n    \
             <requestId>01234567-89ab-cdef-0123-456789abcdef</requestId>\n    \
             <return>true</return>\n\
             </CreateTagsResponse>"
        );
    }

    #[test]
    fn json_answers() {
        let output = json!({"Success": true});
        let answer = aws_json(ID, &output);
        assert_eq!(
            (answer.status, answer.content_type, text(&answer)),
            (200, "application/x-amz-json-1.1", "{\"Success\":true}")
        );
        let answer = rest_json(202, ID, &output);
        assert_eq!(
            (answer.status, answer.content_type, text(&answer)),
            (202, "application/json", "{\"Success\":true}")
        );
    }
}
