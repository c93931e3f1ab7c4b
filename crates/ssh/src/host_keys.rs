//! The host keys of one machine, as it publishes them.

use crate::{KeyError, PublicKey};

/// The most keys of one machine: OpenSSH makes four.
pub const KEYS_MAX: usize = 16;
/// The most lines that one call may bring, certificates and the like among them.
pub const LINES_MAX: usize = 64;

/// Types that a directory full of `.pub` files holds beside host keys. Source: the harvest script of AWS's package sends
/// every `/etc/ssh/*.pub`: certificates, and the DSA keys that old images still make.
const PASSED_OVER: [&str; 1] = ["ssh-dss"];
const CERTIFICATE_SUFFIX: &str = "-cert-v01@openssh.com";

/// Why lines are no set of host keys.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum HostKeysError {
    /// Too many.
    #[error("a machine has at most {KEYS_MAX} host keys, in at most {LINES_MAX} lines")]
    TooMany,
    /// None that is taken.
    #[error("there is no host key among these: ssh-ed25519, ecdsa-sha2-nistp256, -384, -521 and ssh-rsa are taken")]
    None,
    /// One is no key.
    #[error("host key {number}: {fault}")]
    Key {
        /// Which line, from 1.
        number: usize,
        /// What is wrong with it.
        fault: KeyError,
    },
}

/// One to [`KEYS_MAX`] keys, each once, in the order of [`crate::KeyKind`]: RSA last.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostKeySet(Vec<PublicKey>);

impl HostKeySet {
    /// Reads the lines of a call: what cannot be a host key any more is passed over, what is broken is refused.
    ///
    /// # Errors
    /// See [`HostKeysError`].
    pub fn parse<'a>(lines: impl IntoIterator<Item = &'a str>) -> Result<Self, HostKeysError> {
        let mut keys = Vec::new();
        for (line, number) in lines.into_iter().zip(1..) {
            if number > LINES_MAX {
                return Err(HostKeysError::TooMany);
            }
            let name = line.trim_start().split([' ', '\t']).next().unwrap_or_default();
            if line.trim().is_empty() || name.ends_with(CERTIFICATE_SUFFIX) || PASSED_OVER.contains(&name) {
                continue;
            }
            keys.push(PublicKey::parse(line).map_err(|fault| HostKeysError::Key { number, fault })?);
        }
        Self::new(keys)
    }

    /// A set of these keys.
    ///
    /// # Errors
    /// [`HostKeysError::None`], [`HostKeysError::TooMany`].
    pub fn new(mut keys: Vec<PublicKey>) -> Result<Self, HostKeysError> {
        keys.sort();
        keys.dedup();
        match keys.len() {
            0 => Err(HostKeysError::None),
            1..=KEYS_MAX => Ok(Self(keys)),
            _ => Err(HostKeysError::TooMany),
        }
    }

    /// The keys.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &PublicKey> {
        self.0.iter()
    }

    /// Whether this key is among them.
    #[must_use]
    pub fn contains(&self, key: &PublicKey) -> bool {
        self.0.binary_search(key).is_ok()
    }

    /// Their lines, comments kept.
    #[must_use]
    pub fn lines(&self) -> Vec<String> {
        self.iter().map(PublicKey::line).collect()
    }

    /// One name for the whole set: `SHA256:` and the digest of its lines without comments, in hex. Says which set is meant
    /// when somebody decides about one that may be replaced meanwhile.
    #[must_use]
    pub fn digest(&self) -> String {
        let lines: String = self.iter().map(|key| key.bare_line() + "\n").collect();
        let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, lines.as_bytes());
        let hex: String = digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect();
        format!("SHA256:{hex}")
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    include!("../tests/keys.in");

    #[test]
    fn rsa_is_last_and_each_key_is_there_once() {
        let set = HostKeySet::parse([RSA, ED25519, ECDSA, ED25519]).unwrap();
        assert_eq!(set.lines(), [ED25519, ECDSA, RSA]);
        let again = HostKeySet::parse([ECDSA, RSA, ED25519]).unwrap();
        assert_eq!((set.digest(), &set), (again.digest(), &again));
        assert!(set.digest().starts_with("SHA256:") && set.digest().len() == 7 + 64);
        assert_ne!(set.digest(), HostKeySet::parse([ECDSA, RSA]).unwrap().digest());
        assert!(
            set.contains(&PublicKey::parse(RSA).unwrap()) && !set.contains(&PublicKey::parse(ED25519_OTHER).unwrap())
        );
    }

    #[test]
    fn certificates_and_old_types_are_passed_over() {
        let certificate =
            "ssh-ed25519-cert-v01@openssh.com AAAAIHNzaC1lZDI1NTE5LWNlcnQtdjAxQG9wZW5zc2guY29t not even whole";
        let set = HostKeySet::parse([certificate, "", "ssh-dss AAAAB3NzaC1kc3MAAACBAP root@old", RSA]).unwrap();
        assert_eq!(set.lines(), [RSA]);
        assert_eq!(HostKeySet::parse([certificate, " \t"]), Err(HostKeysError::None));
        assert_eq!(HostKeySet::parse([]), Err(HostKeysError::None));
    }

    #[test]
    fn a_broken_line_is_named() {
        let error = HostKeySet::parse([RSA, "ssh-ed25519 nonsense"]).unwrap_err();
        assert_eq!(error, HostKeysError::Key { number: 2, fault: KeyError::Malformed });
        assert!(error.to_string().starts_with("host key 2: "), "{error}");
    }

    #[test]
    fn keys_and_lines_below_at_and_above_their_limits() {
        for (count, fits) in [(KEYS_MAX - 1, true), (KEYS_MAX, true), (KEYS_MAX + 1, false)] {
            let keys = (0..count).map(|number| {
                let mut bytes = [7; 32];
                bytes[0] = u8::try_from(number).unwrap();
                let data = ssh_key::public::KeyData::Ed25519(ssh_key::public::Ed25519PublicKey(bytes));
                PublicKey::from_data(data, "").unwrap()
            });
            assert_eq!(HostKeySet::new(keys.collect()).is_ok(), fits, "{count}");
        }
        for (count, fits) in [(LINES_MAX - 1, true), (LINES_MAX, true), (LINES_MAX + 1, false), (10_000, false)] {
            let lines = std::iter::repeat_n(ED25519, count);
            assert_eq!(HostKeySet::parse(lines).is_ok(), fits, "{count}");
        }
    }
}
