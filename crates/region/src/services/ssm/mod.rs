//! Systems Manager, as far as Default Host Management goes: its setting, the registration of agents, their nodes
//! and what is on them.

mod agent;
mod comparison;
mod deregister_managed_instance;
mod describe_instance_information;
mod describe_instance_properties;
mod get_inventory;
mod get_service_setting;
mod inventory;
mod list_associations;
mod list_compliance_items;
mod list_instance_associations;
mod list_inventory_entries;
mod node_filter;
mod page;
mod put_compliance_items;
mod put_inventory;
mod refusal;
mod register_managed_instance;
mod request_managed_instance_role_token;
mod reset_service_setting;
mod service_setting;
mod update_instance_information;
mod update_managed_instance_public_key;
mod update_service_setting;

pub(super) use agent::own_target;

use inborn_identity::CallerKind;

use crate::operation::{Handler, JsonCall, Outcome};
use crate::{Effect, Operation, Protocol, Service};

const MACHINES: &[CallerKind] = &[CallerKind::IdentityRole];
const AGENTS: &[CallerKind] = &[CallerKind::ManagementRole];
const AGENTS_AND_OPERATORS: &[CallerKind] = &[CallerKind::ManagementRole, CallerKind::Operator];
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
    protocol: Protocol::Json { target_prefix: "AmazonSSM", named_by_path: &[], sockets: &[] },
    is_global: false,
    query_auth: false,
    version: None,
    // A megabyte of inventory, some of it escaped.
    body_bytes_max: 2 * 1024 * 1024,
    operations: &[
        operation("DeregisterManagedInstance", Effect::Mutating, OPERATORS, deregister_managed_instance::run),
        operation("DescribeInstanceInformation", Effect::ReadOnly, OPERATORS, describe_instance_information::run),
        operation("DescribeInstanceProperties", Effect::ReadOnly, OPERATORS, describe_instance_properties::run),
        operation("GetInventory", Effect::ReadOnly, OPERATORS, get_inventory::run),
        operation("GetServiceSetting", Effect::ReadOnly, OPERATORS, get_service_setting::run),
        operation("ListAssociations", Effect::ReadOnly, AGENTS_AND_OPERATORS, list_associations::run),
        operation("ListComplianceItems", Effect::ReadOnly, OPERATORS, list_compliance_items::run),
        operation("ListInstanceAssociations", Effect::ReadOnly, AGENTS, list_instance_associations::run),
        operation("ListInventoryEntries", Effect::ReadOnly, OPERATORS, list_inventory_entries::run),
        operation("PutComplianceItems", Effect::Mutating, AGENTS_AND_OPERATORS, put_compliance_items::run),
        operation("PutInventory", Effect::Mutating, AGENTS_AND_OPERATORS, put_inventory::run),
        operation("RegisterManagedInstance", Effect::Mutating, MACHINES, register_managed_instance::run),
        // As AWS records AssumeRole: nothing is changed, and a full disk takes nobody's sessions away.
        operation(
            "RequestManagedInstanceRoleToken",
            Effect::ReadOnly,
            MACHINES,
            request_managed_instance_role_token::run,
        ),
        operation("ResetServiceSetting", Effect::Mutating, OPERATORS, reset_service_setting::run),
        operation("UpdateInstanceInformation", Effect::Mutating, AGENTS, update_instance_information::run),
        operation(
            "UpdateManagedInstancePublicKey",
            Effect::Mutating,
            MACHINES,
            update_managed_instance_public_key::run,
        ),
        operation("UpdateServiceSetting", Effect::Mutating, OPERATORS, update_service_setting::run),
    ],
};
