//! Where machines tell what they see: `guardduty-data`, the endpoint of GuardDuty's runtime agents.
//!
//! AWS publishes the name of the endpoint, the action (`guardduty:SendSecurityTelemetry`) and the credential, not the payload.
//! What is taken here are open forms: OTLP/HTTP logs (`POST /v1/logs`) and OCSF events (`POST /v1/ocsf`).

mod refusal;
mod request;
mod send_security_telemetry;

use inborn_identity::CallerKind;

use crate::operation::{Handler, Route};
use crate::{Effect, Operation, Protocol, Service};

pub(crate) use refusal::advise;

/// The first label of the endpoint.
pub(crate) const NAME: &str = "guardduty-data";
/// OTLP/HTTP. Source: the OTLP specification, "OTLP/HTTP request".
const LOGS: &str = "/v1/logs";
/// OCSF events, one a line or in an array.
const OCSF: &str = "/v1/ocsf";
const OPERATION: &str = "SendSecurityTelemetry";

const fn upload(path: &'static str) -> Route {
    Route { method: "POST", path, query: &[], operation: OPERATION, is_open: false }
}

pub(super) static SERVICE: Service = Service {
    name: NAME,
    signing_name: "guardduty",
    protocol: Protocol::Rest { routes: &[upload(LOGS), upload(OCSF)] },
    is_global: false,
    query_auth: false,
    version: None,
    // On the wire. How much it may become is for the decoder to say.
    body_bytes_max: 4 * 1024 * 1024,
    operations: &[Operation {
        name: OPERATION,
        effect: Effect::Data,
        callers: &[CallerKind::IdentityRole],
        run: Handler::Upload { run: send_security_telemetry::run, refuse: refusal::answer },
    }],
};
