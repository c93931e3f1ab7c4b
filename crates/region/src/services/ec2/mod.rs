//! EC2, as far as machines are born, looked at, changed and ended by it. For operators only. The operations whose names begin with
//! `Inborn.` are ours: AWS has no word for what they do.

mod account;
mod close_account;
mod create_account;
mod create_join_token;
mod create_key_pair;
mod create_operator;
mod create_tags;
mod delete_key_pair;
mod delete_operator;
mod delete_tags;
mod describe_accounts;
mod describe_epochs;
mod describe_hosts;
mod describe_instance_attribute;
mod describe_instance_connect_endpoints;
mod describe_instances;
mod describe_key_pairs;
mod describe_operators;
mod describe_quarantines;
mod describe_regions;
mod describe_tags;
mod drain_host;
mod end_quarantine;
mod epochs;
mod evict_host;
mod filter;
mod get_instance_metadata_defaults;
mod host;
mod import_key_pair;
mod key_pair;
pub(super) mod metadata_defaults;
mod modify_instance_attribute;
mod modify_instance_metadata_defaults;
mod modify_instance_metadata_options;
mod modify_operator;
mod put_quarantine;
mod quarantine;
mod reboot_instances;
mod refusal;
mod request;
mod revoke_epoch;
mod revoke_join_tokens;
mod rotate_epoch;
mod run_instances;
mod shape;
mod ssh_key;
mod start_instances;
mod state_change;
mod stop_instances;
mod terminate_instances;

use inborn_identity::CallerKind;

use crate::operation::{Call, Handler, Outcome};
use crate::{Effect, Operation, Protocol, Service};

const OPERATORS: &[CallerKind] = &[CallerKind::Operator];

const fn operation(name: &'static str, effect: Effect, run: for<'a> fn(Call<'a>) -> Outcome<'a>) -> Operation {
    Operation { name, effect, callers: OPERATORS, run: Handler::Query(run) }
}

pub(super) static SERVICE: Service = Service {
    name: "ec2",
    signing_name: "ec2",
    protocol: Protocol::Query,
    is_global: false,
    // A link that changes machines is not something to pass around.
    query_auth: false,
    // EC2 answers every version alike as far as these operations go.
    version: None,
    // A thousand instance ids, or user data of 16 KiB in base64 in percent-encoding, and room to spare.
    body_bytes_max: 256 * 1024,
    operations: &[
        operation("CreateKeyPair", Effect::Mutating, create_key_pair::run),
        operation("CreateTags", Effect::Mutating, create_tags::run),
        operation("DeleteKeyPair", Effect::Mutating, delete_key_pair::run),
        operation("DeleteTags", Effect::Mutating, delete_tags::run),
        operation("DescribeInstanceAttribute", Effect::ReadOnly, describe_instance_attribute::run),
        operation("DescribeInstanceConnectEndpoints", Effect::ReadOnly, describe_instance_connect_endpoints::run),
        operation("DescribeInstances", Effect::ReadOnly, describe_instances::run),
        operation("DescribeKeyPairs", Effect::ReadOnly, describe_key_pairs::run),
        operation("DescribeRegions", Effect::ReadOnly, describe_regions::run),
        operation("DescribeTags", Effect::ReadOnly, describe_tags::run),
        operation("GetInstanceMetadataDefaults", Effect::ReadOnly, get_instance_metadata_defaults::run),
        operation("ImportKeyPair", Effect::Mutating, import_key_pair::run),
        operation("Inborn.DescribeEpochs", Effect::ReadOnly, describe_epochs::run),
        operation("Inborn.DescribeQuarantines", Effect::ReadOnly, describe_quarantines::run),
        operation("Inborn.EndQuarantine", Effect::Mutating, end_quarantine::run),
        operation("Inborn.PutQuarantine", Effect::Mutating, put_quarantine::run),
        operation("Inborn.RevokeEpoch", Effect::Mutating, revoke_epoch::run),
        operation("Inborn.RotateEpoch", Effect::Mutating, rotate_epoch::run),
        operation("Inborn.CloseAccount", Effect::Mutating, close_account::run),
        operation("Inborn.CreateAccount", Effect::Mutating, create_account::run),
        operation("Inborn.CreateOperator", Effect::Mutating, create_operator::run),
        operation("Inborn.DeleteOperator", Effect::Mutating, delete_operator::run),
        operation("Inborn.DescribeAccounts", Effect::ReadOnly, describe_accounts::run),
        operation("Inborn.DescribeOperators", Effect::ReadOnly, describe_operators::run),
        operation("Inborn.ModifyOperator", Effect::Mutating, modify_operator::run),
        operation("Inborn.CreateJoinToken", Effect::Mutating, create_join_token::run),
        operation("Inborn.DescribeHosts", Effect::ReadOnly, describe_hosts::run),
        operation("Inborn.DrainHost", Effect::Mutating, drain_host::run),
        operation("Inborn.EvictHost", Effect::Mutating, evict_host::run),
        operation("Inborn.RevokeJoinTokens", Effect::Mutating, revoke_join_tokens::run),
        operation("ModifyInstanceAttribute", Effect::Mutating, modify_instance_attribute::run),
        operation("ModifyInstanceMetadataDefaults", Effect::Mutating, modify_instance_metadata_defaults::run),
        operation("ModifyInstanceMetadataOptions", Effect::Mutating, modify_instance_metadata_options::run),
        operation("RebootInstances", Effect::Mutating, reboot_instances::run),
        operation("RunInstances", Effect::Mutating, run_instances::run),
        operation("StartInstances", Effect::Mutating, start_instances::run),
        operation("StopInstances", Effect::Mutating, stop_instances::run),
        operation("TerminateInstances", Effect::Mutating, terminate_instances::run),
    ],
};
