//! As much DER as the keys of RSA take.

/// The tag of a number.
pub const INTEGER: u8 = 0x02;
/// The tag of a string of bytes.
pub const OCTETS: u8 = 0x04;
/// The tag of elements one after the other.
pub const SEQUENCE: u8 = 0x30;

/// The content of the element at the front, which has this tag, and what follows it. Elements of more than 64 KiB are none.
#[must_use]
pub fn element(der: &[u8], tag: u8) -> Option<(&[u8], &[u8])> {
    let (found, rest) = der.split_first()?;
    let (first, rest) = rest.split_first()?;
    let (length, rest) = match first {
        0..=0x7f => (usize::from(*first), rest),
        0x81 | 0x82 => {
            let (length, rest) = rest.split_at_checked(usize::from(first & 0x7f))?;
            (length.iter().fold(0, |sum, byte| sum << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    (*found == tag).then_some(rest.split_at_checked(length)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn der_that_ends_early_is_none() {
        assert_eq!(element(&[0x02, 0x01, 0x07, 9], 0x02), Some((&[7][..], &[9][..])));
        assert_eq!(element(&[0x30, 0x81, 0x01, 0x07], 0x30), Some((&[7][..], &[][..])));
        for der in [&[][..], &[2], &[2, 1], &[2, 0x81], &[2, 0x82, 0], &[2, 0x83, 0, 0, 0], &[2, 0x80], &[4, 1, 7]] {
            assert_eq!(element(der, 0x02), None, "{der:?}");
        }
    }
}
