//! The query of the canonical request.

use std::borrow::Cow;

use crate::presigned::SIGNATURE;
use crate::scratch::{Pair, Scratch};
use crate::{Fault, Limit, QUERY_MAX, QUERY_PAIRS_MAX, hex};

/// The parameters that sign a request in its query. In any case of letters: a spelling that one reader takes for
/// authentication and another for an ordinary parameter is refused like the right one.
const AUTHENTICATION: [&[u8]; 8] = [
    b"x-amz-algorithm",
    b"x-amz-credential",
    b"x-amz-date",
    b"x-amz-expires",
    b"x-amz-region-set",
    b"x-amz-security-token",
    b"x-amz-signature",
    b"x-amz-signedheaders",
];

/// Step 4, and whether the query holds any of the parameters that authenticate.
pub(crate) fn check(query: &[u8]) -> Result<bool, Fault> {
    if query.len() > QUERY_MAX {
        return Err(Fault::TooLarge(Limit::Query));
    }
    let mut authenticates = false;
    for (count, (name, value)) in pairs(query).enumerate() {
        if count >= QUERY_PAIRS_MAX {
            return Err(Fault::TooLarge(Limit::QueryPairs));
        }
        decode(name).chain(decode(value)).try_for_each(|byte| byte.map(|_| ()))?;
        authenticates |= AUTHENTICATION.iter().any(|parameter| resembles(name, parameter));
    }
    Ok(authenticates)
}

/// Appends the query to `scratch.canonical`: names and values decoded and encoded again, sorted by name and then by
/// value. Sorting the joined texts instead would put `Param-3=` before `Param=`.
///
/// `X-Amz-Signature` is left out; where the signature is in a header, a request with it in the query is refused.
pub(crate) fn write(query: &[u8], scratch: &mut Scratch) -> Result<(), Fault> {
    let Scratch { canonical, encoded, pairs: places, .. } = scratch;
    encoded.clear();
    places.clear();
    for (name, value) in pairs(query) {
        if stands_for(name, SIGNATURE) {
            continue;
        }
        let start = encoded.len();
        decode(name).try_for_each(|byte| byte.map(|byte| hex::percent(byte, encoded)))?;
        let middle = encoded.len();
        decode(value).try_for_each(|byte| byte.map(|byte| hex::percent(byte, encoded)))?;
        places.push(Pair { start, middle, end: encoded.len() });
    }
    let at = |start: usize, end: usize| encoded.get(start..end).unwrap_or_default();
    let name_and_value = |pair: &Pair| (at(pair.start, pair.middle), at(pair.middle, pair.end));
    // Equal pairs are equal bytes, so their order does not show; sorting in place needs no memory.
    places.sort_unstable_by(|one, other| name_and_value(one).cmp(&name_and_value(other)));
    for (index, (name, value)) in places.iter().map(name_and_value).enumerate() {
        if index > 0 {
            canonical.push(b'&');
        }
        canonical.extend_from_slice(name);
        canonical.push(b'=');
        canonical.extend_from_slice(value);
    }
    Ok(())
}

/// Names and values as on the wire. Empty segments do not count, a missing value is an empty one.
pub(crate) fn pairs(query: &[u8]) -> impl Iterator<Item = (&[u8], &[u8])> {
    query.split(|byte| *byte == b'&').filter(|segment| !segment.is_empty()).map(|segment| {
        let mut parts = segment.splitn(2, |byte| *byte == b'=');
        (parts.next().unwrap_or_default(), parts.next().unwrap_or_default())
    })
}

/// The bytes that a name or a value stands for; `+` is a space.
fn decode(raw: &[u8]) -> impl Iterator<Item = Result<u8, Fault>> {
    let mut rest = raw.iter().copied();
    core::iter::from_fn(move || {
        Some(match rest.next()? {
            b'+' => Ok(b' '),
            b'%' => match (rest.next(), rest.next()) {
                (Some(high), Some(low)) => hex::value(high, low)
                    .ok_or_else(|| Fault::QueryEscapeIllegal { pattern: Fault::quote(&[high, low]) }),
                _ => Err(Fault::QueryEscapeIncomplete),
            },
            byte => Ok(byte),
        })
    })
}

/// The bytes that a name or a value stands for, copied only if they are others.
pub(crate) fn decoded(raw: &[u8]) -> Result<Cow<'_, [u8]>, Fault> {
    if memchr::memchr2(b'%', b'+', raw).is_none() {
        return Ok(Cow::Borrowed(raw));
    }
    decode(raw).collect::<Result<Vec<u8>, Fault>>().map(Cow::Owned)
}

/// Whether a name of the wire stands for `expected`.
pub(crate) fn stands_for(raw: &[u8], expected: &str) -> bool {
    decode(raw).eq(expected.bytes().map(Ok))
}

/// Whether a name of the wire stands for `expected`, which is lower case, or for the same in other letters.
pub(crate) fn resembles(raw: &[u8], expected: &[u8]) -> bool {
    decode(raw).map(|byte| byte.map(|byte| byte.to_ascii_lowercase())).eq(expected.iter().copied().map(Ok))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn write_to_text(query: &str) -> String {
        let mut scratch = Scratch::new();
        write(query.as_bytes(), &mut scratch).unwrap();
        String::from_utf8(scratch.canonical.clone()).unwrap()
    }

    #[test]
    fn canonical() {
        for (query, expected) in [
            ("", ""),
            ("&&", ""),
            ("x", "x="),
            ("=", "="),
            ("=v", "=v"),
            ("b=2&a=1", "a=1&b=2"),
            ("a=2&a=1&a", "a=&a=1&a=2"),
            ("a=b=c", "a=b%3Dc"),
            ("a=/%2f%2F", "a=%2F%2F%2F"),
            ("a=b+c%20d%2Be", "a=b%20c%20d%2Be"),
            ("%41=%7E~", "A=~~"),
            ("\u{1234}=bar", "%E1%88%B4=bar"),
            ("Param-3=Value3&Param=Value2&%E1%88%B4=Value1", "%E1%88%B4=Value1&Param=Value2&Param-3=Value3"),
            ("Param1=b&Param=a", "Param=a&Param1=b"),
            ("a=%00&a=%ff", "a=%00&a=%FF"),
            ("X-Amz-Signature=1&a", "a="),
            ("X%2DAmz-Signature&x-amz-signature=1", "x-amz-signature=1"),
        ] {
            assert_eq!(write_to_text(query), expected, "{query}");
        }
    }

    #[test]
    fn escapes() {
        let illegal = |pattern: &str| Err(Fault::QueryEscapeIllegal { pattern: pattern.into() });
        for (query, expected) in [
            ("a=%41", Ok(false)),
            ("a=%", Err(Fault::QueryEscapeIncomplete)),
            ("a=%4", Err(Fault::QueryEscapeIncomplete)),
            ("%4=b", Err(Fault::QueryEscapeIncomplete)),
            ("a=%&b=1", Err(Fault::QueryEscapeIncomplete)),
            ("a=%xy", illegal("xy")),
            ("a=%4g", illegal("4g")),
            ("%-1=", illegal("-1")),
            ("a=%+1", illegal("+1")),
        ] {
            assert_eq!(check(query.as_bytes()), expected, "{query}");
        }
    }

    #[test]
    fn parameters_that_authenticate() {
        for query in [
            "X-Amz-Algorithm=AWS4-HMAC-SHA256",
            "a=b&X-Amz-Signature",
            "x-amz-credential=",
            "X-AMZ-DATE=1",
            "X%2DAmz%2dExpires=1",
            "X-Amz-SignedHeaders=host",
            "X-Amz-Security-Token=t",
            "X-Amz-Region-Set=*",
        ] {
            assert_eq!(check(query.as_bytes()), Ok(true), "{query}");
        }
        for query in ["", "Action=X-Amz-Signature", "X-Amz-Signatures=1", "X+Amz-Date=1", "X-Amz-Target=1", "X-Amz-Dat"]
        {
            assert_eq!(check(query.as_bytes()), Ok(false), "{query}");
        }
    }

    #[test]
    fn limits() {
        for (length, is_good) in [(QUERY_MAX - 1, true), (QUERY_MAX, true), (QUERY_MAX + 1, false)] {
            let expected = if is_good { Ok(false) } else { Err(Fault::TooLarge(Limit::Query)) };
            assert_eq!(check(&vec![b'a'; length]), expected);
        }
        for (count, is_good) in [(QUERY_PAIRS_MAX - 1, true), (QUERY_PAIRS_MAX, true), (QUERY_PAIRS_MAX + 1, false)] {
            let expected = if is_good { Ok(false) } else { Err(Fault::TooLarge(Limit::QueryPairs)) };
            assert_eq!(check("a&&".repeat(count).as_bytes()), expected);
        }
    }
}
