//! Authentication in the query.

use std::borrow::Cow;

use crate::authorization::{Authorization, text};
use crate::query::{decoded, pairs, resembles, stands_for};
use crate::{ALGORITHM, AUTHORIZATION_MAX, Fault, Limit, Missing};

const CREDENTIAL: &str = "X-Amz-Credential";
const DATE: &str = "X-Amz-Date";
const EXPIRES: &str = "X-Amz-Expires";
/// The one parameter that is no part of what is signed.
pub(crate) const SIGNATURE: &str = "X-Amz-Signature";
const SIGNED_HEADERS: &str = "X-Amz-SignedHeaders";
const TOKEN: &str = "X-Amz-Security-Token";
/// The parameter that makes a request one that is signed in its query.
const QUERY_ALGORITHM: &str = "X-Amz-Algorithm";

/// The parameters that authenticate, in an order of our own: where each is in [`Found`].
const NAMES: [&str; 7] = [QUERY_ALGORITHM, CREDENTIAL, DATE, EXPIRES, SIGNATURE, SIGNED_HEADERS, TOKEN];
/// The same in lower case.
const LOWER: [&[u8]; 7] = [
    b"x-amz-algorithm",
    b"x-amz-credential",
    b"x-amz-date",
    b"x-amz-expires",
    b"x-amz-signature",
    b"x-amz-signedheaders",
    b"x-amz-security-token",
];

/// The values of [`NAMES`], as on the wire.
type Found<'a> = [Option<&'a [u8]>; 7];

/// What a query says about who signed it, its values decoded.
pub(crate) struct Presigned<'a> {
    pub(crate) authorization: Authorization<'a>,
    pub(crate) date: Cow<'a, [u8]>,
    pub(crate) expires: Option<u64>,
    pub(crate) token: Option<Cow<'a, [u8]>>,
}

impl<'a> Presigned<'a> {
    /// Steps 5 and 7a to 7d for a request without an `Authorization` header field.
    pub(crate) fn parse(query: &'a [u8]) -> Result<Self, Fault> {
        let (mut found, mut twice, mut misspelled) = (Found::default(), None, None);
        for (raw_name, value) in pairs(query) {
            for ((place, name), lower) in found.iter_mut().zip(NAMES).zip(LOWER) {
                if !resembles(raw_name, lower) {
                    continue;
                }
                if !stands_for(raw_name, name) {
                    misspelled = misspelled.or(Some(name));
                } else if place.replace(value).is_some() {
                    twice = twice.or(Some(name));
                }
            }
        }
        let [algorithm, credential, date, expires, signature, signed_headers, token] = found;
        if !algorithm.is_some_and(|raw| stands_for(raw, ALGORITHM)) {
            return Err(Fault::MissingAuthentication);
        }
        if let Some(name) = misspelled {
            return Err(Fault::MisspelledInQuery { name });
        }
        if let Some(name) = twice {
            return Err(Fault::DuplicateInQuery { name });
        }

        let there = |raw: Option<&'a [u8]>| raw.filter(|raw| !raw.is_empty());
        let (Some(credential), Some(signature), Some(signed_headers), Some(date)) =
            (there(credential), there(signature), there(signed_headers), there(date))
        else {
            return Err(Fault::MissingInQuery(Missing {
                credential: there(credential).is_none(),
                signature: there(signature).is_none(),
                signed_headers: there(signed_headers).is_none(),
                date: there(date).is_none(),
            }));
        };
        Ok(Self {
            authorization: Authorization {
                credential: decoded_text(credential)?,
                signed_headers: decoded_text(signed_headers)?,
                signature: decoded_text(signature)?,
            },
            date: decoded(date)?,
            expires: expires.map(seconds).transpose()?,
            token: token.map(decoded).transpose()?,
        })
    }
}

/// The text that a value stands for.
fn decoded_text(raw: &[u8]) -> Result<Cow<'_, str>, Fault> {
    let value = decoded(raw)?;
    if value.len() > AUTHORIZATION_MAX {
        return Err(Fault::TooLarge(Limit::Authorization));
    }
    match value {
        Cow::Borrowed(bytes) => text(bytes).map(Cow::Borrowed),
        Cow::Owned(bytes) => text(&bytes).map(|text| Cow::Owned(text.to_owned())),
    }
}

/// Digits and nothing else. Those of a number that is too large for us are one all the same.
fn seconds(raw: &[u8]) -> Result<u64, Fault> {
    let value = decoded(raw)?;
    if value.is_empty() || !value.iter().all(u8::is_ascii_digit) {
        return Err(Fault::ExpiresForm { got: Fault::quote(&value) });
    }
    Ok(value.iter().fold(0, |sum: u64, digit| sum.saturating_mul(10).saturating_add(u64::from(digit - b'0'))))
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUERY: &str = "Action=GetCallerIdentity&X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Credential=k%2Fd%2fr/s%2Ft\
        &X-Amz-Date=20261123T052900Z&X-Amz-Expires=60&X-Amz-SignedHeaders=host%3Bx-k8s-aws-id\
        &X-Amz-Signature=abc&X-Amz-Security-Token=a%2Bb/c%3D%3D";

    fn fault(query: &str) -> Fault {
        Presigned::parse(query.as_bytes()).err().unwrap()
    }

    #[test]
    fn values_are_decoded() {
        let presigned = Presigned::parse(QUERY.as_bytes()).unwrap();
        let Authorization { credential, signed_headers, signature } = presigned.authorization;
        assert_eq!((&*credential, &*signed_headers, &*signature), ("k/d/r/s/t", "host;x-k8s-aws-id", "abc"));
        assert!(matches!(signature, Cow::Borrowed(_)), "what needs no decoding is not copied");
        assert_eq!((&*presigned.date, presigned.expires), (b"20261123T052900Z".as_slice(), Some(60)));
        assert_eq!(presigned.token.as_deref(), Some(b"a+b/c==".as_slice()));
    }

    #[test]
    fn names_are_decoded() {
        let query = QUERY.replace("X-Amz-Cred", "X%2DAmz-%43red");
        assert_eq!(&*Presigned::parse(query.as_bytes()).unwrap().authorization.credential, "k/d/r/s/t");
    }

    #[test]
    fn not_signed_or_by_another_algorithm() {
        for query in [
            "",
            "Action=GetCallerIdentity",
            "X-Amz-Signature=abc&X-Amz-Credential=a",
            "X-Amz-Algorithm=",
            "X-Amz-Algorithm",
            &QUERY.replace("X-Amz-Algorithm", "x-amz-algorithm"),
            &QUERY.replace("HMAC-SHA256", "ECDSA-P256-SHA256"),
            &QUERY.replace("HMAC-SHA256", "hmac-sha256"),
        ] {
            assert_eq!(fault(query), Fault::MissingAuthentication, "{query}");
        }
    }

    #[test]
    fn duplicates_and_near_misses() {
        for name in NAMES {
            for value in ["=a", "=", ""] {
                // The algorithm itself is looked at before duplicates are, and the last one counts for that.
                let expected = match name {
                    QUERY_ALGORITHM => Fault::MissingAuthentication,
                    _ => Fault::DuplicateInQuery { name },
                };
                assert_eq!(fault(&format!("{QUERY}&{name}{value}")), expected, "{name}{value}");
            }
            for spelled in [name.to_ascii_lowercase(), name.to_ascii_uppercase(), name.replace("X-A", "%78-A")] {
                assert_eq!(fault(&format!("{QUERY}&{spelled}=a")), Fault::MisspelledInQuery { name }, "{spelled}");
                assert_eq!(fault(&format!("{spelled}=a&{QUERY}")), Fault::MisspelledInQuery { name }, "{spelled}");
            }
        }
        let twice = fault(&format!("{QUERY}&X-Amz-Algorithm=AWS4-HMAC-SHA256"));
        assert_eq!(twice, Fault::DuplicateInQuery { name: "X-Amz-Algorithm" });
    }

    #[test]
    fn what_is_missing() {
        let algorithm = "X-Amz-Algorithm=AWS4-HMAC-SHA256";
        let all = Missing { credential: true, signature: true, signed_headers: true, date: true };
        for (rest, missing) in [
            ("", all),
            ("&X-Amz-Credential=&X-Amz-Signature", all),
            ("&X-Amz-Credential=a", Missing { credential: false, ..all }),
            ("&X-Amz-Signature=a&X-Amz-Date=a", Missing { signature: false, date: false, ..all }),
            ("&X-Amz-SignedHeaders=a&X-Amz-Expires=x", Missing { signed_headers: false, ..all }),
        ] {
            assert_eq!(fault(&format!("{algorithm}{rest}")), Fault::MissingInQuery(missing), "{rest}");
        }
    }

    #[test]
    fn how_long() {
        let expires = |value: &str| {
            let query = QUERY.replace("Expires=60", &format!("Expires={value}"));
            Presigned::parse(query.as_bytes()).map(|presigned| presigned.expires)
        };
        for (good, expected) in [
            ("0", 0),
            ("00060", 60),
            ("%36%30", 60),
            ("604800", 604_800),
            ("604801", 604_801),
            ("99999999999999999999999", u64::MAX),
        ] {
            assert_eq!(expires(good), Ok(Some(expected)), "{good}");
        }
        for (bad, got) in [("", ""), ("-1", "-1"), ("%2B1", "+1"), ("60.0", "60.0"), ("60s", "60s"), ("+60", " 60")] {
            assert_eq!(expires(bad), Err(Fault::ExpiresForm { got: got.into() }), "{bad}");
        }
        let without = QUERY.replace("&X-Amz-Expires=60", "");
        assert_eq!(Presigned::parse(without.as_bytes()).unwrap().expires, None);
    }

    #[test]
    fn bytes_that_are_no_text() {
        for name in [CREDENTIAL, SIGNED_HEADERS, SIGNATURE] {
            for escape in ["%00", "%0A", "%0a", "%7F", "%C3%A9", "\u{e9}"] {
                let query = QUERY.replace(&format!("{name}="), &format!("{name}={escape}"));
                assert_eq!(fault(&query), Fault::NotText, "{name} {escape}");
            }
        }
    }

    #[test]
    fn lengths() {
        for (length, is_good) in
            [(AUTHORIZATION_MAX - 1, true), (AUTHORIZATION_MAX, true), (AUTHORIZATION_MAX + 1, false)]
        {
            let query = QUERY.replace("Signature=abc", &format!("Signature={}", "a".repeat(length)));
            let expected = (!is_good).then_some(Fault::TooLarge(Limit::Authorization));
            assert_eq!(Presigned::parse(query.as_bytes()).err(), expected, "{length}");
        }
    }
}
