//! `SendSecurityTelemetry`: a machine tells what it sees.

use std::sync::Arc;

use inborn_telemetry::{Batch, Source};
use inborn_wire::Answer;
use inborn_wire::error::Problem;

use crate::operation::{Outcome, UploadCall};
use crate::telemetry::{Agent, SinkError};

pub(super) fn run(call: UploadCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let telemetry = call.region.telemetry();
        let source = source(&call)?;
        let sink = telemetry.sink().ok_or(Problem::Unavailable)?;
        if !telemetry.admits(source.account) {
            return Err(not_by_the_endpoint(&call));
        }
        telemetry.quota().admit(source.instance, call.now).map_err(|_seconds| Problem::Throttled)?;
        // A request without events is a heartbeat.
        let upload = call.parameters;
        let is_form = upload.content_type == "application/x-protobuf" && upload.content_encoding.is_empty();
        if !upload.body.is_empty() || !is_form || upload.path != super::LOGS {
            return Err(Problem::Unavailable);
        }
        telemetry.quota().charge(source.instance, upload.body.len(), call.now);
        let batch = Arc::new(Batch { source, received_at: call.now, records: Vec::new() });
        sink.append(Arc::clone(&batch)).await.map_err(unwritten)?;
        let agent = Agent::default();
        call.region.telemetry_came(batch.source.account, batch.source.instance, &agent);
        telemetry.accepted(batch, agent);
        Ok(Answer::new(200, "application/x-protobuf", call.request_id, "").into())
    })
}

/// Who tells it.
fn source(call: &UploadCall<'_>) -> Result<Source, Problem> {
    let instance = call.caller.principal.instance().ok_or(Problem::Internal)?;
    let region = call.region.identity().region.clone();
    Ok(Source { account: call.caller.principal.account(), instance, region })
}

/// As AWS answers whom the policy of an endpoint keeps out by an explicit `Deny`, which that of GuardDuty's endpoint is.
fn not_by_the_endpoint(call: &UploadCall<'_>) -> Problem {
    let principal = call.caller.principal.arn();
    let message = format!(
        "User: {principal} is not authorized to perform: guardduty:SendSecurityTelemetry with an explicit deny in a VPC \
         endpoint policy"
    );
    Problem::Service { status: 403, code: "AccessDeniedException", message }
}

/// What was not written is sent again.
fn unwritten(error: SinkError) -> Problem {
    if let SinkError::Failed(error) = &error {
        tracing::error!(%error, "telemetry cannot be written");
    }
    Problem::Unavailable
}
