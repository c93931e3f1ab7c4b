//! A role that can be passed to machines.

use inborn_identity::{AccountId, RoleName, UnixTime};

/// A role. Nothing about what it may do: that is not for an account to decide here.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Role {
    /// Whose it is.
    pub account: AccountId,
    /// Its name: what the record is found by, with the account.
    pub name: RoleName,
    /// Its path, `/` or `/…/`.
    pub path: String,
    /// Its unique id, `AROA…`: a role of the same name that comes later has another.
    pub role_id: String,
    /// What a person wrote about it.
    pub description: String,
    /// When it was made.
    pub created_at: UnixTime,
}
