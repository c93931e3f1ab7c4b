//! STS. Every verified caller may ask who it is, and nothing else exists here.

mod get_caller_identity;

use inborn_identity::CallerKind;

use crate::operation::Handler;
use crate::{Effect, Operation, Protocol, Service};

pub(super) static SERVICE: Service = Service {
    name: "sts",
    signing_name: "sts",
    protocol: Protocol::Query,
    is_global: true,
    // EKS tokens and their like are presigned GetCallerIdentity requests.
    query_auth: true,
    version: Some("2011-06-15"),
    body_bytes_max: 16 * 1024,
    operations: &[Operation {
        name: "GetCallerIdentity",
        effect: Effect::ReadOnly,
        callers: &CallerKind::ALL,
        run: Handler::Query(get_caller_identity::run),
    }],
};
