//! SSH keys in the forms that EC2 takes and gives. The cryptography is aws-lc-rs's.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize, PublicKey as RsaPublicKey};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _, RsaPublicKeyComponents};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use inborn_store::KeyType;
use inborn_wire::error::Problem;
use md5::{Digest, Md5};
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::public::{Ed25519PublicKey, KeyData, RsaPublicKey as SshRsaPublicKey};
use ssh_key::{HashAlg, LineEnding, Mpint, PrivateKey, PublicKey};
use zeroize::Zeroizing;

use super::refusal;

/// Longest public key that is taken, in bytes: RSA of 4096 bits in its longest form has a quarter of that.
pub(super) const PUBLIC_KEY_BYTES_MAX: usize = 4096;
/// RSA keys have 1024, 2048 or 4096 bits. Source: EC2 user guide, "Create a key pair using a third-party tool".
const RSA_BITS: [usize; 3] = [1024, 2048, 4096];
/// Characters in a line of PEM.
const PEM_LINE: usize = 64;
const RFC4716_BEGIN: &str = "---- BEGIN SSH2 PUBLIC KEY ----";
const RFC4716_END: &str = "---- END SSH2 PUBLIC KEY ----";
/// Tags of DER.
const INTEGER: u8 = 0x02;
const OCTETS: u8 = 0x04;
const SEQUENCE: u8 = 0x30;

/// The public half, and what EC2 says of it.
#[derive(Debug)]
pub(super) struct Public {
    pub(super) key_type: KeyType,
    pub(super) fingerprint: String,
    /// `ssh-ed25519 AAAA… NAME`.
    pub(super) line: String,
}

/// A new key pair: its private half leaves with the answer, and is nowhere else.
pub(super) struct Made {
    pub(super) public: Public,
    /// PEM: PKCS #1 for RSA, OpenSSH's own form for Ed25519.
    pub(super) private: Zeroizing<String>,
}

/// Makes a key pair.
pub(super) fn make(key_type: KeyType, name: &str) -> Result<Made, Problem> {
    match key_type {
        KeyType::Rsa => make_rsa(name),
        KeyType::Ed25519 => make_ed25519(name),
    }
    .ok_or(Problem::Internal)
}

/// RSA of 2048 bits. Its fingerprint is SHA-1 of the private key in PKCS #8, as `openssl pkcs8 -topk8 -nocrypt -outform DER`
/// gives it. Source: EC2 user guide, "Verify the fingerprint of your key pair".
fn make_rsa(name: &str) -> Option<Made> {
    let pair = RsaKeyPair::generate(KeySize::Rsa2048).ok()?;
    let pkcs8: Pkcs8V1Der<'_> = pair.as_der().ok()?;
    let data = rsa_data(pair.public_key())?;
    let public = Public {
        key_type: KeyType::Rsa,
        fingerprint: colons(digest(&SHA1_FOR_LEGACY_USE_ONLY, pkcs8.as_ref()).as_ref()),
        line: PublicKey::new(data, name).to_openssh().ok()?,
    };
    Some(Made { public, private: pem("RSA PRIVATE KEY", inside_pkcs8(pkcs8.as_ref())?) })
}

fn make_ed25519(name: &str) -> Option<Made> {
    let pair = Ed25519KeyPair::generate().ok()?;
    let seed = pair.seed().ok()?.as_be_bytes().ok()?;
    let mut both = Zeroizing::new([0; Ed25519Keypair::BYTE_SIZE]);
    both.iter_mut().zip(seed.as_ref().iter().chain(pair.public_key().as_ref())).for_each(|(byte, part)| *byte = *part);
    let data = KeyData::Ed25519(Ed25519PublicKey::try_from(pair.public_key().as_ref()).ok()?);
    let private = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_bytes(&both).ok()?), name).ok()?;
    let public = Public {
        key_type: KeyType::Ed25519,
        fingerprint: sha256(&data),
        line: PublicKey::new(data, name).to_openssh().ok()?,
    };
    Some(Made { public, private: private.to_openssh(LineEnding::LF).ok()? })
}

/// Reads a public key that is to be imported: a line of `authorized_keys`, the file form of RFC 4716, or base64 of the DER
/// form of an RSA key.
pub(super) fn read(material: &[u8], name: &str) -> Result<Public, Problem> {
    if material.len() > PUBLIC_KEY_BYTES_MAX {
        return Err(refusal::key_format(&format!("Key is longer than {PUBLIC_KEY_BYTES_MAX} bytes")));
    }
    let malformed = || refusal::key_format("Key is not in valid OpenSSH public key format");
    let text = core::str::from_utf8(material).map_err(|_| malformed())?.trim();
    let mut key = if let Some(rest) = text.strip_prefix(RFC4716_BEGIN) {
        rfc4716(rest)
    } else if text.contains(' ') && !text.contains(['\n', '\r']) {
        PublicKey::from_openssh(text).ok()
    } else {
        der(text)
    }
    .ok_or_else(malformed)?;
    // EC2 shows the name of the key pair in place of the comment.
    key.set_comment(name);
    let (key_type, fingerprint) = match key.key_data() {
        KeyData::Ed25519(_) => (KeyType::Ed25519, sha256(key.key_data())),
        KeyData::Rsa(rsa) => (KeyType::Rsa, imported_rsa(rsa)?),
        _ => return Err(refusal::key_format("Key is of a type that is not supported: use an RSA or ED25519 key")),
    };
    Ok(Public { key_type, fingerprint, line: key.to_openssh().map_err(|_| malformed())? })
}

/// MD5 of the public key in DER (X.509), and the size checked. Source: EC2 user guide, "Verify the fingerprint of your key
/// pair".
fn imported_rsa(key: &SshRsaPublicKey) -> Result<String, Problem> {
    let malformed = || refusal::key_format("Key is not in valid OpenSSH public key format");
    let part = |number: &Mpint| number.as_positive_bytes().map(<[u8]>::to_vec).ok_or_else(malformed);
    let components = RsaPublicKeyComponents { n: part(&key.n)?, e: part(&key.e)? };
    let leading = components.n.first().map_or(0, |byte| byte.leading_zeros() as usize);
    let bits = components.n.len() * 8 - leading;
    if !RSA_BITS.contains(&bits) {
        return Err(refusal::key_format("Key length is not supported: RSA keys have 1024, 2048 or 4096 bits"));
    }
    let der: PublicKeyX509Der<'_> = components.as_der().map_err(|_| malformed())?;
    Ok(colons(&Md5::digest(der.as_ref())))
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

fn der(text: &str) -> Option<PublicKey> {
    let key = RsaPublicKey::from_der(&BASE64.decode(text).ok()?).ok()?;
    Some(PublicKey::new(rsa_data(&key)?, ""))
}

/// From the form of RFC 8017, which is modulus and exponent in a sequence.
fn rsa_data(key: &RsaPublicKey) -> Option<KeyData> {
    let (both, _) = element(key.as_ref(), SEQUENCE)?;
    let (n, rest) = element(both, INTEGER)?;
    let (e, _) = element(rest, INTEGER)?;
    let [e, n] = [e, n].map(|number| Mpint::from_positive_bytes(number).ok());
    Some(KeyData::Rsa(SshRsaPublicKey { e: e?, n: n? }))
}

fn colons(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().join(":")
}

fn pem(label: &str, der: &[u8]) -> Zeroizing<String> {
    let base64 = Zeroizing::new(BASE64.encode(der));
    // Room for all of it, so that no copy of the key is left behind by growing.
    let mut text =
        Zeroizing::new(String::with_capacity(base64.len() + base64.len() / PEM_LINE + 2 * (label.len() + 20)));
    text.push_str("-----BEGIN ");
    text.push_str(label);
    text.push_str("-----\n");
    let mut rest = base64.as_str();
    while !rest.is_empty() {
        let (line, after) = rest.split_at_checked(PEM_LINE).unwrap_or((rest, ""));
        text.push_str(line);
        text.push('\n');
        rest = after;
    }
    text.push_str("-----END ");
    text.push_str(label);
    text.push_str("-----\n");
    text
}

/// The key inside of a PKCS #8 envelope: the octets after version and algorithm. Source: RFC 5208.
fn inside_pkcs8(der: &[u8]) -> Option<&[u8]> {
    let (envelope, _) = element(der, SEQUENCE)?;
    let (_version, rest) = element(envelope, INTEGER)?;
    let (_algorithm, rest) = element(rest, SEQUENCE)?;
    element(rest, OCTETS).map(|(key, _)| key)
}

/// The content of the DER element at the front, which has this tag, and what follows it.
fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 | 0x82 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (*found == tag).then_some(rest.split_at_checked(length)?)
}

#[cfg(test)]
mod tests;
