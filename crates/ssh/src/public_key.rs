//! One public key, as a line of `authorized_keys` or of a `.pub` file has it.

use core::cmp::Ordering;
use core::fmt;

use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg};

/// The longest line. An RSA key of [`RSA_BITS_MAX`] bits takes some 1400 bytes of it.
pub const LINE_BYTES_MAX: usize = 4096;
/// The longest comment.
pub const COMMENT_BYTES_MAX: usize = 256;
/// The shortest RSA modulus: what OpenSSH has demanded since 9.1 is less, what NIST SP 800-131A demands is this.
pub const RSA_BITS_MIN: usize = 2048;
/// The longest RSA modulus: up to this one signatures can be checked.
pub const RSA_BITS_MAX: usize = 8192;

/// What kinds of keys there are here.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug)]
pub enum KeyKind {
    /// `ssh-ed25519`
    Ed25519,
    /// `ecdsa-sha2-nistp256`
    EcdsaP256,
    /// `ecdsa-sha2-nistp384`
    EcdsaP384,
    /// `ecdsa-sha2-nistp521`
    EcdsaP521,
    /// `ssh-rsa`. Last: scripts cut it out of a list by what follows it.
    Rsa,
}

impl KeyKind {
    /// Its name in the protocol.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ed25519 => "ssh-ed25519",
            Self::EcdsaP256 => "ecdsa-sha2-nistp256",
            Self::EcdsaP384 => "ecdsa-sha2-nistp384",
            Self::EcdsaP521 => "ecdsa-sha2-nistp521",
            Self::Rsa => "ssh-rsa",
        }
    }

    /// The number of the algorithm in an SSHFP record. Source: RFC 4255, RFC 6594, RFC 7479.
    #[must_use]
    pub const fn sshfp_number(self) -> u8 {
        match self {
            Self::Rsa => 1,
            Self::EcdsaP256 | Self::EcdsaP384 | Self::EcdsaP521 => 3,
            Self::Ed25519 => 4,
        }
    }
}

/// Why a line is no key that is taken.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KeyError {
    /// Too long.
    #[error("a public key is a line of at most {LINE_BYTES_MAX} bytes")]
    TooLong,
    /// Not `TYPE BASE64 [COMMENT]`, or the bytes are not such a key.
    #[error("this is not a public key in OpenSSH's form (TYPE BASE64 COMMENT)")]
    Malformed,
    /// The comment could speak to a terminal or end a quotation.
    #[error(
        "the comment of a key has at most {COMMENT_BYTES_MAX} bytes and no control characters, quotes or backslashes"
    )]
    Comment,
    /// A known type that is not taken here.
    #[error("keys of type {0} are not taken")]
    Kind(String),
    /// RSA of a wrong size.
    #[error("an RSA key has {RSA_BITS_MIN} to {RSA_BITS_MAX} bits, this one has {0}")]
    RsaBits(usize),
}

/// A public key. Two are equal if their bytes are; the comment is only kept.
#[derive(Clone)]
pub struct PublicKey {
    kind: KeyKind,
    data: KeyData,
    blob: Box<[u8]>,
    base64: Box<str>,
    comment: Box<str>,
}

impl PublicKey {
    /// Reads one line.
    ///
    /// # Errors
    /// See [`KeyError`].
    pub fn parse(line: &str) -> Result<Self, KeyError> {
        if line.len() > LINE_BYTES_MAX {
            return Err(KeyError::TooLong);
        }
        let line = line.trim_matches([' ', '\t', '\r', '\n']);
        let (_, rest) = line.split_once(' ').ok_or(KeyError::Malformed)?;
        let comment = rest.trim_start().split_once(' ').map_or("", |(_, comment)| comment.trim());
        if comment.len() > COMMENT_BYTES_MAX || comment.chars().any(|c| c.is_control() || matches!(c, '"' | '\\')) {
            return Err(KeyError::Comment);
        }
        let key = ssh_key::PublicKey::from_openssh(line).map_err(|_| KeyError::Malformed)?;
        Self::from_data(key.key_data().clone(), comment)
    }

    /// A key of which the bytes are known.
    ///
    /// # Errors
    /// [`KeyError::Kind`], [`KeyError::RsaBits`].
    pub(crate) fn from_data(data: KeyData, comment: &str) -> Result<Self, KeyError> {
        let kind = kind(&data)?;
        let plain = ssh_key::PublicKey::new(data.clone(), "");
        let blob = plain.to_bytes().map_err(|_| KeyError::Malformed)?;
        let line = plain.to_openssh().map_err(|_| KeyError::Malformed)?;
        let base64 = line.split(' ').nth(1).ok_or(KeyError::Malformed)?;
        Ok(Self { kind, data, blob: blob.into(), base64: base64.into(), comment: comment.into() })
    }

    /// What kind of key.
    #[must_use]
    pub const fn kind(&self) -> KeyKind {
        self.kind
    }

    /// The bytes of the key, as they stand in base64 in its line.
    #[must_use]
    pub const fn blob(&self) -> &[u8] {
        &self.blob
    }

    /// What stands behind the key in its line; may be empty.
    #[must_use]
    pub const fn comment(&self) -> &str {
        &self.comment
    }

    /// `TYPE BASE64`, without the comment.
    #[must_use]
    pub fn bare_line(&self) -> String {
        format!("{} {}", self.kind.name(), self.base64)
    }

    /// The line as it was, spaces folded.
    #[must_use]
    pub fn line(&self) -> String {
        let bare = self.bare_line();
        if self.comment.is_empty() { bare } else { format!("{bare} {}", self.comment) }
    }

    /// `SHA256:…`, as `ssh-keygen -l` shows it.
    #[must_use]
    pub fn fingerprint(&self) -> String {
        self.data.fingerprint(HashAlg::Sha256).to_string()
    }

    pub(crate) const fn data(&self) -> &KeyData {
        &self.data
    }
}

fn kind(data: &KeyData) -> Result<KeyKind, KeyError> {
    match data {
        KeyData::Ed25519(_) => Ok(KeyKind::Ed25519),
        KeyData::Ecdsa(key) => Ok(match key.curve() {
            EcdsaCurve::NistP256 => KeyKind::EcdsaP256,
            EcdsaCurve::NistP384 => KeyKind::EcdsaP384,
            EcdsaCurve::NistP521 => KeyKind::EcdsaP521,
        }),
        KeyData::Rsa(key) => {
            let bits = key.n.as_positive_bytes().map_or(0, bits);
            if (RSA_BITS_MIN..=RSA_BITS_MAX).contains(&bits) { Ok(KeyKind::Rsa) } else { Err(KeyError::RsaBits(bits)) }
        }
        other => Err(KeyError::Kind(match other.algorithm() {
            Algorithm::Other(name) => name.as_str().chars().take(64).collect(),
            known => known.as_str().to_owned(),
        })),
    }
}

/// The length in bits of a number without leading zero bytes.
fn bits(bytes: &[u8]) -> usize {
    let zeros = bytes.first().map_or(0, |first| first.leading_zeros() as usize);
    bytes.len() * 8 - zeros
}

impl PartialEq for PublicKey {
    fn eq(&self, other: &Self) -> bool {
        self.blob == other.blob
    }
}

impl Eq for PublicKey {}

impl PartialOrd for PublicKey {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// By kind, then by bytes.
impl Ord for PublicKey {
    fn cmp(&self, other: &Self) -> Ordering {
        (self.kind, &self.blob).cmp(&(other.kind, &other.blob))
    }
}

impl fmt::Debug for PublicKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PublicKey({} {})", self.kind.name(), self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_keys::tests::{ECDSA, ED25519, RSA};
    use proptest::prelude::*;

    #[test]
    fn a_line_comes_back_as_it_was() {
        for (line, kind) in [(ED25519, KeyKind::Ed25519), (ECDSA, KeyKind::EcdsaP256), (RSA, KeyKind::Rsa)] {
            let key = PublicKey::parse(line).unwrap();
            assert_eq!((key.line().as_str(), key.kind(), key.comment()), (line, kind, "root@host"));
            assert_eq!(PublicKey::parse(&key.bare_line()).unwrap(), key);
        }
        let spaced = ED25519.replace(' ', "  ");
        assert!(PublicKey::parse(&spaced).is_err_and(|error| error == KeyError::Malformed));
        assert_eq!(PublicKey::parse(&format!("{ED25519}\n")).unwrap().line(), ED25519);
    }

    #[test]
    fn fingerprints_are_those_of_ssh_keygen() {
        // `ssh-keygen -lf` of the same line.
        let key = PublicKey::parse(ED25519).unwrap();
        assert_eq!(key.fingerprint(), crate::host_keys::tests::ED25519_FINGERPRINT);
    }

    #[test]
    fn other_kinds_are_named() {
        let sk = "sk-ssh-ed25519@openssh.com AAAAGnNrLXNzaC1lZDI1NTE5QG9wZW5zc2guY29tAAAAIFjNnXd1Vg7HpGsCYNJAIzUbZQLnTTgKpPK1zXk0mYGTAAAABHNzaDo= x";
        assert_eq!(PublicKey::parse(sk).unwrap_err(), KeyError::Kind("sk-ssh-ed25519@openssh.com".to_owned()));
        for line in [
            "",
            "ssh-ed25519",
            "ssh-ed25519 ",
            "ssh-ed25519 AAAA",
            "ssh-rsa é",
            "x y z",
            &RSA.replace("ssh-rsa", "ssh-ed25519"),
        ] {
            assert_eq!(PublicKey::parse(line).unwrap_err(), KeyError::Malformed, "{line}");
        }
    }

    #[test]
    fn comments_below_at_and_above_their_limit() {
        let bare = PublicKey::parse(ED25519).unwrap().bare_line();
        for (length, fits) in [(COMMENT_BYTES_MAX - 1, true), (COMMENT_BYTES_MAX, true), (COMMENT_BYTES_MAX + 1, false)]
        {
            assert_eq!(PublicKey::parse(&format!("{bare} {}", "c".repeat(length))).is_ok(), fits, "{length}");
        }
        for comment in ["a\"b", "a\\b", "a\u{1b}[2Jb", "a\nb", "a\u{0}b", "a\u{9b}b"] {
            assert_eq!(PublicKey::parse(&format!("{bare} {comment}")).unwrap_err(), KeyError::Comment, "{comment:?}");
        }
        assert_eq!(PublicKey::parse(&format!("{bare} Grüße von root")).unwrap().comment(), "Grüße von root");
    }

    #[test]
    fn lines_above_their_limit_are_not_read() {
        assert_eq!(PublicKey::parse(&"x".repeat(LINE_BYTES_MAX + 1)).unwrap_err(), KeyError::TooLong);
        assert_eq!(PublicKey::parse(&"x".repeat(LINE_BYTES_MAX)).unwrap_err(), KeyError::Malformed);
    }

    #[test]
    fn rsa_below_at_and_above_its_sizes() {
        let key = |bits: usize| {
            let mut modulus = vec![0xff; bits.div_ceil(8)];
            modulus[0] >>= (8 - bits % 8) % 8;
            let number = |bytes: &[u8]| ssh_key::Mpint::from_positive_bytes(bytes).unwrap();
            let data = ssh_key::public::RsaPublicKey { e: number(&[1, 0, 1]), n: number(&modulus) };
            PublicKey::from_data(KeyData::Rsa(data), "")
        };
        for bits in [1024, RSA_BITS_MIN - 1, RSA_BITS_MAX + 1] {
            assert_eq!(key(bits).unwrap_err(), KeyError::RsaBits(bits));
        }
        for bits in [RSA_BITS_MIN, RSA_BITS_MIN + 1, RSA_BITS_MAX - 1, RSA_BITS_MAX] {
            let key = key(bits).unwrap();
            assert!(key.line().len() < LINE_BYTES_MAX, "{bits}");
            assert_eq!(PublicKey::parse(&key.line()).unwrap(), key);
        }
    }

    proptest! {
        #[test]
        fn never_panics(text in "(ssh-rsa|ssh-ed25519|ecdsa-sha2-nistp256)? ?[A-Za-z0-9+/=]{0,80} ?\\PC{0,20}") {
            let _ = PublicKey::parse(&text);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = PublicKey::parse(&String::from_utf8_lossy(&bytes));
        }
    }
}
