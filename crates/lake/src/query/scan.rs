//! Answers questions from the log and from Parquet, and reads no more of both than it must.

use std::fs::File;
use std::io;
use std::path::Path;

use inborn_identity::InstanceId;
use inborn_telemetry::{Record, Source};
use serde_json::Value;

use super::best::{Best, Unreadable};
use super::{Event, Events, Order, QUERY_FILTERS_MAX, Query, QueryError};
use crate::layout::{self, DayDirectory};
use crate::log::frame::Step;
use crate::log::payload::Decoder;
use crate::log::segment::{HEADER_BYTES, Segment};
use crate::parquet::classes;
use crate::parquet::read::{self, Found, Wanted};
use crate::parquet::sealed::{Seal, Sealed};
use crate::recent::Key;
use crate::shelf::Snapshot;

/// Answers from one moment of the lake.
pub(crate) fn scan(lake: &Path, key: &Key, snapshot: &Snapshot, query: &Query) -> Result<Events, QueryError> {
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
    scan_tree(lake, key, snapshot.job, query, &mut best, &mut unreadable)?;
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

/// Day by day, in the order that is asked for, until nothing better can come.
fn scan_tree(
    lake: &Path,
    key: &Key,
    job: u64,
    query: &Query,
    best: &mut Best,
    unreadable: &mut Unreadable,
) -> io::Result<()> {
    let sources: Vec<String> = query.classes.iter().map(|class| classes::source(classes::group(*class))).collect();
    let source_wanted = |source: &str| sources.is_empty() || sources.iter().any(|wanted| wanted == source);
    let account_wanted = |account| query.accounts.is_empty() || query.accounts.contains(&account);
    let mut directories = layout::directories(lake, &source_wanted, &account_wanted)?;
    directories.sort_by(|one, other| (one.day, &one.path).cmp(&(other.day, &other.path)));
    if query.order == Order::NewestFirst {
        directories.reverse();
    }
    let (first, last) = query.times();
    for directory in directories {
        let (day_first, day_last) = directory.day.times();
        if day_first > last || day_last < first || !best.admits_times(day_first, day_last) {
            continue;
        }
        for (made_by, path) in layout::files(&directory.path)? {
            if made_by > job {
                continue;
            }
            match scan_file(&path, key, &directory, query, best) {
                // Retention may have been faster.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => {
                    tracing::error!(file = %path.display(), %error, "a file of telemetry cannot be read");
                    unreadable.add(lake, &path);
                }
                Ok(()) => {}
            }
        }
    }
    Ok(())
}

fn scan_file(path: &Path, key: &Key, directory: &DayDirectory, query: &Query, best: &mut Best) -> io::Result<()> {
    let (first_ms, last_ms) = query.times();
    let wanted = Wanted { first_ms, last_ms, instances: &query.instances };
    let best = core::cell::RefCell::new(best);
    let mut more = |first_ms, last_ms| best.borrow().admits_times(first_ms, last_ms);
    let mut take = |found: Found| {
        if let Some(event) = event(found, directory, query) {
            best.borrow_mut().offer(event);
        }
    };
    let file = File::open(path)?;
    let (length, name) = (file.metadata()?.len(), path.file_name().unwrap_or_default().to_string_lossy());
    let file = Sealed::open(Box::new(file), length, Seal::new(key, &name))?;
    read::read(file, &wanted, query.order == Order::NewestFirst, &mut more, &mut take)
}

/// An event of a file, if it is wanted.
fn event(found: Found, directory: &DayDirectory, query: &Query) -> Option<Event> {
    if !query.wants_head(found.class, found.time_ms) {
        return None;
    }
    let event = Value::Object(found.event);
    if query.looks_inside() && !query.wants_json(&event) {
        return None;
    }
    let instance: InstanceId = found.instance.parse().ok()?;
    let source = Source { account: directory.account, instance, region: directory.region.clone() };
    let json = event.to_string().into();
    Some(Event { source, record: Record { uid: found.uid, time_ms: found.time_ms, class: found.class, json } })
}
