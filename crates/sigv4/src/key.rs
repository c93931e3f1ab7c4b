//! Signing keys and the hash.

use core::fmt;

use aws_lc_rs::digest;
use zeroize::{Zeroize as _, Zeroizing};

use crate::TERMINATOR;

/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;
/// The longest text whose HMAC is computed in one piece. Elements of a scope and strings to sign are shorter, unless
/// somebody makes up a region of a hundred characters.
const TEXT: usize = 192;

/// The key that signs for one day, region and service: 32 bytes, padded to a block with zeros.
///
/// Wiped on drop.
pub struct SigningKey(Zeroizing<[u8; BLOCK]>);

impl SigningKey {
    /// Derives the key of a secret access key for a scope: four HMACs, one after the other.
    ///
    /// `date` is the eight digits of the scope, the date *of the request* and not of today.
    #[must_use]
    pub fn derive(secret: &[u8], date: &[u8], region: &str, service: &str) -> Self {
        let mut key = prefixed(secret);
        for element in [date, region.as_bytes(), service.as_bytes(), TERMINATOR.as_bytes()] {
            let tag = mac(&key, element);
            let (start, zeros) = key.split_at_mut(tag.len());
            start.copy_from_slice(tag.as_slice());
            zeros.fill(0);
        }
        Self(key)
    }

    /// The signature of a string to sign, in lower-case hexadecimal.
    pub(crate) fn sign(&self, string_to_sign: &[u8]) -> [u8; 64] {
        crate::hex::lower(&mac(&self.0, string_to_sign))
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

/// HMAC-SHA256 (RFC 2104 §2) with a key that is a block already.
///
/// The library's own takes a context, which it allocates for every key and copies for every text. That is longer than the
/// two blocks take that are hashed anew here.
fn mac(key: &[u8; BLOCK], text: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut padded = [0; BLOCK + TEXT];
    let (pad, place) = padded.split_at_mut(BLOCK);
    pad.iter_mut().zip(key).for_each(|(pad, key)| *pad = key ^ 0x36);
    let hash = match place.get_mut(..text.len()) {
        Some(place) => {
            place.copy_from_slice(text);
            let (whole, _) = padded.split_at(BLOCK + text.len());
            digest::digest(&digest::SHA256, whole)
        }
        None => {
            let mut hash = digest::Context::new(&digest::SHA256);
            hash.update(pad);
            hash.update(text);
            hash.finish()
        }
    };
    let (pad, place) = padded.split_at_mut(BLOCK);
    pad.iter_mut().zip(key).for_each(|(pad, key)| *pad = key ^ 0x5c);
    let (place, _) = place.split_at_mut(32);
    place.copy_from_slice(hash.as_ref());
    let (whole, _) = padded.split_at_mut(BLOCK + 32);
    let tag = Zeroizing::new(sha256(whole));
    // What is behind was text, and is no secret.
    whole.zeroize();
    tag
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

    /// With secrets below, at and above a block, and elements below, at and above what is hashed in one piece.
    #[test]
    fn four_hmacs() {
        for secret_length in [0, 1, 40, 59, 60, 61, 200] {
            for region_length in [0, 1, TEXT - 1, TEXT, TEXT + 1, 300] {
                let (secret, region) = ("s".repeat(secret_length), "r".repeat(region_length));
                let first = format!("AWS4{secret}").into_bytes();
                let elements = ["20261123", &region, "sts", TERMINATOR];
                let key = elements.iter().fold(first, |key, element| expected(&key, element.as_bytes()));
                let derived = SigningKey::derive(secret.as_bytes(), b"20261123", &region, "sts");
                for text in ["", "text", &"t".repeat(TEXT), &"t".repeat(TEXT + 1)] {
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
