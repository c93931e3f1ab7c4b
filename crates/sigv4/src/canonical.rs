//! The canonical request and the string to sign.

use crate::bytes::are_all;
use crate::fields::{is_blank, trim};
use crate::scratch::Scratch;
use crate::signed::Signed;
use crate::{ALGORITHM, Fault, PathMode, Request, SigningKey, hex, hmac, path, query};

/// What of a signature is neither the request nor the key.
pub(crate) struct Frame<'a> {
    /// The signed headers, found in the request.
    pub(crate) signed: &'a Signed<'a>,
    /// `20261123T052900Z`
    pub(crate) timestamp: &'a [u8],
    /// `20261123/us-east-1/sts/aws4_request`
    pub(crate) scope: &'a str,
    /// The hash of the body, in hexadecimal.
    pub(crate) payload: &'a [u8; 64],
}

impl Frame<'_> {
    /// The signature of `request`, in hexadecimal.
    pub(crate) fn signature(
        &self,
        request: &Request<'_>,
        path_mode: PathMode,
        key: &SigningKey,
        scratch: &mut Scratch,
    ) -> Result<[u8; 64], Fault> {
        self.write_canonical_request(request, path_mode, scratch)?;
        let hash = hex::lower(&hmac::hash(&scratch.canonical));
        let out = &mut scratch.string_to_sign;
        out.clear();
        for line in [ALGORITHM.as_bytes(), self.timestamp, self.scope.as_bytes()] {
            out.extend_from_slice(line);
            out.push(b'\n');
        }
        out.extend_from_slice(&hash);
        Ok(key.sign(out))
    }

    fn write_canonical_request(
        &self,
        request: &Request<'_>,
        path_mode: PathMode,
        scratch: &mut Scratch,
    ) -> Result<(), Fault> {
        scratch.canonical.clear();
        scratch.canonical.extend_from_slice(request.method.as_bytes());
        scratch.canonical.push(b'\n');
        path::write(request.path, path_mode, &mut scratch.canonical)?;
        scratch.canonical.push(b'\n');
        if !request.query.is_empty() {
            query::write(request.query, scratch)?;
        }
        let out = &mut scratch.canonical;
        out.push(b'\n');
        for field in self.signed.fields(request.headers) {
            let (first, behind) = field?;
            out.extend_from_slice(first.name);
            out.push(b':');
            write_value(first.value, out);
            for more in behind.iter().filter(|more| more.name == first.name) {
                out.push(b',');
                write_value(more.value, out);
            }
            out.push(b'\n');
        }
        out.push(b'\n');
        out.extend_from_slice(self.signed.list.as_bytes());
        out.push(b'\n');
        out.extend_from_slice(self.payload);
        Ok(())
    }
}

/// A header value without white space around it, each run of white space inside made one space, in quotes as well.
///
/// botocore, the CRT and the JavaScript SDK take tabs for white space here, those for Go and Rust only spaces. No
/// client sends a tab.
fn write_value(value: &[u8], out: &mut Vec<u8>) {
    let value = trim(value);
    // Nearly every value is as it should be, and the token is long.
    if are_all(value, |byte| byte > b' ') || !has_run(value) {
        out.extend_from_slice(value);
        return;
    }
    let mut was_blank = false;
    for byte in value.iter().copied() {
        match is_blank(byte) {
            true if was_blank => {}
            true => out.push(b' '),
            false => out.push(byte),
        }
        was_blank = is_blank(byte);
    }
}

/// Whether a value may have a run of white space in it, or white space other than a space.
fn has_run(value: &[u8]) -> bool {
    memchr::memchr_iter(b' ', value).any(|space| value.get(space + 1) == Some(&b' '))
        || !are_all(value, |byte| byte >= b' ')
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Header;
    use crate::fields::Fields;
    use crate::sha256;

    #[test]
    fn values() {
        for (value, expected) in [
            ("", ""),
            (" ", ""),
            (" a ", "a"),
            ("a  b   c", "a b c"),
            ("\"a   b\"", "\"a b\""),
            ("a\tb", "a b"),
            ("a \t b", "a b"),
            ("value1\r\n  value2\n     value3", "value1 value2 value3"),
            ("a\u{1}b", "a\u{1}b"),
        ] {
            let mut out = Vec::new();
            write_value(value.as_bytes(), &mut out);
            assert_eq!(out, expected.as_bytes(), "{value:?}");
        }
        let mut out = Vec::new();
        write_value(b"\xff  \xfe", &mut out);
        assert_eq!(out, b"\xff \xfe", "bytes, not text");
    }

    #[test]
    fn canonical_request_and_string_to_sign() {
        let header =
            |name: &'static str, value: &'static str| Header { name: name.as_bytes(), value: value.as_bytes() };
        let headers = [header("x", "  2  3"), header("host", "h"), header("unsigned", "u"), header("x", "1")];
        let request = Request { method: "GET", path: b"/a%3A", query: b"b&a=%41", headers: &headers };
        let frame = Frame {
            signed: &Signed::read("host;x".into(), &Fields::new(&headers)).unwrap(),
            timestamp: b"20150830T123600Z",
            scope: "20150830/r/s/aws4_request",
            payload: &hex::lower(&sha256(b"")),
        };
        let key = SigningKey::derive(b"secret", b"20150830", "r", "s");
        let mut scratch = Scratch::new();
        frame.signature(&request, PathMode::Normalized, &key, &mut scratch).unwrap();
        let canonical = "GET\n/a%253A\na=A&b=\nhost:h\nx:2 3,1\n\nhost;x\n\
             e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        assert_eq!(core::str::from_utf8(scratch.canonical_request()), Ok(canonical));
        let string_to_sign = core::str::from_utf8(scratch.string_to_sign()).unwrap();
        let hash = String::from_utf8(hex::lower(&sha256(canonical.as_bytes())).to_vec()).unwrap();
        assert_eq!(string_to_sign, format!("AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/r/s/aws4_request\n{hash}"));
    }

    #[test]
    fn a_signed_header_that_is_absent() {
        let request = Request { method: "GET", path: b"/", query: b"", headers: &[] };
        let signed = Signed::read("host".into(), &Fields::new(&[])).unwrap();
        let frame = Frame { signed: &signed, timestamp: b"", scope: "", payload: &[b'0'; 64] };
        let key = SigningKey::derive(b"", b"", "", "");
        let result = frame.signature(&request, PathMode::Normalized, &key, &mut Scratch::new());
        assert_eq!(result, Err(Fault::SignedHeaderAbsent { name: "host".into() }));
    }
}
