//! The texts of one instance in one piece: each behind its length.

use std::collections::BTreeMap;

/// Tags in one piece, ordered by key.
#[derive(Clone, PartialEq, Eq, Default)]
pub struct PackedTags(Vec<u8>);

impl core::fmt::Debug for PackedTags {
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_map().entries(pairs(&self.0)).finish()
    }
}

impl PackedTags {
    /// None.
    #[must_use]
    pub const fn new() -> Self {
        Self(Vec::new())
    }

    /// None any more; the memory is kept.
    pub fn clear(&mut self) {
        self.0.clear();
    }

    /// Adds one, in any order. Of two with the same key the later one stays.
    pub fn insert(&mut self, key: &str, value: &str) {
        if pairs(&self.0).last().is_none_or(|(last, _)| last < key) {
            put(&mut self.0, key);
            put(&mut self.0, value);
            return;
        }
        let mut sorted: BTreeMap<&str, &str> = pairs(&self.0).collect();
        sorted.insert(key, value);
        let sorted = sorted.into_iter().collect();
        *self = sorted;
    }

    /// Adds all of `others`.
    pub fn extend(&mut self, others: &Self) {
        for (key, value) in pairs(&others.0) {
            self.insert(key, value);
        }
    }
}

impl<'a, K: AsRef<str> + ?Sized + 'a, V: AsRef<str> + ?Sized + 'a> FromIterator<(&'a K, &'a V)> for PackedTags {
    fn from_iter<I: IntoIterator<Item = (&'a K, &'a V)>>(tags: I) -> Self {
        let mut packed = Self::new();
        for (key, value) in tags {
            packed.insert(key.as_ref(), value.as_ref());
        }
        packed
    }
}

/// The client token, if there is one, and the tags.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Texts(Box<[u8]>);

/// Before the client token, if there is one.
const TOKEN: u8 = 1;
const NO_TOKEN: u8 = 0;

impl Texts {
    pub(super) fn new(client_token: Option<&str>, PackedTags(tags): &PackedTags) -> Self {
        if client_token.is_none() && tags.is_empty() {
            return Self(Box::default());
        }
        let token_bytes = client_token.map_or(0, |token| length_bytes(token.len()) + token.len());
        let mut bytes = Vec::with_capacity(1 + token_bytes + tags.len());
        bytes.push(if client_token.is_some() { TOKEN } else { NO_TOKEN });
        if let Some(token) = client_token {
            put(&mut bytes, token);
        }
        bytes.extend_from_slice(tags);
        Self(bytes.into_boxed_slice())
    }

    pub(super) fn client_token(&self) -> Option<&str> {
        self.split().0
    }

    pub(super) fn tags(&self) -> impl Iterator<Item = (&str, &str)> {
        pairs(self.split().1)
    }

    fn split(&self) -> (Option<&str>, &[u8]) {
        match self.0.split_first() {
            Some((&TOKEN, rest)) => take(rest).map_or((None, &[]), |(token, rest)| (Some(token), rest)),
            Some((_, rest)) => (None, rest),
            None => (None, &[]),
        }
    }
}

/// Bytes of seven bits, the lowest first; the last one has its eighth bit clear.
fn put(bytes: &mut Vec<u8>, text: &str) {
    let mut length = text.len();
    while let (low, rest @ 1..) = (length & 0x7f, length >> 7) {
        bytes.push(u8::try_from(low).unwrap_or_default() | 0x80);
        length = rest;
    }
    bytes.push(u8::try_from(length).unwrap_or_default());
    bytes.extend_from_slice(text.as_bytes());
}

fn length_bytes(length: usize) -> usize {
    let bits = usize::BITS - length.leading_zeros();
    bits.div_ceil(7).max(1) as usize
}

/// The first text, and what comes behind it. `None`: there is nothing that [`put`] has written.
fn take(bytes: &[u8]) -> Option<(&str, &[u8])> {
    let mut length = 0;
    let mut rest = bytes;
    for shift in (0..usize::BITS).step_by(7) {
        let (byte, behind) = rest.split_first()?;
        rest = behind;
        length |= usize::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            let (text, rest) = rest.split_at_checked(length)?;
            return Some((core::str::from_utf8(text).ok()?, rest));
        }
    }
    None
}

fn pairs(bytes: &[u8]) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = bytes;
    core::iter::from_fn(move || {
        let (key, behind) = take(rest)?;
        let (value, behind) = take(behind)?;
        rest = behind;
        Some((key, value))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_around_each_length_of_a_length_come_back() {
        for length in [0, 1, 127, 128, 129, 16_383, 16_384, 16_385, 70_000] {
            let text = "x".repeat(length);
            let mut bytes = Vec::new();
            put(&mut bytes, &text);
            assert_eq!(bytes.len(), length_bytes(length) + length, "{length}");
            bytes.push(9);
            assert_eq!(take(&bytes), Some((text.as_str(), &[9][..])), "{length}");
        }
        for broken in [&[][..], &[1], &[0x80], &[0x80, 1], &[1, 0xff], &[0xff; 12]] {
            assert_eq!(take(broken), None, "{broken:?}");
        }
    }

    #[test]
    fn tags_are_in_order_whatever_order_they_come_in() {
        let mut tags = PackedTags::new();
        for (key, value) in [("b", "1"), ("c", "2"), ("a", "3"), ("b", "4"), ("", "5")] {
            tags.insert(key, value);
        }
        let sorted = [("", "5"), ("a", "3"), ("b", "4"), ("c", "2")];
        assert_eq!(pairs(&tags.0).collect::<Vec<_>>(), sorted);
        let mut others = PackedTags::new();
        others.insert("bb", "6");
        others.extend(&tags);
        assert_eq!(pairs(&others.0).map(|(key, _)| key).collect::<Vec<_>>(), ["", "a", "b", "bb", "c"]);
    }

    #[test]
    fn no_token_is_not_an_empty_one() {
        let tags: PackedTags = [(&"k", &"v")].into_iter().collect();
        for (token, tags) in
            [(None, &PackedTags::new()), (Some(""), &PackedTags::new()), (None, &tags), (Some("t"), &tags)]
        {
            let texts = Texts::new(token, tags);
            assert_eq!(texts.client_token(), token);
            assert_eq!(texts.tags().collect::<Vec<_>>(), pairs(&tags.0).collect::<Vec<_>>());
        }
    }
}
