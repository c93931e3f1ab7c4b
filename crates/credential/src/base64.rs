//! Base64, as little as is needed: the standard alphabet out, the URL alphabet out and in. Never any padding.
//!
//! Reading is strict: one text per value, so that no bit of a token can change without being noticed.

const STANDARD: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
const URL: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
const NOT_A_CHARACTER: u8 = 0xff;

/// The value of each character of the URL alphabet.
#[allow(clippy::indexing_slicing, reason = "computed by the compiler, which stops at an index out of bounds")]
const URL_VALUES: [u8; 256] = {
    let mut values = [NOT_A_CHARACTER; 256];
    let mut value = 0u8;
    while value < 64 {
        values[URL[value as usize] as usize] = value;
        value += 1;
    }
    values
};

/// Characters that `bytes` bytes become.
pub(crate) const fn encoded_length(bytes: usize) -> usize {
    (bytes * 4).div_ceil(3)
}

/// Appends `bytes` in the URL alphabet.
pub(crate) fn encode_url(bytes: &[u8], out: &mut Vec<u8>) {
    encode(URL, bytes, |character| out.push(character));
}

/// Writes `bytes` in the standard alphabet; what does not fit is lost, so the caller sizes `out`.
pub(crate) fn encode_standard(bytes: &[u8], out: &mut [u8]) {
    let mut places = out.iter_mut();
    encode(STANDARD, bytes, |character| {
        if let Some(place) = places.next() {
            *place = character;
        }
    });
}

fn encode(alphabet: &[u8; 64], bytes: &[u8], mut put: impl FnMut(u8)) {
    for chunk in bytes.chunks(3) {
        let (bits, characters) = match *chunk {
            [a, b, c] => (u32::from(a) << 16 | u32::from(b) << 8 | u32::from(c), 4),
            [a, b] => (u32::from(a) << 16 | u32::from(b) << 8, 3),
            [a] => (u32::from(a) << 16, 2),
            _ => return,
        };
        for shift in [18, 12, 6, 0].into_iter().take(characters) {
            // Six bits always index the alphabet; `get` only spares the bounds panic.
            put(alphabet.get((bits >> shift & 63) as usize).copied().unwrap_or(b'A'));
        }
    }
}

/// Reads `text` into `out` and returns the bytes read. `None`: a foreign character, a length no encoder gives, bits
/// set past the last byte, or more than `out` holds.
pub(crate) fn decode_url<'a>(text: &[u8], out: &'a mut [u8]) -> Option<&'a mut [u8]> {
    let length = text.len() * 3 / 4;
    if text.len() % 4 == 1 {
        return None;
    }
    let out = out.get_mut(..length)?;
    let (mut quads, mut triples) = (text.chunks_exact(4), out.chunks_exact_mut(3));
    let mut seen = 0;
    for (quad, triple) in quads.by_ref().zip(triples.by_ref()) {
        let &[a, b, c, d] = quad else { return None };
        let [a, b, c, d] = [a, b, c, d].map(value);
        seen |= a | b | c | d;
        let [_, x, y, z] = (a << 18 | b << 12 | c << 6 | d).to_be_bytes();
        triple.copy_from_slice(&[x, y, z]);
    }
    let (bits, slack) = match *quads.remainder() {
        [] => (0, 0),
        [a, b] => {
            let [a, b] = [a, b].map(value);
            seen |= a | b;
            (a << 18 | b << 12, 0x00_ffff)
        }
        [a, b, c] => {
            let [a, b, c] = [a, b, c].map(value);
            seen |= a | b | c;
            (a << 18 | b << 12 | c << 6, 0x00_00ff)
        }
        _ => return None,
    };
    for (place, byte) in triples.into_remainder().iter_mut().zip(bits.to_be_bytes().into_iter().skip(1)) {
        *place = byte;
    }
    (seen < 64 && bits & slack == 0).then_some(out)
}

fn value(character: u8) -> u32 {
    u32::from(URL_VALUES.get(usize::from(character)).copied().unwrap_or(NOT_A_CHARACTER))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn url(bytes: &[u8]) -> String {
        let mut out = Vec::new();
        encode_url(bytes, &mut out);
        String::from_utf8(out).unwrap()
    }

    /// Values of RFC 4648 §10, without the padding.
    #[test]
    fn agrees_with_the_standard() {
        for (bytes, text) in
            [("", ""), ("f", "Zg"), ("fo", "Zm8"), ("foo", "Zm9v"), ("foob", "Zm9vYg"), ("fooba", "Zm9vYmE")]
        {
            assert_eq!(url(bytes.as_bytes()), text);
            assert_eq!(text.len(), encoded_length(bytes.len()));
            assert_eq!(decode_url(text.as_bytes(), &mut [0; 8]).as_deref(), Some(bytes.as_bytes()));
        }
        assert_eq!(url(&[0xfb, 0xff, 0xbf]), "-_-_");
        let mut standard = [0; 4];
        encode_standard(&[0xfb, 0xff, 0xbf], &mut standard);
        assert_eq!(&standard, b"+/+/");
    }

    #[test]
    fn refuses_every_second_spelling() {
        for text in ["Z", "Zh", "Zm9", "Zg==", "Zm8=", "Zm9v\n", "Zm9v Yg", "+/+/", "Zm9vY", "Zm9\u{e9}"] {
            assert_eq!(decode_url(text.as_bytes(), &mut [0; 16]), None, "{text}");
        }
        assert_eq!(decode_url(b"Zm9v", &mut [0; 2]), None);
    }

    proptest! {
        #[test]
        fn reading_is_the_inverse_of_writing(bytes: Vec<u8>) {
            let text = url(&bytes);
            let mut out = vec![0; bytes.len()];
            let read = decode_url(text.as_bytes(), &mut out);
            prop_assert_eq!(read.as_deref(), Some(bytes.as_slice()));
        }

        #[test]
        fn what_is_read_is_written_back_the_same(text: Vec<u8>) {
            if let Some(bytes) = decode_url(&text, &mut [0; 256]) {
                prop_assert_eq!(url(bytes).into_bytes(), text);
            }
        }
    }
}
