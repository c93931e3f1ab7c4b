//! Looking for a byte, fast: most of what is read here is one short text with separators in it.

/// What is before the first `separator`, an ASCII character, and what is behind it if there is one.
pub(crate) fn cut(text: &str, separator: u8) -> (&str, Option<&str>) {
    match memchr::memchr(separator, text.as_bytes()) {
        Some(position) => (text.get(..position).unwrap_or_default(), text.get(position + 1..)),
        None => (text, None),
    }
}

/// Whether all bytes of a text are `good`. Sixteen at a time, which the compiler makes vectors of, and the last sixteen
/// once more: what is left of a short text would take longer than the rest, byte by byte.
#[inline]
pub(crate) fn are_all(bytes: &[u8], good: impl Fn(u8) -> bool) -> bool {
    let (blocks, rest) = bytes.as_chunks::<16>();
    let is_good = |block: &[u8; 16]| block.iter().fold(true, |all, byte| all & good(*byte));
    match bytes.last_chunk() {
        Some(last) => blocks.iter().all(is_good) && is_good(last),
        None => rest.iter().all(|byte| good(*byte)),
    }
}

/// Whether two slices are equal, without a look at their bytes if they are the very same.
pub(crate) fn are_same<T: PartialEq>(one: &[T], other: &[T]) -> bool {
    (core::ptr::eq(one.as_ptr(), other.as_ptr()) && one.len() == other.len()) || one == other
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cutting() {
        for (text, expected) in [
            ("", ("", None)),
            ("a", ("a", None)),
            (";", ("", Some(""))),
            ("a;b;c", ("a", Some("b;c"))),
            ("\u{e9};\u{e9}", ("\u{e9}", Some("\u{e9}"))),
        ] {
            assert_eq!(cut(text, b';'), expected);
        }
    }

    #[test]
    fn all_bytes_of_any_length() {
        for length in 0..50 {
            let mut bytes = vec![b'a'; length];
            assert!(are_all(&bytes, |byte| byte == b'a'), "{length}");
            for position in 0..length {
                bytes[position] = b'b';
                assert!(!are_all(&bytes, |byte| byte == b'a'), "{length} {position}");
                bytes[position] = b'a';
            }
        }
    }

    #[test]
    fn sameness() {
        let text = *b"abcabc";
        let (one, other, shorter) = (&text[..3], &text[3..], &text[..2]);
        assert!(are_same(one, one) && are_same(one, other));
        assert!(!are_same(one, shorter) && !are_same(one, b"abd"));
    }
}
