//! IAM, as far as the roles go that Default Host Management can pass to machines. There are no policies: what such a role may
//! do is fixed.

mod create_role;
mod delete_role;
mod get_role;
mod list_roles;
mod refusal;
mod request;
mod shape;

use inborn_identity::CallerKind;

use crate::operation::{Call, Handler, Outcome};
use crate::{Effect, Operation, Protocol, Service};

const OPERATORS: &[CallerKind] = &[CallerKind::Operator];

const fn operation(name: &'static str, effect: Effect, run: for<'a> fn(Call<'a>) -> Outcome<'a>) -> Operation {
    Operation { name, effect, callers: OPERATORS, run: Handler::Query(run) }
}

pub(super) static SERVICE: Service = Service {
    name: "iam",
    signing_name: "iam",
    protocol: Protocol::Query,
    is_global: true,
    query_auth: false,
    version: Some("2010-05-08"),
    // A trust policy has at most 131,072 characters, in percent-encoding.
    body_bytes_max: 512 * 1024,
    operations: &[
        operation("CreateRole", Effect::Mutating, create_role::run),
        operation("DeleteRole", Effect::Mutating, delete_role::run),
        operation("GetRole", Effect::ReadOnly, get_role::run),
        operation("ListRoles", Effect::ReadOnly, list_roles::run),
    ],
};
