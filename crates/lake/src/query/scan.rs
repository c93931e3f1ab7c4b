//! Answers questions from the log and from Parquet, and reads no more of both than it must.

use std::io;
use std::path::Path;
use std::sync::Arc;

use inborn_telemetry::Record;
use serde_json::Value;

use super::best::{Best, Unreadable};
use super::{Event, Events, QUERY_FILTERS_MAX, Query, QueryError, tree};
use crate::bucket::Bucket;
use crate::log::frame::Step;
use crate::log::payload::Decoder;
use crate::log::segment::{HEADER_BYTES, Segment};
use crate::recent::Key;
use crate::shelf::Snapshot;

/// Answers from one moment of the lake.
pub(crate) fn scan(
    (lake, key): (&Path, &Key),
    bucket: Option<&Arc<dyn Bucket>>,
    snapshot: &Snapshot,
    query: &Query,
) -> Result<Events, QueryError> {
    if query.filters.len() > QUERY_FILTERS_MAX {
        return Err(QueryError::TooManyFilters);
    }
    let mut best = Best::new(query);
    let mut unreadable = Unreadable::default();
    for segment in &snapshot.segments {
        match scan_segment(segment, query, &mut best) {
            Ok(true) => {}
            Ok(false) => unreadable.add(lake, &segment.path),
            Err(error) => {
                tracing::error!(file = %segment.path.display(), %error, "a segment of telemetry cannot be read");
                unreadable.add(lake, &segment.path);
            }
        }
    }
    tree::scan((lake, key), bucket, snapshot.job, query, (&mut best, &mut unreadable))?;
    Ok(best.finish(unreadable))
}

/// `false`: not everything could be read. Compaction, or the next start, says what and where.
fn scan_segment(segment: &Segment, query: &Query, best: &mut Best) -> io::Result<bool> {
    let (first, last) = query.times();
    if !segment.may_hold(first, last) {
        return Ok(true);
    }
    let mut is_whole = true;
    let mut decoder = Decoder::new()?;
    let mut frames = segment.frames(HEADER_BYTES);
    loop {
        let overlaps = |first_ms: i64, last_ms: i64| first_ms <= last && last_ms >= first;
        let wanted = |head: &crate::log::frame::Head| {
            overlaps(head.first_ms, head.last_ms) && best.admits_times(head.first_ms, head.last_ms)
        };
        let Some(step) = frames.next(wanted)? else { return Ok(is_whole && frames.position() == frames.end()) };
        let Step::Frame { head, .. } = step else {
            is_whole = false;
            continue;
        };
        if frames.payload().is_empty() {
            continue;
        }
        let Some(batch) = decoder.decode(frames.payload(), head.raw) else {
            is_whole = false;
            continue;
        };
        if !query.wants_source(&batch.source) {
            continue;
        }
        for record in batch.records {
            if matches(query, &record) {
                best.offer(Event { source: batch.source.clone(), record });
            }
        }
    }
}

/// Whether an event of the log is wanted.
pub(super) fn matches(query: &Query, record: &Record) -> bool {
    query.wants_head(record.class, record.time_ms)
        && (!query.looks_inside()
            || serde_json::from_str::<Value>(&record.json).is_ok_and(|event| query.wants_json(&event)))
}
