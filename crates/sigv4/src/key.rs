//! Signing keys and the hash.

use core::fmt;

use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

use crate::TERMINATOR;

/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;
/// The longest element of a scope that is hashed in one piece. Regions and services are at most half as long.
const ELEMENT: usize = 64;

/// The key that signs for one day, region and service. What HMAC computes from the key alone is done once, here.
///
/// The state is wiped on drop, by aws-lc-rs.
pub struct SigningKey(hmac::Key);

impl SigningKey {
    /// Derives the key of a secret access key for a scope: four HMACs, one after the other.
    ///
    /// `date` is the eight digits of the scope, the date *of the request* and not of today.
    #[must_use]
    pub fn derive(secret: &[u8], date: &[u8], region: &str, service: &str) -> Self {
        let mut block = prefixed(secret);
        for element in [date, region.as_bytes(), service.as_bytes(), TERMINATOR.as_bytes()] {
            let tag = mac(&block, element);
            let (key, zeros) = block.split_at_mut(tag.len());
            key.copy_from_slice(tag.as_slice());
            zeros.fill(0);
        }
        let (key, _) = block.split_at(32);
        Self(hmac::Key::new(hmac::HMAC_SHA256, key))
    }

    /// The signature of a string to sign, in lower-case hexadecimal.
    pub(crate) fn sign(&self, string_to_sign: &[u8]) -> [u8; 64] {
        let mut tag = [0; 32];
        tag.copy_from_slice(hmac::sign(&self.0, string_to_sign).as_ref());
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

/// HMAC-SHA256 (RFC 2104 §2) with a key that is a block already, and is used once: a context of the library takes longer
/// to make and to wipe than two hashes take.
fn mac(key: &[u8; BLOCK], element: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut inner = Zeroizing::new([0; BLOCK + ELEMENT]);
    let (pad, place) = inner.split_at_mut(BLOCK);
    pad.iter_mut().zip(key).for_each(|(pad, key)| *pad = key ^ 0x36);
    let hash = match place.get_mut(..element.len()) {
        Some(place) => {
            place.copy_from_slice(element);
            let (text, _) = inner.split_at(BLOCK + element.len());
            digest::digest(&digest::SHA256, text)
        }
        None => {
            let mut hash = digest::Context::new(&digest::SHA256);
            hash.update(pad);
            hash.update(element);
            hash.finish()
        }
    };
    let mut outer = Zeroizing::new([0; BLOCK + 32]);
    let (pad, place) = outer.split_at_mut(BLOCK);
    pad.iter_mut().zip(key).for_each(|(pad, key)| *pad = key ^ 0x5c);
    place.copy_from_slice(hash.as_ref());
    Zeroizing::new(sha256(outer.as_slice()))
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
    use super::*;

    /// Against the library's HMAC, with secrets and elements below, at and above a block.
    #[test]
    fn four_hmacs() {
        for secret_length in [0, 1, 40, 59, 60, 61, 200] {
            for region_length in [0, 1, ELEMENT - 1, ELEMENT, ELEMENT + 1, 300] {
                let (secret, region) = ("s".repeat(secret_length), "r".repeat(region_length));
                let first = format!("AWS4{secret}").into_bytes();
                let steps = ["20261123", &region, "sts", TERMINATOR];
                let expected = steps.iter().fold(first, |key, step| {
                    hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), step.as_bytes()).as_ref().to_vec()
                });
                let expected = SigningKey(hmac::Key::new(hmac::HMAC_SHA256, &expected)).sign(b"text");
                let derived = SigningKey::derive(secret.as_bytes(), b"20261123", &region, "sts").sign(b"text");
                assert_eq!(derived, expected, "{secret_length} {region_length}");
            }
        }
    }
}
