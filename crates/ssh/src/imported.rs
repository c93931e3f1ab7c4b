//! A public key that is to be imported into EC2, in the forms that it takes.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicKey as RsaPublicKey;
use aws_lc_rs::signature::RsaPublicKeyComponents;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use md5::{Digest, Md5};
use ssh_key::public::{KeyData, RsaPublicKey as SshRsaPublicKey};
use ssh_key::{HashAlg, Mpint, PublicKey};

use crate::KeyKind;
use crate::der::{INTEGER, SEQUENCE, element};

/// Longest public key that is taken, in bytes: RSA of 4096 bits in its longest form has a quarter of that.
pub const IMPORT_BYTES_MAX: usize = 4096;
/// RSA keys have 1024, 2048 or 4096 bits. Source: EC2 user guide, "Create a key pair using a third-party tool".
const RSA_BITS: [usize; 3] = [1024, 2048, 4096];
const RFC4716_BEGIN: &str = "---- BEGIN SSH2 PUBLIC KEY ----";
const RFC4716_END: &str = "---- END SSH2 PUBLIC KEY ----";

/// Why bytes are no key that is taken.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ImportError {
    /// Too long.
    #[error("Key is longer than {IMPORT_BYTES_MAX} bytes")]
    TooLong,
    /// In none of the forms.
    #[error("Key is not in valid OpenSSH public key format")]
    Malformed,
    /// Neither RSA nor Ed25519.
    #[error("Key is of a type that is not supported: use an RSA or ED25519 key")]
    Kind,
    /// RSA of another size.
    #[error("Key length is not supported: RSA keys have 1024, 2048 or 4096 bits")]
    RsaBits,
}

/// A public key as EC2 keeps it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct ImportedKey {
    /// RSA or Ed25519.
    pub kind: KeyKind,
    /// As EC2 shows it for a key that was imported.
    pub fingerprint: String,
    /// `ssh-ed25519 AAAA… NAME`.
    pub line: String,
}

impl ImportedKey {
    /// Reads a line of `authorized_keys`, the file form of RFC 4716, or base64 of the DER form of an RSA key. EC2 shows the
    /// name of the key pair in place of the comment.
    ///
    /// # Errors
    /// See [`ImportError`].
    pub fn read(material: &[u8], name: &str) -> Result<Self, ImportError> {
        if material.len() > IMPORT_BYTES_MAX {
            return Err(ImportError::TooLong);
        }
        let text = core::str::from_utf8(material).map_err(|_| ImportError::Malformed)?.trim();
        let mut key = if let Some(rest) = text.strip_prefix(RFC4716_BEGIN) {
            rfc4716(rest)
        } else if text.contains(' ') && !text.contains(['\n', '\r']) {
            PublicKey::from_openssh(text).ok()
        } else {
            der(text)
        }
        .ok_or(ImportError::Malformed)?;
        key.set_comment(name);
        let (kind, fingerprint) = match key.key_data() {
            KeyData::Ed25519(_) => (KeyKind::Ed25519, sha256(key.key_data())),
            KeyData::Rsa(rsa) => (KeyKind::Rsa, md5(rsa)?),
            _ => return Err(ImportError::Kind),
        };
        Ok(Self { kind, fingerprint, line: key.to_openssh().map_err(|_| ImportError::Malformed)? })
    }
}

/// MD5 of the public key in DER (X.509), and the size checked. Source: EC2 user guide, "Verify the fingerprint of your key
/// pair".
fn md5(key: &SshRsaPublicKey) -> Result<String, ImportError> {
    let part = |number: &Mpint| number.as_positive_bytes().map(<[u8]>::to_vec).ok_or(ImportError::Malformed);
    let components = RsaPublicKeyComponents { n: part(&key.n)?, e: part(&key.e)? };
    let leading = components.n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = components.n.len() * 8 - leading;
    if !RSA_BITS.contains(&bits) {
        return Err(ImportError::RsaBits);
    }
    let der: PublicKeyX509Der<'_> = components.as_der().map_err(|_| ImportError::Malformed)?;
    let digest = Md5::digest(der.as_ref());
    Ok(digest.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":"))
}

/// As OpenSSH shows it, in base64, but without its prefix and with the padding.
fn sha256(key: &KeyData) -> String {
    BASE64.encode(key.fingerprint(HashAlg::Sha256).as_bytes())
}

/// The body of RFC 4716: header lines, then base64 in lines.
fn rfc4716(rest: &str) -> Option<PublicKey> {
    let (body, after) = rest.split_once(RFC4716_END)?;
    if !after.trim().is_empty() {
        return None;
    }
    let mut is_continued = false;
    let mut base64 = String::new();
    for line in body.lines().map(str::trim) {
        let is_header = is_continued || line.contains(':');
        is_continued = is_header && line.ends_with('\\');
        if !is_header {
            base64.push_str(line);
        }
    }
    PublicKey::from_bytes(&BASE64.decode(base64).ok()?).ok()
}

/// The form of RFC 8017 (modulus and exponent in a sequence), or of X.509 around it.
fn der(text: &str) -> Option<PublicKey> {
    let key = RsaPublicKey::from_der(&BASE64.decode(text).ok()?).ok()?;
    let (both, _) = element(key.as_ref(), SEQUENCE)?;
    let (n, rest) = element(both, INTEGER)?;
    let (e, _) = element(rest, INTEGER)?;
    let [e, n] = [e, n].map(|number| Mpint::from_positive_bytes(number).ok());
    Some(PublicKey::new(KeyData::Rsa(SshRsaPublicKey { e: e?, n: n? }), ""))
}

#[cfg(test)]
mod tests;
