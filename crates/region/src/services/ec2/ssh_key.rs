//! SSH keys in the forms that EC2 takes and gives. The cryptography is aws-lc-rs's.

use aws_lc_rs::digest::{SHA1_FOR_LEGACY_USE_ONLY, digest};
use aws_lc_rs::encoding::{AsBigEndian, AsDer, Pkcs8V1Der, PublicKeyX509Der};
use aws_lc_rs::rsa::{KeyPair as RsaKeyPair, KeySize};
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use inborn_ssh::der::{INTEGER, OCTETS, SEQUENCE, element};
use inborn_ssh::{ImportedKey, KeyKind};
use inborn_store::KeyType;
use inborn_wire::error::Problem;
use ssh_key::private::{Ed25519Keypair, KeypairData};
use ssh_key::{LineEnding, PrivateKey};
use zeroize::Zeroizing;

use super::refusal;

/// Characters in a line of PEM.
const PEM_LINE: usize = 64;

/// The public half, and what EC2 says of it.
#[derive(PartialEq, Eq, Debug)]
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
    let der: PublicKeyX509Der<'_> = pair.public_key().as_der().ok()?;
    let fingerprint = colons(digest(&SHA1_FOR_LEGACY_USE_ONLY, pkcs8.as_ref()).as_ref());
    let public = Public { fingerprint, ..read(BASE64.encode(der.as_ref()).as_bytes(), name).ok()? };
    Some(Made { public, private: pem("RSA PRIVATE KEY", inside_pkcs8(pkcs8.as_ref())?) })
}

fn make_ed25519(name: &str) -> Option<Made> {
    let pair = Ed25519KeyPair::generate().ok()?;
    let seed = pair.seed().ok()?.as_be_bytes().ok()?;
    let mut both = Zeroizing::new([0; Ed25519Keypair::BYTE_SIZE]);
    both.iter_mut().zip(seed.as_ref().iter().chain(pair.public_key().as_ref())).for_each(|(byte, part)| *byte = *part);
    let private = PrivateKey::new(KeypairData::Ed25519(Ed25519Keypair::from_bytes(&both).ok()?), name).ok()?;
    let public = read(private.public_key().to_openssh().ok()?.as_bytes(), name).ok()?;
    Some(Made { public, private: private.to_openssh(LineEnding::LF).ok()? })
}

/// Reads a public key that is to be imported.
pub(super) fn read(material: &[u8], name: &str) -> Result<Public, Problem> {
    let ImportedKey { kind, fingerprint, line } =
        ImportedKey::read(material, name).map_err(|error| refusal::key_format(&error.to_string()))?;
    let key_type = if kind == KeyKind::Rsa { KeyType::Rsa } else { KeyType::Ed25519 };
    Ok(Public { key_type, fingerprint, line })
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

#[cfg(test)]
mod tests;
