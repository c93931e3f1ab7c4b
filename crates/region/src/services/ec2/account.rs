//! What the operations for accounts and operators read and answer in the same way. AWS has Organizations and IAM for that, which
//! hand out far more; these operations are ours.

use inborn_identity::{AccessKeyId, AccountId};
use inborn_store::{Account, Operator, OperatorChange};
use inborn_wire::error::Problem;
use inborn_wire::query::Structure;
use inborn_wire::xml::Writer;
use serde_json::json;

use super::host::check_caller;
use super::{refusal, request, shape};
use crate::accounts::AccountError;
use crate::operation::{Call, Reply};

/// `AccountId`; `None`: it is not there.
pub(super) fn id(root: &Structure<'_>) -> Result<Option<AccountId>, Problem> {
    let Some(text) = root.get("AccountId") else { return Ok(None) };
    let invalid = || {
        let shown: String = text.chars().take(64).collect();
        refusal::invalid_value(format!("Value ({shown}) for parameter AccountId is invalid. It has 12 digits"))
    };
    text.parse().map(Some).map_err(|_| invalid())
}

/// `AccountId`, which must be there.
pub(super) fn required_id(root: &Structure<'_>) -> Result<AccountId, Problem> {
    id(root)?.ok_or_else(|| refusal::missing_parameter("AccountId"))
}

/// The account whose operators are meant: the caller's own, or one that is named by an operator of the region's.
pub(super) fn of_operators(call: &Call<'_>, operation: &str) -> Result<AccountId, Problem> {
    let named = id(&call.parameters.root())?.unwrap_or_else(|| call.account());
    if named != call.account() {
        check_caller(call, operation)?;
    }
    Ok(named)
}

/// An account and what is in it.
pub(super) fn write(w: &mut Writer, call: &Call<'_>, account: &Account, operators: usize) {
    let regions = call.region.regions();
    let machines: usize = regions.iter().map(|region| region.machines().count_of(account.id)).sum();
    w.leaf("accountId", &account.id.to_string());
    w.leaf("name", &account.name);
    w.leaf("state", if account.closed_at.is_some() { "closed" } else { "open" });
    w.leaf("isRegionOwn", if account.id == call.region.identity().account { "true" } else { "false" });
    w.integer("instanceCount", i64::try_from(machines).unwrap_or(i64::MAX));
    w.integer("operatorCount", i64::try_from(operators).unwrap_or(i64::MAX));
    w.leaf("createTime", &shape::milliseconds(account.created_at));
    if let Some(at) = account.closed_at {
        w.leaf("closeTime", &shape::milliseconds(at));
    }
}

/// An operator, without its secret.
pub(super) fn write_operator(w: &mut Writer, call: &Call<'_>, operator: &Operator) {
    let partition = call.region.identity().partition;
    w.leaf("accessKeyId", operator.access_key_id.as_str());
    w.leaf("accountId", &operator.account.to_string());
    w.leaf("name", &operator.name);
    w.leaf("arn", &format!("arn:{partition}:iam::{}:user/{}", operator.account, operator.name));
    w.leaf("state", if operator.disabled { "disabled" } else { "enabled" });
    w.leaf("createTime", &shape::milliseconds(operator.created_at));
}

/// Does something to the operator that `AccessKeyId` names.
pub(super) async fn change_operator(
    call: &Call<'_>,
    operation: &'static str,
    change: OperatorChange,
) -> Result<Reply, Problem> {
    let root = call.parameters.root();
    let text = root.get("AccessKeyId").ok_or_else(|| refusal::missing_parameter("AccessKeyId"))?;
    let shown: String = text.chars().take(64).collect();
    let key: Option<AccessKeyId> = text.parse().ok();
    let key = key.ok_or_else(|| of_error(AccountError::NoOperator(shown)))?;
    request::finish(call.parameters)?;
    // To others the operators of an account do not exist.
    let is_of_region = call.account() == call.region.identity().account;
    let within = (!is_of_region).then(|| call.account());
    let changed = call.region.change_operator(key, change, within, call.caller.access_key_id).await;
    changed.map_err(of_error)?;
    let answer = shape::done(operation, call.request_id);
    Ok(Reply { answer, response_elements: json!({ "accessKeyId": key.as_str() }) })
}

/// Why nothing was done.
pub(super) fn of_error(error: AccountError) -> Problem {
    let code = match &error {
        AccountError::Exists(_) => "AccountAlreadyExists",
        AccountError::TooManyAccounts => "AccountLimitExceeded",
        AccountError::NoAccount(_) => "InvalidAccountId.NotFound",
        AccountError::IsOwn(_) | AccountError::IsCaller => "OperationNotPermitted",
        AccountError::HasMachines(..) => "DependencyViolation",
        AccountError::NameTaken(_) => "OperatorAlreadyExists",
        AccountError::TooManyOperators => "OperatorLimitExceeded",
        AccountError::NoOperator(_) => "InvalidAccessKeyId.NotFound",
        AccountError::Open(error) => {
            tracing::error!(%error, "an account or operator could not be changed");
            return Problem::Internal;
        }
        AccountError::Store(_) => "",
    };
    match error {
        AccountError::Store(error) => refusal::of_store(error),
        error => Problem::Service { status: 400, code, message: error.to_string() },
    }
}
