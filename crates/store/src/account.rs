//! An account: whose machines, operators, documents and the rest are.

use inborn_identity::{AccountId, UnixTime};

use crate::StoreError;

/// An account of the region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Account {
    /// Which.
    pub id: AccountId,
    /// What people call it: at most [`Account::NAME_BYTES_MAX`] bytes; empty: nothing.
    pub name: String,
    /// When it was made.
    pub created_at: UnixTime,
    /// When it was closed; `None`: it is open. What was closed does not open again.
    pub closed_at: Option<UnixTime>,
}

impl Account {
    /// The longest name. Source: AWS Organizations, `AccountName`, of 50 characters; of four bytes each here.
    pub const NAME_BYTES_MAX: usize = 200;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if self.name.len() > Self::NAME_BYTES_MAX {
            return Err(StoreError::Invalid("the name of an account has at most 200 bytes"));
        }
        Ok(())
    }
}
