//! Header fields, found by name without a look at all of them each time.

use crate::{Fault, HEADERS_BYTES_MAX, HEADERS_MAX, Header, Limit};

/// Marks the end of a chain, and a name that is not there; more than any position.
pub(crate) const NONE: u8 = u8::MAX;
const BUCKETS: usize = 64;
const _: () = assert!(HEADERS_MAX <= NONE as usize, "positions are bytes");

/// The header fields of one request, hashed by name into chains that keep the order of arrival.
///
/// A client that makes all names collide gains what it would have anyway, without the chains: a look at every field.
pub(crate) struct Fields<'a> {
    headers: &'a [Header<'a>],
    /// The fields that decide who is calling.
    pub(crate) deciding: Deciding<'a>,
    heads: [u8; BUCKETS],
    next: [u8; HEADERS_MAX],
}

/// The values of the header fields that decide who is calling, as on the wire.
#[derive(Clone, Copy, Default)]
pub(crate) struct Deciding<'a> {
    pub(crate) authorization: Field<'a>,
    pub(crate) host: Field<'a>,
    pub(crate) date: Field<'a>,
    pub(crate) amz_date: Field<'a>,
    pub(crate) token: Field<'a>,
    pub(crate) content_sha256: Field<'a>,
}

/// A header field that must not be there twice.
#[derive(Clone, Copy, Default)]
pub(crate) struct Field<'a> {
    value: Option<&'a [u8]>,
    is_repeated: bool,
}

/// Whether there are few enough fields, and little enough in them.
pub(crate) fn check(headers: &[Header<'_>]) -> Result<(), Fault> {
    if headers.len() > HEADERS_MAX {
        return Err(Fault::TooLarge(Limit::Headers));
    }
    let length = |header: &Header<'_>| header.name.len().saturating_add(header.value.len());
    if headers.iter().map(length).fold(0, usize::saturating_add) > HEADERS_BYTES_MAX {
        return Err(Fault::TooLarge(Limit::HeaderBytes));
    }
    Ok(())
}

impl<'a> Fields<'a> {
    /// Of header fields that [`check`] let pass. It cannot fail, so that hundreds of bytes are written where they stay.
    #[inline]
    pub(crate) fn new(headers: &'a [Header<'a>]) -> Self {
        let deciding = Deciding::default();
        let mut fields = Self { headers, deciding, heads: [NONE; BUCKETS], next: [NONE; HEADERS_MAX] };
        // From the back, so that each chain begins with what arrived first.
        for (position, header) in headers.iter().enumerate().rev() {
            if let (Some(head), Some(next)) = (fields.heads.get_mut(bucket(header.name)), fields.next.get_mut(position))
            {
                *next = core::mem::replace(head, u8::try_from(position).unwrap_or(NONE));
            }
            fields.deciding.note(header);
        }
        fields
    }

    /// Where the first field of a name is, or [`NONE`], and whether there are more of them.
    pub(crate) fn find(&self, name: &[u8]) -> (u8, bool) {
        let first = self.match_from(self.heads.get(bucket(name)).copied().unwrap_or(NONE), name);
        let second = self.match_from(self.behind(first), name);
        (first, second != NONE)
    }

    /// The first position in a chain, from `position` on, that has this name.
    fn match_from(&self, mut position: u8, name: &[u8]) -> u8 {
        while let Some(header) = self.headers.get(usize::from(position)) {
            if header.name == name {
                return position;
            }
            position = self.behind(position);
        }
        NONE
    }

    fn behind(&self, position: u8) -> u8 {
        self.next.get(usize::from(position)).copied().unwrap_or(NONE)
    }
}

impl<'a> Deciding<'a> {
    #[inline]
    fn note(&mut self, header: &Header<'a>) {
        let field = match header.name {
            b"authorization" => &mut self.authorization,
            b"host" => &mut self.host,
            b"date" => &mut self.date,
            b"x-amz-date" => &mut self.amz_date,
            b"x-amz-security-token" => &mut self.token,
            b"x-amz-content-sha256" => &mut self.content_sha256,
            _ => return,
        };
        field.is_repeated = field.value.replace(header.value).is_some();
    }

    /// What counts wherever the signature is: one host, and at most one claim about the body, which is returned.
    #[inline]
    pub(crate) fn shared(&self) -> Result<Option<&'a [u8]>, Fault> {
        self.host.once("host")?;
        self.content_sha256.once("x-amz-content-sha256")
    }
}

impl<'a> Field<'a> {
    /// The value without the white space around it, if the field is there. `name` is for the fault.
    pub(crate) fn once(&self, name: &'static str) -> Result<Option<&'a [u8]>, Fault> {
        if self.is_repeated { Err(Fault::DuplicateHeader { name }) } else { Ok(self.value.map(trim)) }
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
    fn the_first_of_a_name_and_whether_there_are_more() {
        let headers = [header("b", "1"), header("a", "2"), header("ab", "3"), header("b", "4"), header("b", "")];
        let fields = Fields::new(&headers);
        for (name, expected) in
            [("b", (0, true)), ("a", (1, false)), ("ab", (2, false)), ("c", (NONE, false)), ("", (NONE, false))]
        {
            assert_eq!(fields.find(name.as_bytes()), expected, "{name}");
        }
        assert_eq!(Fields::new(&[]).find(b"a"), (NONE, false));
    }

    #[test]
    fn names_that_collide_are_still_told_apart() {
        assert_eq!(bucket(b"axb"), bucket(b"ayb"));
        let headers: Vec<_> = (0..HEADERS_MAX).map(|n| header(if n == 127 { "ayb" } else { "axb" }, "v")).collect();
        let fields = Fields::new(&headers);
        assert_eq!(
            [fields.find(b"axb"), fields.find(b"ayb"), fields.find(b"azb")],
            [(0, true), (127, false), (NONE, false)]
        );
    }

    #[test]
    fn deciding_fields() {
        let headers = [header("host", " h "), header("date", "1"), header("Host", "x"), header("x-amz-date", "")];
        let deciding = Fields::new(&headers).deciding;
        assert_eq!(deciding.host.once("host"), Ok(Some(b"h".as_slice())));
        assert_eq!(deciding.date.once("date"), Ok(Some(b"1".as_slice())));
        assert_eq!(deciding.amz_date.once("x-amz-date"), Ok(Some(b"".as_slice())));
        assert_eq!(deciding.token.once("x-amz-security-token"), Ok(None));
        for count in 2..4 {
            let headers = vec![header("host", "h"); count];
            let host = Fields::new(&headers).deciding.host.once("host");
            assert_eq!(host, Err(Fault::DuplicateHeader { name: "host" }));
        }
    }

    #[test]
    fn limits() {
        for (count, is_good) in [(HEADERS_MAX - 1, true), (HEADERS_MAX, true), (HEADERS_MAX + 1, false)] {
            let headers = vec![header("a", ""); count];
            assert_eq!(check(&headers).err(), (!is_good).then_some(Fault::TooLarge(Limit::Headers)), "{count}");
        }
        for (bytes, is_good) in
            [(HEADERS_BYTES_MAX - 1, true), (HEADERS_BYTES_MAX, true), (HEADERS_BYTES_MAX + 1, false)]
        {
            let value = "v".repeat(bytes - 4);
            let headers = [header("ab", &value), header("c", "d")];
            assert_eq!(check(&headers).err(), (!is_good).then_some(Fault::TooLarge(Limit::HeaderBytes)));
        }
    }

    #[test]
    fn trimming() {
        for (value, trimmed) in [("", ""), (" \t\r\n", ""), (" a  b\t", "a  b"), ("a", "a")] {
            assert_eq!(trim(value.as_bytes()), trimmed.as_bytes());
        }
    }
}
