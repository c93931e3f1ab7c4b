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
    /// Byte for byte as sent: S3.
    AsIs,
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
}
