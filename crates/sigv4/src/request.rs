//! A request, and the place that it is for, as values.

/// One header field.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Header<'a> {
    /// The name, in lower case.
    pub name: &'a [u8],
    /// The value, as on the wire.
    pub value: &'a [u8],
}

/// A request without its body, as it was on the wire: nothing decoded, nothing added, nothing put in order.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Request<'a> {
    /// The method.
    pub method: &'a str,
    /// The path, still escaped.
    pub path: &'a [u8],
    /// The query, still escaped, without its question mark; empty if there is none.
    pub query: &'a [u8],
    /// All header fields in the order in which they arrived. On HTTP/2 the caller makes a `host` of `:authority`.
    pub headers: &'a [Header<'a>],
}

/// How the path gets into the canonical request.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum PathMode {
    /// Dot segments and empty segments removed, then everything percent-encoded once more: all services but S3.
    Normalized,
    /// Dot segments and empty segments removed, and what is left percent-encoded once: decoded, then encoded. What the
    /// published test suite does; no service that is known.
    NormalizedOnce,
    /// Byte for byte as sent: S3.
    AsIs,
}

/// What `X-Amz-Expires` means to a service, for requests that are signed in their query.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Expires {
    /// Nothing, though it must be an integer: the signature is good for [`Endpoint::skew_seconds`], like one in a
    /// header. So it is at STS, and tokens for EKS depend on it: they say 60 and are good for 15 minutes.
    Ignored,
    /// The signature is good for so many seconds, 1 to [`EXPIRES_MAX`](crate::EXPIRES_MAX), from the moment of signing.
    /// Without it, as if ignored.
    Honoured,
}

/// What a request must have been signed for.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Endpoint<'a> {
    /// The signing name of the service, `sts`.
    pub service: &'a str,
    /// The regions a client may sign for here; the first is the endpoint's own.
    pub regions: &'a [&'a str],
    /// How the service canonicalises paths.
    pub path_mode: PathMode,
    /// How far the clocks may be apart, in seconds, both edges included; 900 for STS.
    pub skew_seconds: u64,
    /// Whether the service takes requests that are signed in their query. If not, they are requests that are not signed.
    pub query_auth: bool,
    /// What the service makes of `X-Amz-Expires`; of no account without `query_auth`.
    pub expires: Expires,
}
