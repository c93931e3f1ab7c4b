//! The key-encryption key: what epoch roots and operator secrets rest under.

use core::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use aws_lc_rs::rand;
use zeroize::{Zeroize, Zeroizing};

use crate::CryptoError;

const VERSION: u8 = 1;
const TAG_BYTES: usize = 16;
const OVERHEAD: usize = 1 + NONCE_LEN + TAG_BYTES;

/// Why a secret was not sealed or opened.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum KekError {
    /// Not sealed under this key with this label, or changed since.
    #[error("this was not sealed under this key for this purpose, or it was changed since")]
    Refused,
    /// More than may be sealed there.
    #[error("what is sealed there has at most {0} bytes")]
    TooLong(usize),
    /// The crypto library failed.
    #[error(transparent)]
    Crypto(#[from] CryptoError),
}

/// A key that small secrets are sealed under: AES-256-GCM-SIV with a random nonce, the label as associated data.
///
/// A blob is `1 ‖ nonce (12) ‖ ciphertext ‖ tag (16)`. The label says what a blob is for, as in `epoch 1`; a blob opens
/// only under the label it was sealed with, so that one cannot be put in the place of another.
pub struct Kek(LessSafeKey);

impl Kek {
    /// Bytes in a key.
    pub const BYTES: usize = 32;

    /// Most bytes that are sealed at once.
    pub const SECRET_LENGTH_MAX: usize = 64 * 1024;

    /// The key of these bytes.
    ///
    /// # Errors
    /// The crypto library failed.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, CryptoError> {
        Ok(Self(LessSafeKey::new(UnboundKey::new(&AES_256_GCM_SIV, bytes)?)))
    }

    /// The bytes of a new key, for the file they will live in.
    ///
    /// # Errors
    /// The system gives no randomness.
    pub fn generate_bytes() -> Result<Zeroizing<[u8; Self::BYTES]>, CryptoError> {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        rand::fill(bytes.as_mut_slice())?;
        Ok(bytes)
    }

    /// Seals `plaintext` for the purpose `label`.
    ///
    /// # Errors
    /// More than [`Kek::SECRET_LENGTH_MAX`] bytes, no randomness, or a failing crypto library.
    pub fn seal(&self, label: &str, plaintext: &[u8]) -> Result<Vec<u8>, KekError> {
        self.seal_up_to(Self::SECRET_LENGTH_MAX, label, plaintext)
    }

    /// As [`Kek::seal`], of up to `length_max` bytes.
    ///
    /// # Errors
    /// As [`Kek::seal`].
    pub fn seal_up_to(&self, length_max: usize, label: &str, plaintext: &[u8]) -> Result<Vec<u8>, KekError> {
        if plaintext.len() > length_max {
            return Err(KekError::TooLong(length_max));
        }
        let mut nonce = [0; NONCE_LEN];
        rand::fill(&mut nonce).map_err(CryptoError::from)?;
        let mut blob = Vec::with_capacity(plaintext.len() + OVERHEAD);
        blob.push(VERSION);
        blob.extend_from_slice(&nonce);
        blob.extend_from_slice(plaintext);
        let (_, body) = blob.split_at_mut(1 + NONCE_LEN);
        let sealed =
            self.0.seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(label.as_bytes()), body);
        match sealed {
            Ok(tag) => {
                blob.extend_from_slice(tag.as_ref());
                Ok(blob)
            }
            Err(failure) => {
                blob.zeroize();
                Err(CryptoError::from(failure).into())
            }
        }
    }

    /// Opens what [`Kek::seal`] gave for the same `label`.
    ///
    /// # Errors
    /// Another key, another label, or a blob that is not whole.
    pub fn open(&self, label: &str, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, KekError> {
        self.open_up_to(Self::SECRET_LENGTH_MAX, label, blob)
    }

    /// As [`Kek::open`], of up to `length_max` bytes.
    ///
    /// # Errors
    /// As [`Kek::open`].
    pub fn open_up_to(&self, length_max: usize, label: &str, blob: &[u8]) -> Result<Zeroizing<Vec<u8>>, KekError> {
        if blob.len() > length_max.saturating_add(OVERHEAD) {
            return Err(KekError::TooLong(length_max));
        }
        let (nonce, sealed) = blob
            .strip_prefix(&[VERSION])
            .and_then(|rest| rest.split_first_chunk::<NONCE_LEN>())
            .ok_or(KekError::Refused)?;
        let mut plaintext = Zeroizing::new(sealed.to_vec());
        let length = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(label.as_bytes()), &mut plaintext)
            .map_err(|_| KekError::Refused)?
            .len();
        plaintext.truncate(length);
        Ok(plaintext)
    }
}

impl fmt::Debug for Kek {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Kek(redacted)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kek() -> Kek {
        Kek::from_bytes(&[9; 32]).unwrap()
    }

    #[test]
    fn opens_what_it_sealed() {
        for plaintext in [b"".as_slice(), b"x", &[7; 32]] {
            let blob = kek().seal("epoch 1", plaintext).unwrap();
            assert_eq!(blob.len(), plaintext.len() + OVERHEAD);
            assert_eq!(kek().open("epoch 1", &blob).unwrap().as_slice(), plaintext);
        }
    }

    #[test]
    fn seals_differently_each_time() {
        assert_ne!(kek().seal("epoch 1", &[7; 32]), kek().seal("epoch 1", &[7; 32]));
    }

    #[test]
    fn another_key_label_or_bit_is_refused() {
        let blob = kek().seal("epoch 1", &[7; 32]).unwrap();
        assert_eq!(kek().open("epoch 2", &blob).unwrap_err(), KekError::Refused);
        assert_eq!(Kek::from_bytes(&[8; 32]).unwrap().open("epoch 1", &blob).unwrap_err(), KekError::Refused);
        for bit in 0..blob.len() * 8 {
            let mut changed = blob.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(kek().open("epoch 1", &changed).unwrap_err(), KekError::Refused, "bit {bit}");
        }
        for length in 0..blob.len() {
            assert_eq!(kek().open("epoch 1", &blob[..length]).unwrap_err(), KekError::Refused, "length {length}");
        }
    }

    #[test]
    fn lengths_below_at_and_above_the_limit() {
        for (length, fits) in [(Kek::SECRET_LENGTH_MAX - 1, true), (Kek::SECRET_LENGTH_MAX, true)] {
            let blob = kek().seal("big", &vec![1; length]).unwrap();
            assert_eq!(kek().open("big", &blob).is_ok(), fits);
        }
        assert_eq!(
            kek().seal("big", &vec![1; Kek::SECRET_LENGTH_MAX + 1]),
            Err(KekError::TooLong(Kek::SECRET_LENGTH_MAX))
        );
        let too_long = vec![1; Kek::SECRET_LENGTH_MAX + OVERHEAD + 1];
        assert_eq!(kek().open("big", &too_long).unwrap_err(), KekError::TooLong(Kek::SECRET_LENGTH_MAX));
    }

    #[test]
    fn a_limit_of_ones_own_below_at_and_above() {
        for (length, fits) in [(6, true), (7, true), (8, false)] {
            let sealed = kek().seal_up_to(7, "few", &vec![1; length]);
            assert_eq!(sealed.is_ok(), fits, "{length}");
            let blob = kek().seal("few", &vec![1; length]).unwrap();
            let opened = kek().open_up_to(7, "few", &blob).map(|plaintext| plaintext.len());
            assert_eq!(opened, if fits { Ok(length) } else { Err(KekError::TooLong(7)) });
        }
    }

    #[test]
    fn keys_are_random_and_hidden() {
        assert_ne!(Kek::generate_bytes().unwrap(), Kek::generate_bytes().unwrap());
        assert_eq!(format!("{:?}", kek()), "Kek(redacted)");
    }
}
