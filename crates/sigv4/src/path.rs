//! The path of the canonical request.

use crate::{Fault, Limit, PATH_MAX, PathMode, hex};

/// Step 1, what of it does not depend on the service: absolute, escapes whole, not too long. Nor may it hold control
/// characters, which no HTTP has there: a line feed would be taken for the end of the line in the canonical request.
pub(crate) fn check(path: &[u8]) -> Result<(), Fault> {
    if path.len() > PATH_MAX {
        return Err(Fault::TooLarge(Limit::Path));
    }
    if !(path.is_empty() || path.starts_with(b"/")) {
        return Err(Fault::Path);
    }
    if path.iter().fold(false, |any, byte| any | byte.is_ascii_control()) {
        return Err(Fault::Path);
    }
    let mut rest = path;
    while let Some(percent) = rest.iter().position(|byte| *byte == b'%') {
        match rest.get(percent + 1..) {
            Some([high, low, behind @ ..]) if hex::value(*high, *low).is_some() => rest = behind,
            _ => return Err(Fault::Path),
        }
    }
    Ok(())
}

/// Appends the path. An empty one is `/`.
///
/// # Errors
/// A path to be normalised that leads above the root.
pub(crate) fn write(path: &[u8], mode: PathMode, out: &mut Vec<u8>) -> Result<(), Fault> {
    match mode {
        PathMode::Normalized => write_normalized(path, encode_again, out),
        PathMode::NormalizedOnce => write_normalized(path, encode_once, out),
        PathMode::AsIs => {
            out.extend_from_slice(if path.is_empty() { b"/" } else { path });
            Ok(())
        }
    }
}

/// Every byte but the unreserved ones encoded, the percent signs of escapes as well.
fn encode_again(segment: &[u8], out: &mut Vec<u8>) {
    segment.iter().for_each(|byte| hex::percent(*byte, out));
}

/// Escapes undone, then every byte but the unreserved ones encoded.
fn encode_once(segment: &[u8], out: &mut Vec<u8>) {
    let mut rest = segment;
    while let [byte, behind @ ..] = rest {
        // `check` saw that two digits are behind every percent sign.
        let escaped = match behind {
            [high, low, ..] if *byte == b'%' => hex::value(*high, *low),
            _ => None,
        };
        hex::percent(escaped.unwrap_or(*byte), out);
        rest = if escaped.is_some() { behind.get(2..).unwrap_or_default() } else { behind };
    }
}

/// Without `.`, `..` and empty segments (RFC 3986 §5.2.4, and `//` is `/`), each segment encoded by `encode`. A slash at
/// the end stays; a dot segment at the end leaves one.
fn write_normalized(path: &[u8], encode: fn(&[u8], &mut Vec<u8>), out: &mut Vec<u8>) -> Result<(), Fault> {
    let root = out.len();
    out.push(b'/');
    // That of every call to a service with one address.
    if path == b"/" {
        return Ok(());
    }
    let mut segments = path.split(|byte| *byte == b'/').peekable();
    while let Some(segment) = segments.next() {
        match segment {
            b"" | b"." => {}
            b".." => {
                // `out` ends with the slash behind the segment to leave; one more is in front of it.
                let inside = out.get(root..out.len() - 1).unwrap_or_default();
                let parent = inside.iter().rposition(|byte| *byte == b'/').ok_or(Fault::Path)?;
                out.truncate(root + parent + 1);
            }
            _ => {
                encode(segment, out);
                if segments.peek().is_some() {
                    out.push(b'/');
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_to_text(path: &str, mode: PathMode) -> Result<String, Fault> {
        let mut out = b"POST\n".to_vec();
        write(path.as_bytes(), mode, &mut out)?;
        Ok(String::from_utf8(out.split_off(5)).unwrap())
    }

    #[test]
    fn normalized() {
        for (path, expected) in [
            ("", "/"),
            ("/", "/"),
            ("//", "/"),
            ("/./", "/"),
            ("/.", "/"),
            ("/./example", "/example"),
            ("//example//", "/example/"),
            ("/a/b/c/./../../g", "/a/g"),
            ("/example1/example2/../..", "/"),
            ("/example/..", "/"),
            ("/a/b/..", "/a/"),
            ("/a/b/../", "/a/"),
            ("/a/b/.", "/a/b/"),
            ("/a/..b/...", "/a/..b/..."),
            ("/PutEC2HostKeys/", "/PutEC2HostKeys/"),
            ("/sts/", "/sts/"),
            ("/arn%3Aaws/a%20b", "/arn%253Aaws/a%2520b"),
            ("/a b", "/a%20b"),
            ("/-._~aZ0", "/-._~aZ0"),
            ("/\u{1234}", "/%E1%88%B4"),
        ] {
            assert_eq!(write_to_text(path, PathMode::Normalized).as_deref(), Ok(expected), "{path}");
        }
    }

    #[test]
    fn normalized_once() {
        for (path, expected) in [
            ("", "/"),
            ("/a/./b//..", "/a/"),
            ("/a b", "/a%20b"),
            ("/a%20b", "/a%20b"),
            ("/%61%7e%2f%2F", "/a~%2F%2F"),
            ("/%252f", "/%252f"),
            ("/\u{1234}", "/%E1%88%B4"),
            ("/%e1%88%b4", "/%E1%88%B4"),
        ] {
            assert_eq!(write_to_text(path, PathMode::NormalizedOnce).as_deref(), Ok(expected), "{path}");
        }
        assert_eq!(write_to_text("/..", PathMode::NormalizedOnce), Err(Fault::Path));
    }

    #[test]
    fn above_the_root() {
        for path in ["/..", "/../a", "/a/../..", "/a/../../b", "//.."] {
            assert_eq!(write_to_text(path, PathMode::Normalized), Err(Fault::Path), "{path}");
        }
    }

    #[test]
    fn as_is() {
        for (path, expected) in [("", "/"), ("/a//b/../%3a%20", "/a//b/../%3a%20")] {
            assert_eq!(write_to_text(path, PathMode::AsIs).as_deref(), Ok(expected));
        }
    }

    #[test]
    fn form() {
        for good in ["", "/", "/%41%2f", "/a/../../b", "/\u{e9}"] {
            assert_eq!(check(good.as_bytes()), Ok(()), "{good}");
        }
        for bad in ["a", "*", "http://h/", "/%", "/%4", "/%4g", "/%%41", "/%41%", "/a\nb", "/\t", "/\0", "/\u{7f}"] {
            assert_eq!(check(bad.as_bytes()), Err(Fault::Path), "{bad}");
        }
        for (length, is_good) in [(PATH_MAX - 1, true), (PATH_MAX, true), (PATH_MAX + 1, false)] {
            let expected = if is_good { Ok(()) } else { Err(Fault::TooLarge(Limit::Path)) };
            assert_eq!(check(&vec![b'/'; length]), expected);
        }
    }
}
