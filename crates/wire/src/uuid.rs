//! UUIDs (RFC 9562): names of requests and messages.

use core::fmt;
use core::str::FromStr;

/// A UUID, in the byte order of its text.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Uuid([u8; 16]);

/// The text is not 32 hex digits in groups of 8, 4, 4, 4 and 12.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
#[error("not a UUID")]
pub struct UuidError;

/// Where hyphens stand in the text.
const HYPHENS: [usize; 4] = [8, 13, 18, 23];
const TEXT_LENGTH: usize = 36;

impl Uuid {
    /// The UUID of these bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        Self(bytes)
    }

    /// A UUID of version 4 whose free bits are those of `random`.
    #[must_use]
    pub fn from_random(random: [u8; 16]) -> Self {
        let value = u128::from_be_bytes(random) & !(0xf << 76) & !(0x3 << 62) | 4 << 76 | 2 << 62;
        Self(value.to_be_bytes())
    }

    /// Its bytes.
    #[must_use]
    pub const fn to_bytes(self) -> [u8; 16] {
        self.0
    }
}

impl fmt::Display for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Twice in every answer and every line of the audit, so not byte by byte through the formatting machinery.
        let mut text = String::with_capacity(TEXT_LENGTH);
        for byte in self.0 {
            if HYPHENS.contains(&text.len()) {
                text.push('-');
            }
            for digit in [byte >> 4, byte & 0xf] {
                text.extend(char::from_digit(digit.into(), 16));
            }
        }
        f.write_str(&text)
    }
}

impl fmt::Debug for Uuid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Uuid {
    type Err = UuidError;

    fn from_str(text: &str) -> Result<Self, UuidError> {
        if text.len() != TEXT_LENGTH {
            return Err(UuidError);
        }
        let mut value = 0_u128;
        for (index, byte) in text.bytes().enumerate() {
            if HYPHENS.contains(&index) {
                if byte != b'-' {
                    return Err(UuidError);
                }
                continue;
            }
            let digit = char::from(byte).to_digit(16).ok_or(UuidError)?;
            value = value << 4 | u128::from(digit);
        }
        Ok(Self(value.to_be_bytes()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn version_4_is_marked_as_such() {
        assert_eq!(Uuid::from_random([0xff; 16]).to_string(), "ffffffff-ffff-4fff-bfff-ffffffffffff");
        assert_eq!(Uuid::from_random([0; 16]).to_string(), "00000000-0000-4000-8000-000000000000");
    }

    #[test]
    fn other_texts_are_refused() {
        let good = "01234567-89ab-cdef-0123-456789ABCDEF";
        assert_eq!(good.parse::<Uuid>().unwrap().to_string(), good.to_lowercase());
        for text in [
            "",
            "01234567-89ab-cdef-0123-456789abcde",
            "0123456789abcdef0123456789abcdef",
            "g1234567-89ab-cdef-0123-456789abcdef",
        ] {
            assert_eq!(text.parse::<Uuid>(), Err(UuidError), "{text}");
        }
    }

    proptest! {
        #[test]
        fn text_and_back(bytes: [u8; 16]) {
            let uuid = Uuid::from_bytes(bytes);
            prop_assert_eq!(uuid.to_string().parse::<Uuid>(), Ok(uuid));
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,40}") {
            let _ = text.parse::<Uuid>();
        }
    }
}
