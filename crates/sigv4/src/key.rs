//! Signing keys and the hash.

use core::fmt;

use aws_lc_rs::digest;
use zeroize::Zeroizing;

use crate::TERMINATOR;
use crate::hmac::{BLOCK, Key};

/// The key that signs for one day, region and service.
///
/// Wiped on drop.
pub struct SigningKey(Key);

impl SigningKey {
    /// Derives the key of a secret access key for a scope: four HMACs, one after the other.
    ///
    /// `date` is the eight digits of the scope, the date *of the request* and not of today.
    #[must_use]
    pub fn derive(secret: &[u8], date: &[u8], region: &str, service: &str) -> Self {
        let mut key = prefixed(secret);
        for element in [date, region.as_bytes(), service.as_bytes(), TERMINATOR.as_bytes()] {
            let pads = Key::new(&mut key);
            key.fill(0);
            if let Some(place) = key.first_chunk_mut() {
                pads.tag(element, place);
            }
        }
        Self(Key::new(&mut key))
    }

    /// The signature of a string to sign, in lower-case hexadecimal.
    pub(crate) fn sign(&self, string_to_sign: &[u8]) -> [u8; 64] {
        let mut tag = [0; 32];
        self.0.tag(string_to_sign, &mut tag);
        crate::hex::lower(&tag)
    }
}

impl fmt::Debug for SigningKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SigningKey(..)")
    }
}

/// `AWS4` and the secret as HMAC takes a key: padded with zeros to a block, or hashed if it is longer than one (RFC
/// 2104 §2). Done here so that the secret is copied to nowhere but a buffer that is wiped.
fn prefixed(secret: &[u8]) -> Zeroizing<[u8; BLOCK]> {
    const PREFIX: &[u8; 4] = b"AWS4";
    let mut block = Zeroizing::new([0; BLOCK]);
    let (prefix, rest) = block.split_at_mut(PREFIX.len());
    match rest.get_mut(..secret.len()) {
        Some(place) => {
            prefix.copy_from_slice(PREFIX);
            place.copy_from_slice(secret);
        }
        None => {
            let mut hash = digest::Context::new(&digest::SHA256);
            hash.update(PREFIX);
            hash.update(secret);
            block.iter_mut().zip(hash.finish().as_ref()).for_each(|(place, byte)| *place = *byte);
        }
    }
    block
}

/// The SHA-256 of `bytes`: what [`Presented::verify`](crate::Presented::verify) wants to know of a body.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::hmac;

    use super::*;

    /// HMAC as the library has it.
    fn expected(key: &[u8], text: &[u8]) -> Vec<u8> {
        hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text).as_ref().to_vec()
    }

    /// With secrets below, at and above a block, and elements below, at and above what fits behind one.
    #[test]
    fn four_hmacs() {
        for secret_length in [0, 1, 40, 59, 60, 61, 200] {
            for region_length in [0, 1, 55, 56, 64, 300] {
                let (secret, region) = ("s".repeat(secret_length), "r".repeat(region_length));
                let first = format!("AWS4{secret}").into_bytes();
                let elements = ["20261123", &region, "sts", TERMINATOR];
                let key = elements.iter().fold(first, |key, element| expected(&key, element.as_bytes()));
                let derived = SigningKey::derive(secret.as_bytes(), b"20261123", &region, "sts");
                for text in ["", "text", &"t".repeat(119), &"t".repeat(120)] {
                    let signature = expected(&key, text.as_bytes()).try_into().unwrap();
                    assert_eq!(
                        derived.sign(text.as_bytes()),
                        crate::hex::lower(&signature),
                        "{secret_length} {region_length}"
                    );
                }
            }
        }
    }
}
