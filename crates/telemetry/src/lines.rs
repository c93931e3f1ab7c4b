//! OCSF events as they are: one on each line, or all in one array.

use crate::collect::{Collector, Malformed};
use crate::limits::{DEPTH_MAX, RECORD_BYTES_MAX};
use crate::ocsf::{Beside, Rejection};
use crate::scan::{ScanError, elements};

const WHAT: &str = "OCSF events, one a line or in an array";

/// Reads lines, or an array if the body begins as one.
pub(crate) fn decode(body: &[u8], collector: &mut Collector<'_>) -> Result<(), Malformed> {
    match body.iter().find(|byte| !byte.is_ascii_whitespace()) {
        Some(b'[') => array(body, collector),
        _ => lines(body, collector),
    }
}

/// What went wrong in an array: with the whole of it, or with what was done about an element.
struct Fault(Malformed);

impl From<ScanError> for Fault {
    fn from(_: ScanError) -> Self {
        Self(Malformed::Syntax(WHAT))
    }
}

fn array(body: &[u8], collector: &mut Collector<'_>) -> Result<(), Malformed> {
    let text = std::str::from_utf8(body).map_err(|_| Malformed::Syntax(WHAT))?;
    let all = elements(text, DEPTH_MAX + 1, |event| collector.add(Ok(event), Beside::default()).map_err(Fault));
    all.map_err(|Fault(malformed)| malformed)
}

/// A line that is wrong is none of its neighbours' business. A body in which no line is JSON is something else altogether.
fn lines(body: &[u8], collector: &mut Collector<'_>) -> Result<(), Malformed> {
    let (mut is_json, mut is_empty) = (false, true);
    let mut rest = Some(body);
    while let Some(lines) = rest {
        let end = memchr::memchr(b'\n', lines);
        let (line, after) = end.and_then(|end| lines.split_at_checked(end)).unwrap_or((lines, &[]));
        rest = end.and_then(|_| after.get(1..));
        let line = line.trim_ascii();
        if line.is_empty() {
            continue;
        }
        is_empty = false;
        is_json = is_json || line.first() == Some(&b'{');
        let text = match std::str::from_utf8(line) {
            _ if line.len() > RECORD_BYTES_MAX => Err(Rejection::TooLong),
            Ok(text) => Ok(text),
            Err(_) => Err(Rejection::NotUtf8),
        };
        collector.add(text, Beside::default())?;
    }
    if is_json || is_empty { Ok(()) } else { Err(Malformed::Syntax(WHAT)) }
}
