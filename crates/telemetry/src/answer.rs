//! What clients are answered, in the encoding in which they asked.

use serde_json::json;

use crate::protobuf::{put_bytes, put_number};

/// How a client encodes what it sends, and wants to be answered.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Form {
    /// OTLP in protobuf.
    OtlpProtobuf,
    /// OTLP in JSON.
    OtlpJson,
    /// OCSF events, by themselves.
    Ocsf,
}

impl Form {
    /// The `Content-Type` of an answer.
    #[must_use]
    pub const fn content_type(self) -> &'static str {
        match self {
            Self::OtlpProtobuf => "application/x-protobuf",
            Self::OtlpJson | Self::Ocsf => "application/json",
        }
    }

    /// An `ExportLogsServiceResponse`: what was rejected, and why; all is well without. The answer to OCSF events has the
    /// same form in JSON.
    #[must_use]
    pub fn accepted(self, rejected: usize, message: Option<&str>) -> Vec<u8> {
        let count = u64::try_from(rejected).unwrap_or(u64::MAX);
        match self {
            Self::OtlpProtobuf if rejected == 0 => Vec::new(),
            Self::OtlpProtobuf => {
                let mut partial = Vec::new();
                put_number(&mut partial, 1, count);
                put_bytes(&mut partial, 2, message.unwrap_or_default().as_bytes());
                let mut out = Vec::new();
                put_bytes(&mut out, 1, &partial);
                out
            }
            Self::OtlpJson | Self::Ocsf if rejected == 0 => b"{}".to_vec(),
            // 64-bit integers are texts there.
            Self::OtlpJson | Self::Ocsf => {
                let partial = json!({"rejectedLogRecords": count.to_string(), "errorMessage": message});
                json!({ "partialSuccess": partial }).to_string().into_bytes()
            }
        }
    }

    /// A `google.rpc.Status`. Source: OTLP specification, "Failures": servers may leave `code` out, and clients must not
    /// look at it.
    #[must_use]
    pub fn status(self, message: &str) -> Vec<u8> {
        match self {
            Self::OtlpProtobuf => {
                let mut out = Vec::new();
                put_bytes(&mut out, 2, message.as_bytes());
                out
            }
            Self::OtlpJson | Self::Ocsf => json!({ "message": message }).to_string().into_bytes(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsPartialSuccess, ExportLogsServiceResponse};
    use prost::Message;

    #[test]
    fn answers_are_read_by_the_clients_own_types() {
        for (rejected, message) in [(0, None), (3, Some("record 1: no")), (1 << 40, Some("ü"))] {
            let partial = ExportLogsPartialSuccess {
                rejected_log_records: i64::try_from(rejected).unwrap(),
                error_message: message.unwrap_or_default().to_owned(),
            };
            let expected = ExportLogsServiceResponse { partial_success: (rejected > 0).then_some(partial) };
            let protobuf = Form::OtlpProtobuf.accepted(rejected, message);
            assert_eq!(ExportLogsServiceResponse::decode(protobuf.as_slice()).unwrap(), expected);
        }
        assert_eq!(Form::OtlpJson.accepted(0, None), b"{}");
        let json = String::from_utf8(Form::Ocsf.accepted(2, Some("why"))).unwrap();
        assert_eq!(json, r#"{"partialSuccess":{"errorMessage":"why","rejectedLogRecords":"2"}}"#);
        assert_eq!(Form::OtlpProtobuf.status("no"), [0x12, 2, b'n', b'o']);
        assert_eq!(Form::OtlpJson.status("no"), br#"{"message":"no"}"#);
    }
}
