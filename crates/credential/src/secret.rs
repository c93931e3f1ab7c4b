//! The two halves of a credential that must not leak: the secret and, less so, the token.

use core::fmt;

use aws_lc_rs::{constant_time, rand};
use inborn_identity::{AccessKeyId, AccessKeyKind, AccountId};
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{CryptoError, base64};

/// Random bytes behind a secret; 30 bytes are 40 characters of base64 with none left over.
pub(crate) const SECRET_BYTES: usize = 30;

/// A text that is not a secret access key. The text is not repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a secret access key is 40 characters of A-Z a-z 0-9 + /")]
pub struct SecretError;

/// A secret access key: 40 characters of `A-Z a-z 0-9 + /`. Wiped on drop, hidden from `Debug`, compared in constant
/// time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SecretAccessKey([u8; Self::LENGTH]);

impl SecretAccessKey {
    /// Characters in a secret. Secret scanners look for exactly this many.
    pub const LENGTH: usize = 40;

    /// Reads a secret.
    ///
    /// # Errors
    /// Another length or alphabet.
    pub fn new(text: &str) -> Result<Self, SecretError> {
        let bytes = text.as_bytes().try_into().map_err(|_| SecretError)?;
        let well_formed = text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
        if well_formed { Ok(Self(bytes)) } else { Err(SecretError) }
    }

    /// The secret whose text is the base64 of `bytes`.
    pub(crate) fn from_bytes(bytes: &[u8; SECRET_BYTES]) -> Self {
        let mut text = [0; Self::LENGTH];
        base64::encode_standard(bytes, &mut text);
        Self(text)
    }

    /// The secret itself. Named so that a reader sees each place where it leaves its shell.
    #[must_use]
    pub fn expose(&self) -> &str {
        core::str::from_utf8(&self.0).unwrap_or_default()
    }
}

impl PartialEq for SecretAccessKey {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(&self.0, &other.0).is_ok()
    }
}

impl Eq for SecretAccessKey {}

impl fmt::Debug for SecretAccessKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretAccessKey(redacted)")
    }
}

/// A text that is not a session token. The text is not repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("a session token is 1 to {} characters of A-Z a-z 0-9 - _", SessionToken::LENGTH_MAX)]
pub struct SessionTokenError;

/// A session token: 132–286 characters of `A-Z a-z 0-9 - _`, so that it survives a shell, a URL and a printf format.
///
/// It proves nothing without the secret, but together with a leaked secret it does: it is kept like one.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct SessionToken(String);

impl SessionToken {
    /// The longest token that is taken from elsewhere, in characters: more than any that this version makes.
    pub const LENGTH_MAX: usize = 512;

    /// Takes a token that somebody else has made. Whether it is one shows when it is used.
    ///
    /// # Errors
    /// Another length or alphabet.
    pub fn new(text: &str) -> Result<Self, SessionTokenError> {
        let is_fine = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
        let is_well_formed = (1..=Self::LENGTH_MAX).contains(&text.len()) && text.bytes().all(is_fine);
        if is_well_formed { Ok(Self(text.to_owned())) } else { Err(SessionTokenError) }
    }

    pub(crate) fn from_characters(characters: Vec<u8>) -> Self {
        Self(String::from_utf8(characters).unwrap_or_default())
    }

    /// The token itself.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl PartialEq for SessionToken {
    fn eq(&self, other: &Self) -> bool {
        constant_time::verify_slices_are_equal(self.0.as_bytes(), other.0.as_bytes()).is_ok()
    }
}

impl Eq for SessionToken {}

impl fmt::Debug for SessionToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SessionToken(redacted)")
    }
}

/// A new long-lived key pair for an operator of `account`: random, to be stored sealed.
///
/// # Errors
/// The system gives no randomness.
pub fn generate_long_lived(account: AccountId) -> Result<(AccessKeyId, SecretAccessKey), CryptoError> {
    let (mut free, mut secret) = ([0; 8], [0; SECRET_BYTES]);
    rand::fill(&mut free)?;
    rand::fill(&mut secret)?;
    let key = SecretAccessKey::from_bytes(&secret);
    secret.zeroize();
    Ok((AccessKeyId::new(AccessKeyKind::LongLived, account, u64::from_be_bytes(free)), key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_of_others_below_at_and_above_their_limits() {
        for (length, fits) in [(0, false), (1, true), (511, true), (512, true), (513, false)] {
            let text = "a".repeat(length);
            assert_eq!(SessionToken::new(&text).is_ok_and(|token| token.expose() == text), fits, "{length}");
        }
        for text in ["a b", "a%", "a\n", "a\"", "é"] {
            assert_eq!(SessionToken::new(text), Err(SessionTokenError));
        }
    }

    #[test]
    fn secrets_are_forty_characters_of_base64() {
        let text = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
        assert_eq!(SecretAccessKey::new(text).unwrap().expose(), text);
        for wrong in [&text[1..], &format!("{text}A"), &text.replace('/', "_"), &text.replace('w', "é")[..40], ""] {
            assert_eq!(SecretAccessKey::new(wrong), Err(SecretError), "{wrong}");
        }
    }

    #[test]
    fn equality_sees_every_character() {
        let text = "A".repeat(40);
        let secret = SecretAccessKey::new(&text).unwrap();
        assert_eq!(secret, SecretAccessKey::new(&text).unwrap());
        for index in 0..40 {
            let mut other = text.clone();
            other.replace_range(index..=index, "B");
            assert_ne!(secret, SecretAccessKey::new(&other).unwrap());
        }
    }

    #[test]
    fn new_operator_keys_differ_and_name_their_account() {
        let account = AccountId::new(123_456_789_012).unwrap();
        let (id, secret) = generate_long_lived(account).unwrap();
        let (other_id, other_secret) = generate_long_lived(account).unwrap();
        assert_eq!((id.kind(), id.account()), (AccessKeyKind::LongLived, Some(account)));
        assert!(id != other_id && secret != other_secret);
        assert!(SecretAccessKey::new(secret.expose()).is_ok());
    }

    #[test]
    fn debug_shows_nothing() {
        let (_, secret) = generate_long_lived(AccountId::new(1).unwrap()).unwrap();
        assert_eq!(format!("{secret:?}"), "SecretAccessKey(redacted)");
        assert_eq!(format!("{:?}", SessionToken::from_characters(b"inb1abc".to_vec())), "SessionToken(redacted)");
    }
}
