//! The join token: a secret that is good once and not for long, and whom to show it to.

use core::fmt;
use core::str::FromStr;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use zeroize::Zeroizing;

/// Secret scanners and people tell it by this.
const PREFIX: &str = "inbj1_";

/// A text that is no join token. The text is not repeated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error(
    "a join token begins with inbj1_ and has {} characters: copy it whole, as `inborn host token` printed it",
    JoinToken::LENGTH
)]
pub struct JoinTokenError;

/// What lets one host join.
///
/// It holds all that a host has to trust: it shows the secret to nobody but the region whose authority has the fingerprint.
#[derive(Clone, PartialEq, Eq)]
pub struct JoinToken {
    secret: Zeroizing<[u8; JoinToken::SECRET_BYTES]>,
    authority: [u8; 32],
}

impl JoinToken {
    /// Bytes of the secret.
    pub const SECRET_BYTES: usize = 32;
    /// Characters of a token.
    pub const LENGTH: usize = PREFIX.len() + 86;

    /// A token of a random secret and the SHA-256 fingerprint of the authority of hosts.
    #[must_use]
    pub fn new(secret: &[u8; Self::SECRET_BYTES], authority: [u8; 32]) -> Self {
        Self { secret: Zeroizing::new(*secret), authority }
    }

    /// The secret.
    #[must_use]
    pub fn secret(&self) -> &[u8; Self::SECRET_BYTES] {
        &self.secret
    }

    /// The fingerprint of the region's authority of hosts.
    #[must_use]
    pub const fn authority(&self) -> [u8; 32] {
        self.authority
    }

    /// The token itself. Named so that a reader sees each place where it leaves its shell.
    #[must_use]
    pub fn expose(&self) -> Zeroizing<String> {
        let mut bytes = Zeroizing::new([0; 64]);
        let (secret, authority) = bytes.split_at_mut(Self::SECRET_BYTES);
        secret.copy_from_slice(&*self.secret);
        authority.copy_from_slice(&self.authority);
        Zeroizing::new(format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode(bytes.as_slice())))
    }
}

impl FromStr for JoinToken {
    type Err = JoinTokenError;
    fn from_str(text: &str) -> Result<Self, JoinTokenError> {
        let encoded = text.strip_prefix(PREFIX).filter(|_| text.len() == Self::LENGTH).ok_or(JoinTokenError)?;
        let bytes = Zeroizing::new(URL_SAFE_NO_PAD.decode(encoded).map_err(|_| JoinTokenError)?);
        let (secret, authority) = bytes.split_first_chunk().ok_or(JoinTokenError)?;
        Ok(Self::new(secret, authority.try_into().map_err(|_| JoinTokenError)?))
    }
}

impl fmt::Debug for JoinToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JoinToken(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn what_is_no_token() {
        let good = JoinToken::new(&[1; 32], [2; 32]).expose();
        assert_eq!(good.len(), JoinToken::LENGTH);
        let wrong = [
            String::new(),
            good[..good.len() - 1].to_owned(),
            format!("{}A", *good),
            good.replacen("inbj1_", "inbj2_", 1),
            good.replacen("A", "+", 1),
            format!(" {}", &good[1..]),
        ];
        for text in wrong {
            assert_eq!(text.parse::<JoinToken>(), Err(JoinTokenError), "{text}");
        }
        assert_eq!(format!("{:?}", JoinToken::new(&[1; 32], [2; 32])), "JoinToken(redacted)");
    }

    proptest! {
        #[test]
        fn parse_is_the_inverse_of_print(secret: [u8; 32], authority: [u8; 32]) {
            let token = JoinToken::new(&secret, authority);
            let parsed: JoinToken = token.expose().parse().unwrap();
            prop_assert_eq!(parsed.secret(), &secret);
            prop_assert_eq!(parsed.authority(), authority);
        }

        #[test]
        fn no_text_panics(text in "(inbj1_)?.{0,100}") {
            let _ = text.parse::<JoinToken>();
        }
    }
}
