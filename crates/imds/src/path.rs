//! Request paths: what is before the query, with slashes folded.

use std::borrow::Cow;

/// The path of a request target.
pub(crate) fn without_query(target: &[u8]) -> &[u8] {
    target.split(|byte| *byte == b'?').next().unwrap_or_default()
}

/// The path without its first slash, without slashes at its end, and with each run of slashes inside as one.
/// `None` for a target that does not start with a slash.
///
/// Clients that work on EC2 ask for leaves with a slash at the end (the Instance Connect scripts, botocore) and for paths
/// with two slashes inside (Bottlerocket, which appends `/` to entries that end in one).
pub(crate) fn folded(path: &[u8]) -> Option<Cow<'_, [u8]>> {
    if !path.starts_with(b"/") {
        return None;
    }
    let trimmed = trim_slashes(path);
    if !trimmed.windows(2).any(|pair| pair == b"//") {
        return Some(Cow::Borrowed(trimmed));
    }
    let mut folded = trimmed.to_vec();
    folded.dedup_by(|a, b| *a == b'/' && *b == b'/');
    Some(Cow::Owned(folded))
}

fn trim_slashes(mut path: &[u8]) -> &[u8] {
    while let [b'/', rest @ ..] | [rest @ .., b'/'] = path {
        path = rest;
    }
    path
}

/// The first segment and what follows its slash.
pub(crate) fn split_first(path: &[u8]) -> (&[u8], &[u8]) {
    match path.iter().position(|byte| *byte == b'/') {
        Some(at) => (path.get(..at).unwrap_or_default(), path.get(at + 1..).unwrap_or_default()),
        None => (path, b""),
    }
}

/// Whether `segment`, with or without percent-encoding, spells `name`.
///
/// cloud-init percent-encodes what it found in a listing, `@ = + ,` of tag keys included, before it asks for it.
pub(crate) fn spells(mut segment: &[u8], name: &str) -> bool {
    for expected in name.bytes() {
        let (byte, rest) = match segment {
            [b'%', high, low, rest @ ..] => match (hex(*high), hex(*low)) {
                (Some(high), Some(low)) => (high << 4 | low, rest),
                _ => return false,
            },
            [byte, rest @ ..] => (*byte, rest),
            [] => return false,
        };
        if byte != expected {
            return false;
        }
        segment = rest;
    }
    segment.is_empty()
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
    fn folds_slashes() {
        for (path, expected) in [
            ("/", ""),
            ("//", ""),
            ("/a", "a"),
            ("/a/", "a"),
            ("/a//", "a"),
            ("//a/b", "a/b"),
            ("/a//b", "a/b"),
            ("/a///b//c/", "a/b/c"),
            ("/a/./b", "a/./b"),
        ] {
            assert_eq!(folded(path.as_bytes()).as_deref(), Some(expected.as_bytes()), "{path}");
        }
        for path in ["", "a", "*", "http://169.254.169.254/latest"] {
            assert_eq!(folded(path.as_bytes()), None, "{path}");
        }
        assert!(matches!(folded(b"/latest/meta-data/"), Some(Cow::Borrowed(_))), "the usual path is not copied");
    }

    #[test]
    fn drops_the_query() {
        assert_eq!(without_query(b"/a?b?c"), b"/a");
        assert_eq!(without_query(b"/a"), b"/a");
        assert_eq!(without_query(b"?"), b"");
    }

    #[test]
    fn spells_with_and_without_percent() {
        for (segment, name, expected) in [
            ("a@b", "a@b", true),
            ("a%40b", "a@b", true),
            ("%61%3D%2b", "a=+", true),
            ("a%4", "a@", false),
            ("a%zz", "a@", false),
            ("a%", "a@", false),
            ("a", "ab", false),
            ("ab", "a", false),
            ("", "", true),
        ] {
            assert_eq!(spells(segment.as_bytes(), name), expected, "{segment} {name}");
        }
    }
}
