//! Percent-encoding as forms have it: strict on the way in, the unreserved set of SigV4 on the way out.

/// What is wrong with an escape.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum EscapeError {
    /// The text ends within an escape.
    Incomplete,
    /// These two bytes after a `%` are not hexadecimal.
    Illegal([u8; 2]),
}

/// Decodes one name or value; `+` is a space.
pub(crate) fn decode(raw: &[u8]) -> Result<Vec<u8>, EscapeError> {
    decode_with(raw, b' ')
}

/// Decodes a segment of a path, in which `+` is itself.
pub(crate) fn decode_segment(raw: &[u8]) -> Result<Vec<u8>, EscapeError> {
    decode_with(raw, b'+')
}

fn decode_with(raw: &[u8], plus: u8) -> Result<Vec<u8>, EscapeError> {
    let mut decoded = Vec::with_capacity(raw.len());
    let mut rest = raw.iter().copied();
    while let Some(byte) = rest.next() {
        decoded.push(match byte {
            b'+' => plus,
            b'%' => {
                let (Some(high), Some(low)) = (rest.next(), rest.next()) else { return Err(EscapeError::Incomplete) };
                let (Some(h), Some(l)) = (hex(high), hex(low)) else { return Err(EscapeError::Illegal([high, low])) };
                h << 4 | l
            }
            other => other,
        });
    }
    Ok(decoded)
}

/// Appends `text`, all but `A-Za-z0-9-._~` escaped with upper-case digits, so that a space is `%20`.
pub(crate) fn encode_into(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            out.push('%');
            for digit in [byte >> 4, byte & 15] {
                out.push(char::from_digit(u32::from(digit), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
}

fn hex(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn decodes_escapes_in_either_case_and_plus_as_space() {
        assert_eq!(decode(b"a%2Fb%2fc+d%20e%2B").unwrap(), b"a/b/c d e+");
        assert_eq!(decode(b"").unwrap(), b"");
        assert_eq!(decode_segment(b"a%2Fb+c%2b").unwrap(), b"a/b+c+");
        assert_eq!(decode_segment(b"%2"), Err(EscapeError::Incomplete));
        assert_eq!(decode(b"%00%ff").unwrap(), [0, 255]);
    }

    #[test]
    fn refuses_broken_escapes() {
        assert_eq!(decode(b"a%"), Err(EscapeError::Incomplete));
        assert_eq!(decode(b"a%4"), Err(EscapeError::Incomplete));
        assert_eq!(decode(b"a%4g"), Err(EscapeError::Illegal(*b"4g")));
        assert_eq!(decode(b"%+1"), Err(EscapeError::Illegal(*b"+1")));
        assert_eq!(decode(b"%%41"), Err(EscapeError::Illegal(*b"%4")));
    }

    #[test]
    fn encodes_all_but_the_unreserved() {
        let mut out = String::new();
        encode_into(&mut out, "aZ9-._~ +/=é");
        assert_eq!(out, "aZ9-._~%20%2B%2F%3D%C3%A9");
    }
}
