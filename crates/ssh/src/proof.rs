//! Proof of possession: a machine signs what it publishes with each of its host keys, as `ssh-keygen -Y sign` does.
//!
//! Credentials of a machine can be read by every local user; its private host keys only by root.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ECDSA_P521_SHA512_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PKCS1_2048_8192_SHA512, RsaPublicKeyComponents, UnparsedPublicKey, VerificationAlgorithm,
};
use inborn_identity::{AccountId, InstanceId, UnixTime};
use ssh_key::public::KeyData;
use ssh_key::{Algorithm, EcdsaCurve, HashAlg, LineEnding, Signature, SshSig};

use crate::{HostKeySet, PublicKey};

/// What the signatures are for: one that was made for something else is none. The form NAME@DOMAIN is that of
/// `PROTOCOL.sshsig`.
pub const NAMESPACE: &str = "host-key-proof@inborn";
/// The longest proof, armoured. One by an RSA key of 8192 bits has some 3100 bytes.
pub const PROOF_BYTES_MAX: usize = 8 * 1024;
/// The most proofs in one call: each new key, and each old one.
pub const PROOFS_MAX: usize = 2 * crate::KEYS_MAX;

/// Why a signature proves nothing.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ProofError {
    /// Too long.
    #[error("a proof has at most {PROOF_BYTES_MAX} bytes")]
    TooLong,
    /// Not in SSHSIG's form.
    #[error("a proof is an SSH signature in its armour, as `ssh-keygen -Y sign` makes it")]
    Malformed,
    /// Made for another purpose.
    #[error("a proof is made for the namespace {NAMESPACE}")]
    Namespace,
    /// By a key of a kind, or with a hash, that is not taken.
    #[error("a proof is made by a key that may be a host key, with SHA-256 or SHA-512")]
    Kind,
    /// The signature does not hold.
    #[error("a proof does not hold: was it made for this instance, this time and exactly these keys?")]
    Wrong,
}

/// What is signed: that this machine has exactly these host keys, at this moment.
#[must_use]
pub fn proof_message(account: AccountId, instance: InstanceId, at: UnixTime, keys: &HostKeySet) -> String {
    let mut text = format!("inborn host keys 1\naccount {account}\ninstance {instance}\ntime {}\n", at.as_secs());
    for key in keys.iter() {
        text.push_str(&key.bare_line());
        text.push('\n');
    }
    text
}

/// The key that has signed `message`.
///
/// # Errors
/// See [`ProofError`].
pub fn verify_proof(armoured: &str, message: &str) -> Result<PublicKey, ProofError> {
    if armoured.len() > PROOF_BYTES_MAX {
        return Err(ProofError::TooLong);
    }
    let proof = SshSig::from_pem(armoured).map_err(|_| ProofError::Malformed)?;
    // One text for each signature: the decoder is lenient with lengths and the version, which nothing signs.
    let again = proof.to_pem(LineEnding::LF).map_err(|_| ProofError::Malformed)?;
    let letters = |text: &str| text.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect::<Vec<_>>();
    if proof.version() != SshSig::VERSION || letters(&again) != letters(armoured) {
        return Err(ProofError::Malformed);
    }
    if proof.namespace() != NAMESPACE || !proof.reserved().is_empty() {
        return Err(ProofError::Namespace);
    }
    let key = PublicKey::from_data(proof.public_key().clone(), "").map_err(|_| ProofError::Kind)?;
    let signed =
        SshSig::signed_data(NAMESPACE, proof.hash_alg(), message.as_bytes()).map_err(|_| ProofError::Malformed)?;
    if verify(key.data(), &signed, proof.signature())? { Ok(key) } else { Err(ProofError::Wrong) }
}

fn verify(key: &KeyData, signed: &[u8], signature: &Signature) -> Result<bool, ProofError> {
    let bytes = signature.as_bytes();
    let by = |algorithm: &'static dyn VerificationAlgorithm, key: &[u8], bytes: &[u8]| {
        UnparsedPublicKey::new(algorithm, key).verify(signed, bytes).is_ok()
    };
    match (key, signature.algorithm()) {
        (KeyData::Ed25519(key), Algorithm::Ed25519) => Ok(by(&ED25519, &key.0, bytes)),
        (KeyData::Ecdsa(key), Algorithm::Ecdsa { curve }) if curve == key.curve() => {
            let (algorithm, width): (&'static dyn VerificationAlgorithm, _) = match curve {
                EcdsaCurve::NistP256 => (&ECDSA_P256_SHA256_FIXED, 32),
                EcdsaCurve::NistP384 => (&ECDSA_P384_SHA384_FIXED, 48),
                EcdsaCurve::NistP521 => (&ECDSA_P521_SHA512_FIXED, 66),
            };
            let fixed = fixed_width(bytes, width).ok_or(ProofError::Malformed)?;
            Ok(by(algorithm, key.as_sec1_bytes(), &fixed))
        }
        // Never with SHA-1, which `ssh-rsa` without a suffix means. Source: RFC 8332.
        (KeyData::Rsa(key), Algorithm::Rsa { hash: Some(hash) }) => {
            let number = |number: &ssh_key::Mpint| number.as_positive_bytes().map(<[u8]>::to_vec);
            let (n, e) = number(&key.n).zip(number(&key.e)).ok_or(ProofError::Malformed)?;
            let parameters = match hash {
                HashAlg::Sha256 => &RSA_PKCS1_2048_8192_SHA256,
                HashAlg::Sha512 => &RSA_PKCS1_2048_8192_SHA512,
                _ => return Err(ProofError::Kind),
            };
            Ok(RsaPublicKeyComponents { n, e }.verify(parameters, signed, bytes).is_ok())
        }
        _ => Err(ProofError::Kind),
    }
}

/// The two numbers of an ECDSA signature, from SSH's form (RFC 5656, section 3.1.2) to one of `width` bytes each.
fn fixed_width(bytes: &[u8], width: usize) -> Option<Vec<u8>> {
    let mut rest = bytes;
    let mut out = Vec::with_capacity(2 * width);
    for _ in 0..2 {
        let (length, after) = rest.split_first_chunk::<4>()?;
        let (number, after) = after.split_at_checked(usize::try_from(u32::from_be_bytes(*length)).ok()?)?;
        let number = number.strip_prefix(&[0]).unwrap_or(number);
        out.extend(core::iter::repeat_n(0, width.checked_sub(number.len())?));
        out.extend_from_slice(number);
        rest = after;
    }
    rest.is_empty().then_some(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host_keys::tests::{ECDSA, ED25519, PROOF_OF_ANOTHER_NAMESPACE, PROOFS, RSA};
    use proptest::prelude::*;

    const AT: UnixTime = UnixTime::from_secs(1_800_000_000);

    fn message(at: UnixTime) -> String {
        let keys = HostKeySet::parse([ED25519, ECDSA, RSA]).unwrap();
        proof_message(AccountId::new(123_456_789_012).unwrap(), "i-0123456789abcdef0".parse().unwrap(), at, &keys)
    }

    /// Made by `ssh-keygen -Y sign` of OpenSSH 9.2: see `tests/keys.in`.
    #[test]
    fn proofs_of_openssh_hold() {
        let keys = PROOFS.map(|proof| verify_proof(proof, &message(AT)).unwrap().bare_line());
        let expected = [ED25519, ECDSA, RSA].map(|line| PublicKey::parse(line).unwrap().bare_line());
        assert_eq!(keys, expected);
    }

    #[test]
    fn a_proof_is_for_one_message_and_one_purpose() {
        for proof in PROOFS {
            assert_eq!(verify_proof(proof, &message(AT.plus(1))), Err(ProofError::Wrong));
        }
        assert_eq!(verify_proof(PROOF_OF_ANOTHER_NAMESPACE, &message(AT)), Err(ProofError::Namespace));
        assert_eq!(verify_proof("", &message(AT)), Err(ProofError::Malformed));
        assert_eq!(verify_proof(&"x".repeat(PROOF_BYTES_MAX), &message(AT)), Err(ProofError::Malformed));
        assert_eq!(verify_proof(&"x".repeat(PROOF_BYTES_MAX + 1), &message(AT)), Err(ProofError::TooLong));
    }

    #[test]
    fn numbers_of_a_signature_are_brought_to_one_width() {
        let mut bytes = vec![0, 0, 0, 1, 5, 0, 0, 0, 3, 0, 0x80, 1];
        assert_eq!(fixed_width(&bytes, 4), Some(vec![0, 0, 0, 5, 0, 0, 0x80, 1]));
        assert_eq!(fixed_width(&bytes, 1), None);
        bytes.push(0);
        assert_eq!(fixed_width(&bytes, 4), None);
        assert_eq!(fixed_width(&[0, 0, 0, 9, 1], 4), None);
    }

    proptest! {
        /// One character of a proof changed: it is refused, or it is the same proof (in the armour's line breaks).
        #[test]
        fn one_character_changes_everything(which in 0..3_usize, at in any::<prop::sample::Index>(), to in "[A-Za-z0-9+/]") {
            let original = PROOFS[which];
            let body = original.find("-----\n").unwrap() + 6..original.rfind("\n-----END").unwrap();
            let place = body.start + at.index(body.len());
            let mut changed = original.to_owned();
            changed.replace_range(place..=place, &to);
            if changed != original {
                prop_assert!(verify_proof(&changed, &message(AT)).is_err());
            }
        }

        #[test]
        fn never_panics(body in "[A-Za-z0-9+/]{0,200}={0,2}") {
            let _ = verify_proof(&format!("-----BEGIN SSH SIGNATURE-----\n{body}\n-----END SSH SIGNATURE-----\n"), "");
        }
    }
}
