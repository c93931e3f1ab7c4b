//! Access key ids: four letters that tell the kind, then 80 bits of which 40 are the account.

use core::fmt;
use core::str::FromStr;

use crate::AccountId;

const ALPHABET: &[u8; 32] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZ234567";
const RANDOM_BITS: u32 = 39;
const RANDOM_MASK: u128 = (1 << RANDOM_BITS) - 1;
const PAYLOAD_CHARACTERS: usize = 16;

/// What the first four letters of an access key id say.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum AccessKeyKind {
    /// `AKIA`: long-lived, an operator's.
    LongLived,
    /// `ASIA`: temporary, comes with a session token.
    Temporary,
}

impl AccessKeyKind {
    const fn prefix(self) -> &'static [u8; 4] {
        match self {
            Self::LongLived => b"AKIA",
            Self::Temporary => b"ASIA",
        }
    }
}

/// A text that is not an access key id of the new form.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("an access key id is AKIA or ASIA and 16 characters of A-Z and 2-7")]
pub struct AccessKeyIdError;

/// An access key id: 20 characters, of which the last 16 are base32 of a 1 bit, the account (40 bits) and 39 free bits.
///
/// The free bits collide (10⁵ live keys: about 1 %), so an id alone never selects a secret.
/// Source: the public decoding algorithm, checked against CloudTrail records of real keys.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct AccessKeyId([u8; Self::LENGTH]);

impl AccessKeyId {
    /// Characters in an id.
    pub const LENGTH: usize = 20;

    /// The id of `kind` for `account`, whose free bits are the low 39 bits of `free`.
    #[must_use]
    pub fn new(kind: AccessKeyKind, account: AccountId, free: u64) -> Self {
        let bits: u128 = 1 << 79 | u128::from(account.number()) << RANDOM_BITS | u128::from(free) & RANDOM_MASK;
        let mut text = [0; Self::LENGTH];
        let (prefix, payload) = text.split_at_mut(4);
        prefix.copy_from_slice(kind.prefix());
        for (index, character) in payload.iter_mut().enumerate() {
            let shift = 5 * (PAYLOAD_CHARACTERS - 1 - index);
            *character = ALPHABET.get((bits >> shift & 31) as usize).copied().unwrap_or(b'A');
        }
        Self(text)
    }

    /// The id as text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }

    /// The id as bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }

    /// Long-lived or temporary.
    #[must_use]
    pub fn kind(&self) -> AccessKeyKind {
        if self.0.starts_with(b"AKIA") { AccessKeyKind::LongLived } else { AccessKeyKind::Temporary }
    }

    /// The account it decodes to. A claim, not a proof: anybody can write an id.
    #[must_use]
    pub fn account(&self) -> Option<AccountId> {
        AccountId::new(u64::try_from(self.bits()? >> RANDOM_BITS & ((1 << 40) - 1)).ok()?).ok()
    }

    fn bits(&self) -> Option<u128> {
        self.0.iter().skip(4).try_fold(0u128, |bits, character| {
            let value = ALPHABET.iter().position(|letter| letter == character)?;
            Some(bits << 5 | value as u128)
        })
    }
}

impl FromStr for AccessKeyId {
    type Err = AccessKeyIdError;
    fn from_str(text: &str) -> Result<Self, AccessKeyIdError> {
        let id = Self(text.as_bytes().try_into().map_err(|_| AccessKeyIdError)?);
        let known = id.0.starts_with(b"AKIA") || id.0.starts_with(b"ASIA");
        let new_form = id.bits().is_some_and(|bits| bits >> 79 == 1);
        if known && new_form { Ok(id) } else { Err(AccessKeyIdError) }
    }
}

impl fmt::Display for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Debug for AccessKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Key ids and accounts from public CloudTrail records; the first is a real identity role's.
    #[test]
    fn decodes_real_ids() {
        for (id, account) in [("ASIA52GPOBQCD6DF76FQ", 949_622_803_460), ("ASIAY34FZKBOKMUTVV7A", 609_629_065_308)] {
            assert_eq!(id.parse::<AccessKeyId>().unwrap().account(), AccountId::new(account).ok());
        }
    }

    #[test]
    fn refuses_what_is_not_an_id() {
        for text in [
            "",
            "ASIA52GPOBQCD6DF76F",
            "ASIA52GPOBQCD6DF76FQQ",
            "AROA52GPOBQCD6DF76FQ",
            "ASIA52GPOBQCD6DF76F1",
            "asia52gpobqcd6df76fq",
            "ASIAA2GPOBQCD6DF76FQ",
        ] {
            assert_eq!(text.parse::<AccessKeyId>(), Err(AccessKeyIdError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn account_and_text_survive(account in 0..=AccountId::MAX, free: u64, temporary: bool) {
            let kind = if temporary { AccessKeyKind::Temporary } else { AccessKeyKind::LongLived };
            let account = AccountId::new(account).unwrap();
            let id = AccessKeyId::new(kind, account, free);
            prop_assert_eq!(id.as_str().parse(), Ok(id));
            prop_assert_eq!(id.account(), Some(account));
            prop_assert_eq!(id.kind(), kind);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,24}") {
            let _ = text.parse::<AccessKeyId>();
        }
    }
}
