//! The `Authorization` header field, and what it says.

use std::borrow::Cow;

use crate::bytes::{are_all, cut};
use crate::{ALGORITHM, AUTHORIZATION_MAX, Fault, Limit, Missing};

/// The parts of the field, or the parameters that stand for them in a query: all there and not empty. What is in them is
/// looked at later, in AWS's order of checks.
pub(crate) struct Authorization<'a> {
    pub(crate) credential: Cow<'a, str>,
    pub(crate) signed_headers: Cow<'a, str>,
    pub(crate) signature: Cow<'a, str>,
}

/// What a signature is for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Scope<'a> {
    /// All of it, as it is signed: the four elements with slashes between them.
    pub text: &'a str,
    /// The day, eight digits unless the client made something else of it.
    pub date: &'a str,
    /// The region.
    pub region: &'a str,
    /// The service.
    pub service: &'a str,
    /// [`TERMINATOR`](crate::TERMINATOR), unless the client made something else of it.
    pub terminator: &'a str,
}

/// `Credential`: a key id and a scope.
#[derive(Clone)]
pub(crate) struct Credential<'a> {
    text: Cow<'a, str>,
    /// Where the slashes are.
    slashes: [usize; 4],
}

impl<'a> Credential<'a> {
    /// Step 12.
    pub(crate) fn parse(text: Cow<'a, str>) -> Result<Self, Fault> {
        let mut found = memchr::memchr_iter(b'/', text.as_bytes());
        match (found.next(), found.next(), found.next(), found.next(), found.next()) {
            (Some(first), Some(second), Some(third), Some(fourth), None) => {
                Ok(Self { slashes: [first, second, third, fourth], text })
            }
            _ => Err(Fault::CredentialForm { got: text.into() }),
        }
    }

    pub(crate) fn access_key_id(&self) -> &str {
        self.text.get(..self.slashes[0]).unwrap_or_default()
    }

    pub(crate) fn scope(&self) -> Scope<'_> {
        let [first, second, third, fourth] = self.slashes;
        let part = |start: usize, end: usize| self.text.get(start + 1..end).unwrap_or_default();
        Scope {
            text: self.scope_text(),
            date: part(first, second),
            region: part(second, third),
            service: part(third, fourth),
            terminator: part(fourth, self.text.len()),
        }
    }

    /// The scope as one text.
    pub(crate) fn scope_text(&self) -> &str {
        self.text.get(self.slashes[0] + 1..).unwrap_or_default()
    }
}

impl<'a> Authorization<'a> {
    /// Steps 6a to 6d. Parameters are parted by commas with any white space around them and may come in any order;
    /// those of other names are passed over. `has_date` is for the last part of 6d.
    pub(crate) fn parse(field: &'a [u8], has_date: bool) -> Result<Self, Fault> {
        if field.len() > AUTHORIZATION_MAX {
            return Err(Fault::TooLarge(Limit::Authorization));
        }
        let field = text(field)?;
        let parameters = match field.strip_prefix(ALGORITHM) {
            Some(parameters) if parameters.is_empty() || parameters.starts_with([' ', '\t']) => parameters,
            _ => {
                let algorithm = field.split([' ', '\t']).next().unwrap_or_default().into();
                return Err(Fault::UnsupportedAlgorithm { algorithm });
            }
        };

        let (mut credential, mut signed_headers, mut signature) = (None, None, None);
        let mut rest = Some(parameters.trim_ascii()).filter(|parameters| !parameters.is_empty());
        while let Some(parameters) = rest {
            let part;
            (part, rest) = cut(parameters, b',');
            let part = part.trim_ascii();
            let (place, name, value) = if let Some(value) = part.strip_prefix("Credential=") {
                (&mut credential, "Credential", value)
            } else if let Some(value) = part.strip_prefix("SignedHeaders=") {
                (&mut signed_headers, "SignedHeaders", value)
            } else if let Some(value) = part.strip_prefix("Signature=") {
                (&mut signature, "Signature", value)
            } else if part.contains('=') {
                continue;
            } else {
                return Err(Fault::NotKeyValue { part: part.into(), authorization: field.into() });
            };
            if place.replace(value).is_some() {
                return Err(Fault::DuplicateParameter { name });
            }
        }

        let there = |value: Option<&'a str>| value.filter(|value| !value.is_empty());
        match (there(credential), there(signed_headers), there(signature)) {
            (Some(credential), Some(signed_headers), Some(signature)) if has_date => Ok(Self {
                credential: credential.into(),
                signed_headers: signed_headers.into(),
                signature: signature.into(),
            }),
            (credential, signed_headers, signature) => Err(Fault::Missing(Missing {
                credential: credential.is_none(),
                signature: signature.is_none(),
                signed_headers: signed_headers.is_none(),
                date: !has_date,
            })),
        }
    }
}

/// Visible ASCII, spaces and tabs: everything else could end a line of what is signed.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Fault> {
    if !are_all(bytes, |byte| matches!(byte, b' '..=b'~') | (byte == b'\t')) {
        return Err(Fault::NotText);
    }
    core::str::from_utf8(bytes).map_err(|_| Fault::NotText)
}

#[cfg(test)]
mod tests {
    use super::*;

    const SIGNATURE: &str = "9afb5cb4a1e5a18c2eb7ad71f2d1f0e7d5c1f4a6b3928f0d3fd6a1a5bf8a7c0e";

    fn parse(field: &str) -> Result<Authorization<'_>, Fault> {
        Authorization::parse(field.as_bytes(), true)
    }

    fn fault(field: &str) -> Fault {
        parse(field).err().unwrap()
    }

    #[test]
    fn separators_and_orders_of_the_wild() {
        for field in [
            format!("AWS4-HMAC-SHA256 Credential=k/d/r/s/t, SignedHeaders=a;b, Signature={SIGNATURE}"),
            format!("AWS4-HMAC-SHA256 Credential=k/d/r/s/t,SignedHeaders=a;b,Signature={SIGNATURE}"),
            format!("AWS4-HMAC-SHA256\tCredential=k/d/r/s/t,\tSignedHeaders=a;b,\tSignature={SIGNATURE}"),
            format!("AWS4-HMAC-SHA256   Signature={SIGNATURE} ,SignedHeaders=a;b\t , Credential=k/d/r/s/t"),
            format!(
                "AWS4-HMAC-SHA256 Extra=1, SignedHeaders=a;b, Credential=k/d/r/s/t, Extra=2, Signature={SIGNATURE}"
            ),
        ] {
            let parsed = parse(&field).unwrap();
            assert_eq!(
                (&*parsed.credential, &*parsed.signed_headers, &*parsed.signature),
                ("k/d/r/s/t", "a;b", SIGNATURE),
                "{field}"
            );
        }
    }

    #[test]
    fn other_algorithms() {
        for (field, algorithm) in [
            ("", ""),
            ("Bearer abc", "Bearer"),
            ("AWS4-ECDSA-P256-SHA256 Credential=a", "AWS4-ECDSA-P256-SHA256"),
            ("AWS4-HMAC-SHA256-PAYLOAD Credential=a", "AWS4-HMAC-SHA256-PAYLOAD"),
            ("aws4-hmac-sha256 Credential=a", "aws4-hmac-sha256"),
            ("AWS AKID:abc", "AWS"),
        ] {
            assert_eq!(fault(field), Fault::UnsupportedAlgorithm { algorithm: algorithm.into() });
        }
    }

    #[test]
    fn parts_that_are_no_pairs() {
        for (rest, part) in
            [("Credential", "Credential"), ("a=b, , c=d", ""), ("a=b,", ""), ("a=b, Sig nature", "Sig nature")]
        {
            let field = format!("AWS4-HMAC-SHA256 {rest}");
            let trimmed = field.clone().into();
            assert_eq!(fault(&field), Fault::NotKeyValue { part: part.into(), authorization: trimmed }, "{rest}");
        }
    }

    #[test]
    fn parameters_that_are_missing_or_twice() {
        let all = Missing { credential: true, signature: true, signed_headers: true, date: false };
        for (rest, missing) in [
            ("", all),
            (" ", all),
            (" credential=a", all),
            (" Credential=", all),
            (" Credential=a", Missing { credential: false, ..all }),
            (" Credential=a, Signature=b", Missing { credential: false, signature: false, ..all }),
            (" Signature=b, SignedHeaders=c", Missing { credential: true, ..Missing::default() }),
        ] {
            assert_eq!(fault(&format!("AWS4-HMAC-SHA256{rest}")), Fault::Missing(missing), "{rest}");
        }
        let complete = "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=c, Signature=b";
        let no_date = Authorization::parse(complete.as_bytes(), false).err();
        assert_eq!(no_date, Some(Fault::Missing(Missing { date: true, ..Missing::default() })));
        for name in ["Credential", "SignedHeaders", "Signature"] {
            for value in ["a", "other", ""] {
                assert_eq!(fault(&format!("{complete}, {name}={value}")), Fault::DuplicateParameter { name });
            }
        }
    }

    #[test]
    fn bytes_that_are_no_text() {
        for byte in [0, b'\n', 0x1f, 0x7f, 0x80, 0xff] {
            let mut field = b"AWS4-HMAC-SHA256 Credential=a".to_vec();
            field.push(byte);
            assert_eq!(Authorization::parse(&field, true).err(), Some(Fault::NotText), "{byte}");
        }
    }

    #[test]
    fn length() {
        for (length, is_good) in
            [(AUTHORIZATION_MAX - 1, true), (AUTHORIZATION_MAX, true), (AUTHORIZATION_MAX + 1, false)]
        {
            let mut field = "AWS4-HMAC-SHA256 Credential=a, SignedHeaders=c, Signature=".to_owned();
            field.push_str(&"f".repeat(length - field.len()));
            assert_eq!(parse(&field).err(), (!is_good).then_some(Fault::TooLarge(Limit::Authorization)));
        }
    }

    #[test]
    fn credentials() {
        let credential = |text: &'static str| Credential::parse(text.into());
        let good = credential("AKID/20261123/us-east-1/sts/aws4_request").unwrap();
        assert_eq!((good.access_key_id(), good.scope_text()), ("AKID", "20261123/us-east-1/sts/aws4_request"));
        let text = "20261123/us-east-1/sts/aws4_request";
        let scope = Scope { text, date: "20261123", region: "us-east-1", service: "sts", terminator: "aws4_request" };
        assert_eq!(good.scope(), scope);
        assert_eq!(credential("////").unwrap().scope().terminator, "", "five elements, all of them empty");
        for bad in ["AKID", "AKID/20261123/us-east-1/sts", "AK/ID/20261123/us-east-1/sts/aws4_request", "///", "/////"]
        {
            assert_eq!(credential(bad).err(), Some(Fault::CredentialForm { got: bad.into() }));
        }
    }
}
