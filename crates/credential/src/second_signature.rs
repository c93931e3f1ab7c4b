//! The second signature of an agent's request: by the private key it registered, over the first signature.
//!
//! `SSM-AsymmetricKeyAuthorization: Signature=BASE64` is RSASSA-PSS with SHA-256, MGF1 with SHA-256 and a salt of 32 bytes, over
//! the exact value of `Authorization`. Source: amazon-ssm-agent, `agent/managedInstances/auth/rsa_key.go` and
//! `agent/ssm/rsaauth`.
//!
//! When the SDK tries again, it signs a copy of the request that still carries the values of earlier tries, under another
//! spelling of the name, and covers *those* with its new first signature; the new second signature is made after that and
//! is covered by nothing. On the wire the header comes several times, the fresh value first, because Go sorts names by their
//! bytes (`SSM-…` before `Ssm-…`). [`SecondSignature::is_uncovered`] tells which value the first signature leaves out.

use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};
use aws_lc_rs::rsa::PublicEncryptingKey;
use aws_lc_rs::signature::{RSA_PSS_2048_8192_SHA256, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;

const PREFIX: &[u8] = b"Signature=";
/// Longest signature in base64: one of RSA with 8192 bits.
const BASE64_LENGTH_MAX: usize = 1368;
/// Longest public key in base64.
const KEY_LENGTH_MAX: usize = AgentKey::BYTES_MAX / 3 * 4;

/// A second signature and what it is over, as a request has them.
#[derive(Clone)]
pub struct SecondSignature {
    authorization: Box<[u8]>,
    signature: Box<[u8]>,
}

impl core::fmt::Debug for SecondSignature {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("SecondSignature").finish_non_exhaustive()
    }
}

impl SecondSignature {
    /// The header's name, in lower case.
    pub const HEADER: &str = "ssm-asymmetrickeyauthorization";

    /// The one that a request carries, of all values of the header in their order: the fresh one of a request that was tried
    /// before. `authorization` is the value of that header, to the byte.
    pub fn read<'a>(mut values: impl Iterator<Item = &'a [u8]>, authorization: &[u8]) -> Option<Self> {
        let value = values.next()?;
        let text = value.strip_prefix(PREFIX).filter(|text| text.len() <= BASE64_LENGTH_MAX)?;
        let signature = BASE64.decode(text).ok()?.into();
        Some(Self { authorization: authorization.into(), signature })
    }

    /// Whether the value at `index` of `count` is the one that a first signature does not cover: of several, the first.
    #[must_use]
    pub const fn is_uncovered(index: usize, count: usize) -> bool {
        index == 0 && count > 1
    }

    /// Whether the holder of this key made it.
    #[must_use]
    pub fn is_by(&self, key: &AgentKey) -> bool {
        let key = UnparsedPublicKey::new(&RSA_PSS_2048_8192_SHA256, &key.0);
        key.verify(&self.authorization, &self.signature).is_ok()
    }
}

/// The public key of an agent: RSA of 2048 to 8192 bits, DER of `SubjectPublicKeyInfo`.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct AgentKey(Vec<u8>);

impl AgentKey {
    /// The longest key. One of 8192 bits has 1062.
    pub const BYTES_MAX: usize = 2048;

    /// Reads what an agent sends, base64.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let der = BASE64.decode(Some(text).filter(|text| text.len() <= KEY_LENGTH_MAX)?).ok()?;
        Self::from_der(der)
    }

    /// Each key has one form: what the library would overlook around it would make two of one.
    #[must_use]
    pub fn from_der(der: Vec<u8>) -> Option<Self> {
        let key = PublicEncryptingKey::from_der(&der).ok()?;
        let canonical = AsDer::<PublicKeyX509Der<'_>>::as_der(&key).ok()?;
        (canonical.as_ref() == der.as_slice()).then_some(Self(der))
    }

    /// The bytes.
    #[must_use]
    pub fn as_der(&self) -> &[u8] {
        &self.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_lc_rs::rand::SystemRandom;
    use aws_lc_rs::rsa::KeySize;
    use aws_lc_rs::signature::{KeyPair, RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair};

    const AUTH: &str = "AWS4-HMAC-SHA256 Credential=ASIAEXAMPLE/20261123/us-east-1/ssm/aws4_request, SignedHeaders=host, Signature=6b26";

    fn key(pair: &RsaKeyPair) -> AgentKey {
        AgentKey::parse(&BASE64.encode(pair.public_key().as_der().unwrap().as_ref())).unwrap()
    }

    fn sign(pair: &RsaKeyPair, encoding: &'static dyn aws_lc_rs::signature::RsaEncoding, text: &str) -> String {
        let mut signature = vec![0; pair.public_modulus_len()];
        pair.sign(encoding, &SystemRandom::new(), text.as_bytes(), &mut signature).unwrap();
        format!("Signature={}", BASE64.encode(signature))
    }

    fn read(authorization: &str, values: &[&str]) -> Option<SecondSignature> {
        SecondSignature::read(values.iter().map(|value| value.as_bytes()), authorization.as_bytes())
    }

    #[test]
    fn proves_the_key_and_the_first_signature() {
        let (pair, other) =
            (RsaKeyPair::generate(KeySize::Rsa2048).unwrap(), RsaKeyPair::generate(KeySize::Rsa2048).unwrap());
        let good = sign(&pair, &RSA_PSS_SHA256, AUTH);
        assert_eq!(good.len(), "Signature=".len() + 344);
        let is_by = |found: Option<SecondSignature>, key: &AgentKey| found.is_some_and(|found| found.is_by(key));
        assert!(is_by(read(AUTH, &[&good]), &key(&pair)));
        assert!(!is_by(read(AUTH, &[&good]), &key(&other)), "another key");
        assert!(!is_by(read(&AUTH.replace("6b26", "6b27"), &[&good]), &key(&pair)), "another first signature");
        assert!(!is_by(read(AUTH, &[&sign(&pair, &RSA_PKCS1_SHA256, AUTH)]), &key(&pair)), "another padding");
        for broken in ["", "Signature=", &good[10..], &good[..good.len() - 4], &format!("{good} ")] {
            assert!(!is_by(read(AUTH, &[broken]), &key(&pair)), "{broken:?}");
        }
    }

    #[test]
    fn of_several_the_first_is_fresh() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let (fresh, stale) = (sign(&pair, &RSA_PSS_SHA256, AUTH), sign(&pair, &RSA_PSS_SHA256, "earlier"));
        let found = read(AUTH, &[&fresh, &stale, &stale]).unwrap();
        assert!(found.is_by(&key(&pair)));
        assert!(!read(AUTH, &[&stale, &fresh]).unwrap().is_by(&key(&pair)));
        assert_eq!([0, 1, 2].map(|index| SecondSignature::is_uncovered(index, 3)), [true, false, false]);
        assert!(!SecondSignature::is_uncovered(0, 1), "a single one is signed, if its name is");
    }

    #[test]
    fn keys_that_are_none() {
        let pair = RsaKeyPair::generate(KeySize::Rsa2048).unwrap();
        let der = pair.public_key().as_der().unwrap().as_ref().to_vec();
        let good = BASE64.encode(&der);
        assert_eq!(good.len(), 392);
        let behind = BASE64.encode([der.as_slice(), b"x"].concat());
        for text in ["", "AAAA", "not base64!", &good[..388], &behind, &"A".repeat(KEY_LENGTH_MAX + 4)] {
            assert!(AgentKey::parse(text).is_none(), "{text}");
        }
    }
}
