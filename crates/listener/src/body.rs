//! Reading a request's body, up to a limit and within a time.

use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use hyper::body::{Body, Incoming};

/// Why a body was not read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum BodyError {
    /// It is longer than allowed.
    TooLarge,
    /// It took too long.
    TooSlow,
    /// The client went away, or broke the framing.
    Broken,
}

/// The whole body, if it has at most `bytes_max` bytes and arrives within `timeout`. A declared length over the limit is
/// refused before a byte is read, so a client that waits for `100 Continue` never sends it.
///
/// # Errors
/// See [`BodyError`].
pub async fn read_body(body: Incoming, bytes_max: usize, timeout: Duration) -> Result<Bytes, BodyError> {
    let declared = body.size_hint().lower();
    if declared > bytes_max as u64 {
        return Err(BodyError::TooLarge);
    }
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    match tokio::time::timeout(timeout, Limited::new(body, bytes_max).collect()).await {
        Ok(Ok(collected)) => Ok(collected.to_bytes()),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow),
    }
}
