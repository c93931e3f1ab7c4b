//! The list of signed headers, and where they are.

use std::borrow::Cow;

use crate::bytes::{are_all, cut};
use crate::fields::Fields;
use crate::{Fault, Header, Limit, SIGNED_HEADERS_MAX};

/// The headers that a signature covers, in the order of the list, each found once and for all.
#[derive(Clone)]
pub(crate) struct Signed<'a> {
    /// Names, sorted, each once, with semicolons between them.
    pub(crate) list: Cow<'a, str>,
    /// Where the first field of each name is; [`NONE`](crate::fields::NONE) if it is absent.
    positions: [u8; SIGNED_HEADERS_MAX],
    count: usize,
    /// A bit for each name that has more than one field.
    repeated: u64,
    pub(crate) has_host: bool,
    pub(crate) has_token: bool,
}

const _: () = assert!(SIGNED_HEADERS_MAX <= u64::BITS as usize, "a bit for each");

impl<'a> Signed<'a> {
    /// Reads the list and finds the headers.
    ///
    /// AWS sorts the names itself. A list that is not sorted comes from no SDK, and refusing it leaves one reading of a
    /// request instead of two.
    #[inline]
    pub(crate) fn read(list: Cow<'a, str>, fields: &Fields<'_>) -> Result<Self, Fault> {
        if !are_all(list.as_bytes(), |byte| matches!(byte, b'!'..=b'~') & !byte.is_ascii_uppercase()) {
            return Err(Fault::SignedHeadersForm);
        }
        let mut positions = [0; SIGNED_HEADERS_MAX];
        let (mut count, mut repeated, mut has_host, mut has_token) = (0, 0, false, false);
        let mut previous = "";
        let mut rest = Some(&*list);
        while let Some(names) = rest {
            let name;
            (name, rest) = cut(names, b';');
            // Also refuses an empty name: nothing sorts before it.
            if !previous.bytes().lt(name.bytes()) {
                return Err(Fault::SignedHeadersForm);
            }
            let place = positions.get_mut(count).ok_or(Fault::TooLarge(Limit::SignedHeaders))?;
            let (position, is_repeated) = fields.find(name.as_bytes());
            *place = position;
            repeated |= u64::from(is_repeated) << count;
            count += 1;
            has_host |= name == "host";
            has_token |= name == "x-amz-security-token";
            previous = name;
        }
        Ok(Self { list, positions, count, repeated, has_host, has_token })
    }

    /// Whether a name is in the list.
    pub(crate) fn covers(&self, name: &[u8]) -> bool {
        self.list.split(';').any(|own| own.as_bytes() == name)
    }

    /// The signed fields of `headers`, the first of each name, with those of the same name that arrived after it.
    pub(crate) fn fields<'h>(
        &self,
        headers: &'h [Header<'h>],
    ) -> impl Iterator<Item = Result<(&'h Header<'h>, &'h [Header<'h>]), Fault>> {
        self.positions.iter().take(self.count).enumerate().map(move |(index, position)| {
            let from_here = headers.get(usize::from(*position)..).unwrap_or_default();
            let Some((first, behind)) = from_here.split_first() else {
                let name = self.list.split(';').nth(index).unwrap_or_default();
                return Err(Fault::SignedHeaderAbsent { name: name.into() });
            };
            Ok((first, if self.repeated >> index & 1 == 1 { behind } else { &[] }))
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(list: &str) -> Result<(bool, bool), Fault> {
        let signed = Signed::read(list.into(), &Fields::new(&[]))?;
        Ok((signed.has_host, signed.has_token))
    }

    #[test]
    fn lists() {
        for (good, expected) in [
            ("host", (true, false)),
            ("content-type;host;x-amz-date;x-amz-security-token", (true, true)),
            ("a;hosts;x-amz-security-tokens;x-host", (false, false)),
        ] {
            assert_eq!(read(good), Ok(expected), "{good}");
        }
        for bad in [
            "host;content-type",
            "host;host",
            "Host",
            "host;X-Amz-Date",
            "host;",
            ";host",
            "a;;host",
            "",
            ";",
            "a b;host",
            "a\t;host",
            "a;\u{e9};host",
        ] {
            assert_eq!(read(bad), Err(Fault::SignedHeadersForm), "{bad}");
        }
    }

    #[test]
    fn limits() {
        for (count, is_good) in
            [(SIGNED_HEADERS_MAX - 1, true), (SIGNED_HEADERS_MAX, true), (SIGNED_HEADERS_MAX + 1, false)]
        {
            let names = (1..count).map(|n| format!(";x{n:03}")).collect::<String>();
            let expected = if is_good { Ok((true, false)) } else { Err(Fault::TooLarge(Limit::SignedHeaders)) };
            assert_eq!(read(&format!("host{names}")), expected);
        }
    }

    #[test]
    fn the_last_of_most_headers_may_be_repeated() {
        let names: Vec<_> = (0..SIGNED_HEADERS_MAX).map(|n| format!("x{n:03}")).collect();
        let mut headers: Vec<_> = names.iter().map(|name| Header { name: name.as_bytes(), value: b"1" }).collect();
        headers.push(Header { name: b"x063", value: b"2" });
        let list = names.join(";");
        let signed = Signed::read(list.as_str().into(), &Fields::new(&headers)).unwrap();
        let found: Vec<_> = signed.fields(&headers).map(|field| field.map(|(_, more)| more.len()).unwrap()).collect();
        assert_eq!((found.len(), found[62], found[63]), (64, 0, 1));
    }

    #[test]
    fn headers_that_are_absent() {
        let headers = [Header { name: b"b", value: b"" }];
        let signed = Signed::read("a;b;c".into(), &Fields::new(&headers)).unwrap();
        let found: Vec<_> = signed.fields(&headers).map(|field| field.map(|(header, _)| header.name)).collect();
        let absent = |name: &str| Err(Fault::SignedHeaderAbsent { name: name.into() });
        assert_eq!(found, [absent("a"), Ok(b"b".as_slice()), absent("c")]);
        assert_eq!([signed.covers(b"a"), signed.covers(b"d"), signed.covers(b"")], [true, false, false]);
    }
}
