//! HMAC-SHA-256 (RFC 2104, FIPS 180-4) of short texts, over the bare compression function.
//!
//! A verification hashes two dozen blocks in a handful of texts. The crypto library takes a context for each text, which
//! it allocates, copies and wipes; that is longer than the blocks themselves take, and a key that signs again would have
//! its two pads hashed again. `benches/verify.rs` has both side by side. Bodies, which may be long, are left to the
//! library.

use sha2::block_api::compress256;
use zeroize::Zeroize as _;

/// The block of SHA-256, in bytes.
pub(crate) const BLOCK: usize = 64;
/// A hash, in bytes.
const HASH: usize = 32;
/// The pads of RFC 2104 §2.
const INNER: u8 = 0x36;
const OUTER: u8 = 0x5c;
/// What ends the last block: the number of bits, as eight bytes.
const LENGTH: usize = 8;
/// FIPS 180-4 §5.3.3.
const INITIAL: State =
    [0x6a09_e667, 0xbb67_ae85, 0x3c6e_f372, 0xa54f_f53a, 0x510e_527f, 0x9b05_688c, 0x1f83_d9ab, 0x5be0_cd19];

type State = [u32; 8];

/// A key whose two pads are hashed already. Wiped on drop: whoever has it can sign.
pub(crate) struct Key {
    inner: State,
    outer: State,
}

impl Key {
    /// From a key as HMAC takes it: padded with zeros to a block, or hashed before if it is longer than one. It is
    /// overwritten, because the pads need no place of their own then that would have to be wiped.
    pub(crate) fn new(key: &mut [u8; BLOCK]) -> Self {
        let mut absorb = |with: u8| {
            key.iter_mut().for_each(|byte| *byte ^= with);
            let mut state = INITIAL;
            compress256(&mut state, core::slice::from_ref(key));
            state
        };
        Self { inner: absorb(INNER), outer: absorb(INNER ^ OUTER) }
    }

    /// Writes the tag of `text`.
    pub(crate) fn tag(&self, text: &[u8], tag: &mut [u8; HASH]) {
        let mut hash = [0; HASH];
        finish(self.inner, BLOCK, text, &mut hash);
        finish(self.outer, BLOCK, &hash, tag);
    }
}

impl Drop for Key {
    fn drop(&mut self) {
        self.inner.zeroize();
        self.outer.zeroize();
    }
}

/// The SHA-256 of a text that is not long.
pub(crate) fn hash(text: &[u8]) -> [u8; HASH] {
    let mut hash = [0; HASH];
    finish(INITIAL, 0, text, &mut hash);
    hash
}

/// Hashes `text` and what ends it (FIPS 180-4 §5.1.1), after `before` bytes, which are whole blocks.
fn finish(mut state: State, before: usize, text: &[u8], hash: &mut [u8; HASH]) {
    let (blocks, rest) = text.as_chunks();
    if !blocks.is_empty() {
        compress256(&mut state, blocks);
    }
    let mut last = [[0; BLOCK]; 2];
    let (place, behind) = last.as_flattened_mut().split_at_mut(rest.len());
    place.copy_from_slice(rest);
    behind.first_mut().into_iter().for_each(|place| *place = 0x80);
    let bits = ((before + text.len()) as u64).wrapping_mul(8).to_be_bytes();
    let [first, second] = &mut last;
    if rest.len() < BLOCK - LENGTH {
        first.last_chunk_mut().into_iter().for_each(|end| *end = bits);
        compress256(&mut state, core::slice::from_ref(first));
    } else {
        second.last_chunk_mut().into_iter().for_each(|end| *end = bits);
        compress256(&mut state, &last);
    }
    let (words, _) = hash.as_chunks_mut();
    words.iter_mut().zip(&state).for_each(|(place, word)| *place = word.to_be_bytes());
    // It may be a key.
    state.zeroize();
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::{digest, hmac};

    use super::*;

    /// Below, at and above each place where a block ends or its end no longer fits.
    const LENGTHS: [usize; 14] = [0, 1, 32, 54, 55, 56, 63, 64, 65, 119, 120, 127, 128, 1000];

    /// Against the crypto library.
    #[test]
    fn hashes() {
        for length in LENGTHS {
            let text: Vec<u8> = (0..length).map(|at| u8::try_from(at % 251).unwrap()).collect();
            assert_eq!(hash(&text), *digest::digest(&digest::SHA256, &text).as_ref(), "{length}");
        }
    }

    /// FIPS 180-4's own example, so that two libraries cannot be wrong together.
    #[test]
    fn abc() {
        let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        assert_eq!(crate::hex::lower(&hash(b"abc")), *expected.as_bytes());
    }

    #[test]
    fn tags() {
        let key: [u8; BLOCK] = core::array::from_fn(|at| u8::try_from(at).unwrap());
        for length in LENGTHS {
            let text = vec![7; length];
            let expected = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &key), &text);
            let mut tag = [0; HASH];
            Key::new(&mut key.clone()).tag(&text, &mut tag);
            assert_eq!(tag, *expected.as_ref(), "{length}");
        }
    }
}
