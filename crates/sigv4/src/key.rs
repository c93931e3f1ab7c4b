//! Signing keys and the hash.

use core::fmt;

use aws_lc_rs::{digest, hmac};
use zeroize::Zeroizing;

use crate::TERMINATOR;

/// The block of SHA-256, in bytes.
const BLOCK: usize = 64;

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
        let first = hmac::Key::new(hmac::HMAC_SHA256, prefixed(secret).as_slice());
        let steps = [date, region.as_bytes(), service.as_bytes(), TERMINATOR.as_bytes()];
        Self(steps.iter().fold(first, |key, step| hmac::Key::new(hmac::HMAC_SHA256, mac(&key, step).as_slice())))
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

fn mac(key: &hmac::Key, data: &[u8]) -> Zeroizing<[u8; 32]> {
    let mut tag = Zeroizing::new([0; 32]);
    tag.copy_from_slice(hmac::sign(key, data).as_ref());
    tag
}

/// The SHA-256 of `bytes`: what [`Presented::verify`](crate::Presented::verify) wants to know of a body.
#[must_use]
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    let mut hash = [0; 32];
    hash.copy_from_slice(digest::digest(&digest::SHA256, bytes).as_ref());
    hash
}
