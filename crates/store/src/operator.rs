//! An operator: a long-lived key pair and whose it is.

use inborn_identity::{AccessKeyId, AccountId, UnixTime};

use crate::Sealed;

/// A person or program that runs the region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Operator {
    /// `AKIA…`: what the record is found by.
    pub access_key_id: AccessKeyId,
    /// The secret access key, sealed under the key-encryption key.
    pub secret: Sealed,
    /// The user name, the last part of its ARN.
    pub name: String,
    /// `AIDA…`, what `GetCallerIdentity` tells as `UserId`.
    pub user_id: String,
    /// Whose operator it is.
    pub account: AccountId,
    /// When the key pair was made.
    pub created_at: UnixTime,
    /// Whether its key is good for nothing for now.
    pub disabled: bool,
}

impl Operator {
    /// The longest name. Source: IAM's model, `UserName`.
    pub const NAME_BYTES_MAX: usize = 64;
}

/// What becomes of an operator.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum OperatorChange {
    /// Its key is good again.
    Enable,
    /// Its key is good for nothing, until it is switched on again.
    Disable,
    /// It is forgotten.
    Delete,
}
