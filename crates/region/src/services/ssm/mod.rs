//! Systems Manager, as far as Default Host Management goes: its setting, the registration of agents, their nodes, what is on
//! them, commands to them, and sessions on them.

mod agent;
mod cancel_command;
mod command;
mod command_filter;
mod comparison;
mod create_document;
mod delete_document;
mod deregister_managed_instance;
mod describe_document;
mod describe_instance_information;
mod describe_instance_properties;
mod describe_sessions;
mod document;
mod get_command_invocation;
mod get_connection_status;
mod get_document;
mod get_inventory;
mod get_service_setting;
mod inventory;
mod list_associations;
mod list_command_invocations;
mod list_commands;
mod list_compliance_items;
mod list_documents;
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
mod resume_session;
mod send_command;
mod service_setting;
mod session;
mod start_session;
mod terminate_session;
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
    signing_name: "ssm",
    protocol: Protocol::Json { target_prefix: "AmazonSSM", named_by_path: &[], sockets: &[] },
    is_global: false,
    query_auth: false,
    version: None,
    // A megabyte of inventory, some of it escaped.
    body_bytes_max: 2 * 1024 * 1024,
    operations: &[
        operation("CancelCommand", Effect::Mutating, OPERATORS, cancel_command::run),
        operation("CreateDocument", Effect::Mutating, OPERATORS, create_document::run),
        operation("DeleteDocument", Effect::Mutating, OPERATORS, delete_document::run),
        operation("DeregisterManagedInstance", Effect::Mutating, OPERATORS, deregister_managed_instance::run),
        operation("DescribeDocument", Effect::ReadOnly, AGENTS_AND_OPERATORS, describe_document::run),
        operation("DescribeInstanceInformation", Effect::ReadOnly, OPERATORS, describe_instance_information::run),
        operation("DescribeInstanceProperties", Effect::ReadOnly, OPERATORS, describe_instance_properties::run),
        operation("DescribeSessions", Effect::ReadOnly, OPERATORS, describe_sessions::run),
        operation("GetCommandInvocation", Effect::ReadOnly, OPERATORS, get_command_invocation::run),
        operation("GetConnectionStatus", Effect::ReadOnly, OPERATORS, get_connection_status::run),
        operation("GetDocument", Effect::ReadOnly, AGENTS_AND_OPERATORS, get_document::run),
        operation("GetInventory", Effect::ReadOnly, OPERATORS, get_inventory::run),
        operation("GetServiceSetting", Effect::ReadOnly, OPERATORS, get_service_setting::run),
        operation("ListAssociations", Effect::ReadOnly, AGENTS_AND_OPERATORS, list_associations::run),
        operation("ListCommandInvocations", Effect::ReadOnly, OPERATORS, list_command_invocations::run),
        operation("ListCommands", Effect::ReadOnly, OPERATORS, list_commands::run),
        operation("ListComplianceItems", Effect::ReadOnly, OPERATORS, list_compliance_items::run),
        operation("ListDocuments", Effect::ReadOnly, OPERATORS, list_documents::run),
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
        operation("ResumeSession", Effect::Mutating, OPERATORS, resume_session::run),
        operation("SendCommand", Effect::Mutating, OPERATORS, send_command::run),
        operation("StartSession", Effect::Mutating, OPERATORS, start_session::run),
        operation("TerminateSession", Effect::Mutating, OPERATORS, terminate_session::run),
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
