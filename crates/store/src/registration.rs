//! The key of a machine's agent.

use inborn_identity::{InstanceId, UnixTime};

use crate::StoreError;

/// An agent that registered, and the key it registered with.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Registration {
    /// The machine.
    pub instance: InstanceId,
    /// The public key, DER.
    pub public_key: Vec<u8>,
    /// When it registered.
    pub registered_at: UnixTime,
    /// When it got this key: then, or later.
    pub key_changed_at: UnixTime,
}

/// A new key for a machine, or none, written only if it still has the expected one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct RegistrationChange {
    /// The machine.
    pub instance: InstanceId,
    /// The key it must have now; `None`: it must not be registered.
    pub expected: Option<Vec<u8>>,
    /// The key it will have, 1 to [`RegistrationChange::KEY_BYTES_MAX`] bytes; `None`: it will not be registered.
    pub public_key: Option<Vec<u8>>,
    /// When.
    pub at: UnixTime,
    /// What it was decided by: it is not written once that is another, and nobody changes that while it is written.
    pub basis: Option<SettingBasis>,
}

/// A setting as it was read. It is one that is there: of what is not there nobody can be kept from making it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct SettingBasis {
    /// Its name.
    pub name: String,
    /// What it held.
    pub value: Vec<u8>,
}

impl RegistrationChange {
    /// The longest key. One of RSA with 8192 bits has 1062.
    pub const KEY_BYTES_MAX: usize = 2048;

    /// Whether it makes sense to a store: what every store asks before it does anything.
    ///
    /// # Errors
    /// `Invalid`.
    pub fn check(&self) -> Result<(), StoreError> {
        let is_good = |key: &Vec<u8>| (1..=Self::KEY_BYTES_MAX).contains(&key.len());
        if self.public_key.as_ref().is_none_or(is_good) {
            Ok(())
        } else {
            Err(StoreError::Invalid("a public key has 1 to 2048 bytes"))
        }
    }
}
