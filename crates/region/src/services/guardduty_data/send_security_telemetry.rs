//! `SendSecurityTelemetry`: a machine tells what it sees.
//!
//! First what costs nothing: the policy of the endpoint, whether telemetry is kept at all, the quota. Then the body is
//! inflated and decoded, and what is to be kept is appended. It is acknowledged when it is on disk.

use core::sync::atomic::Ordering;

use inborn_telemetry::{Batch, Decoded, Source};
use inborn_wire::Answer;
use inborn_wire::error::Problem;

use super::refusal::{over_quota, too_large, unavailable};
use super::request::{self, Marks, Request};
use crate::operation::{Outcome, UploadCall};
use crate::telemetry::{Kept, SinkError};

/// When to come again while the disk is full: it will not be otherwise at once.
const FULL_RETRY_SECONDS: u64 = 30;

pub(super) fn run(call: UploadCall<'_>) -> Outcome<'_> {
    Box::pin(async move {
        let (telemetry, metrics) = (call.region.telemetry(), &call.region.metrics().telemetry);
        let source = source(&call)?;
        if !telemetry.admits(source.account) {
            return Err(not_by_the_endpoint(&call));
        }
        let sink = telemetry.sink().ok_or_else(switched_off)?;
        telemetry.quota().admit(source.instance, call.now).map_err(|seconds| {
            metrics.put_off("quota");
            call.parameters.retry_after.store(seconds, Ordering::Relaxed);
            over_quota()
        })?;
        let marks = Marks { source: source.clone(), received_at: call.now, foreign: telemetry.foreign() };
        let read = request::read(call.parameters, marks, telemetry.decoding()).await;
        let Request { decoded, bytes, room } = read.inspect_err(|problem| {
            if matches!(problem, Problem::Service { status: 503, .. }) {
                metrics.put_off("memory");
            } else {
                // What is refused was work, too.
                telemetry.quota().charge(source.instance, call.parameters.body.len(), call.now);
            }
        })?;
        telemetry.quota().charge(source.instance, bytes, call.now);
        metrics.bytes.inc_by(u64::try_from(bytes).unwrap_or(u64::MAX));

        let Decoded { records, rejected, complaint, agent, foreign_hosts, times_off } = decoded;
        let Source { account, instance, .. } = source;
        let batch = Batch { source, received_at: call.now, records };
        let Kept { new, duplicates } = sink.append(batch).await.map_err(|error| unwritten(&call, &error))?;
        let kept = new.records.len();
        call.region.telemetry_came(account, instance, &agent);
        telemetry.tell(new);
        drop(room);

        metrics.records("kept", kept);
        metrics.records("duplicate", duplicates);
        metrics.records("rejected", rejected);
        metrics.times_off.inc_by(u64::try_from(times_off).unwrap_or(u64::MAX));
        metrics.foreign_hosts.inc_by(u64::try_from(foreign_hosts).unwrap_or(u64::MAX));
        let form = request::form(call.parameters)?;
        let body = form.accepted(rejected, complaint.as_deref());
        Ok(Answer::new(200, form.content_type(), call.request_id, body).into())
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
    let message = format!(
        "User: {} is not authorized to perform: guardduty:SendSecurityTelemetry with an explicit deny in a VPC endpoint policy",
        call.caller.principal.arn()
    );
    Problem::Service { status: 403, code: "AccessDeniedException", message }
}

/// Nothing is kept here: to come again would not help.
fn switched_off() -> Problem {
    let message = "This region keeps no telemetry.".to_owned();
    Problem::Service { status: 403, code: "AccessDeniedException", message }
}

/// What was not written is to be sent again.
fn unwritten(call: &UploadCall<'_>, error: &SinkError) -> Problem {
    let metrics = &call.region.metrics().telemetry;
    match error {
        SinkError::Busy => metrics.put_off("busy"),
        SinkError::Full => {
            metrics.put_off("full");
            call.parameters.retry_after.store(FULL_RETRY_SECONDS, Ordering::Relaxed);
        }
        // To come again would not help.
        SinkError::TooLarge => return too_large("The events are larger than what is taken at once."),
        SinkError::Failed(error) => {
            metrics.put_off("failed");
            tracing::error!(%error, "telemetry cannot be written");
        }
    }
    unavailable("Telemetry cannot be written for the moment.")
}
