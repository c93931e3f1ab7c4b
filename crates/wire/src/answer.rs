//! An answer as a value: status, type, headers, body.

/// What goes back to the client. The listener adds `Date`, `Content-Length` and what the connection needs.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Answer {
    /// The HTTP status.
    pub status: u16,
    /// The value of `Content-Type`; empty when the header is to be left out.
    pub content_type: &'static str,
    /// Further headers, in the order in which they are to be sent.
    pub headers: Vec<(&'static str, String)>,
    /// The body.
    pub body: Vec<u8>,
}

/// Carries the id of the request, the same one as in the body. All services but S3 spell it so.
pub const REQUEST_ID_HEADER: &str = "x-amzn-RequestId";
/// S3's spelling of [`REQUEST_ID_HEADER`].
pub const REQUEST_ID_HEADER_S3: &str = "x-amz-request-id";
/// Names the error in restJson. SDKs believe it before they look at the body.
pub const ERROR_TYPE_HEADER: &str = "x-amzn-ErrorType";

impl Answer {
    /// An answer that carries its request id under the name that every service but S3 gives it.
    #[must_use]
    pub fn new(status: u16, content_type: &'static str, request_id: &str, body: impl Into<Vec<u8>>) -> Self {
        let headers = vec![(REQUEST_ID_HEADER, request_id.to_owned())];
        Self { status, content_type, headers, body: body.into() }
    }
}
