//! Elements of IAM's answers.

use inborn_store::Role;
use inborn_wire::Answer;
use inborn_wire::success;
use inborn_wire::xml::Writer;

use crate::RegionIdentity;

const NAMESPACE: &str = "https://iam.amazonaws.com/doc/2010-05-08/";
/// What every role here trusts, as the wire has it: percent-encoded JSON (RFC 3986).
const TRUST: &str = "%7B%22Version%22%3A%222012-10-17%22%2C%22Statement%22%3A%5B%7B%22Effect%22%3A%22Allow%22%2C%22Principal%22\
                     %3A%7B%22Service%22%3A%22ssm.amazonaws.com%22%7D%2C%22Action%22%3A%22sts%3AAssumeRole%22%7D%5D%7D";

pub(super) fn answer(operation: &'static str, request_id: &str, result: impl FnOnce(&mut Writer)) -> Answer {
    success::query(operation, NAMESPACE, request_id, result)
}

/// The answer of an operation without a result.
pub(super) fn done(operation: &'static str, request_id: &str) -> Answer {
    success::query_done(operation, NAMESPACE, request_id)
}

/// The members of a `Role`. `description` is not told by `ListRoles`.
pub(super) fn role(w: &mut Writer, identity: &RegionIdentity, role: &Role) {
    w.leaf("Path", &role.path);
    w.leaf("RoleName", role.name.as_str());
    w.leaf("RoleId", &role.role_id);
    w.leaf("Arn", &format!("arn:{}:iam::{}:role{}{}", identity.partition, role.account, role.path, role.name));
    w.leaf("CreateDate", &role.created_at.rfc3339());
    w.leaf("AssumeRolePolicyDocument", TRUST);
    w.optional("Description", Some(role.description.as_str()).filter(|text| !text.is_empty()));
    w.integer("MaxSessionDuration", 3600);
}
