//! Host certificates: a host key that a region vouches for, under the names that the region has given its machine.
//!
//! The form is OpenSSH's (`PROTOCOL.certkeys`), the signature Ed25519's. Random bytes and times come in as values.

use core::fmt;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use inborn_identity::UnixTime;
use ssh_key::public::{Ed25519PublicKey, KeyData};

use crate::PublicKey;

/// How long a certificate is good: a machine asks for the next one three times a day, so that a region may be away for a
/// weekend; a key that is given up is believed for no longer.
pub const CERTIFICATE_LIFE_SECONDS: u64 = 3 * 24 * 3600;
/// How far the clocks of clients may be behind.
pub const CERTIFICATE_SKEW_SECONDS: u64 = 15 * 60;
/// Bytes of the seed that an authority is made from.
pub const AUTHORITY_SEED_BYTES: usize = 32;
/// The most names in a certificate. Source: OpenSSH, `SSHKEY_CERT_MAX_PRINCIPALS`.
pub const PRINCIPALS_MAX: usize = 256;
/// What the names of certificates end with.
const SUFFIX: &str = "-cert-v01@openssh.com";
/// The type of a certificate of a host. Source: `PROTOCOL.certkeys`.
const HOST: u32 = 2;

/// Who signs host certificates.
pub struct HostAuthority {
    pair: Ed25519KeyPair,
    public: PublicKey,
}

impl fmt::Debug for HostAuthority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HostAuthority").field("public", &self.public).finish_non_exhaustive()
    }
}

/// What a certificate says of its key.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct HostClaims {
    /// Whose key it is, for logs.
    pub key_id: String,
    /// The names under which the key is believed. None would mean all: such a certificate is not made.
    pub principals: Vec<String>,
    /// Tells it from others of the same authority.
    pub serial: u64,
    /// The moment when it is made.
    pub now: UnixTime,
    /// Makes the signature of each unlike any other.
    pub nonce: [u8; 32],
}

/// Why there is no certificate.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum CertificateError {
    /// The seed makes no key.
    #[error("the key of the SSH authority is damaged")]
    Seed,
    /// No names, or too many.
    #[error("a host certificate has 1 to {PRINCIPALS_MAX} names")]
    Principals,
}

impl HostAuthority {
    /// The authority of this seed.
    ///
    /// # Errors
    /// [`CertificateError::Seed`].
    pub fn from_seed(seed: &[u8; AUTHORITY_SEED_BYTES]) -> Result<Self, CertificateError> {
        let pair = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| CertificateError::Seed)?;
        let bytes = pair.public_key().as_ref().try_into().map_err(|_| CertificateError::Seed)?;
        let data = KeyData::Ed25519(Ed25519PublicKey(bytes));
        let public = PublicKey::from_data(data, "").map_err(|_| CertificateError::Seed)?;
        Ok(Self { pair, public })
    }

    /// The key that clients trust.
    #[must_use]
    pub const fn public_key(&self) -> &PublicKey {
        &self.public
    }

    /// A certificate of a host key: a line, as in a file `…-cert.pub`.
    ///
    /// # Errors
    /// [`CertificateError::Principals`].
    pub fn certify(&self, key: &PublicKey, claims: &HostClaims) -> Result<String, CertificateError> {
        if claims.principals.is_empty() || claims.principals.len() > PRINCIPALS_MAX {
            return Err(CertificateError::Principals);
        }
        let name = format!("{}{SUFFIX}", key.kind().name());
        let mut principals = Vec::new();
        for principal in &claims.principals {
            put(&mut principals, principal.as_bytes());
        }
        let mut bytes = Vec::new();
        put(&mut bytes, name.as_bytes());
        put(&mut bytes, &claims.nonce);
        // The key as it is, without the name of its kind, which comes first in it.
        bytes.extend_from_slice(key.blob().get(4 + key.kind().name().len()..).unwrap_or_default());
        bytes.extend_from_slice(&claims.serial.to_be_bytes());
        bytes.extend_from_slice(&HOST.to_be_bytes());
        put(&mut bytes, claims.key_id.as_bytes());
        put(&mut bytes, &principals);
        bytes.extend_from_slice(&claims.now.minus(CERTIFICATE_SKEW_SECONDS).as_secs().to_be_bytes());
        bytes.extend_from_slice(&claims.now.plus(CERTIFICATE_LIFE_SECONDS).as_secs().to_be_bytes());
        // Critical options, extensions, and what is reserved: hosts have none.
        for _ in 0..3 {
            put(&mut bytes, b"");
        }
        put(&mut bytes, self.public.blob());
        let mut signature = Vec::new();
        put(&mut signature, self.public.kind().name().as_bytes());
        put(&mut signature, self.pair.sign(&bytes).as_ref());
        put(&mut bytes, &signature);
        Ok(format!("{name} {}", BASE64.encode(bytes)))
    }
}

/// A string in SSH's form: its length in four bytes, and its bytes. None here is near four gibibytes.
fn put(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&u32::try_from(bytes.len()).unwrap_or(u32::MAX).to_be_bytes());
    out.extend_from_slice(bytes);
}

/// Which of `keys` a certificate is of, if it is a host certificate of one of them. Nobody is asked whether it is good: a
/// server does not have to believe its own certificate.
#[must_use]
pub fn certified_key<'a>(line: &str, keys: &'a crate::HostKeySet) -> Option<&'a PublicKey> {
    if line.len() > CERTIFICATE_BYTES_MAX || line.contains(['\n', '\r']) {
        return None;
    }
    let certificate = ssh_key::Certificate::from_openssh(line).ok()?;
    let is_of = |key: &&PublicKey| certificate.public_key() == key.data();
    keys.iter().find(is_of).filter(|_| certificate.cert_type().is_host())
}

/// The longest certificate that is taken: one of an RSA key of 8192 bits with a few names has some 2200 bytes.
pub const CERTIFICATE_BYTES_MAX: usize = 16 * 1024;

/// `@cert-authority NAMES TYPE BASE64`: a line of `known_hosts`.
#[must_use]
pub fn cert_authority_line(names: &str, authority: &PublicKey) -> String {
    format!("@cert-authority {names} {}", authority.bare_line())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::HostKeySet;
    use crate::host_keys::tests::{ECDSA, ED25519, ED25519_OTHER, RSA};
    use proptest::prelude::*;
    use ssh_key::Certificate;

    const NOW: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn claims() -> HostClaims {
        HostClaims {
            key_id: "i-0123456789abcdef0 of 123456789012".to_owned(),
            principals: vec!["i-0123456789abcdef0".to_owned(), "10.1.2.3".to_owned()],
            serial: 7,
            now: NOW,
            nonce: [9; 32],
        }
    }

    fn authority() -> HostAuthority {
        HostAuthority::from_seed(&[1; 32]).unwrap()
    }

    fn verified(line: &str, by: &PublicKey, at: UnixTime) -> bool {
        let certificate = Certificate::from_openssh(line).unwrap();
        let mut signed = Vec::new();
        // What is signed is all but the signature, a string at the end.
        let bytes = certificate.to_bytes().unwrap();
        signed.extend_from_slice(&bytes[..bytes.len() - (4 + 4 + 11 + 4 + 64)]);
        let KeyData::Ed25519(key) = by.data() else { panic!() };
        let key = aws_lc_rs::signature::UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, key.0);
        certificate.signature_key() == by.data()
            && key.verify(&signed, certificate.signature().as_bytes()).is_ok()
            && (certificate.valid_after()..certificate.valid_before()).contains(&at.as_secs())
    }

    #[test]
    fn every_kind_of_host_key_is_certified() {
        let authority = authority();
        for line in [ED25519, ECDSA, RSA] {
            let key = PublicKey::parse(line).unwrap();
            let text = authority.certify(&key, &claims()).unwrap();
            let certificate = Certificate::from_openssh(&text).unwrap();
            assert_eq!(certificate.public_key(), key.data());
            assert!(certificate.cert_type().is_host());
            assert_eq!(certificate.valid_principals(), claims().principals);
            assert_eq!((certificate.serial(), certificate.key_id()), (7, claims().key_id.as_str()));
            assert!(certificate.critical_options().is_empty() && certificate.extensions().is_empty());
            assert_eq!(certificate.to_openssh().unwrap(), text, "another encoder writes the same");
            for (at, is_good) in [
                (NOW.minus(CERTIFICATE_SKEW_SECONDS + 1), false),
                (NOW.minus(CERTIFICATE_SKEW_SECONDS), true),
                (NOW.plus(CERTIFICATE_LIFE_SECONDS - 1), true),
                (NOW.plus(CERTIFICATE_LIFE_SECONDS), false),
            ] {
                assert_eq!(verified(&text, authority.public_key(), at), is_good);
            }
            let other = HostAuthority::from_seed(&[2; 32]).unwrap();
            assert!(!verified(&text, other.public_key(), NOW));
        }
    }

    #[test]
    fn names_below_at_and_above_their_limit() {
        let key = PublicKey::parse(ED25519).unwrap();
        let with = |count: usize| HostClaims { principals: vec!["a".to_owned(); count], ..claims() };
        for (count, fits) in
            [(0, false), (1, true), (PRINCIPALS_MAX - 1, true), (PRINCIPALS_MAX, true), (PRINCIPALS_MAX + 1, false)]
        {
            assert_eq!(authority().certify(&key, &with(count)).is_ok(), fits, "{count}");
        }
    }

    #[test]
    fn a_certificate_is_found_to_be_of_a_key() {
        let keys = HostKeySet::parse([ED25519, RSA]).unwrap();
        let of = |line: &str| authority().certify(&PublicKey::parse(line).unwrap(), &claims()).unwrap();
        assert_eq!(certified_key(&of(RSA), &keys), Some(&PublicKey::parse(RSA).unwrap()));
        assert_eq!(certified_key(&of(ED25519_OTHER), &keys), None);
        for text in
            ["", RSA, &of(RSA)[..500], &format!("{}\nHostKey x", of(RSA)), &"x".repeat(CERTIFICATE_BYTES_MAX + 1)]
        {
            assert_eq!(certified_key(text, &keys), None, "{text:.40}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let text = format!("{:?}", authority());
        assert!(text.contains("SHA256:") && !text.contains("1, 1, 1") && text.len() < 140, "{text}");
    }

    #[test]
    fn the_line_for_clients() {
        let line = cert_authority_line("i-*", authority().public_key());
        assert!(line.starts_with("@cert-authority i-* ssh-ed25519 AAAA"), "{line}");
    }

    proptest! {
        #[test]
        fn whatever_is_claimed_is_read_back(
            serial: u64, key_id in "[ -~]{0,60}", principals in prop::collection::vec("[a-z0-9.-]{1,20}", 1..6),
            nonce: [u8; 32], seed: [u8; 32],
        ) {
            let authority = HostAuthority::from_seed(&seed).unwrap();
            let claims = HostClaims { key_id, principals, serial, now: NOW, nonce };
            let text = authority.certify(&PublicKey::parse(ECDSA).unwrap(), &claims).unwrap();
            let certificate = Certificate::from_openssh(&text).unwrap();
            prop_assert_eq!(certificate.serial(), claims.serial);
            prop_assert_eq!(certificate.key_id(), &claims.key_id);
            prop_assert_eq!(certificate.valid_principals(), &claims.principals[..]);
            prop_assert!(verified(&text, authority.public_key(), NOW));
        }

        #[test]
        fn no_text_panics(text in "(ssh-ed25519-cert-v01@openssh.com |ssh-rsa )?[A-Za-z0-9+/=]{0,200}") {
            let _ = certified_key(&text, &HostKeySet::parse([ED25519]).unwrap());
        }
    }
}
