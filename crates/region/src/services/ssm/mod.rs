//! Systems Manager, as far as Default Host Management goes: its setting, the registration of agents, their nodes.

mod agent;
mod deregister_managed_instance;
mod get_service_setting;
mod refusal;
mod register_managed_instance;
mod request_managed_instance_role_token;
mod reset_service_setting;
mod service_setting;
mod update_managed_instance_public_key;
mod update_service_setting;

use inborn_identity::CallerKind;

use crate::operation::{Handler, JsonCall, Outcome};
use crate::{Effect, Operation, Protocol, Service};

const MACHINES: &[CallerKind] = &[CallerKind::IdentityRole];
const OPERATORS: &[CallerKind] = &[CallerKind::Operator];

const fn operation(
    name: &'static str,
    effect: Effect,
    callers: &'static [CallerKind],
    run: for<'a> fn(JsonCall<'a>) -> Outcome<'a>,
) -> Operation {
    Operation { name, effect, callers, run: Handler::Json(run) }
}

pub(super) static SERVICE: Service = Service {
    name: "ssm",
    protocol: Protocol::Json { target_prefix: "AmazonSSM", named_by_path: &[] },
    is_global: false,
    query_auth: false,
    version: None,
    body_bytes_max: 256 * 1024,
    operations: &[
        operation("DeregisterManagedInstance", Effect::Mutating, OPERATORS, deregister_managed_instance::run),
        operation("GetServiceSetting", Effect::ReadOnly, OPERATORS, get_service_setting::run),
        operation("RegisterManagedInstance", Effect::Mutating, MACHINES, register_managed_instance::run),
        // As AWS records AssumeRole: nothing is changed, and a full disk takes nobody's sessions away.
        operation(
            "RequestManagedInstanceRoleToken",
            Effect::ReadOnly,
            MACHINES,
            request_managed_instance_role_token::run,
        ),
        operation("ResetServiceSetting", Effect::Mutating, OPERATORS, reset_service_setting::run),
        operation(
            "UpdateManagedInstancePublicKey",
            Effect::Mutating,
            MACHINES,
            update_managed_instance_public_key::run,
        ),
        operation("UpdateServiceSetting", Effect::Mutating, OPERATORS, update_service_setting::run),
    ],
};
