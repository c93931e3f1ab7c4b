//! Hosts that joined the region, and the tokens that let them.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeSet;

use inborn_identity::{AccountId, HostId, UnixTime};

use crate::{StoreError, Topic};

/// Where a host is in its life.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum HostState {
    /// It serves its machines and may be given more.
    Active,
    /// It serves the machines it has and is given no more.
    Draining,
    /// It is cut off. Nothing leads out of this state.
    Evicted,
}

impl HostState {
    /// `active`, `draining` or `evicted`.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Evicted => "evicted",
        }
    }
}

impl fmt::Display for HostState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for HostState {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Active, Self::Draining, Self::Evicted].into_iter().find(|state| state.as_str() == text).ok_or(())
    }
}

/// A computer that runs machines of the region.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Host {
    /// Its id, for ever its own.
    pub id: HostId,
    /// What people call it: 1 to [`Host::NAME_MAX`] bytes. Several may have one name.
    pub name: String,
    /// Where it is in its life.
    pub state: HostState,
    /// The public key it joined with: only a certificate for this key is the host's.
    pub public_key: Vec<u8>,
    /// The accounts whose machines may be placed on it: 1 to [`Host::ACCOUNTS_MAX`].
    pub accounts: BTreeSet<AccountId>,
    /// When it joined.
    pub joined_at: UnixTime,
    /// When it was last heard of, to some minutes.
    pub seen_at: UnixTime,
}

impl Host {
    /// The longest name, in bytes: that of a DNS name.
    pub const NAME_MAX: usize = 253;
    /// The longest public key, in bytes.
    pub const KEY_BYTES_MAX: usize = 512;
    /// The most accounts that one host serves.
    pub const ACCOUNTS_MAX: usize = 100;

    /// Whether machines of `account` may be placed on it.
    #[must_use]
    pub fn takes(&self, account: AccountId) -> bool {
        self.state == HostState::Active && self.accounts.contains(&account)
    }
}

/// What lets one host join, once. The token itself is not kept.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct JoinToken {
    /// SHA-256 of the secret in it.
    pub digest: [u8; 32],
    /// The accounts of the host that joins with it.
    pub accounts: BTreeSet<AccountId>,
    /// When it was made.
    pub created_at: UnixTime,
    /// Good before this second.
    pub expires_at: UnixTime,
}

impl JoinToken {
    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if (1..=Host::ACCOUNTS_MAX).contains(&self.accounts.len()) {
            Ok(())
        } else {
            Err(StoreError::Invalid("a host serves 1 to 100 accounts"))
        }
    }
}

/// A host that joins with a token, which is used up by it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostJoin {
    /// SHA-256 of the secret in the token.
    pub digest: [u8; 32],
    /// The id it shall have.
    pub id: HostId,
    /// Its name.
    pub name: String,
    /// Its public key.
    pub public_key: Vec<u8>,
    /// When.
    pub at: UnixTime,
}

impl HostJoin {
    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        if !(1..=Host::NAME_MAX).contains(&self.name.len()) {
            return Err(StoreError::Invalid("the name of a host has 1 to 253 bytes"));
        }
        if !(1..=Host::KEY_BYTES_MAX).contains(&self.public_key.len()) {
            return Err(StoreError::Invalid("the public key of a host has 1 to 512 bytes"));
        }
        Ok(())
    }

    /// The record of the host that joins with `token`.
    #[must_use]
    pub fn host(&self, token: &JoinToken) -> Host {
        Host {
            id: self.id,
            name: self.name.clone(),
            state: HostState::Active,
            public_key: self.public_key.clone(),
            accounts: token.accounts.clone(),
            joined_at: self.at,
            seen_at: self.at,
        }
    }
}

/// What to do to a host.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum HostChange {
    /// Give it no more machines; leaves one that is evicted as it is.
    Drain,
    /// Cut it off for good.
    Evict,
    /// It was heard of at this moment; never moves back.
    Seen(UnixTime),
}

impl HostChange {
    /// What it is told of as, where it has changed a host. That one was heard of is nobody else's business.
    #[must_use]
    pub fn topics(self, changed: Option<&Host>) -> Vec<Topic> {
        match (self, changed) {
            (Self::Drain | Self::Evict, Some(_)) => vec![Topic::Hosts],
            (Self::Seen(_), _) | (_, None) => vec![],
        }
    }

    /// The record after the change.
    #[must_use]
    pub fn apply(self, before: &Host) -> Host {
        let mut after = before.clone();
        match (self, before.state) {
            (Self::Drain, HostState::Active | HostState::Draining) => after.state = HostState::Draining,
            (Self::Drain, HostState::Evicted) => {}
            (Self::Evict, _) => after.state = HostState::Evicted,
            (Self::Seen(at), _) => after.seen_at = before.seen_at.max(at),
        }
        after
    }
}

/// Accounts as one column: their numbers with commas between them, in order.
#[must_use]
pub fn accounts_to_column(accounts: &BTreeSet<AccountId>) -> String {
    accounts.iter().map(AccountId::to_string).collect::<Vec<_>>().join(",")
}

/// From what [`accounts_to_column`] gave; `None`: it gives no such thing.
#[must_use]
pub fn accounts_from_column(text: &str) -> Option<BTreeSet<AccountId>> {
    text.split(',').map(|number| number.parse().ok()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn states_round_trip() {
        for state in [HostState::Active, HostState::Draining, HostState::Evicted] {
            assert_eq!(state.to_string().parse(), Ok(state));
        }
        assert_eq!("Active".parse::<HostState>(), Err(()));
    }

    #[test]
    fn accounts_come_back() {
        let accounts: BTreeSet<_> = [7, 42].into_iter().map(|number| AccountId::new(number).unwrap()).collect();
        assert_eq!(accounts_to_column(&accounts), "000000000007,000000000042");
        assert_eq!(accounts_from_column("000000000007,000000000042"), Some(accounts));
        for text in ["", "7", "000000000007,", "000000000007 000000000042"] {
            assert_eq!(accounts_from_column(text), None, "{text}");
        }
    }
}
