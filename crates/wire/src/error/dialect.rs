//! In which form a service refuses, told from the service's name and from what the request looks like.

/// The form of a refusal.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Dialect {
    /// awsQuery: `ErrorResponse` in the service's XML namespace. STS, IAM, SNS, …
    QueryXml {
        /// The namespace, a URL.
        namespace: &'static str,
    },
    /// awsQuery, asked for with `Accept: application/json`.
    QueryJson,
    /// ec2Query: `Response` without a namespace.
    Ec2,
    /// awsJson 1.1: SSM, Instance Connect.
    AwsJson11,
    /// awsJson 1.0: DynamoDB, SQS. Types carry the prefix `com.amazon.coral.service#`.
    AwsJson10 {
        /// The status of a refused credential: 403 at SQS, 400 at DynamoDB.
        denied: u16,
    },
    /// JSON under `Content-Type: application/json`, as the host-key script of Instance Connect sends it:
    /// everything inside `Output`.
    CoralJson,
    /// JSON with `ErrorCode` and `Message`: what a handshake of Instance Connect's WebSocket is refused with
    /// (aidansteele/rdsconn#5).
    Socket,
    /// restJson 1: GuardDuty. The code is in a header.
    RestJson,
    /// The message gateway: XML whose only element has the code as its name. Agents look for that name in the body.
    NamedXml,
    /// S3.
    RestXml,
}

/// The namespace of STS, as of version 2011-06-15.
pub const STS_NAMESPACE: &str = "https://sts.amazonaws.com/doc/2011-06-15/";

/// The namespace of awsQuery services that are not in the list below: the one of AWS's own general faults.
const GENERAL_NAMESPACE: &str = "http://webservices.amazon.com/AWSFault/2005-15-09";

/// Namespaces of awsQuery services, by signing name. Source: botocore's service models, `metadata.xmlNamespace`.
const NAMESPACES: [(&str, &str); 12] = [
    ("sts", STS_NAMESPACE),
    ("iam", "https://iam.amazonaws.com/doc/2010-05-08/"),
    ("sns", "http://sns.amazonaws.com/doc/2010-03-31/"),
    ("sqs", "http://queue.amazonaws.com/doc/2012-11-05/"),
    ("cloudformation", "http://cloudformation.amazonaws.com/doc/2010-05-15/"),
    ("autoscaling", "http://autoscaling.amazonaws.com/doc/2011-01-01/"),
    ("elasticloadbalancing", "http://elasticloadbalancing.amazonaws.com/doc/2015-12-01/"),
    ("monitoring", "http://monitoring.amazonaws.com/doc/2010-08-01/"),
    ("rds", "http://rds.amazonaws.com/doc/2014-10-31/"),
    ("redshift", "http://redshift.amazonaws.com/doc/2012-12-01/"),
    ("elasticache", "http://elasticache.amazonaws.com/doc/2015-02-02/"),
    ("email", "http://ses.amazonaws.com/doc/2010-12-01/"),
];

/// What of a request tells its dialect. Nothing here needs to be signed: it decides the form of an answer only.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct RequestShape<'a> {
    /// The service's signing name; empty if unknown.
    pub service: &'a str,
    /// `Content-Type`.
    pub content_type: Option<&'a str>,
    /// `Accept`.
    pub accept: Option<&'a str>,
    /// `X-Amz-Target`.
    pub target: Option<&'a str>,
    /// Whether the query string or the form names an `Action`.
    pub has_action: bool,
    /// Whether its path is that of a WebSocket.
    pub is_socket: bool,
}

/// The dialect in which this request is to be answered: the service's own, or for a service that is not served
/// here, the one that its client evidently speaks.
#[must_use]
pub fn dialect_for(request: &RequestShape<'_>) -> Dialect {
    let media_type = request.content_type.map(media_type).unwrap_or_default();
    let is_plain_json = media_type.eq_ignore_ascii_case("application/json");
    match request.service {
        "ec2" => return Dialect::Ec2,
        "s3" | "s3-object-lambda" | "s3express" => return Dialect::RestXml,
        "sts" | "iam" => return query(request),
        "ec2-instance-connect" if request.is_socket => return Dialect::Socket,
        "ec2-instance-connect" if is_plain_json => return Dialect::CoralJson,
        "ssm" | "ec2-instance-connect" | "ec2messages" => return Dialect::AwsJson11,
        "guardduty" | "guardduty-data" => return Dialect::RestJson,
        "ssmmessages" => return Dialect::NamedXml,
        _ => {}
    }
    if media_type.eq_ignore_ascii_case("application/x-amz-json-1.0") {
        return Dialect::AwsJson10 { denied: if request.service == "sqs" { 403 } else { 400 } };
    }
    if media_type.eq_ignore_ascii_case("application/x-amz-json-1.1") || request.target.is_some() {
        return Dialect::AwsJson11;
    }
    if media_type.eq_ignore_ascii_case("application/x-www-form-urlencoded") || request.has_action {
        return query(request);
    }
    Dialect::RestJson
}

fn query(request: &RequestShape<'_>) -> Dialect {
    if request.accept.is_some_and(prefers_json) {
        return Dialect::QueryJson;
    }
    let known = NAMESPACES.iter().find(|(service, _)| *service == request.service);
    Dialect::QueryXml { namespace: known.map_or(GENERAL_NAMESPACE, |(_, namespace)| namespace) }
}

/// Whether JSON is named in this `Accept` before any XML. Weights are not read: no client of these services sends any.
fn prefers_json(accept: &str) -> bool {
    let mut types = accept.split(',').map(media_type);
    types.find_map(|name| match name.to_ascii_lowercase().as_str() {
        "application/json" => Some(true),
        "text/xml" | "application/xml" => Some(false),
        _ => None,
    }) == Some(true)
}

/// `type/subtype` without parameters.
fn media_type(value: &str) -> &str {
    value.split(';').next().unwrap_or_default().trim()
}

#[cfg(test)]
mod tests {
    use super::*;

    const FORM: Option<&str> = Some("application/x-www-form-urlencoded; charset=utf-8");

    fn shape<'a>(service: &'a str, content_type: Option<&'a str>) -> RequestShape<'a> {
        RequestShape { service, content_type, ..RequestShape::default() }
    }

    fn general() -> Dialect {
        Dialect::QueryXml { namespace: "http://webservices.amazon.com/AWSFault/2005-15-09" }
    }

    #[test]
    fn own_services_speak_their_own_dialect_whatever_comes() {
        let odd = Some("application/x-amz-json-1.0");
        let sts = Dialect::QueryXml { namespace: "https://sts.amazonaws.com/doc/2011-06-15/" };
        for content_type in [None, FORM, odd, Some("text/plain")] {
            assert_eq!(dialect_for(&shape("sts", content_type)), sts);
            assert_eq!(dialect_for(&shape("ec2", content_type)), Dialect::Ec2);
            assert_eq!(dialect_for(&shape("ssm", content_type)), Dialect::AwsJson11);
            assert_eq!(dialect_for(&shape("ec2messages", content_type)), Dialect::AwsJson11);
            assert_eq!(dialect_for(&shape("ec2-instance-connect", content_type)), Dialect::AwsJson11);
            assert_eq!(dialect_for(&shape("guardduty", content_type)), Dialect::RestJson);
            assert_eq!(dialect_for(&shape("guardduty-data", content_type)), Dialect::RestJson);
            assert_eq!(dialect_for(&shape("ssmmessages", content_type)), Dialect::NamedXml);
            assert_eq!(dialect_for(&shape("s3", content_type)), Dialect::RestXml);
        }
    }

    #[test]
    fn the_host_key_script_is_answered_in_its_wrapping() {
        assert_eq!(dialect_for(&shape("ec2-instance-connect", Some("application/json"))), Dialect::CoralJson);
    }

    #[test]
    fn a_handshake_is_refused_in_its_own_form() {
        let socket = RequestShape { is_socket: true, ..shape("ec2-instance-connect", Some("application/json")) };
        assert_eq!(dialect_for(&socket), Dialect::Socket);
    }

    #[test]
    fn query_services_answer_json_to_who_asks_for_it() {
        let json = |accept| dialect_for(&RequestShape { accept: Some(accept), ..shape("sts", FORM) });
        let xml = Dialect::QueryXml { namespace: STS_NAMESPACE };
        assert_eq!(json("application/json"), Dialect::QueryJson);
        assert_eq!(json("Application/JSON; charset=utf-8"), Dialect::QueryJson);
        assert_eq!(json("application/json, text/xml"), Dialect::QueryJson);
        assert_eq!(json("text/xml, application/json"), xml);
        assert_eq!(json("*/*"), xml);
        assert_eq!(json(""), xml);
        let ec2 = RequestShape { accept: Some("application/json"), ..shape("ec2", FORM) };
        assert_eq!(dialect_for(&ec2), Dialect::Ec2);
    }

    #[test]
    fn unknown_services_are_told_by_their_request() {
        let json10 = Some("application/x-amz-json-1.0");
        assert_eq!(dialect_for(&shape("sqs", json10)), Dialect::AwsJson10 { denied: 403 });
        assert_eq!(dialect_for(&shape("dynamodb", json10)), Dialect::AwsJson10 { denied: 400 });
        assert_eq!(dialect_for(&shape("kinesis", Some("application/x-amz-json-1.1"))), Dialect::AwsJson11);
        let target = RequestShape { target: Some("Logs_20140328.PutLogEvents"), ..shape("logs", None) };
        assert_eq!(dialect_for(&target), Dialect::AwsJson11);
        let sqs = Dialect::QueryXml { namespace: "http://queue.amazonaws.com/doc/2012-11-05/" };
        assert_eq!(dialect_for(&shape("sqs", FORM)), sqs);
        assert_eq!(dialect_for(&shape("surprise", FORM)), general());
        assert_eq!(dialect_for(&RequestShape { has_action: true, ..shape("", None) }), general());
        assert_eq!(dialect_for(&shape("lambda", Some("application/json"))), Dialect::RestJson);
        assert_eq!(dialect_for(&shape("", None)), Dialect::RestJson);
    }
}
