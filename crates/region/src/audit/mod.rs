//! The audit: one CloudTrail-shaped JSON line for each call, written before the call is answered.
//!
//! Lines go to `audit.jsonl`. When that is large enough, or a new day begins (UTC), it is renamed to
//! `audit-YYYYMMDDThhmmssZ-N.jsonl` (the time of its newest line, a number that only grows) and compressed to
//! `….jsonl.gz` in the background. [`AuditReader`] reads them all as one stream, also while they are being written.

mod archive;
mod archivist;
mod file;
mod group;
mod reader;
mod record;

pub use archive::Rotation;
pub use file::Audit;
pub use reader::{AuditReader, Entry};
pub use record::LINE_BYTES_MAX;
pub(crate) use record::{AuditCaller, Record};

use inborn_identity::UnixTime;

/// When a line's call was received, read without reading the line. Nothing before this key is the client's own text
/// unescaped, so the key cannot be forged.
fn time_of(line: &[u8]) -> Option<UnixTime> {
    const KEY: &[u8] = b"\"eventTime\":\"";
    let at = line.windows(KEY.len()).position(|window| window == KEY)? + KEY.len();
    let text = line.get(at..)?;
    let end = text.iter().position(|byte| *byte == b'"')?;
    UnixTime::parse_rfc3339(text.get(..end)?).ok()
}

#[cfg(test)]
mod tests;
