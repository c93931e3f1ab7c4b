//! Bodies that come compressed. What was signed are the bytes on the wire; `Content-Encoding` need not be signed, so that it
//! has to agree with how the bytes begin: nobody on the way can make them something else.

use std::borrow::Cow;
use std::io::Read;

use crate::limits::{INFLATED_BYTES_MAX, RATIO_FREE_BYTES, RATIO_MAX};

/// How a gzip member begins (RFC 1952), which no JSON and no OTLP does.
const GZIP: [u8; 2] = [0x1f, 0x8b];
/// How a Zstandard frame begins (RFC 8878), which no JSON and no OTLP does either.
const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
/// The widest window of a Zstandard frame, 8 MiB. Source: RFC 9659.
const ZSTD_WINDOW_LOG_MAX: u32 = 23;
/// How much is inflated at a time.
const STEP_BYTES: usize = 64 * 1024;

/// How a body is compressed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Encoding {
    /// It is not.
    Identity,
    /// gzip.
    Gzip,
    /// Zstandard.
    Zstd,
}

/// Why a body cannot be inflated.
#[derive(Clone, Copy, PartialEq, Eq, Debug, thiserror::Error)]
pub enum InflateError {
    /// Another encoding, or several.
    #[error("Content-Encoding may be gzip, zstd or identity")]
    Unknown,
    /// The bytes are not what `Content-Encoding` says, or are cut off or damaged.
    #[error("the body is not what its Content-Encoding says")]
    Corrupt,
    /// More than [`INFLATED_BYTES_MAX`].
    #[error("the body has more than {INFLATED_BYTES_MAX} bytes uncompressed")]
    TooLarge,
    /// More than [`RATIO_MAX`] bytes of each byte.
    #[error("the body becomes more than {RATIO_MAX} times as long uncompressed")]
    Ratio,
    /// There is no memory for it now.
    #[error("no memory for the body")]
    NoRoom,
}

impl Encoding {
    /// The encoding that a request names. The bytes must begin accordingly.
    ///
    /// # Errors
    /// [`InflateError::Unknown`], [`InflateError::Corrupt`].
    pub fn of(header: &str, body: &[u8]) -> Result<Self, InflateError> {
        let named = match header.trim() {
            "" => Self::Identity,
            name if name.eq_ignore_ascii_case("identity") => Self::Identity,
            name if name.eq_ignore_ascii_case("gzip") || name.eq_ignore_ascii_case("x-gzip") => Self::Gzip,
            name if name.eq_ignore_ascii_case("zstd") => Self::Zstd,
            _ => return Err(InflateError::Unknown),
        };
        let found = if body.starts_with(&GZIP) {
            Self::Gzip
        } else if body.starts_with(&ZSTD) {
            Self::Zstd
        } else {
            Self::Identity
        };
        if named == found { Ok(named) } else { Err(InflateError::Corrupt) }
    }
}

/// The body as it was before it was compressed. Stops at the limits; `room` is asked for memory before each step, by how
/// many bytes more are needed.
///
/// # Errors
/// All but [`InflateError::Unknown`].
pub fn inflate<'a>(
    body: &'a [u8],
    encoding: Encoding,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Cow<'a, [u8]>, InflateError> {
    match encoding {
        Encoding::Identity if body.len() > INFLATED_BYTES_MAX => Err(InflateError::TooLarge),
        Encoding::Identity => Ok(Cow::Borrowed(body)),
        Encoding::Gzip => read(flate2::bufread::MultiGzDecoder::new(body), body.len(), room),
        Encoding::Zstd => {
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(|_| InflateError::Corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| InflateError::Corrupt)?;
            read(decoder, body.len(), room)
        }
    }
}

fn read(
    mut from: impl Read,
    wire_bytes: usize,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Cow<'static, [u8]>, InflateError> {
    let by_ratio = wire_bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
    let mut inflated = Vec::new();
    loop {
        if !room(STEP_BYTES) {
            return Err(InflateError::NoRoom);
        }
        inflated.reserve(STEP_BYTES);
        let limit = u64::try_from(STEP_BYTES).unwrap_or(u64::MAX);
        let read = (&mut from).take(limit).read_to_end(&mut inflated).map_err(|_| InflateError::Corrupt)?;
        if inflated.len() > INFLATED_BYTES_MAX {
            return Err(InflateError::TooLarge);
        }
        if inflated.len() > by_ratio {
            return Err(InflateError::Ratio);
        }
        if read < STEP_BYTES {
            return Ok(Cow::Owned(inflated));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn gzip(bytes: &[u8]) -> Vec<u8> {
        gzip_by(flate2::Compression::fast(), bytes)
    }

    fn gzip_by(level: flate2::Compression, bytes: &[u8]) -> Vec<u8> {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), level);
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    }

    fn all(body: &[u8], header: &str) -> Result<Vec<u8>, InflateError> {
        inflate(body, Encoding::of(header, body)?, &mut |_| true).map(Cow::into_owned)
    }

    #[test]
    fn what_was_compressed_comes_back() {
        let text = b"{\"a\":1}\n".repeat(1000);
        let zstd = zstd::encode_all(text.as_slice(), 1).unwrap();
        for (body, header) in [
            (gzip(&text), "gzip"),
            (gzip(&text), "X-GZIP"),
            (zstd.clone(), "zstd"),
            (text.clone(), "identity"),
            (text.clone(), ""),
        ] {
            assert_eq!(all(&body, header).unwrap(), text, "{header}");
        }
        let members = [gzip(&text), gzip(b"x")].concat();
        assert_eq!(all(&members, "gzip").unwrap(), [text, b"x".to_vec()].concat());
    }

    #[test]
    fn the_header_and_the_bytes_must_agree() {
        let body = gzip(b"x");
        for header in ["", "identity", "zstd"] {
            assert_eq!(all(&body, header), Err(InflateError::Corrupt), "{header}");
        }
        assert_eq!(all(b"x", "gzip"), Err(InflateError::Corrupt));
        for header in ["br", "deflate", "gzip, gzip", "gzip,identity"] {
            assert_eq!(all(&body, header), Err(InflateError::Unknown), "{header}");
        }
    }

    #[test]
    fn what_is_cut_off_or_followed_by_more_is_damaged() {
        let text = b"some text that is long enough".repeat(9);
        for body in [gzip(&text), zstd::encode_all(text.as_slice(), 1).unwrap()] {
            let header = if body.starts_with(&GZIP) { "gzip" } else { "zstd" };
            for length in 4..body.len() {
                assert_eq!(all(&body[..length], header), Err(InflateError::Corrupt), "{header} {length}");
            }
            assert_eq!(all(&[body.clone(), b"more".to_vec()].concat(), header), Err(InflateError::Corrupt), "{header}");
        }
    }

    #[test]
    fn bombs_stop_at_the_limits() {
        // Stored as it is, so that the ratio is no matter.
        let stored = |length: usize| gzip_by(flate2::Compression::none(), &vec![7; length]);
        for length in [INFLATED_BYTES_MAX - 1, INFLATED_BYTES_MAX] {
            assert_eq!(all(&stored(length), "gzip").map(|body| body.len()), Ok(length));
        }
        assert_eq!(all(&stored(INFLATED_BYTES_MAX + 1), "gzip"), Err(InflateError::TooLarge));
        assert_eq!(all(&vec![b' '; INFLATED_BYTES_MAX + 1], ""), Err(InflateError::TooLarge));
        let zeros = vec![0; RATIO_FREE_BYTES];
        assert_eq!(all(&gzip(&zeros), "gzip").unwrap().len(), RATIO_FREE_BYTES, "at");
        assert_eq!(all(&gzip(&[zeros, vec![0]].concat()), "gzip"), Err(InflateError::Ratio), "above");
        let bomb = zstd::encode_all(vec![0; 64 << 20].as_slice(), 1).unwrap();
        assert_eq!(all(&bomb, "zstd"), Err(InflateError::Ratio));
    }

    #[test]
    fn memory_is_asked_for_before_it_is_taken() {
        let body = gzip(&b"0123456789abcdef".repeat(STEP_BYTES));
        let mut left = 3 * STEP_BYTES;
        let mut room = |bytes| left.checked_sub(bytes).map(|rest| left = rest).is_some();
        assert_eq!(inflate(&body, Encoding::Gzip, &mut room), Err(InflateError::NoRoom));
    }

    #[test]
    fn a_window_that_takes_too_much_memory_is_refused() {
        for (log, is_taken) in [(ZSTD_WINDOW_LOG_MAX, true), (ZSTD_WINDOW_LOG_MAX + 1, false)] {
            let mut encoder = zstd::stream::write::Encoder::new(Vec::new(), 1).unwrap();
            encoder.window_log(log).unwrap();
            encoder.write_all(b"text").unwrap();
            let body = encoder.finish().unwrap();
            assert_eq!(all(&body, "zstd").is_ok(), is_taken, "{log}");
        }
    }
}
