//! A key pair: a name for the public half of an SSH key.

use core::fmt;
use core::str::FromStr;
use std::collections::BTreeMap;

use inborn_identity::{AccountId, UnixTime};

/// What kind of key it is.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum KeyType {
    /// RSA.
    Rsa,
    /// Ed25519.
    Ed25519,
}

impl KeyType {
    /// `rsa` or `ed25519`, as EC2 writes it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Rsa => "rsa",
            Self::Ed25519 => "ed25519",
        }
    }
}

impl fmt::Display for KeyType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for KeyType {
    type Err = ();
    fn from_str(text: &str) -> Result<Self, ()> {
        [Self::Rsa, Self::Ed25519].into_iter().find(|kind| kind.as_str() == text).ok_or(())
    }
}

/// A key pair, as far as it is remembered: never its private half.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct KeyPair {
    /// Whose it is.
    pub account: AccountId,
    /// What launches name it by; no two of an account have the same.
    pub name: String,
    /// As in `key-0123456789abcdef0`; no two have the same.
    pub id: String,
    /// What kind of key it is.
    pub key_type: KeyType,
    /// As EC2 makes it; which digest of what depends on the type and on where the key was made.
    pub fingerprint: String,
    /// The public half: a line in the form of `authorized_keys`.
    pub public_key: String,
    /// When it was made or imported.
    pub created_at: UnixTime,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_round_trip() {
        for kind in [KeyType::Rsa, KeyType::Ed25519] {
            assert_eq!(kind.to_string().parse(), Ok(kind));
        }
        assert_eq!("RSA".parse::<KeyType>(), Err(()));
    }
}
