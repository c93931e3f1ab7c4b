//! Session tokens of IMDSv2: sealed, so that nothing is kept, and bound to the instance that asked for them.
//!
//! On the wire 56 characters, as EC2's: URL-safe base64, padded, of 40 bytes:
//!
//! | bytes | what |
//! |---|---|
//! | 4 | `01 00 04 00`, as in captured EC2 tokens |
//! | 12 | nonce, random |
//! | 8 | AES-256-GCM-SIV of the second it ends, big-endian |
//! | 16 | tag; associated data: the first four bytes and the instance id |
//!
//! A guest can ask for tokens all day. GCM-SIV is chosen because a nonce that comes twice then tells only that two tokens
//! are the same, where plain GCM would give away the key that guards against forgery.

use core::fmt;

use aws_lc_rs::aead::{AES_256_GCM_SIV, Aad, Nonce, RandomizedNonceKey};
use inborn_identity::{InstanceId, UnixTime};
use zeroize::{Zeroize, ZeroizeOnDrop, Zeroizing};

const HEAD: [u8; 4] = [0x01, 0x00, 0x04, 0x00];
const NONCE_BYTES: usize = 12;
const EXPIRY_BYTES: usize = 8;
const TAG_BYTES: usize = 16;
const SEALED_BYTES: usize = EXPIRY_BYTES + TAG_BYTES;
const RAW_BYTES: usize = HEAD.len() + NONCE_BYTES + SEALED_BYTES;
const ASSOCIATED_BYTES: usize = HEAD.len() + InstanceId::BYTES;

/// How long a token is good for: 1 to 21600 seconds.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Debug)]
pub struct TokenTtl(u32);

impl TokenTtl {
    /// The shortest life of a token, in seconds.
    pub const SECONDS_MIN: u32 = 1;
    /// The longest life of a token, in seconds: six hours.
    pub const SECONDS_MAX: u32 = 21_600;

    /// From seconds; `None` outside 1–21600.
    #[must_use]
    pub fn from_secs(seconds: u32) -> Option<Self> {
        (Self::SECONDS_MIN..=Self::SECONDS_MAX).contains(&seconds).then_some(Self(seconds))
    }

    /// From the value of the header: decimal digits and nothing else.
    #[must_use]
    pub fn parse(value: &[u8]) -> Option<Self> {
        if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
            return None;
        }
        let seconds = value
            .iter()
            .fold(0u32, |seconds, digit| seconds.saturating_mul(10).saturating_add(u32::from(digit - b'0')));
        Self::from_secs(seconds)
    }

    /// The seconds.
    #[must_use]
    pub const fn as_secs(self) -> u32 {
        self.0
    }
}

/// A token as it is sent: ASCII of [`Token::LENGTH`] characters.
#[derive(Zeroize, ZeroizeOnDrop)]
pub struct Token([u8; Self::LENGTH]);

impl Token {
    /// Characters in a token.
    pub const LENGTH: usize = RAW_BYTES.div_ceil(3) * 4;

    /// The characters.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; Self::LENGTH] {
        &self.0
    }
}

impl fmt::Debug for Token {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Token(…)")
    }
}

/// The cryptography library refused: out of memory or of randomness.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the session token key is not usable")]
pub struct TokenKeyError;

/// A token that is not good: not one of this key, for another instance, or past its end. Which of them is not told.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("the session token is not valid")]
pub struct InvalidToken;

/// The key that a host's session tokens are sealed with. A new one at each start is fine: clients fetch a new token on 401.
pub struct TokenKey(RandomizedNonceKey);

impl TokenKey {
    /// Bytes in a key.
    pub const BYTES: usize = 32;

    /// A new random key.
    ///
    /// # Errors
    /// The library has no randomness or no memory.
    pub fn generate() -> Result<Self, TokenKeyError> {
        let mut bytes = Zeroizing::new([0; Self::BYTES]);
        aws_lc_rs::rand::fill(bytes.as_mut_slice()).map_err(|_| TokenKeyError)?;
        Self::from_bytes(&bytes)
    }

    /// The key of these bytes, so that several processes may read each other's tokens.
    ///
    /// # Errors
    /// The library has no memory.
    pub fn from_bytes(bytes: &[u8; Self::BYTES]) -> Result<Self, TokenKeyError> {
        RandomizedNonceKey::new(&AES_256_GCM_SIV, bytes).map(Self).map_err(|_| TokenKeyError)
    }

    /// A new token for `instance`, good from `now` for `ttl`.
    ///
    /// # Errors
    /// The library has no randomness or no memory.
    pub fn mint(&self, instance: InstanceId, ttl: TokenTtl, now: UnixTime) -> Result<Token, TokenKeyError> {
        let mut expiry = now.plus(u64::from(ttl.0)).as_secs().to_be_bytes();
        let (nonce, tag) = self
            .0
            .seal_in_place_separate_tag(Aad::from(associated(instance)), &mut expiry)
            .map_err(|_| TokenKeyError)?;
        let mut raw = [0; RAW_BYTES];
        let parts = HEAD.iter().chain(nonce.as_ref()).chain(&expiry).chain(tag.as_ref());
        raw.iter_mut().zip(parts).for_each(|(byte, part)| *byte = *part);
        Ok(Token(encode(&raw)))
    }

    /// The seconds a token of `instance` is still good for: at least 1, at most [`TokenTtl::SECONDS_MAX`].
    ///
    /// # Errors
    /// [`InvalidToken`]. One with more than the longest life left is among them: the clock went back, and a client that
    /// is refused fetches another.
    pub fn remaining(&self, presented: &[u8], instance: InstanceId, now: UnixTime) -> Result<u32, InvalidToken> {
        let raw = decode(presented).ok_or(InvalidToken)?;
        let (head, rest) = raw.split_first_chunk::<{ HEAD.len() }>().ok_or(InvalidToken)?;
        let (nonce, sealed) = rest.split_first_chunk::<NONCE_BYTES>().ok_or(InvalidToken)?;
        let mut sealed: [u8; SEALED_BYTES] = sealed.try_into().map_err(|_| InvalidToken)?;
        if *head != HEAD {
            return Err(InvalidToken);
        }
        let opened = self
            .0
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(associated(instance)), &mut sealed)
            .map_err(|_| InvalidToken)?;
        let expiry = u64::from_be_bytes((&*opened).try_into().map_err(|_| InvalidToken)?);
        let remaining = UnixTime::from_secs(expiry).since(now);
        u32::try_from(remaining).ok().and_then(TokenTtl::from_secs).map(TokenTtl::as_secs).ok_or(InvalidToken)
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TokenKey(…)")
    }
}

fn associated(instance: InstanceId) -> [u8; ASSOCIATED_BYTES] {
    let mut data = [0; ASSOCIATED_BYTES];
    data.iter_mut().zip(HEAD.into_iter().chain(instance.to_bytes())).for_each(|(byte, part)| *byte = part);
    data
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const PADDING: &[u8] = b"==";

fn encode(raw: &[u8; RAW_BYTES]) -> [u8; Token::LENGTH] {
    let mut text = [b'='; Token::LENGTH];
    for (bytes, letters) in raw.chunks(3).zip(text.chunks_exact_mut(4)) {
        let bits = bytes.iter().fold(0u32, |bits, byte| bits << 8 | u32::from(*byte)) << (8 * (3 - bytes.len()));
        for (index, letter) in letters.iter_mut().enumerate().take(bytes.len() + 1) {
            *letter = ALPHABET.get((bits >> (18 - 6 * index) & 63) as usize).copied().unwrap_or(b'A');
        }
    }
    text
}

/// The bytes of a token, if it is exactly what [`encode`] would have made of them.
fn decode(text: &[u8]) -> Option<[u8; RAW_BYTES]> {
    let text: &[u8; Token::LENGTH] = text.try_into().ok()?;
    let mut raw = [0; RAW_BYTES];
    for (letters, bytes) in text.strip_suffix(PADDING)?.chunks(4).zip(raw.chunks_mut(3)) {
        let mut bits = 0u32;
        for letter in letters {
            bits = bits << 6 | value(*letter)?;
        }
        bits <<= 6 * (4 - letters.len());
        let [_, decoded @ ..] = bits.to_be_bytes();
        bytes.iter_mut().zip(decoded).for_each(|(byte, part)| *byte = part);
        let unused_bits = 8 * (3 - bytes.len());
        if bits & ((1 << unused_bits) - 1) != 0 {
            return None;
        }
    }
    Some(raw)
}

fn value(letter: u8) -> Option<u32> {
    match letter {
        b'A'..=b'Z' => Some(u32::from(letter - b'A')),
        b'a'..=b'z' => Some(u32::from(letter - b'a') + 26),
        b'0'..=b'9' => Some(u32::from(letter - b'0') + 52),
        b'-' => Some(62),
        b'_' => Some(63),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const NOW: UnixTime = UnixTime::from_secs(1_795_000_000);

    fn key() -> TokenKey {
        TokenKey::from_bytes(&[7; TokenKey::BYTES]).unwrap()
    }

    fn instance(last: u8) -> InstanceId {
        InstanceId::from_bytes([0, 1, 2, 3, 4, 5, 6, 7, last])
    }

    fn ttl(seconds: u32) -> TokenTtl {
        TokenTtl::from_secs(seconds).unwrap()
    }

    #[test]
    fn looks_like_a_token_of_ec2() {
        let token = key().mint(instance(1), ttl(60), NOW).unwrap();
        assert_eq!(token.as_bytes().len(), 56);
        assert!(token.as_bytes().starts_with(b"AQAEA") && token.as_bytes().ends_with(b"=="));
        assert_eq!(decode(token.as_bytes()).unwrap()[..4], HEAD);
        assert_ne!(token.as_bytes(), key().mint(instance(1), ttl(60), NOW).unwrap().as_bytes());
    }

    #[test]
    fn base64_of_known_bytes() {
        let mut raw = [0xff; RAW_BYTES];
        raw[..4].copy_from_slice(&HEAD);
        assert_eq!(encode(&raw), *b"AQAEAP_______________________________________________w==");
        assert_eq!(decode(&encode(&raw)), Some(raw));
        for text in [
            &b"AQAEAP_______________________________________________w_="[..],
            b"AQAEAP_______________________________________________x==",
            b"AQAEAP///////////////////////////////////////////////w==",
            b"AQAEAP_______________________________________________w",
            b"AQAEAP_______________________________________________wA=",
            b"",
        ] {
            assert_eq!(decode(text), None, "{}", String::from_utf8_lossy(text));
        }
    }

    #[test]
    fn counts_down_and_ends() {
        let token = key().mint(instance(1), ttl(60), NOW).unwrap();
        for (later, expected) in
            [(0, Ok(60)), (1, Ok(59)), (59, Ok(1)), (60, Err(InvalidToken)), (61, Err(InvalidToken))]
        {
            assert_eq!(key().remaining(token.as_bytes(), instance(1), NOW.plus(later)), expected, "{later}");
        }
        let longest = key().mint(instance(1), ttl(TokenTtl::SECONDS_MAX), NOW).unwrap();
        assert_eq!(key().remaining(longest.as_bytes(), instance(1), NOW), Ok(21_600));
        assert_eq!(key().remaining(longest.as_bytes(), instance(1), NOW.minus(1)), Err(InvalidToken), "clock set back");
    }

    #[test]
    fn is_good_for_its_instance_and_key_only() {
        let token = key().mint(instance(1), ttl(60), NOW).unwrap();
        assert_eq!(key().remaining(token.as_bytes(), instance(2), NOW), Err(InvalidToken));
        let other = TokenKey::generate().unwrap();
        assert_eq!(other.remaining(token.as_bytes(), instance(1), NOW), Err(InvalidToken));
    }

    #[test]
    fn ttl_below_at_and_above() {
        for (value, expected) in [
            ("0", None),
            ("1", Some(1)),
            ("2", Some(2)),
            ("21599", Some(21_599)),
            ("21600", Some(21_600)),
            ("21601", None),
            ("000060", Some(60)),
            ("4294967297", None),
            ("99999999999999999999999999", None),
            ("", None),
            ("+60", None),
            ("-1", None),
            ("6 0", None),
            ("60.0", None),
            ("0x3c", None),
            ("٦", None),
        ] {
            assert_eq!(TokenTtl::parse(value.as_bytes()).map(TokenTtl::as_secs), expected, "{value}");
        }
    }

    #[test]
    fn debug_shows_no_secret() {
        let token = key().mint(instance(1), ttl(60), NOW).unwrap();
        assert_eq!(format!("{:?} {token:?}", key()), "TokenKey(…) Token(…)");
    }

    proptest! {
        #[test]
        fn any_changed_character_is_refused(at in 0..Token::LENGTH, to: u8) {
            let token = key().mint(instance(1), ttl(60), NOW).unwrap();
            let mut text = *token.as_bytes();
            prop_assume!(text[at] != to);
            text[at] = to;
            prop_assert_eq!(key().remaining(&text, instance(1), NOW), Err(InvalidToken));
        }

        #[test]
        fn every_life_reads_back(seconds in TokenTtl::SECONDS_MIN..=TokenTtl::SECONDS_MAX, bytes: [u8; 9], now in 0..4_000_000_000u64) {
            let (instance, now) = (InstanceId::from_bytes(bytes), UnixTime::from_secs(now));
            let token = key().mint(instance, ttl(seconds), now).unwrap();
            prop_assert_eq!(key().remaining(token.as_bytes(), instance, now), Ok(seconds));
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert_eq!(key().remaining(&bytes, instance(1), NOW), Err(InvalidToken));
        }
    }
}
