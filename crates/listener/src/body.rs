//! Reading a request's body, up to a limit and within a time.

use std::error::Error;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
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
    match tokio::time::timeout(timeout, gather(Limited::new(body, bytes_max), declared)).await {
        Ok(Ok(bytes)) => Ok(bytes),
        Ok(Err(error)) if error.is::<LengthLimitError>() => Err(BodyError::TooLarge),
        Ok(Err(_)) => Err(BodyError::Broken),
        Err(_) => Err(BodyError::TooSlow),
    }
}

/// The parts of a body in one piece, with no more memory than that piece takes, if its length was declared.
async fn gather(mut body: Limited<Incoming>, declared: u64) -> Result<Bytes, Box<dyn Error + Send + Sync>> {
    let mut first = Bytes::new();
    let mut whole = BytesMut::new();
    while let Some(frame) = body.frame().await {
        let Ok(part) = frame?.into_data() else { continue };
        if whole.is_empty() && first.is_empty() {
            first = part;
            continue;
        }
        if whole.is_empty() {
            whole.reserve(usize::try_from(declared).unwrap_or(0).max(first.len() + part.len()));
            whole.extend_from_slice(&first);
        }
        whole.extend_from_slice(&part);
    }
    Ok(if whole.is_empty() { first } else { whole.freeze() })
}

/// Listens to a body without keeping it, up to a limit and within a time; gives whether it has ended.
pub async fn discard_body(body: Incoming, bytes_max: usize, timeout: Duration) -> bool {
    let mut body = Limited::new(body, bytes_max);
    let all = async {
        while let Some(frame) = body.frame().await {
            frame?;
        }
        Ok::<(), Box<dyn Error + Send + Sync>>(())
    };
    matches!(tokio::time::timeout(timeout, all).await, Ok(Ok(())))
}
