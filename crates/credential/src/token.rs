//! Session tokens: `inb1`, the epoch, a nonce and the sealed claims, in base64url.

use aws_lc_rs::aead::{Aad, NONCE_LEN, Nonce};
use aws_lc_rs::hmac;
use inborn_identity::AccessKeyId;

use crate::claims::{CLAIMS_LENGTH_MAX, CLAIMS_LENGTH_MIN};
use crate::{CryptoError, Epoch, EpochId, SessionToken, base64};

/// The version: what the first four characters, `inb1`, decode to. Tokens of AWS begin with `IQoJ`, `FwoG`, `AQo`;
/// people and secret scanners can tell ours from them.
const VERSION: [u8; 3] = [0x8a, 0x76, 0xf5];
const EPOCH_BYTES: usize = 4;
const TAG_BYTES: usize = 16;
const OVERHEAD: usize = VERSION.len() + EPOCH_BYTES + NONCE_LEN + TAG_BYTES;
const BYTES_MAX: usize = OVERHEAD + CLAIMS_LENGTH_MAX;
const AAD_BYTES: usize = VERSION.len() + EPOCH_BYTES + AccessKeyId::LENGTH;

/// Fewest characters of a token.
pub(crate) const LENGTH_MIN: usize = base64::encoded_length(OVERHEAD + CLAIMS_LENGTH_MIN);

/// Most characters of a token. Every 64 cost each verifier one more hash block per request.
pub(crate) const LENGTH_MAX: usize = base64::encoded_length(BYTES_MAX);

/// Seals encoded `claims` for `key_id`. The nonce follows from the claims: the same claims give the same token.
pub(crate) fn seal(epoch: &Epoch, key_id: &AccessKeyId, claims: &[u8]) -> Result<SessionToken, CryptoError> {
    let nonce = nonce(epoch, claims)?;
    let mut sealed = claims.to_vec();
    epoch.token.seal_in_place_append_tag(
        Nonce::assume_unique_for_key(nonce),
        Aad::from(associated_data(epoch.id, key_id)),
        &mut sealed,
    )?;
    let bytes = [&VERSION, epoch.id.0.to_be_bytes().as_slice(), &nonce, &sealed].concat();
    let mut characters = Vec::with_capacity(base64::encoded_length(bytes.len()));
    base64::encode_url(&bytes, &mut characters);
    Ok(SessionToken::from_characters(characters))
}

/// A token whose form was checked and nothing else.
pub(crate) struct Sealed {
    bytes: [u8; BYTES_MAX],
    length: usize,
    pub(crate) epoch: EpochId,
}

impl Sealed {
    /// Reads the form of `token`. `None`: not one of ours.
    pub(crate) fn read(token: &[u8]) -> Option<Self> {
        if !(LENGTH_MIN..=LENGTH_MAX).contains(&token.len()) {
            return None;
        }
        let mut bytes = [0; BYTES_MAX];
        let read = base64::decode_url(token, &mut bytes)?;
        let epoch = read.strip_prefix(&VERSION)?.first_chunk().copied().map(u32::from_be_bytes)?;
        let length = read.len();
        Some(Self { bytes, length, epoch: EpochId(epoch) })
    }

    /// The encoded claims, if `epoch` sealed them for `key_id`.
    pub(crate) fn open(&mut self, epoch: &Epoch, key_id: &AccessKeyId) -> Option<&[u8]> {
        let (_, rest) = self.bytes.get_mut(..self.length)?.split_at_mut_checked(VERSION.len() + EPOCH_BYTES)?;
        let (nonce, sealed) = rest.split_first_chunk_mut::<NONCE_LEN>()?;
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let aad = Aad::from(associated_data(self.epoch, key_id));
        epoch.token.open_in_place(nonce, aad, sealed).ok().map(|claims| &*claims)
    }
}

fn associated_data(epoch: EpochId, key_id: &AccessKeyId) -> [u8; AAD_BYTES] {
    let mut data = [0; AAD_BYTES];
    let (version, rest) = data.split_at_mut(VERSION.len());
    let (epoch_bytes, key_id_bytes) = rest.split_at_mut(EPOCH_BYTES);
    version.copy_from_slice(&VERSION);
    epoch_bytes.copy_from_slice(&epoch.0.to_be_bytes());
    key_id_bytes.copy_from_slice(key_id.as_bytes());
    data
}

fn nonce(epoch: &Epoch, claims: &[u8]) -> Result<[u8; NONCE_LEN], CryptoError> {
    hmac::sign(&epoch.nonce, claims).as_ref().first_chunk().copied().ok_or(CryptoError)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_those_promised() {
        assert_eq!((LENGTH_MIN, LENGTH_MAX), (132, 286));
    }

    #[test]
    fn only_the_lengths_between_the_bounds_are_read() {
        for (length, is_read) in [(0, false), (131, false), (132, true), (286, true), (287, false), (100_000, false)] {
            let mut token = b"inb1".to_vec();
            token.resize(length, b'A');
            assert_eq!(Sealed::read(&token).is_some(), is_read, "{length}");
        }
    }

    #[test]
    fn tokens_of_others_are_not_read() {
        for prefix in ["IQoJ", "FwoG", "AQoD", "inb0", "inb2", "INB1"] {
            assert!(Sealed::read(format!("{prefix}{}", "A".repeat(132)).as_bytes()).is_none(), "{prefix}");
        }
    }
}
