//! Header fields that can be found by name without looking at all of them each time.

use crate::{Fault, HEADERS_BYTES_MAX, HEADERS_MAX, Header, Limit};

/// Marks the end of a chain; more than any position.
const NONE: u8 = u8::MAX;
const BUCKETS: usize = 64;
const _: () = assert!(HEADERS_MAX <= NONE as usize, "positions are bytes");

/// The header fields of one request, hashed by name into chains that keep the order of arrival.
///
/// A client that makes all names collide gains what it would have anyway, without the chains: a look at every field.
#[derive(Clone, Copy)]
pub(crate) struct Fields<'a> {
    headers: &'a [Header<'a>],
    heads: [u8; BUCKETS],
    next: [u8; HEADERS_MAX],
}

impl<'a> Fields<'a> {
    pub(crate) fn new(headers: &'a [Header<'a>]) -> Result<Self, Fault> {
        if headers.len() > HEADERS_MAX {
            return Err(Fault::TooLarge(Limit::Headers));
        }
        let mut fields = Self { headers, heads: [NONE; BUCKETS], next: [NONE; HEADERS_MAX] };
        let mut bytes = 0_usize;
        // From the back, so that each chain begins with what arrived first.
        for (position, header) in headers.iter().enumerate().rev() {
            bytes = bytes.saturating_add(header.name.len()).saturating_add(header.value.len());
            if let (Some(head), Some(next)) = (fields.heads.get_mut(bucket(header.name)), fields.next.get_mut(position))
            {
                *next = core::mem::replace(head, u8::try_from(position).unwrap_or(NONE));
            }
        }
        if bytes > HEADERS_BYTES_MAX {
            return Err(Fault::TooLarge(Limit::HeaderBytes));
        }
        Ok(fields)
    }

    /// The values of a name, in the order of arrival.
    pub(crate) fn values(&self, name: &[u8]) -> impl Iterator<Item = &'a [u8]> {
        let mut position = self.heads.get(bucket(name)).copied().unwrap_or(NONE);
        core::iter::from_fn(move || {
            loop {
                let index = usize::from(position);
                let header = self.headers.get(index)?;
                position = self.next.get(index).copied().unwrap_or(NONE);
                if header.name == name {
                    return Some(header.value);
                }
            }
        })
    }

    /// The value of a name that must not be there twice, without the white space around it.
    pub(crate) fn one(&self, name: &'static str) -> Result<Option<&'a [u8]>, Fault> {
        let mut values = self.values(name.as_bytes());
        let first = values.next();
        if first.is_some() && values.next().is_some() {
            return Err(Fault::DuplicateHeader { name });
        }
        Ok(first.map(trim))
    }
}

/// Length, first and last byte tell apart the names that meet in one request.
fn bucket(name: &[u8]) -> usize {
    let (first, last) = (name.first().copied().unwrap_or(0), name.last().copied().unwrap_or(0));
    (name.len() ^ usize::from(first) << 1 ^ usize::from(last) << 2) % BUCKETS
}

/// White space in header values: space, tab, and the line ends of an obsolete fold (RFC 9112 §5.2).
pub(crate) const fn is_blank(byte: u8) -> bool {
    matches!(byte, b' ' | b'\t' | b'\r' | b'\n')
}

/// A value without the white space around it.
pub(crate) fn trim(mut value: &[u8]) -> &[u8] {
    while let [first, rest @ ..] = value
        && is_blank(*first)
    {
        value = rest;
    }
    while let [rest @ .., last] = value
        && is_blank(*last)
    {
        value = rest;
    }
    value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn header<'a>(name: &'a str, value: &'a str) -> Header<'a> {
        Header { name: name.as_bytes(), value: value.as_bytes() }
    }

    #[test]
    fn values_keep_the_order_of_arrival() {
        let headers = [header("b", "1"), header("a", "2"), header("b", " 3 "), header("ab", "4"), header("b", "")];
        let fields = Fields::new(&headers).unwrap();
        assert_eq!(fields.values(b"b").collect::<Vec<_>>(), [b"1".as_slice(), b" 3 ", b""]);
        assert_eq!(fields.values(b"c").count() + fields.values(b"").count() + fields.values(b"B").count(), 0);
        assert_eq!(fields.one("ab"), Ok(Some(b"4".as_slice())));
        assert_eq!(fields.one("none"), Ok(None));
        assert_eq!(fields.one("b"), Err(Fault::DuplicateHeader { name: "b" }));
    }

    #[test]
    fn names_that_collide_are_still_told_apart() {
        assert_eq!(bucket(b"axb"), bucket(b"ayb"));
        let headers: Vec<_> = (0..HEADERS_MAX).map(|n| header(if n % 2 == 0 { "axb" } else { "ayb" }, "v")).collect();
        let fields = Fields::new(&headers).unwrap();
        assert_eq!((fields.values(b"axb").count(), fields.values(b"azb").count()), (HEADERS_MAX / 2, 0));
    }

    #[test]
    fn limits() {
        for (count, is_good) in [(HEADERS_MAX - 1, true), (HEADERS_MAX, true), (HEADERS_MAX + 1, false)] {
            let headers = vec![header("a", ""); count];
            assert_eq!(Fields::new(&headers).err(), (!is_good).then_some(Fault::TooLarge(Limit::Headers)), "{count}");
        }
        for (bytes, is_good) in
            [(HEADERS_BYTES_MAX - 1, true), (HEADERS_BYTES_MAX, true), (HEADERS_BYTES_MAX + 1, false)]
        {
            let value = "v".repeat(bytes - 4);
            let headers = [header("ab", &value), header("c", "d")];
            assert_eq!(Fields::new(&headers).err(), (!is_good).then_some(Fault::TooLarge(Limit::HeaderBytes)));
        }
    }

    #[test]
    fn trimming() {
        for (value, trimmed) in [("", ""), (" \t\r\n", ""), (" a  b\t", "a  b"), ("a", "a")] {
            assert_eq!(trim(value.as_bytes()), trimmed.as_bytes());
        }
    }
}
