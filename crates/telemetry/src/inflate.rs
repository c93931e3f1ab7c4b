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
/// What inflating a Zstandard frame takes beside what comes of it: its window, and tables.
const ZSTD_BYTES: usize = (1 << ZSTD_WINDOW_LOG_MAX) + 256 * 1024;
/// So much is inflated before it is asked how much there will be.
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

/// The body as it was before it was compressed. Stops at the limits; `room` is asked for memory before it is taken, by how
/// many bytes more.
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
        Encoding::Gzip => {
            // A member ends with how long it was, modulo 2^32. That may be a lie: it is where to begin, and nothing more.
            let said = body.last_chunk::<4>().map_or(0, |length| u32::from_le_bytes(*length));
            read(flate2::bufread::MultiGzDecoder::new(body), body.len(), said as usize, room)
        }
        Encoding::Zstd => {
            if !room(ZSTD_BYTES) {
                return Err(InflateError::NoRoom);
            }
            let mut decoder = zstd::stream::read::Decoder::with_buffer(body).map_err(|_| InflateError::Corrupt)?;
            decoder.window_log_max(ZSTD_WINDOW_LOG_MAX).map_err(|_| InflateError::Corrupt)?;
            read(decoder, body.len(), 0, room)
        }
    }
}

/// Reads all of it into memory of which at most twice what is needed is taken.
fn read(
    mut from: impl Read,
    wire_bytes: usize,
    said: usize,
    room: &mut dyn FnMut(usize) -> bool,
) -> Result<Cow<'static, [u8]>, InflateError> {
    let by_ratio = wire_bytes.saturating_mul(RATIO_MAX).max(RATIO_FREE_BYTES);
    // One more shows that there is more.
    let enough = by_ratio.min(INFLATED_BYTES_MAX) + 1;
    let mut inflated = Vec::new();
    let mut wanted = said.max(STEP_BYTES).min(enough);
    if !room(wanted) {
        return Err(InflateError::NoRoom);
    }
    inflated.reserve_exact(wanted);
    loop {
        let limit = u64::try_from(wanted - inflated.len()).unwrap_or(u64::MAX);
        (&mut from).take(limit).read_to_end(&mut inflated).map_err(|_| InflateError::Corrupt)?;
        if inflated.len() > INFLATED_BYTES_MAX {
            return Err(InflateError::TooLarge);
        }
        if inflated.len() > by_ratio {
            return Err(InflateError::Ratio);
        }
        if inflated.len() < wanted {
            return Ok(Cow::Owned(inflated));
        }
        // Whether that was all is asked before more memory is.
        let mut next = [0];
        if from.read(&mut next).map_err(|_| InflateError::Corrupt)? == 0 {
            return Ok(Cow::Owned(inflated));
        }
        let more = (2 * wanted).min(enough) - wanted;
        if !room(more) {
            return Err(InflateError::NoRoom);
        }
        inflated.reserve_exact(more);
        inflated.extend_from_slice(&next);
        wanted += more;
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
        let text = b"0123456789abcdef".repeat(STEP_BYTES);
        let two = [gzip(&text), gzip(b"x")].concat();
        let zstd = zstd::encode_all(text.as_slice(), 1).unwrap();
        for (body, encoding, needed, at_most) in [
            (gzip(&text), Encoding::Gzip, text.len(), text.len()),
            // The last member says nothing of the first.
            (two, Encoding::Gzip, text.len() + 1, 2 * text.len()),
            (zstd, Encoding::Zstd, text.len() + ZSTD_BYTES, 2 * text.len() + ZSTD_BYTES),
        ] {
            let mut asked = 0;
            let inflated = inflate(&body, encoding, &mut |bytes| {
                asked += bytes;
                true
            });
            assert!(inflated.unwrap().starts_with(&text));
            assert!((needed..=at_most).contains(&asked), "{encoding:?}: {asked} of {at_most}");
            let mut left = asked - 1;
            let mut room = |bytes| left.checked_sub(bytes).map(|rest| left = rest).is_some();
            assert_eq!(inflate(&body, encoding, &mut room), Err(InflateError::NoRoom), "{encoding:?}");
        }
        // A length that is a lie takes no more than could come of the body.
        let mut lie = gzip(b"x");
        let at = lie.len() - 4;
        lie[at..].copy_from_slice(&u32::MAX.to_le_bytes());
        let mut asked = 0;
        let mut room = |bytes| {
            asked += bytes;
            true
        };
        assert_eq!(inflate(&lie, Encoding::Gzip, &mut room), Err(InflateError::Corrupt));
        assert!(asked <= RATIO_FREE_BYTES + 1, "{asked}");
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
