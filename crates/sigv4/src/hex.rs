//! Lower-case hexadecimal, and the one percent-encoding of SigV4.

/// 32 bytes in lower-case hexadecimal. Arithmetic instead of a table, so that the compiler makes vectors of it, and so
/// that its time does not depend on the bytes.
pub(crate) fn lower(bytes: &[u8; 32]) -> [u8; 64] {
    let mut text = [0; 64];
    for (pair, byte) in text.chunks_exact_mut(2).zip(bytes) {
        if let [high, low] = pair {
            (*high, *low) = (digit(byte >> 4), digit(byte & 15));
        }
    }
    text
}

const fn digit(nibble: u8) -> u8 {
    // 39 is the way from behind the nine to the small a.
    b'0' + nibble + if nibble > 9 { 39 } else { 0 }
}

/// Whether a text is 64 digits of lower-case hexadecimal.
pub(crate) fn is_lower_64(text: &[u8]) -> bool {
    let is_digit = |byte: &u8| byte.is_ascii_digit() | matches!(byte, b'a'..=b'f');
    text.len() == 64 && text.iter().fold(true, |all, byte| all & is_digit(byte))
}

/// The value of two hexadecimal digits of either case.
pub(crate) fn value(high: u8, low: u8) -> Option<u8> {
    let nibble = |digit: u8| char::from(digit).to_digit(16).and_then(|value| u8::try_from(value).ok());
    Some(nibble(high)? << 4 | nibble(low)?)
}

/// Appends `byte` as it stands if it is unreserved (RFC 3986 §2.3), else as `%XX` with upper-case digits.
pub(crate) fn percent(byte: u8, out: &mut Vec<u8>) {
    if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
        out.push(byte);
    } else {
        out.extend_from_slice(&[b'%', digit(byte >> 4).to_ascii_uppercase(), digit(byte & 15).to_ascii_uppercase()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits() {
        let mut bytes = [0; 32];
        bytes[..4].copy_from_slice(&[0x09, 0xaf, 0xf0, 0x1e]);
        assert_eq!(lower(&bytes), *format!("09aff01e{}", "0".repeat(56)).as_bytes());
    }

    #[test]
    fn sixty_four_lower_case_digits() {
        for (text, expected) in [
            ("0123456789abcdef".repeat(4), true),
            ("0123456789abcdeF".repeat(4), false),
            ("0123456789abcdeg".repeat(4), false),
            ("a".repeat(63), false),
            ("a".repeat(65), false),
            (String::new(), false),
        ] {
            assert_eq!(is_lower_64(text.as_bytes()), expected, "{text}");
        }
    }

    #[test]
    fn percent_encoding() {
        let mut out = Vec::new();
        b"aZ9-._~ /%+\xc3\xa9=".iter().for_each(|byte| percent(*byte, &mut out));
        assert_eq!(out, b"aZ9-._~%20%2F%25%2B%C3%A9%3D");
    }

    #[test]
    fn two_digits() {
        assert_eq!(
            [value(b'2', b'F'), value(b'f', b'0'), value(b'g', b'0'), value(b'0', b' ')],
            [Some(0x2f), Some(0xf0), None, None]
        );
    }
}
