//! What can be written after `role` and `nodes`.

use clap::{Args, Subcommand};

use crate::arguments::{Output, Region};

pub(crate) const ROLE_HELP: &str = "\
Default Host Management passes one role of the account to every machine whose agent registers. The account has \
AWSSystemsManagerDefaultEC2InstanceManagementRole from the start. What any of these roles may do is fixed.

To pass one, as the operator (`. DATA/operator.env`):
  aws ssm update-service-setting --setting-value NAME \\
    --setting-id /ssm/managed-instance/default-ec2-instance-management-role

Examples:
  inborn role list
  inborn role create Agents --path /fleet/ --description \"for our own agents\"
  inborn role delete Agents";

#[derive(Debug, Args)]
pub(crate) struct Role {
    #[command(subcommand)]
    pub(crate) command: RoleCommand,
}

#[derive(Debug, Subcommand)]
pub(crate) enum RoleCommand {
    /// Make a role that Systems Manager may pass to machines
    Create(CreateRole),
    /// List the account's roles, and say which of them is passed
    List(ListRoles),
    /// Delete a role that is not passed
    Delete(DeleteRole),
}

#[derive(Debug, Args)]
pub(crate) struct CreateRole {
    #[command(flatten)]
    pub(crate) region: Region,
    /// The role's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
    /// Where it belongs: begins and ends with a slash
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub(crate) path: String,
    /// What it is for
    #[arg(long, value_name = "TEXT")]
    pub(crate) description: Option<String>,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct ListRoles {
    #[command(flatten)]
    pub(crate) region: Region,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Args)]
pub(crate) struct DeleteRole {
    #[command(flatten)]
    pub(crate) region: Region,
    /// The role's name
    #[arg(value_name = "NAME")]
    pub(crate) name: String,
}

pub(crate) const NODES_HELP: &str = "\
A node is a machine whose SSM agent has spoken. It is Online while the agent is connected, or has spoken in the last eleven \
minutes.

Examples:
  inborn nodes
  inborn nodes forget web-1      after its disk was replaced: the next agent may register";

#[derive(Debug, Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct Nodes {
    #[command(subcommand)]
    pub(crate) command: Option<NodesCommand>,
    #[command(flatten)]
    pub(crate) region: Region,
    /// How to print
    #[arg(long, value_enum, default_value = "table")]
    pub(crate) output: Output,
}

#[derive(Debug, Subcommand)]
pub(crate) enum NodesCommand {
    /// Forget the key that a machine's agent registered, and end its sessions: the next agent may register another
    Forget(Forget),
}

#[derive(Debug, Args)]
pub(crate) struct Forget {
    #[command(flatten)]
    pub(crate) region: Region,
    /// A machine's name or id
    #[arg(value_name = "NAME|ID")]
    pub(crate) machine: String,
}
