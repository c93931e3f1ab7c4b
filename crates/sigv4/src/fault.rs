//! What can be wrong with a signed request, as kinds that carry the values the answers quote. The texts are the
//! business of `inborn-wire`.

use inborn_identity::UnixTime;

/// A request that does not prove who sent it, and at which step of AWS's order of checks that came out.
///
/// Numbers are the steps of AWS's observed order (scratchstack, "AWS Auth Error Ordering"). Kinds without a number are
/// stricter than AWS: they close the gaps between two readings of one request. Values that come from the request are
/// cut at [`Fault::VALUE_MAX`] bytes and freed of bytes that are not UTF-8; none of them is a secret.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum Fault {
    /// 1: the path is not absolute, leads above the root, or has a broken escape or a control character. Also a method
    /// that is not one.
    #[error("the method or the path is not valid")]
    Path,
    /// 4: the query ends in the middle of an escape, as in `a=%2`.
    #[error("the query has an incomplete trailing escape")]
    QueryEscapeIncomplete,
    /// 4: the two bytes behind a percent sign are not hexadecimal.
    #[error("the query has an illegal hex character in an escape")]
    QueryEscapeIllegal {
        /// The two bytes, without the percent sign.
        pattern: Box<str>,
    },
    /// 5: no `Authorization` header field and no `X-Amz-Algorithm` in the query. 7a: another algorithm than
    /// [`ALGORITHM`](crate::ALGORITHM) in the query. Also a request signed in its query for a service that takes none.
    #[error("the request is not signed")]
    MissingAuthentication,
    /// 5: an `Authorization` header field and authentication parameters in the query.
    #[error("the request is signed in its header and in its query")]
    BothForms,
    /// A header field that decides who is calling is there twice.
    #[error("the header field {name} is there more than once")]
    DuplicateHeader {
        /// Its name in lower case.
        name: &'static str,
    },
    /// The `Authorization` header field, or one of the parameters that stand for it, has bytes outside of visible ASCII,
    /// space and tab.
    #[error("the authentication is not text")]
    NotText,
    /// 6a: a first word other than [`ALGORITHM`](crate::ALGORITHM); SigV4a included.
    #[error("the algorithm is not supported")]
    UnsupportedAlgorithm {
        /// The first word of the header field.
        algorithm: Box<str>,
    },
    /// 6b: a part without an equals sign.
    #[error("a part of the Authorization header field is not a key=value pair")]
    NotKeyValue {
        /// That part.
        part: Box<str>,
        /// The whole header field.
        authorization: Box<str>,
    },
    /// A parameter of the `Authorization` header field is there twice.
    #[error("the Authorization parameter {name} is there more than once")]
    DuplicateParameter {
        /// `Credential`, `SignedHeaders` or `Signature`.
        name: &'static str,
    },
    /// 6d: something is not there or empty.
    #[error("the Authorization header field is not complete")]
    Missing(Missing),
    /// 7d: something is not there or empty.
    #[error("the authentication in the query is not complete")]
    MissingInQuery(Missing),
    /// A parameter that authenticates is in the query twice. AWS takes the first.
    #[error("the query parameter {name} is there more than once")]
    DuplicateInQuery {
        /// Its name.
        name: &'static str,
    },
    /// The name of a parameter that authenticates, in other letters, beside others that are right. Who compares names as
    /// AWS does would pass over it, who compares them regardless of case would not.
    #[error("the query parameter {name} is spelled with other letters")]
    MisspelledInQuery {
        /// The right name.
        name: &'static str,
    },
    /// `X-Amz-Expires` is no integer, or, where it counts, none of 1 to [`EXPIRES_MAX`](crate::EXPIRES_MAX).
    #[error("the time that the signature is good for is not valid")]
    ExpiresForm {
        /// The value as sent.
        got: Box<str>,
    },
    /// A session token in a header of a request that is signed in its query. What AWS does with it is not known.
    #[error("the session token is in a header, the signature in the query")]
    TokenInHeader,
    /// The list of signed headers is not one of lower-case names, sorted, each once.
    #[error("the list of signed headers is not sorted, lower case and free of duplicates")]
    SignedHeadersForm,
    /// 8: `host` is not signed.
    #[error("the host is not signed")]
    HostNotSigned,
    /// 9: the date is not of the form `20261123T052900Z`.
    #[error("the date is not in the basic format of ISO 8601")]
    DateForm {
        /// The date as sent.
        got: Box<str>,
    },
    /// 10: signed too long ago.
    #[error("the signature has expired")]
    Expired {
        /// When the request says it was signed.
        signed_at: UnixTime,
        /// The moment of the check.
        now: UnixTime,
        /// How far the two may be apart, in seconds: the clocks, or what `X-Amz-Expires` says where it counts.
        skew_seconds: u64,
    },
    /// 11: signed too far in the future.
    #[error("the signature is not yet current")]
    NotYetCurrent {
        /// When the request says it was signed.
        signed_at: UnixTime,
        /// The moment of the check.
        now: UnixTime,
        /// How far the two may be apart, in seconds.
        skew_seconds: u64,
    },
    /// 12: the credential is not `keyid/date/region/service/term`.
    #[error("the credential does not have five elements")]
    CredentialForm {
        /// The credential as sent.
        got: Box<str>,
    },
    /// 13: signed for another place, service or day.
    #[error("the credential is scoped to something else")]
    Scope(ScopeFault),
    /// The request has a session token that the signature does not cover.
    #[error("the session token is not signed")]
    TokenNotSigned,
    /// `x-amz-content-sha256` asks for a body that is not, or only piece by piece, covered: `UNSIGNED-PAYLOAD`,
    /// `STREAMING-…`. No service here has that.
    #[error("the body is not signed as a whole")]
    PayloadNotSigned,
    /// `x-amz-content-sha256` is not the hash of the body.
    #[error("the body has another hash than the request says")]
    PayloadMismatch,
    /// The signature is not 64 digits of lower-case hexadecimal.
    #[error("the signature is not 64 lower-case hexadecimal digits")]
    SignatureForm,
    /// A header that is named as signed is not there.
    #[error("a signed header is not there")]
    SignedHeaderAbsent {
        /// Its name.
        name: Box<str>,
    },
    /// 16: the signature is not the one that the key makes.
    #[error("the signature does not match")]
    SignatureMismatch,
    /// Something is larger than any client makes it.
    #[error("the request is over a limit: {0:?}")]
    TooLarge(Limit),
}

/// What a [`Fault`] amounts to. Each class is one error code in each of AWS's dialects.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum FaultClass {
    /// The request target is not one: 400 without a body.
    Target,
    /// `MalformedQueryString`.
    MalformedQuery,
    /// `MissingAuthenticationToken`.
    Missing,
    /// `IncompleteSignature`: the authentication cannot be read.
    Incomplete,
    /// `SignatureDoesNotMatch`: it can, and does not hold.
    Mismatch,
    /// Over a limit of ours; AWS answers such requests before they get as far as authentication.
    TooLarge,
}

impl Fault {
    /// Longest value of a request that a fault quotes, in bytes; the whole `Authorization` header field fits.
    pub const VALUE_MAX: usize = crate::AUTHORIZATION_MAX;

    /// What the fault amounts to.
    #[must_use]
    pub fn class(&self) -> FaultClass {
        match self {
            Self::Path => FaultClass::Target,
            Self::QueryEscapeIncomplete | Self::QueryEscapeIllegal { .. } => FaultClass::MalformedQuery,
            Self::MissingAuthentication => FaultClass::Missing,
            Self::NotText
            | Self::UnsupportedAlgorithm { .. }
            | Self::NotKeyValue { .. }
            | Self::DuplicateHeader { .. }
            | Self::DuplicateParameter { .. }
            | Self::Missing(_)
            | Self::MissingInQuery(_)
            | Self::DuplicateInQuery { .. }
            | Self::MisspelledInQuery { .. }
            | Self::ExpiresForm { .. }
            | Self::DateForm { .. }
            | Self::CredentialForm { .. } => FaultClass::Incomplete,
            Self::BothForms
            | Self::SignedHeadersForm
            | Self::HostNotSigned
            | Self::Expired { .. }
            | Self::NotYetCurrent { .. }
            | Self::Scope(_)
            | Self::TokenNotSigned
            | Self::TokenInHeader
            | Self::PayloadNotSigned
            | Self::PayloadMismatch
            | Self::SignatureForm
            | Self::SignedHeaderAbsent { .. }
            | Self::SignatureMismatch => FaultClass::Mismatch,
            Self::TooLarge(_) => FaultClass::TooLarge,
        }
    }

    /// A value of the request, ready to be quoted.
    pub(crate) fn quote(value: &[u8]) -> Box<str> {
        let value = value.get(..Self::VALUE_MAX).unwrap_or(value);
        String::from_utf8_lossy(value).into()
    }
}

/// What step 6d or 7d did not find: `true` for what is missing. AWS names all of it at once, in this order.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub struct Missing {
    /// The parameter `Credential`, in a query `X-Amz-Credential`, and so on.
    pub credential: bool,
    /// The parameter `Signature`.
    pub signature: bool,
    /// The parameter `SignedHeaders`.
    pub signed_headers: bool,
    /// `X-Amz-Date` as well as `Date`; in a query `X-Amz-Date`.
    pub date: bool,
}

/// What step 13 found wrong. AWS names all of it at once, in this order.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct ScopeFault {
    /// The region the credential is scoped to, if the endpoint is not in it.
    pub region: Option<Box<str>>,
    /// The service that the endpoint *is*, if the credential is scoped to another.
    pub service: Option<Box<str>>,
    /// The terminator as sent, if it is not [`TERMINATOR`](crate::TERMINATOR).
    pub terminator: Option<Box<str>>,
    /// The date, if it is not that of the request.
    pub date: Option<DateMismatch>,
}

/// A scope of another day than the request.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct DateMismatch {
    /// The date in the scope, as sent.
    pub scope: Box<str>,
    /// When the request says it was signed; the first eight digits of its basic form are the day it should have been.
    pub signed_at: UnixTime,
}

/// The limits, by what they limit.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Limit {
    /// [`PATH_MAX`](crate::PATH_MAX)
    Path,
    /// [`QUERY_MAX`](crate::QUERY_MAX)
    Query,
    /// [`QUERY_PAIRS_MAX`](crate::QUERY_PAIRS_MAX)
    QueryPairs,
    /// [`HEADERS_MAX`](crate::HEADERS_MAX)
    Headers,
    /// [`HEADERS_BYTES_MAX`](crate::HEADERS_BYTES_MAX)
    HeaderBytes,
    /// [`AUTHORIZATION_MAX`](crate::AUTHORIZATION_MAX)
    Authorization,
    /// [`SIGNED_HEADERS_MAX`](crate::SIGNED_HEADERS_MAX)
    SignedHeaders,
    /// [`TOKEN_MAX`](crate::TOKEN_MAX)
    Token,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_cut_and_cleaned() {
        assert_eq!(&*Fault::quote(b"a\xffb"), "a\u{fffd}b");
        for (length, quoted) in [(4095, 4095), (4096, 4096), (4097, 4096)] {
            assert_eq!(Fault::quote(&vec![b'a'; length]).len(), quoted);
        }
    }
}
