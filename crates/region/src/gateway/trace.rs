//! What a trace tells of a request: for whoever has set up traces, and for nobody else, in which case it costs a look.
//!
//! Nothing in it was chosen by who asked, but for the choice among names of ours: no header, parameter, key, token, address, account
//! or machine. The request's id leads to its line in the audit. `traceparent` is not read: see the crate `inborn-traces`.

use inborn_credential::Caller;
use inborn_identity::CallerKind;
use tracing::Span;
use tracing::field::Empty;

use crate::metrics::CallLabels;

/// The span of a request.
pub(super) fn begin(request_id: &str) -> Span {
    tracing::trace_span!(
        target: "inborn_trace",
        "request",
        otel.name = Empty,
        rpc.system = "aws-api",
        rpc.service = Empty,
        rpc.method = Empty,
        http.response.status_code = Empty,
        aws.request_id = request_id,
        inborn.verified = Empty,
        inborn.caller = Empty,
        "error.type" = Empty,
        is_error = Empty,
    )
}

/// Writes down how it ended: by the labels that the counters have, too.
pub(super) fn end(span: &Span, labels: &CallLabels, status: u16, caller: Option<&Caller>) {
    if span.is_disabled() {
        return;
    }
    span.record("otel.name", format!("{}/{}", labels.service, labels.action).as_str());
    span.record("rpc.service", labels.service);
    span.record("rpc.method", labels.action);
    span.record("http.response.status_code", u64::from(status));
    span.record("inborn.verified", caller.is_some());
    if let Some(caller) = caller {
        let kind = match caller.principal.kind() {
            CallerKind::IdentityRole => "identity",
            CallerKind::ManagementRole => "management",
            CallerKind::Operator => "operator",
        };
        span.record("inborn.caller", kind);
    }
    if !labels.reason.is_empty() {
        span.record("error.type", labels.reason);
    }
    // What a client does wrong is no error of the one who says so.
    span.record("is_error", status >= 500);
}
