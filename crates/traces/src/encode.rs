//! `ExportTraceServiceRequest` in protobuf. Source of the numbers: opentelemetry-proto 1.7, `trace/v1/trace.proto`,
//! `common/v1/common.proto`, `collector/trace/v1/trace_service.proto`.

use crate::span::{Kind, Span, Value};

/// The name of what makes the spans.
const SCOPE: &str = "inborn";

/// Sampled, in the flags of a span.
const SAMPLED: u32 = 1;

/// What an export says: these spans, of a program with these attributes.
pub(crate) fn request(resource: &[(Box<str>, Box<str>)], spans: &[Span]) -> Vec<u8> {
    let mut scope_spans = Message::default();
    scope_spans.message(1, |scope| {
        scope.text(1, SCOPE);
        scope.text(2, env!("CARGO_PKG_VERSION"));
    });
    for span in spans {
        scope_spans.message(2, |message| put_span(message, span));
    }
    let mut request = Message::default();
    request.message(1, |resource_spans| {
        resource_spans.message(1, |message| {
            for (name, value) in resource {
                message.message(1, |attribute| put_attribute(attribute, name, &Value::Text(value.clone())));
            }
        });
        resource_spans.bytes(2, &scope_spans.0);
    });
    request.0
}

fn put_span(message: &mut Message, span: &Span) {
    message.bytes(1, &span.trace);
    message.bytes(2, &span.id);
    if let Some(parent) = span.parent {
        message.bytes(4, &parent);
    }
    message.text(5, &span.name);
    let kind = match span.kind {
        Kind::Server => 2,
        Kind::Client => 3,
    };
    message.number(6, kind);
    message.fixed64(7, span.started_ns);
    message.fixed64(8, span.ended_ns);
    for (name, value) in &span.attributes {
        message.message(9, |attribute| put_attribute(attribute, name, value));
    }
    if span.is_error {
        // STATUS_CODE_ERROR. Without one it is unset, which is how what went well is told.
        message.message(15, |status| status.number(3, 2));
    }
    message.fixed32(16, SAMPLED);
}

fn put_attribute(message: &mut Message, name: &str, value: &Value) {
    message.text(1, name);
    message.message(2, |any| match value {
        Value::Text(text) => any.text(1, text),
        Value::Bool(truth) => any.number(2, u64::from(*truth)),
        Value::Number(number) => any.number(3, number.cast_unsigned()),
    });
}

/// A message of protobuf as it is written.
#[derive(Default)]
struct Message(Vec<u8>);

impl Message {
    fn varint(&mut self, mut number: u64) {
        while let Ok(low @ 0x80..) = u8::try_from((number & 0x7f) | if number > 0x7f { 0x80 } else { 0 }) {
            self.0.push(low);
            number >>= 7;
        }
        self.0.push(u8::try_from(number & 0x7f).unwrap_or_default());
    }

    fn tag(&mut self, field: u32, wire_type: u32) {
        self.varint(u64::from((field << 3) | wire_type));
    }

    fn number(&mut self, field: u32, number: u64) {
        self.tag(field, 0);
        self.varint(number);
    }

    fn fixed64(&mut self, field: u32, number: u64) {
        self.tag(field, 1);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn fixed32(&mut self, field: u32, number: u32) {
        self.tag(field, 5);
        self.0.extend_from_slice(&number.to_le_bytes());
    }

    fn bytes(&mut self, field: u32, bytes: &[u8]) {
        self.tag(field, 2);
        self.varint(bytes.len() as u64);
        self.0.extend_from_slice(bytes);
    }

    fn text(&mut self, field: u32, text: &str) {
        self.bytes(field, text.as_bytes());
    }

    fn message(&mut self, field: u32, write: impl FnOnce(&mut Self)) {
        let mut inner = Self::default();
        write(&mut inner);
        self.bytes(field, &inner.0);
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]
mod tests {
    use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
    use opentelemetry_proto::tonic::common::v1::any_value;
    use opentelemetry_proto::tonic::trace::v1::span::SpanKind;
    use opentelemetry_proto::tonic::trace::v1::status::StatusCode;
    use prost::Message as _;

    use super::*;

    #[test]
    fn numbers_are_as_protobuf_has_them() {
        for (number, bytes) in [
            (0, vec![0]),
            (1, vec![1]),
            (127, vec![0x7f]),
            (128, vec![0x80, 1]),
            (300, vec![0xac, 2]),
            (u64::MAX, [vec![0xff; 9], vec![1]].concat()),
        ] {
            let mut message = Message::default();
            message.varint(number);
            assert_eq!(message.0, bytes, "{number}");
        }
    }

    #[test]
    fn others_read_what_is_written() {
        let long = "x".repeat(300);
        let first = Span {
            trace: [1; 16],
            id: [2; 8],
            parent: None,
            name: "sts/GetCallerIdentity".into(),
            kind: Kind::Server,
            started_ns: 1_800_000_000_000_000_001,
            ended_ns: u64::MAX,
            attributes: vec![
                ("text", Value::Text(long.as_str().into())),
                ("number", Value::Number(-5)),
                ("no", Value::Bool(false)),
            ],
            is_error: true,
        };
        let second = Span { id: [3; 8], parent: Some([2; 8]), kind: Kind::Client, is_error: false, ..first.clone() };
        let resource = [("service.name".into(), "inborn".into())];
        let bytes = request(&resource, &[first, second]);
        let read = ExportTraceServiceRequest::decode(bytes.as_slice()).unwrap();
        assert_eq!(read.resource_spans.len(), 1);
        let group = &read.resource_spans[0];
        let attribute = &group.resource.as_ref().unwrap().attributes[0];
        assert_eq!(attribute.key, "service.name");
        let text = |value: &str| Some(any_value::Value::StringValue(value.to_owned()));
        assert_eq!(attribute.value.as_ref().unwrap().value, text("inborn"));
        let scope = &group.scope_spans[0];
        assert_eq!(scope.scope.as_ref().unwrap().name, "inborn");
        let [first, second] = scope.spans.as_slice() else { panic!("{scope:?}") };
        assert_eq!(
            (&first.trace_id[..], &first.span_id[..], first.parent_span_id.len()),
            (&[1; 16][..], &[2; 8][..], 0)
        );
        assert_eq!((first.name.as_str(), first.kind()), ("sts/GetCallerIdentity", SpanKind::Server));
        assert_eq!((first.start_time_unix_nano, first.end_time_unix_nano), (1_800_000_000_000_000_001, u64::MAX));
        let values: Vec<_> = first.attributes.iter().map(|one| one.value.clone().unwrap().value).collect();
        let expected = [text(&long), Some(any_value::Value::IntValue(-5)), Some(any_value::Value::BoolValue(false))];
        assert_eq!(values, expected);
        assert_eq!((first.status.as_ref().unwrap().code(), first.flags), (StatusCode::Error, 1));
        assert_eq!((&second.parent_span_id[..], second.kind(), &second.status), (&[2; 8][..], SpanKind::Client, &None));
    }
}
